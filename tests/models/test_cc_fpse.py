from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from segscape.errors import ConfigError, LayoutError, StyleError
from segscape.evaluation.cost.complexity import Complexity, count
from segscape.inference import accelerate
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.cc_fpse import CCFPSEGenerator, LabelPyramid
from segscape.nn.conditional_convolution import MapSPADE
from segscape.nn.spectral import SpectralNormConv2d
from segscape.style import Style

LABELS = LabelSet.numbered(5)

PUBLISHED: dict[str, dict[str, object]] = {
    "ade20k": {"labels": 151},
    "coco-stuff": {"labels": 183, "use_instances": True},
    "cityscapes": {"labels": 35, "use_instances": True, "image_size": (256, 512), "upsampling": "more"},
}


def layout(size: tuple[int, int] = (64, 64), batch: int = 2) -> Layout:
    coarse = torch.randint(0, 5, (batch, 8, 8), generator=torch.Generator().manual_seed(0))
    label_map = Layout(coarse, LABELS).resize(size).label_map
    return Layout(label_map, LABELS, label_map)


def small(**options: object) -> CCFPSEGenerator:
    """With weights large enough that what the layers say matters."""
    torch.manual_seed(0)
    defaults = {"labels": LABELS, "image_size": (64, 64), "base_channels": 2, "hidden_channels": 4, "latent_dim": None}
    model = create_model("cc-fpse", **{**defaults, **options})  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for layer in model.modules():
        if isinstance(layer, SpectralNormConv2d):
            layer.power_iteration()
    return model.eval()  # type: ignore[return-value]


@pytest.mark.parametrize(("upsampling", "multiple"), [("normal", 32), ("more", 64)])
@pytest.mark.parametrize("instances", [False, True])
def test_without_a_latent_the_image_has_the_size_of_the_layout(upsampling: str, multiple: int, instances: bool) -> None:
    model = small(upsampling=upsampling, use_instances=instances)
    assert model.config.size_multiple == multiple
    for size in ((multiple, multiple), (multiple, 2 * multiple)):
        image = model(layout(size))
        assert image.shape == (2, 3, *size)
        assert image.abs().max() <= 1


def test_a_latent_fixes_the_size_and_none_is_the_mean_of_the_prior() -> None:
    model, given = small(latent_dim=6, image_size=(64, 128)), layout((64, 128))
    torch.testing.assert_close(model(given), model(given, Style(torch.zeros(2, 6))))
    assert not torch.allclose(model(given), model(given, Style(torch.ones(2, 6))))
    with pytest.raises(LayoutError, match="fixed size 64x128"):
        model(layout((64, 64)))


def test_a_style_for_a_model_without() -> None:
    with pytest.raises(StyleError, match="takes no style"):
        small()(layout(), Style(torch.zeros(2, 6)))


def test_published_models_have_a_latent() -> None:
    model = create_model("cc-fpse", labels=5, image_size=(32, 32), base_channels=1, hidden_channels=1)
    assert isinstance(model, CCFPSEGenerator) and model.config.latent_dim == 256


def test_a_new_model_draws_before_its_first_step() -> None:
    """The random singular vectors of spectral norm would make the features overflow."""
    torch.manual_seed(0)
    model = create_model("cc-fpse", labels=LABELS, image_size=(64, 64), base_channels=8, hidden_channels=8)
    features = model.eval().pyramid(layout().semantic_map())  # type: ignore[operator]
    assert all(level.abs().max() < 10 for level in features)


def test_image_size_must_fit_the_upsampling() -> None:
    with pytest.raises(ConfigError, match="not a multiple of 64"):
        small(image_size=(96, 96), upsampling="more")


def test_encoding_draws_a_latent_of_the_photo() -> None:
    model = small(latent_dim=6)
    encoded = model.encode(torch.rand(2, 3, 64, 64), layout())
    assert encoded.mean.values.shape == (2, 6) and encoded.log_variance is not None
    assert model(layout(), encoded.draw(torch.randn(2, 6))).shape == (2, 3, 64, 64)
    with pytest.raises(StyleError, match="takes no style"):
        small().encode(torch.rand(2, 3, 64, 64), layout())


@pytest.mark.parametrize("latent_dim", [None, 6])
def test_everything_learns_but_what_is_not_used(latent_dim: int | None) -> None:
    model, given = small(latent_dim=latent_dim).train(), layout()
    style = model.encode(torch.rand(2, 3, 64, 64), given).draw(torch.randn(2, 6)) if latent_dim else None
    model(given, style).square().sum().backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert len(still) == 42 and all(".unused." in key for key in still)


@pytest.mark.parametrize(("upsampling", "levels"), [("normal", [0, 1, 1, 2, 3, 4, 5]), ("more", [0, 1, 2, 3, 4, 5, 6])])
def test_blocks_see_the_layout_and_the_pyramid_at_their_size(upsampling: str, levels: list[int]) -> None:
    model, given = small(upsampling=upsampling), layout()
    pyramid = model.pyramid(given.semantic_map())
    seen: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    model(given)
    for conditions, level in zip(seen, levels, strict=True):
        semantic = given.semantic_map((conditions.shape[-2], conditions.shape[-1]))
        torch.testing.assert_close(conditions, torch.cat([semantic, pyramid[level]], dim=1))


def test_each_level_of_the_pyramid_is_twice_the_one_before() -> None:
    pyramid = LabelPyramid(3, 4, levels=4).eval()
    sizes = [tuple(features.shape) for features in pyramid(torch.rand(1, 3, 16, 24))]
    assert sizes == [(1, 4, 2, 3), (1, 4, 4, 6), (1, 4, 8, 12), (1, 4, 16, 24)]
    assert all(2 * a[2] == b[2] for a, b in pairwise(sizes))


def test_one_label_in_a_corner_reaches_the_whole_pyramid_from_its_top() -> None:
    pyramid = LabelPyramid(3, 4, levels=4).eval()
    semantic = torch.rand(1, 3, 16, 16)
    changed = semantic.clone()
    changed[:, :, 0, 0] += 1
    difference = [(a - b).abs().amax(1)[0] for a, b in zip(pyramid(semantic), pyramid(changed), strict=True)]
    assert difference[-1][0, 0] > 0 and difference[-1][15, 15] > 0
    changes = pyramid.encoders[0](changed) - pyramid.encoders[0](semantic)
    assert changes.abs().amax(1)[0].nonzero().max() == 1  # by itself, the finest level sees the next pixel only


def test_the_accelerated_copy_gives_the_same_image() -> None:
    model, given = small(use_instances=True, latent_dim=6), layout()
    style = Style(torch.randn(2, 6))
    torch.testing.assert_close(accelerate(model)(given, style), model(given, style), rtol=0, atol=1e-4)


@cache
def build(dataset: str, latent_dim: int | None = 256) -> CCFPSEGenerator:
    with torch.device("meta"):
        return create_model("cc-fpse", **PUBLISHED[dataset], latent_dim=latent_dim).eval()  # type: ignore


@cache
def cost(dataset: str, latent_dim: int | None = 256) -> Complexity:
    return count(build(dataset, latent_dim))


@pytest.mark.parametrize(
    ("dataset", "latent_dim", "size", "macs"),
    [
        ("ade20k", 256, 140_704_323, 437.707),
        ("ade20k", None, 125_254_211, 437.780),
        ("coco-stuff", 256, 141_939_843, 455.585),
        ("cityscapes", 256, 128_055_555, 738.240),
    ],
)
def test_cost(dataset: str, latent_dim: int | None, size: int, macs: float) -> None:
    counted = cost(dataset, latent_dim)
    assert counted.total.parameters == size
    assert round(counted.total.macs / 1e9, 3) == macs
    assert counted.encoder_parameters == (10_463_424 if latent_dim else 0)


def test_the_batch_norms_that_are_not_used_are_counted() -> None:
    """Without them, Cityscapes would print 128.0 million; the CLADE paper has 128.1."""
    unused = [module for name, module in build("cityscapes").named_modules() if name.endswith(".unused")]
    assert sum(parameter.numel() for module in unused for parameter in module.parameters()) == 26_112


@pytest.mark.parametrize(("dataset", "printed"), [("ade20k", 438.2), ("coco-stuff", 456.1), ("cityscapes", 739.2)])
def test_flops_of_the_clade_paper(dataset: str, printed: float) -> None:
    """Its Table I counts, beside biases, two per value of a batch norm (one without scale and shift), one per ReLU."""
    model = build(dataset)
    elements = 0

    def add(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal elements
        affine = isinstance(module, nn.BatchNorm2d) and module.affine
        elements += output.numel() * (2 if affine else 1)

    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.ReLU)):
            module.register_forward_hook(add)
        if isinstance(module, MapSPADE):  # whose ReLU is a function
            module.shared.register_forward_hook(add)
    size = model.config.image_size
    labels = torch.zeros(1, *size, dtype=torch.long, device="meta")
    with torch.no_grad():
        model(Layout(labels, model.config.labels, labels, check=False))
    assert round((cost(dataset).total.paper_macs + elements) / 1e9, 1) == printed
