"""Adapters of DAGAN: what it adds to SPADE, and what it shares under the names of its own vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from segscape.evaluation.protocol import PROTOCOLS
from segscape.inference import accelerate
from segscape.layout import Layout, instance_edges
from segscape.losses import (
    PerceptualLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    kl_divergence,
)
from segscape.models.conversion.dagan import ATTENTION_KEYS, GENERATOR_KEYS, convert
from segscape.models.conversion.official import rename
from segscape.models.conversion.spade import BLOCK_KEYS, BLOCKS, ENCODER_KEYS
from segscape.models.dagan import DAGANGenerator
from segscape.nn.dual_attention import DualAttention
from segscape.nn.encoder import StyleEncoder
from segscape.nn.residual import ResidualBlock
from segscape.nn.spade import SPADE
from segscape.style import Style
from segscape.training.recipe import Objective
from segscape.training.steps import (
    StyledGenerator,
    discriminator_step_losses,
    generate_fake,
    generator_step_losses,
)

from . import data, layouts, losses, networks, training
from .losses import GAN_MODES
from .options import image_size, labels_of, layout_of, layout_of_semantic_map, norm_text
from .vector import Vector, by_official_key

STAGES = {
    "fc": "stem",
    **{block: f"blocks.{i}" for i, block in enumerate(BLOCKS[:7])},
    "conv_64": "attention.projection",
    "cab": "attention.scale",
    "spatialAtt": "attention.position",
}
"""Official name of a module whose output a vector may hold -> ours."""

OFFICIAL = {ours: official for official, ours in training.LOSSES.items()} | {"perceptual": "VGG"}
"""Our name of a loss -> the official one."""


def build(config: dict[str, Any], state: dict[str, Tensor]) -> DAGANGenerator:
    """A generator with official weights; the vectors hold no encoder, so a variational one gets fresh weights."""
    encoder = None
    if config["use_vae"]:
        own = StyleEncoder(config["ngf"], config.get("z_dim", 256)).state_dict()
        encoder = {official: own[ours] for official, ours in ENCODER_KEYS.items() if ours in own}
    model = convert(
        state,
        labels=labels_of(config),
        image_size=image_size(config),
        encoder=encoder,
        upsampling=config["num_upsampling_layers"],
    )
    assert model.config.base_channels == config["ngf"]
    assert model.config.use_instances is not config["no_instance"]
    assert (model.config.latent_dim is None) is not config["use_vae"]
    return model


def _style(vector: Vector) -> Style | None:
    return Style(vector.inputs["z"]) if "z" in vector.inputs else None


def generator(vector: Vector) -> dict[str, Tensor]:
    """The image, and the outputs `stage.*` of modules; gradients are those of `sum(image * cotangent)`."""
    model = build(vector.config, vector.state).train(vector.training)
    found: dict[str, Tensor] = {}
    for name, ours in STAGES.items():
        model.get_submodule(ours).register_forward_hook(_keep(found, f"stage.{name}"))
    layout = layout_of(vector, labels_of(vector.config))
    _check_semantics(vector, layout)
    image = model(layout, _style(vector))
    if "cotangent" in vector.inputs:
        (image * vector.inputs["cotangent"]).sum().backward()
    found = {name: value for name, value in found.items() if name in vector.outputs}
    return found | {"image": image} | by_official_key(vector, model, GENERATOR_KEYS) | _after(vector, model)


def _keep(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(_module: object, _inputs: object, output: Tensor) -> None:
        # what starts from a latent is shaped after its layer; the vectors have it as a map
        found[name] = output

    return hook


def _check_semantics(vector: Vector, layout: Layout) -> None:
    if "semantics" in vector.inputs:
        ours = layout.semantic_map(edges=not vector.config["no_instance"])
        assert torch.equal(ours, vector.inputs["semantics"].float()), "our semantic map differs from input.semantics"


def accelerated(vector: Vector) -> dict[str, Tensor]:
    model = build(vector.config, vector.state)
    return {"image": accelerate(model)(layout_of(vector, labels_of(vector.config)), _style(vector))}


def dual_attention(vector: Vector) -> dict[str, Tensor]:
    channels = vector.config["ngf"]
    attention = DualAttention(2 * channels, channels)
    keys = {official: ours.removeprefix("attention.") for official, ours in ATTENTION_KEYS.items()}
    attention.load_state_dict(rename(vector.state, keys))
    before, x = vector.leaf("x_prev"), vector.leaf("x")
    projected = attention.projection(before)
    scale, position = attention.scale(projected, x), attention.position(x)
    total = attention(before, x)
    (total * vector.inputs["cotangent"]).sum().backward()
    assert before.grad is not None and x.grad is not None
    found = {"x_tmp": projected, "channel": scale, "spatial": position, "sum": total}
    found |= {"grad.x_prev": before.grad, "grad.x": x.grad}
    return found | by_official_key(vector, attention, keys)


def residual_block(vector: Vector) -> dict[str, Tensor]:
    config, labels = vector.config, labels_of(vector.config)
    spectral, statistics, kernel_size = norm_text(config["norm_G"])
    norm = partial(
        SPADE,
        num_classes=labels.num_classes,
        instances=not config["no_instance"],
        statistics=statistics,
        kernel_size=kernel_size,
    )
    block = ResidualBlock(config["fin"], config["fout"], norm, spectral=spectral)
    block.load_state_dict(rename(vector.state, BLOCK_KEYS))
    block.train(vector.training)
    x = vector.leaf("x")
    y = block(x, layout_of_semantic_map(vector.inputs["seg"].float(), labels.num_classes, None))
    (y * vector.inputs["cotangent"]).sum().backward()
    assert x.grad is not None
    found = {"y": y, "grad.x": x.grad}
    return found | by_official_key(vector, block, BLOCK_KEYS) | _after(vector, block, BLOCK_KEYS)


def _after(
    vector: Vector,
    module: torch.nn.Module,
    keys: Mapping[str, str] = GENERATOR_KEYS,
    prefix: str = "",
    forwards: int = 1,
) -> dict[str, Tensor]:
    """Parameters and buffers `after.{prefix}*`.

    The official batch norm never counts its batches, ours does so once in every forward: the count of the vector is
    given back if ours moved as it must.
    """
    state, found = module.state_dict(), {}
    for key in vector.outputs_below(f"after.{prefix}"):
        if key not in keys:
            continue
        value = state[keys[key]]
        if key.endswith("num_batches_tracked"):
            value = value - forwards
        found[f"after.{prefix}{key}"] = value
    return found


def discriminator(vector: Vector) -> dict[str, Tensor]:
    model = networks.build_discriminator(vector.config, vector.state).train(vector.training)
    semantics = vector.inputs["semantics"].float()
    judged = model.judge(torch.cat([semantics, vector.inputs["image"]], dim=1))
    outputs = [[*group, score] for group, score in zip(judged.features, judged.scores, strict=True)]
    return {f"D{i}.{j}": output for i, scale in enumerate(outputs) for j, output in enumerate(scale)}


def feature_matching(vector: Vector) -> dict[str, Tensor]:
    """`GAN` and the weighted `GAN_Feat`; gradients are those of their sum."""
    config = vector.config
    fake, real = _groups(vector, "fake", vector.leaf), _groups(vector, "real", vector.inputs.__getitem__)
    gan = generator_loss([scale[-1] for scale in fake], GAN_MODES[config["gan_mode"]])
    matching = feature_matching_loss([scale[:-1] for scale in fake], [scale[:-1] for scale in real])
    found = {"GAN": gan, "GAN_Feat": config["lambda_feat"] * matching}
    leaves = {f"grad.fake.{i}.{j}": leaf for i, scale in enumerate(fake) for j, leaf in enumerate(scale)}
    gradients = torch.autograd.grad(sum(found.values(), torch.zeros(())), list(leaves.values()))
    return found | dict(zip(leaves, gradients, strict=True))


def _groups(vector: Vector, name: str, get: Callable[[str], Tensor]) -> list[list[Tensor]]:
    """The tensors `{name}.{scale}.{layer}`."""
    scales, layers = range(vector.config["num_D"]), range(vector.config["n_layers_D"] + 1)
    return [[get(f"{name}.{i}.{j}") for j in layers] for i in scales]


def adversarial(vector: Vector) -> dict[str, Tensor]:
    """`{mode}.{d_real, d_fake, g}` of score maps `pred.{i}`, with gradients."""
    found = {}
    for official in vector.config["gan_modes"]:
        mode = GAN_MODES[official]
        for name in ("d_real", "d_fake", "g"):
            scores = [vector.leaf(f"pred.{i}") for i in range(vector.config["num_D"])]
            loss = generator_loss(scores, mode) if name == "g" else discriminator_loss(scores, name == "d_real", mode)
            loss.backward()
            found[f"{official}.{name}"] = loss
            for i, score in enumerate(scores):
                assert score.grad is not None
                found[f"{official}.{name}.grad.pred.{i}"] = score.grad
    return found


def divergence(vector: Vector) -> dict[str, Tensor]:
    mean, log_variance = vector.leaf("mu"), vector.leaf("logvar")
    loss = vector.config["lambda_kld"] * kl_divergence(mean, log_variance)
    loss.backward()
    assert mean.grad is not None and log_variance.grad is not None
    return {"loss": loss, "grad.mu": mean.grad, "grad.logvar": log_variance.grad}


def perceptual(vector: Vector) -> dict[str, Tensor]:
    loss, fake = _perceptual(vector, vector.state), vector.leaf("fake")
    total = loss(fake, vector.inputs["real"])
    total.backward()
    assert fake.grad is not None
    found = {"loss": total, "grad.fake": fake.grad}
    return found | {f"feature.{i}": feature for i, feature in enumerate(loss.features(fake))}


def _perceptual(vector: Vector, state: dict[str, Tensor]) -> PerceptualLoss:
    config = {"width_divisor": vector.config["vgg_width_divisor"]}
    return PerceptualLoss(losses.vgg19(dataclasses.replace(vector, config=config, state=state)))


def objective(vector: Vector) -> dict[str, Tensor]:
    """Both halves of a step with a given fake image."""
    config, labels = vector.config, labels_of(vector.config)
    judge = networks.build_discriminator(config, vector.state_of("netD")).train(vector.training)
    layout = layout_of_semantic_map(vector.inputs["semantics"].float(), labels.num_classes, None)
    weights = Objective(
        gan_mode=GAN_MODES[config["gan_mode"]],
        feature_matching=config["lambda_feat"],
        perceptual=config["lambda_vgg"],
    )
    fake, real = vector.leaf("fake"), vector.inputs["real"]
    terms, _ = generator_step_losses(
        _Given(fake), judge, layout, real, objective=weights, perceptual=_perceptual(vector, vector.state_of("vgg"))
    )
    torch.stack(list(terms.values())).sum().backward()
    found = {f"G.{OFFICIAL[name]}": loss for name, loss in terms.items()}
    assert fake.grad is not None
    found["G.grad.fake"] = fake.grad
    judge.zero_grad()
    terms, _ = discriminator_step_losses(judge, layout, real, fake, objective=weights)
    torch.stack(list(terms.values())).sum().backward()
    found |= {f"D.{OFFICIAL[name]}": loss for name, loss in terms.items()}
    keys = networks.keys_of(config)
    for key in vector.outputs_below("D.grad."):
        gradient = judge.get_parameter(keys[key]).grad
        assert gradient is not None
        found[f"D.grad.{key}"] = gradient
    return found | _after(vector, judge, keys)


class _Given(torch.nn.Module):
    """In the place of a generator: an image that is already there."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, *_: object) -> tuple[Tensor, dict[str, Tensor]]:
        return self.image, {}


def iterations(vector: Vector) -> dict[str, Tensor]:
    """Whole iterations: a generator step, then a discriminator step with a new fake, each with its Adam."""
    config = vector.config
    model = build(config, vector.state_of("netG")).train()
    judge = networks.build_discriminator(config, vector.state_of("netD")).train()
    weights = Objective(gan_mode=GAN_MODES[config["gan_mode"]], feature_matching=config["lambda_feat"], perceptual=0)
    betas, pace = (config["beta1"], config["beta2"]), training.rates(config)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=rate, betas=betas)
        for network, rate in zip((model, judge), pace, strict=True)
    ]
    found: dict[str, Tensor] = {}
    for i in range(config["iterations"]):
        label_map = vector.inputs[f"label.{i}"].squeeze(1).long()
        instances = vector.inputs.get(f"instance.{i}")
        layout = Layout(label_map, labels_of(config), None if instances is None else instances.squeeze(1).long())
        image, styled = vector.inputs[f"image.{i}"], StyledGenerator(model)
        terms, fake = generator_step_losses(styled, judge, layout, image, objective=weights)
        found[f"iter{i}.generated"] = fake
        _update(optimizers[0], terms)
        fresh = generate_fake(styled, layout, image, None)
        judged, _ = discriminator_step_losses(judge, layout, image, fresh, objective=weights)
        _update(optimizers[1], judged)
        found |= {f"iter{i}.{OFFICIAL[name]}": loss for name, loss in (terms | judged).items()}
    found |= _after(vector, model, GENERATOR_KEYS, "netG.", forwards=2 * config["iterations"])
    return found | _after(vector, judge, networks.keys_of(config), "netD.")


def _update(optimizer: torch.optim.Optimizer, terms: dict[str, Tensor]) -> None:
    optimizer.zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()


def edges(vector: Vector) -> dict[str, Tensor]:
    return {"edges": instance_edges(vector.inputs["instance"].squeeze(1).long())}


def loading(vector: Vector) -> dict[str, Tensor]:
    """`data.loading`, whose inputs and options have other names."""
    config = vector.config
    inputs = {f"{name.removeprefix('raw_')}_raw": value for name, value in vector.inputs.items()}
    options = config["opt"] | {"crop_pos": config["crop_pos"], "flip": config["flip"]}
    return data.loading(dataclasses.replace(vector, inputs=inputs, config=options))


def to_bytes(vector: Vector) -> dict[str, Tensor]:
    """By the rule of the papers' evaluation, which truncates as the official code does; the pipeline rounds."""
    return {"uint8": torch.from_numpy(PROTOCOLS["clade"].quantize(vector.inputs["image"]))}


ADAPTERS = {
    "dagan/generator/generator": generator,
    "dagan/encoder/encoder": networks.encoder,
    "dagan/discriminator/discriminator": discriminator,
    "dagan/op/dual_attention": dual_attention,
    "dagan/op/resblock": residual_block,
    "dagan/op/edges": edges,
    "dagan/op/preprocess": layouts.semantics,
    "dagan/op/to_uint8": to_bytes,
    "dagan/op/lr": training.learning_rates,
    "dagan/op/dataset": loading,
    "dagan/loss/gan": adversarial,
    "dagan/loss/feat": feature_matching,
    "dagan/loss/kld": divergence,
    "dagan/loss/vgg": perceptual,
    "dagan/loss/objective": objective,
    "dagan/trainstep/trainstep": iterations,
}
"""system/network/kind -> adapter."""

FAST = {"dagan/generator/generator": accelerated}
"""As `adapters.FAST`."""
