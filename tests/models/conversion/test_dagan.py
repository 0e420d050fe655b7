"""Conversion of official DAGAN checkpoints, made from our own networks."""

from __future__ import annotations

import pytest
import torch

from segscape.errors import CheckpointError
from segscape.models.conversion import spade
from segscape.models.conversion.dagan import GENERATOR_KEYS, convert, recognises
from segscape.models.dagan import DAGANGenerator
from tests.models.test_dagan import LABELS, layout, small


def official(model: DAGANGenerator) -> dict[str, torch.Tensor]:
    """The weights as the official code saves them, with the name of the gate of channels that checkpoints have."""
    state = model.state_dict()
    names = {}
    for key, name in GENERATOR_KEYS.items():
        spectral = f"{name}_u" in state
        wrong = (key.endswith(".weight") and spectral) or (key.endswith("_orig") and not spectral)
        if name in state and not wrong and "channelAtt" not in key:
            names[key] = name
    return {key: state[name] for key, name in names.items()}


@pytest.mark.parametrize("gate", ["cab", "channelAtt"])
def test_checkpoints_of_both_names_convert(gate: str) -> None:
    model = small()
    state = {f"module.{key}".replace("cab", gate): value for key, value in official(model).items()}
    assert recognises(state) and not recognises(official_of_spade())
    converted = convert(state, labels=LABELS, image_size=(64, 64))
    assert converted.config == small(statistics="sync-batch").config
    assert torch.equal(converted(layout()), model(layout()))


def official_of_spade() -> dict[str, torch.Tensor]:
    return dict.fromkeys(spade.GENERATOR_KEYS, torch.zeros(1))


def test_an_incomplete_checkpoint_is_refused() -> None:
    state = official(small())
    del state["cab.conv1.bias"]
    with pytest.raises(CheckpointError, match=r"1 weights are missing \(first: attention.scale.conv_0.bias\)"):
        convert(state, labels=LABELS, image_size=(64, 64))
