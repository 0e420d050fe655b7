"""Ways to compute a step: each gives the losses, gradients and buffers of the plain one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import segscape.training.steps as steps
from segscape.discriminators import MultiScaleDiscriminator
from segscape.errors import RecipeError
from segscape.features import VGG19Features
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.losses import PerceptualLoss
from segscape.models import create_model
from segscape.nn.spade import SPADE
from segscape.training.guard import Guard
from segscape.training.loop import train
from segscape.training.parts import total
from segscape.training.recipe import Objective, Recipe, SpeedSection
from segscape.training.speed import arrange, compile_networks

MakeRecipe = Callable[..., Recipe]
LABELS = LabelSet.numbered(4)
Result = dict[str, Tensor]


def batch() -> tuple[Tensor, Tensor]:
    """Two label maps of a few blocks, and pictures."""
    torch.manual_seed(1)
    blocks = torch.randint(0, LABELS.num_classes, (2, 2, 3))
    return blocks.repeat_interleave(16, 1).repeat_interleave(32, 2)[:, :, :64], torch.rand(2, 3, 32, 64) * 2 - 1


def networks(model: str) -> tuple[nn.Module, MultiScaleDiscriminator, PerceptualLoss]:
    torch.manual_seed(0)
    generator = create_model(model, labels=LABELS, image_size=(32, 64), base_channels=1).train()
    return generator, MultiScaleDiscriminator(LABELS.num_classes, base_channels=2), PerceptualLoss(VGG19Features(32))


def step(model: str, speed: SpeedSection, times: int = 1) -> Result:
    """Losses, gradients and buffers of generator steps without optimiser."""
    generator, discriminator, perceptual = networks(model)
    arrange(generator, speed)
    label_map, images = batch()
    for _ in range(times):
        losses, fake = steps.generator_step_losses(
            steps.StyledGenerator(generator),
            discriminator,
            Layout(label_map, LABELS),
            images,
            objective=Objective(),
            perceptual=perceptual,
        )
        total(losses).backward()
    gradients = {f"gradient of {name}": p.grad for name, p in generator.named_parameters() if p.grad is not None}
    return losses | {"fake": fake} | gradients | dict(generator.named_buffers())


@pytest.mark.parametrize("model", ["spade", "clade-icpe"])
@pytest.mark.parametrize("path", ["dense", "patterns"])
def test_recomputed_blocks_change_nothing(model: str, path: Any) -> None:
    plain = step(model, SpeedSection(spade_path=path), times=2)
    again = step(model, SpeedSection(spade_path=path, checkpoint_activations="blocks"), times=2)
    assert plain.keys() == again.keys() and any("weight_u" in name for name in plain)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_recomputed_blocks_keep_less() -> None:
    kept = {}
    for choice in ("none", "blocks"):
        generator, _, _ = networks("clade")
        arrange(generator, SpeedSection(checkpoint_activations=choice))
        storages: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=storages: note(t, s), lambda t: t):
            image = generator(Layout(batch()[0], LABELS))
        kept[choice] = sum(storages.values())
        del image
    assert kept["blocks"] < 0.5 * kept["none"]


def note(tensor: Tensor, storages: dict[int, int]) -> Tensor:
    """Remember the size of a tensor's storage unless it is a weight."""
    if not isinstance(tensor, nn.Parameter):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return tensor


def test_spade_by_patterns_trains_as_by_convolutions() -> None:
    dense, patterns = (step("spade", SpeedSection(spade_path=path)) for path in ("dense", "patterns"))
    for name, value in dense.items():
        torch.testing.assert_close(patterns[name], value, rtol=1e-3, atol=1e-5)


def test_the_speed_section_reaches_every_layer() -> None:
    generator, _, _ = networks("spade")
    layers = [layer for layer in generator.modules() if isinstance(layer, SPADE)]
    arrange(generator, SpeedSection())
    assert layers and {layer.path for layer in layers} == {"patterns"}
    arrange(generator, SpeedSection(spade_path="dense"))
    assert {layer.path for layer in layers} == {"dense"}


def test_nothing_is_kept_of_the_real_images() -> None:
    generator, discriminator, perceptual = networks("clade")
    discriminator.requires_grad_(False)
    of_real: list[Tensor] = []  # all that layers make of them; kept alive, so that addresses are not used again

    def remember(_: nn.Module, __: Any, output: Any) -> None:
        if not torch.is_grad_enabled():
            of_real.extend(t for t in torch.utils._pytree.tree_leaves(output) if isinstance(t, Tensor))

    for network in (discriminator, perceptual):
        for layer in network.modules():
            layer.register_forward_hook(remember)
    label_map, images = batch()
    saved: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: note(t, saved), lambda t: t):
        losses, _ = steps.generator_step_losses(
            steps.StyledGenerator(generator),
            discriminator,
            Layout(label_map, LABELS),
            images,
            objective=Objective(),
            perceptual=perceptual,
        )
    addresses = {tensor.untyped_storage().data_ptr() for tensor in of_real}
    assert len(of_real) > 30 and saved and not addresses & saved.keys()
    total(losses).backward()


def test_judging_without_graph_gives_what_one_pass_gives() -> None:
    _, discriminator, _ = networks("clade")
    twin = copy.deepcopy(discriminator)
    label_map, images = batch()
    found = []
    for network, judge in ((discriminator, steps._judge_beside_constant), (twin, steps._judge_pair)):
        fake = (-0.5 * images).requires_grad_()
        judged = judge(network, Layout(label_map, LABELS), fake, images, None)
        of_fake, of_real = ([*one.scores, *(f for group in one.features for f in group)] for one in judged)
        torch.stack([(f - r.detach()).square().sum() for f, r in zip(of_fake, of_real, strict=True)]).sum().backward()
        found.append([fake.grad, *of_fake, *of_real, *network.buffers()])
    assert discriminator.scales[0].convs[1].iterates and len(found[0]) == len(found[1])
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6)


def test_batch_norm_still_sees_real_and_generated_images_together() -> None:
    discriminator = MultiScaleDiscriminator(LABELS.num_classes, base_channels=2, norm="batch")
    label_map, images = batch()
    steps._judge_beside_constant(discriminator, Layout(label_map, LABELS), -images, images, None)
    norms = [layer for layer in discriminator.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms and all(norm.num_batches_tracked == 1 for norm in norms)


def test_bfloat16_on_the_cpu_stays_near_float32(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    import json

    lines = {}
    for precision in ("no", "bf16"):
        objective = {"features": "efficientnet-lite0"}
        train(make_recipe(images=2, precision=precision, objective=objective), tmp_path / precision)
        lines[precision] = json.loads((tmp_path / precision / "metrics.jsonl").read_text().splitlines()[-1])
    exact, half = lines["no"]["generator/perceptual"], lines["bf16"]["generator/perceptual"]
    assert math.isfinite(half) and half != exact and abs(half - exact) < 0.05 * exact


def test_float16_needs_a_gpu(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(RecipeError, match="precision fp16 needs a GPU, and the device is cpu"):
        train(make_recipe(precision="fp16"), tmp_path / "run")


def test_scaler_and_guard_share_the_work() -> None:
    network = nn.Linear(1, 1)
    network.register_buffer("moved", torch.zeros(1))
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    scaler: Any = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    incidents: list[str] = []
    guard = Guard([network], 5, lambda name, _: incidents.append(name), RuntimeError, scaler)
    before = network.weight.detach().clone()

    def take(loss: Tensor) -> bool:
        guard.begin()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None]))
        if guard.accepts({"loss": loss.item()}, norm):
            scaler.step(optimizer)
            scaler.update()
        return guard.settle(0)

    loss = network(torch.ones(1, 1)).sum()
    assert take(loss * 1e30) and torch.equal(network.weight, before)  # too large once scaled: the scaler's business
    assert scaler.get_scale() == 2.0**39 and not incidents
    assert not take(network(torch.ones(1, 1)).sum() * math.nan) and torch.equal(network.weight, before)
    assert scaler.get_scale() == 2.0**39 and incidents == ["skipped_steps"]
    assert take(network(torch.ones(1, 1)).sum()) and torch.equal(network.weight, before - 1)


def test_a_network_that_cannot_be_compiled_goes_on_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("no compiler here")

    def compile_broken(network: nn.Module, **_: Any) -> None:
        network._compiled_call_impl = torch.compile(network._call_impl, backend=broken)

    monkeypatch.setattr(nn.Module, "compile", compile_broken)
    discriminator, warnings = MultiScaleDiscriminator(LABELS.num_classes, base_channels=2), []
    twin = copy.deepcopy(discriminator)
    compile_networks({"judge": discriminator, "nothing": None}, warnings.append)
    label_map, images = batch()
    for _ in range(2):
        scores, wanted = (network(Layout(label_map, LABELS), images).scores[0] for network in (discriminator, twin))
        assert torch.equal(scores, wanted)
    assert len(warnings) == 1 and "the judge cannot be compiled" in warnings[0] and "no compiler here" in warnings[0]


@pytest.mark.slow
def test_compiled_perceptual_network_gives_the_same_loss_and_gradient() -> None:
    _, images = batch()
    warnings: list[str] = []
    found = []
    for compiled in (True, False):
        perceptual = networks("clade")[2]
        if compiled:
            compile_networks({"perceptual network": perceptual}, warnings.append)
        fake = (-0.5 * images).requires_grad_()
        loss = perceptual(fake, images)
        loss.backward()
        found.append([loss, fake.grad])
    assert not warnings
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6)
