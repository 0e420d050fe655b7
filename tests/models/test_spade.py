from __future__ import annotations

import copy

import pytest
import torch

from segscape.errors import ConfigError, LayoutError, StyleError
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.spade import SPADEGenerator
from segscape.nn import CLADE, SPADE
from segscape.style import Style

LABELS = LabelSet.numbered(5)


def layout(size: tuple[int, int] = (64, 64), batch: int = 2, labels: LabelSet = LABELS) -> Layout:
    coarse = torch.randint(0, labels.num_classes, (batch, 8, 8), generator=torch.Generator().manual_seed(0))
    label_map = Layout(coarse, labels).resize(size).label_map
    return Layout(label_map, labels, label_map)


def small(name: str = "spade", **options: object) -> SPADEGenerator:
    torch.manual_seed(0)
    defaults = {"labels": LABELS, "image_size": (64, 64), "base_channels": 1, "hidden_channels": 4}
    return create_model(name, **{**defaults, **options}).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize(("upsampling", "multiple"), [("normal", 32), ("more", 64), ("most", 128)])
def test_image_has_the_size_of_the_layout(upsampling: str, multiple: int) -> None:
    model = small(upsampling=upsampling, image_size=(multiple, multiple), base_channels=2)
    assert model.config.size_multiple == multiple
    for size in ((multiple, multiple), (multiple, 2 * multiple)):
        image = model(layout(size))
        assert image.shape == (2, 3, *size)
        assert image.abs().max() <= 1


@pytest.mark.parametrize("name", ["spade", "clade", "clade-icpe"])
@pytest.mark.parametrize("instances", [False, True])
def test_every_parameter_learns(name: str, instances: bool) -> None:
    model = small(name, use_instances=instances).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model(layout()).square().sum().backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not still


@pytest.mark.parametrize("position", [None, "input", "feature", "modulation"])
@pytest.mark.parametrize("instances", [False, True])
def test_placements_of_the_positional_encoding(position: str | None, instances: bool) -> None:
    model = small("clade", position=position, use_instances=instances, spectral_norm=False)
    given = layout()
    moved = Layout(given.label_map, LABELS, given.instance_map, position=-given.position())
    assert torch.equal(model(given), model(moved)) is (position is None)


def test_norm_per_block() -> None:
    norms = ["clade", "spade", "clade", "spade", "spade", "clade", "clade"]
    model = small(norm=norms)
    kinds = {"clade": CLADE, "spade": SPADE}
    for norm, block in zip(norms, model.blocks, strict=True):
        assert isinstance(block.norm_0, kinds[norm]) and isinstance(block.norm_1, kinds[norm])
    assert model(layout()).shape == (2, 3, 64, 64)


def test_most_has_an_eighth_block() -> None:
    model = small(upsampling="most", image_size=(128, 128), base_channels=2, norm=["spade"] * 7 + ["clade"])
    assert len(model.blocks) == 8 and model.to_rgb.in_channels == 1


def test_instance_statistics_keep_the_images_of_a_batch_apart() -> None:
    model = small(statistics="instance").train()
    model.eval()  # the power iteration apart, both modes are the same
    given = layout(batch=2)
    torch.testing.assert_close(model(given)[:1], model(given[0:1]))
    assert not [key for key in model.state_dict() if "running" in key]


def test_running_statistics_move_in_training_only() -> None:
    model = small().eval()
    before = copy.deepcopy(model.state_dict())
    model(layout())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.train()(layout())
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {"blocks.0.norm_0.statistics.running_mean", "blocks.6.conv_0.weight_v"} <= moved


def test_deep_copy() -> None:
    model = small(use_instances=True).train()
    model(layout())
    copied = copy.deepcopy(model).eval()
    assert torch.equal(copied(layout()), model.eval()(layout()))


def test_other_precision() -> None:
    model = small("clade-icpe", use_instances=True, spectral_norm=False)
    single = model(layout())
    for dtype, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.1)):
        image = copy.deepcopy(model).to(dtype)(layout())
        assert image.dtype == dtype
        torch.testing.assert_close(image.float(), single, rtol=0, atol=tolerance)


def test_variational_model() -> None:
    model = small("clade", latent_dim=8, image_size=(64, 32))
    given = layout((64, 32))
    encoded = model.encode(torch.rand(2, 3, 64, 32) * 2 - 1, given)
    assert encoded.log_variance is not None
    assert encoded.mean.values.shape == encoded.log_variance.shape == (2, 8)
    one, other = (Style.sample(2, 8, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(model(given, one), model(given, one))
    assert not torch.allclose(model(given, one), model(given, other))
    torch.testing.assert_close(model(given), model(given, Style(torch.zeros(2, 8))))


def test_layout_of_another_label_set() -> None:
    with pytest.raises(LayoutError, match=r"has 6 classes .* built for 5"):
        small()(layout(labels=LabelSet.numbered(6)))


def test_size_that_is_no_multiple() -> None:
    with pytest.raises(LayoutError, match=r"48x64 .* multiples of 32: pad it to 64x64"):
        small()(layout((48, 64)))


def test_missing_instance_map() -> None:
    without = Layout(layout().label_map, LABELS)
    for name in ("spade", "clade"):
        with pytest.raises(LayoutError, match="no instance map"):
            small(name, use_instances=True)(without)


def test_size_of_a_variational_model_is_fixed() -> None:
    with pytest.raises(LayoutError, match=r"96x64, .* fixed size 64x64"):
        small(latent_dim=8)(layout((96, 64)))


def test_style_for_a_model_without() -> None:
    with pytest.raises(StyleError, match="takes no style"):
        small()(layout(), Style(torch.zeros(2, 8)))
    with pytest.raises(StyleError, match="takes no style"):
        small().encode(torch.zeros(1, 3, 64, 64), layout())


@pytest.mark.parametrize("shape", [(2, 9), (1, 8)])
def test_style_of_another_shape(shape: tuple[int, int]) -> None:
    with pytest.raises(StyleError, match=r"takes \[2, 8\]"):
        small(latent_dim=8)(layout(), Style(torch.zeros(shape)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (100, 256)}, r"image_size \(100, 256\) is not a multiple of 32 .* nearest size is \(96, 256\)"),
        ({"norm": ["spade"] * 6}, "norm lists 6 blocks, the generator has 7"),
        ({"norm": ["spade"] * 7, "upsampling": "most", "image_size": (128, 128)}, "7 blocks, the generator has 8"),
        ({"norm": "batch"}, "norm: 'batch' is no kind of norm; known are spade and clade"),
        ({"norm": ["spade"] * 6 + ["sean"]}, "'sean' is no kind of norm"),
        ({"position": "modulation"}, "position 'modulation' acts in CLADE blocks, and norm has none"),
        ({"position": "input", "latent_dim": 8}, "position 'input' joins the layout in the first layer"),
        ({"position": "everywhere"}, "position: Input should be 'input', 'feature' or 'modulation'"),
        ({"kernel_size": 4}, "kernel_size 4 is even"),
        ({"upsampling": "most", "image_size": (128, 128)}, "must be at least 2"),
        ({"base_channels": 0}, "base_channels: Input should be greater than 0"),
        ({"statistics": "layer"}, "statistics: Input should be 'batch', 'sync-batch' or 'instance'"),
        ({"ngf": 64}, r"unknown option 'ngf' \(known: model, labels, image_size"),
        ({"labels": "cityscape"}, "labels: unknown label set 'cityscape'"),
    ],
)
def test_impossible_configuration(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        small(**options)
    assert str(caught.value).count("\n") == 0
