"""The variants of CA2-SIS's checkpoints; their tables are held to the official code by the conformance tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segscape.errors import CheckpointError
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.ca2_sis import CA2SISGenerator
from segscape.models.conversion import convert_checkpoint
from segscape.models.conversion.ca2_sis import GENERATOR_KEYS, convert, recognises

CLASSES, HEADS = 3, {"heads": 2, "last_heads": 1, "norm_groups": 2}


def model_of(**options: Any) -> CA2SISGenerator:
    torch.manual_seed(0)
    small = {"base_channels": 2, "head_channels": 3, "last_head_channels": 5, "mask_size": 8, "style_features": 1}
    small |= {"style_channels": 2, "mapping_dim": 16, "mapping_channels": 6, "image_size": (64, 128), "labels": CLASSES}
    model = create_model("ca2-sis", **{**small, **HEADS, **options})
    assert isinstance(model, CA2SISGenerator)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def official(model: CA2SISGenerator) -> dict[str, Tensor]:
    """The weights as the official code stores them: a mapping network has a branch for each class."""
    own, state = model.state_dict(), {}
    for key, name in GENERATOR_KEYS.items():
        if name in own and ".unshared." in key:
            for index, part in enumerate(own[name].chunk(model.config.labels.num_classes)):
                state[key.replace(".unshared.", f".unshared.{index}.")] = part.flatten(1) if part.ndim == 3 else part
        elif name in own:
            state[key] = own[name]
    return state


def converted(state: dict[str, Tensor], **options: Any) -> CA2SISGenerator:
    return convert(state, **{"labels": CLASSES, "image_size": (64, 128), **HEADS, **options})


@pytest.mark.parametrize(
    "options",
    [{}, {"exclude_background": True}, {"mapping_dim": None}, {"mapping_dim": 256}, {"mask_size": 5}],
    ids=["plain", "exclude-background", "no-mapping", "wide-mapping", "other-mask"],
)
def test_shapes_tell_the_variant(options: dict[str, Any]) -> None:
    model = model_of(**options)
    state = official(model)
    assert recognises(state) and ("noise_encoder.shared.0.weight" in state) is (model.mapping is not None)
    found = converted({f"module.{key}": value.half() for key, value in state.items()})
    assert {**vars(found.config), "mapping_channels": 0} == {**vars(model.config), "mapping_channels": 0}
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name].half().float())
    assert not found.training


def test_no_shape_tells_the_final_tanh() -> None:
    state = official(model_of())
    layout = Layout(torch.zeros(1, 64, 128, dtype=torch.long), LabelSet.numbered(CLASSES))
    without = converted(state, final_tanh=False)(layout)
    assert torch.equal(converted(state)(layout), without.tanh()) and not torch.equal(without, without.tanh())


def test_the_command_finds_the_system(tmp_path: Any) -> None:
    torch.save(official(model_of()), tmp_path / "latest_net_G.pth")
    model = convert_checkpoint(
        tmp_path / "latest_net_G.pth", labels=CLASSES, image_size=(64, 128), final_tanh=False, **HEADS
    )
    assert isinstance(model, CA2SISGenerator) and not model.config.final_tanh


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": 4}, "trained with 3 classes"),
        ({"image_size": (64, 64)}, "embeddings of 32 cells, but images of 64x64 have 4x4"),
        ({"labels": LABEL_SETS["ade20k"]}, "give the label set ade20k-official"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        converted(official(model_of()), **options)


@pytest.mark.parametrize("missing", ["res3.in_layers.2.weight", "style_encoder.out.out_0.0.weight"])
def test_an_incomplete_state_is_refused(missing: str) -> None:
    state = official(model_of())
    del state[missing]
    with pytest.raises(CheckpointError, match=r"incomplete|1 weights are missing"):
        converted(state)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"first: res7\.weight"):
        converted(official(model_of()) | {"res7.weight": torch.zeros(1)})
