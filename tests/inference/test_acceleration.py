"""The fast copy of a generator gives the plain one's pictures, for every kind of norm, precision and size."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segscape.errors import ConfigError
from segscape.inference.acceleration import (
    TOLERANCE,
    AcceleratedGenerator,
    Precision,
    accelerate,
)
from segscape.inference.pipeline import Pipeline
from segscape.inference.strips import PointwiseConvolution, WinogradConvolution
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.clade import mixed_norms
from segscape.models.generator import Generator
from segscape.nn.noise import noise_from
from segscape.nn.residual import ResidualBlock
from segscape.nn.spectral import SpectralNorm, SpectralNormConv2d
from segscape.style import Style
from tests.zoo import SIZE, TINY, build_settled, random_inputs

LABELS = LabelSet.numbered(5)
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "spade": ("spade", {}),
    "clade": ("clade", {}),
    "icpe": ("clade-icpe", {}),
    "instances": ("clade", {"use_instances": True}),
    "spade-instances": ("spade", {"use_instances": True}),
    "icpe-instances": ("clade-icpe", {"use_instances": True}),
    "feature": ("clade", {"position": "feature", "use_instances": True}),
    "input": ("clade", {"position": "input"}),
    "mixed": ("clade", {"norm": mixed_norms(2)}),
    "latent": ("clade", {"latent_dim": 3}),
    "instance-norm": ("clade-icpe", {"statistics": "instance"}),
    "spade-instance-norm": ("spade", {"statistics": "instance"}),
    "no-spectral": ("clade", {"spectral_norm": False}),
    "more": ("clade", {"upsampling": "more", "image_size": (128, 64)}),
    "kernel-5": ("spade", {"kernel_size": 5}),
}


def build(variant: str, base: int = 2) -> Generator:
    """A tiny generator whose batch norms have seen data, so that its pictures are not saturated."""
    torch.manual_seed(0)
    name, options = VARIANTS[variant]
    model = create_model(name, labels=LABELS, **{"image_size": (64, 128), "base_channels": base, **options})
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.2)
    model.train()
    for seed in range(3):  # running statistics and singular vectors as after some training
        pictures(model, layout_of(model.config.image_size, seed + 100))
    return model.eval()


def layout_of(size: tuple[int, int], seed: int = 0, batch: int = 2, coarse: int = 8) -> Layout:
    """Blocks of `coarse` pixels of random classes, an instance each."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 5, (batch, -(-size[0] // coarse), -(-size[1] // coarse)))
    instances = np.arange(blocks.size).reshape(blocks.shape)
    label_map, instance_map = (m.repeat(coarse, 1).repeat(coarse, 2) for m in (blocks, instances))
    return Layout.from_array(label_map[:, : size[0], : size[1]], LABELS, instance_map[:, : size[0], : size[1]])


@torch.no_grad()
def pictures(model: nn.Module, layout: Layout) -> Tensor:
    shape = model.config.style_shape
    style = None if shape is None else Style(torch.ones(layout.batch_size, *shape))
    image: Tensor = model(layout, style)
    return image


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_pictures_are_those_of_the_plain_model(variant: str, precision: Precision) -> None:
    model = build(variant)
    layout = layout_of(model.config.image_size)
    plain, fast = pictures(model, layout), pictures(accelerate(model, precision), layout)
    assert fast.dtype == torch.float32 and plain.std() > 0.01
    assert (plain - fast).abs().max() < TOLERANCE[precision]


@pytest.mark.parametrize("name", TINY)
def test_every_system_in_any_size(name: str) -> None:
    model = build_settled(name)
    fast = accelerate(model)
    for size in [SIZE] if model.config.fixed_size else [SIZE, (96, 32)]:
        found = []
        for generator in (model, fast):
            with torch.no_grad(), noise_from(generator, torch.Generator().manual_seed(0)):
                found.append(generator(*random_inputs(model, 2, size)))
        assert found[0].std() > 0.1 and (found[0] - found[1]).abs().max() < TOLERANCE["float32"]
    assert not any(isinstance(module, SpectralNorm) for module in _without_encoder(fast))
    assert not any(isinstance(module, ResidualBlock) for module in _without_encoder(fast))


def _without_encoder(fast: AcceleratedGenerator) -> list[nn.Module]:
    named = fast.network.named_modules()
    return [module for name, module in named if not name.startswith(("encoder", "style_encoder"))]


def test_batch_norm_goes_into_the_convolutions() -> None:
    """Of CC-FPSE's pyramid, and of pix2pixHD's layers if they have any."""
    pyramid = accelerate(build_settled("cc-fpse")).network.get_submodule("pyramid")
    coarse = accelerate(build_settled("pix2pixhd", norm="spectral-batch")).network.get_submodule("coarse")
    for network in (pyramid, coarse):
        assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


@pytest.mark.parametrize("norm", ["spectral-batch", "batch", "spectral"])
def test_every_norm_of_pix2pixhd(norm: str) -> None:
    model = build_settled("pix2pixhd", norm=norm)
    layout, style = random_inputs(model, 2, SIZE)
    with torch.no_grad():
        assert (model(layout, style) - accelerate(model)(layout, style)).abs().max() < TOLERANCE["float32"]


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    coarse=st.sampled_from([1, 2, 5, 32]),
    size=st.sampled_from([(64, 64), (64, 96), (96, 32)]),
    variant=st.sampled_from(["spade", "icpe", "mixed", "spade-instances"]),
)
def test_any_layout(seed: int, coarse: int, size: tuple[int, int], variant: str) -> None:
    model, layout = build(variant), layout_of(size, seed, batch=1 + seed % 2, coarse=coarse)
    assert (pictures(model, layout) - pictures(accelerate(model), layout)).abs().max() < TOLERANCE["float32"]


@pytest.mark.parametrize("variant", ["clade", "spade", "icpe-instances", "more"])
def test_wide_layers_work_strip_by_strip_and_agree(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segscape.inference.folding.LARGE_KERNEL", 512 * 512 * 9)  # both tile sizes in a small network
    monkeypatch.setattr("segscape.inference.folding.FEW_PRODUCTS", 0)
    model = build(variant, base=32)
    fast = accelerate(model)
    convolutions = [module for module in fast.modules() if isinstance(module, WinogradConvolution)]
    assert {convolution.tile for convolution in convolutions} == {2, 4}
    assert any(isinstance(module, PointwiseConvolution) for module in fast.modules())
    assert not any(isinstance(module, SpectralNormConv2d) for module in fast.network.blocks.modules())
    layout = layout_of(model.config.image_size, coarse=5)
    assert (pictures(model, layout) - pictures(fast, layout)).abs().max() < TOLERANCE["float32"]


def test_the_model_itself_stays_as_it_is() -> None:
    model, layout = build("mixed"), layout_of((64, 128))
    before, state = pictures(model, layout), {key: value.clone() for key, value in model.state_dict().items()}
    fast = accelerate(model)
    pictures(fast, layout)
    assert torch.equal(pictures(model, layout), before)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_what_an_accelerated_model_cannot_do(tmp_path: object) -> None:
    fast = accelerate(build("clade"))
    assert isinstance(fast, AcceleratedGenerator) and not fast.training
    with pytest.raises(ConfigError, match="cannot be trained"):
        fast.train()
    with pytest.raises(ConfigError, match="cannot be saved"):
        fast.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="accelerated already"):
        accelerate(fast)
    with pytest.raises(ConfigError, match="use float32, bfloat16, float16"):
        accelerate(build("clade"), "int8")  # type: ignore[arg-type]


def test_the_encoder_works() -> None:
    model = build("latent")
    photo = torch.rand(2, 3, 64, 128) * 2 - 1
    layout = layout_of((64, 128))
    plain, fast = model.encode(photo, layout), accelerate(model, "bfloat16").encode(photo, layout)
    assert plain.log_variance is not None and fast.log_variance is not None
    assert torch.allclose(plain.mean.values, fast.mean.values, atol=1e-5)
    assert torch.allclose(plain.log_variance, fast.log_variance, atol=1e-5)


@pytest.mark.parametrize("precision", ["fast", "bfloat16"])
def test_a_pipeline_can_be_fast(precision: Literal["fast", "bfloat16"]) -> None:
    layout = np.zeros((90, 130), dtype=np.int64)  # a size that has to be padded
    layout[50:] = 3
    plain = np.asarray(Pipeline.from_pretrained(device="cpu")(layout)[0]).astype(int)
    fast = np.asarray(Pipeline.from_pretrained(device="cpu", accelerate=precision)(layout)[0]).astype(int)
    assert plain.shape == fast.shape == (90, 130, 3)
    assert np.abs(plain - fast).max() <= (1 if precision == "fast" else 16)
