"""Conversion of pix2pixHD's official checkpoints; the tables themselves are checked by the conformance vectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from segscape.discriminators import MultiScaleDiscriminator
from segscape.errors import CheckpointError
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.conversion import convert_checkpoint
from segscape.models.conversion.pix2pixhd import (
    Shape,
    discriminator_from_state,
    discriminator_keys,
    generator_keys,
    hourglass_keys,
    recognises,
)
from segscape.models.pix2pixhd import Pix2PixHDGenerator
from segscape.style import Style

State = dict[str, Tensor]
SIZE = (32, 48)


def small(**options: object) -> Pix2PixHDGenerator:
    torch.manual_seed(0)
    defaults = {"labels": 5, "image_size": SIZE, "base_channels": 4, "num_downsamplings": 2, "num_blocks": 2}
    styles = {"encoder_channels": 3, "encoder_downsamplings": 2, "use_instances": True, "num_enhancer_blocks": 1}
    return create_model("pix2pixhd", **{**defaults, **styles, **options}).eval()  # type: ignore[arg-type,return-value]


def official(state: State, keys: dict[str, str]) -> State:
    """Under official names, where we have them."""
    return {key: state[ours] for key, ours in keys.items() if ours in state}


def of_generator(model: Pix2PixHDGenerator) -> State:
    config = model.config
    shape = Shape(config.num_downsamplings, config.num_blocks, config.enhancers, config.num_enhancer_blocks)
    return official(model.state_dict(), generator_keys(shape))


def saved(state: State, path: Path) -> Path:
    torch.save({f"module.{key}": value for key, value in state.items()}, path)
    return path


@pytest.mark.parametrize(
    "options", [{}, {"enhancers": 1}, {"norm": "batch"}, {"enhancers": 2, "feature_channels": 3, "num_blocks": 1}]
)
def test_round_trip(options: dict[str, object], tmp_path: Path) -> None:
    model, encoder_path = small(**options), None
    if model.encoder is not None:
        state = official(model.encoder.state_dict(), hourglass_keys(Shape(2, 0)))
        encoder_path = saved(state, tmp_path / "1_net_E.pth")
    path = saved(of_generator(model), tmp_path / "1_net_G.pth")
    converted = convert_checkpoint(path, labels=5, image_size=SIZE, encoder_path=encoder_path)
    assert converted.config == model.config.model_copy(
        update={}
        if model.encoder
        else {"encoder_channels": 16, "encoder_downsamplings": 4}
        | ({} if model.config.enhancers else {"num_enhancer_blocks": 3})
    )
    layout = Layout(torch.randint(0, 5, (1, *SIZE)), LabelSet.numbered(5), torch.randint(0, 9, (1, *SIZE)))
    style = Style(torch.rand(1, 3, *SIZE)) if model.encoder else None
    assert torch.equal(converted(layout, style), model(layout, style))


def test_statistics_that_instance_norm_does_not_use_are_left_out(tmp_path: Path) -> None:
    """Files of early versions of PyTorch may have them."""
    state = of_generator(small())
    state |= {"model.2.running_mean": torch.zeros(4), "model.2.running_var": torch.ones(4)}
    converted = convert_checkpoint(saved(state, tmp_path / "G.pth"), labels=5, image_size=SIZE)
    assert converted.config.norm == "instance"  # type: ignore[attr-defined]


def test_classes_of_ade20k_are_put_in_its_order(tmp_path: Path) -> None:
    model = small(labels=151, use_instances=False, num_blocks=1)
    path = saved(of_generator(model), tmp_path / "G.pth")
    converted = convert_checkpoint(path, labels="ade20k", image_size=SIZE)
    assert converted.config.labels == LABEL_SETS["ade20k"]
    ours, theirs = (m.state_dict()["coarse.stem.convolution.weight"] for m in (converted, model))
    assert torch.equal(ours[:, :150], theirs[:, 1:]) and torch.equal(ours[:, 150], theirs[:, 0])


def test_wrong_files(tmp_path: Path) -> None:
    model = small(feature_channels=3)
    path = saved(of_generator(model), tmp_path / "G.pth")
    with pytest.raises(CheckpointError, match=r"reads 9 channels, .* give its label set, or its encoder"):
        convert_checkpoint(path, labels=5, image_size=SIZE)
    with pytest.raises(CheckpointError, match="holds no encoder of pix2pixHD"):
        convert_checkpoint(path, labels=5, image_size=SIZE, encoder_path=path)
    path = saved(of_generator(small()), tmp_path / "G.pth")
    with pytest.raises(CheckpointError, match=r"has 1 channels for instance edges, so use_instances=False"):
        convert_checkpoint(path, labels=5, image_size=SIZE, use_instances=False)
    state = of_generator(small())
    del state["model.1.weight"]
    with pytest.raises(CheckpointError, match="incomplete"):
        convert_checkpoint(saved(state, tmp_path / "G.pth"), labels=5, image_size=SIZE)
    with pytest.raises(CheckpointError, match="that its system's official networks do not have"):
        convert_checkpoint(
            saved(of_generator(small()) | {"model.99.weight": torch.zeros(1)}, path), labels=5, image_size=SIZE
        )


@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_discriminator(features: bool, norm: str) -> None:
    torch.manual_seed(0)
    options = {"instances": True, "base_channels": 3, "num_scales": 3, "norm": norm, "spectral": False, "bias": True}
    model = MultiScaleDiscriminator(5, **options).eval()  # type: ignore[arg-type]
    state = official(model.state_dict(), discriminator_keys(3, 4, features))
    assert not recognises(state)
    converted = discriminator_from_state(state, labels=5).eval()
    x = torch.rand(1, 9, 64, 64)
    for ours, theirs in zip(converted.judge(x).scores, model.judge(x).scores, strict=True):
        assert torch.equal(ours, theirs)


def test_discriminator_of_another_system() -> None:
    with pytest.raises(CheckpointError, match="no discriminator of pix2pixHD"):
        discriminator_from_state({"discriminator_0.model0.0.weight": torch.zeros(1)}, labels=5)
