"""Conversion of official SEAN checkpoints, made from our own networks."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from segscape.errors import CheckpointError
from segscape.models.conversion.sean import GENERATOR_KEYS, convert, joined, recognises
from segscape.models.sean import SEANGenerator
from tests.models.test_sean import LABELS, layout, photo, seeded, small


def official(model: SEANGenerator, surplus: int = 0) -> dict[str, Tensor]:
    """The weights as the official code saves them: layers for more classes, and statistics that no one reads."""
    state, result = model.state_dict(), {}
    for key, name in GENERATOR_KEYS.items():
        spectral = f"{name}_u" in state
        if name not in state or (key.endswith(".weight") and spectral) or (key.endswith("_orig") and not spectral):
            continue
        layers = re.fullmatch(r"(.*fc_mu)\.(\w+)", key)
        if layers is None:
            result[key] = state[name]
            continue
        for j in range(len(state[name]) + surplus):
            nowhere = torch.full_like(state[name][0], float("nan"))
            result[f"{layers[1]}{j}.{layers[2]}"] = state[name][j] if j < len(state[name]) else nowhere
    for key in [key for key in result if key.endswith("mlp_shared.0.weight")]:
        norm = key.removesuffix("mlp_shared.0.weight")
        result[f"{norm}param_free_norm.running_mean"] = torch.full((1,), float("nan"))
    return result


@pytest.mark.parametrize("instances", [False, True])
def test_checkpoints_convert(instances: bool) -> None:
    model, where = small(use_instances=instances, hidden_channels=128), layout(instances)
    state = {f"module.{key}": value for key, value in official(model, surplus=12).items()}
    assert recognises(state)
    converted = convert(state, labels=LABELS, image_size=(64, 64))
    assert converted.config == model.config
    style = model.encode(photo(), where).mean
    assert torch.equal(converted.encode(photo(), where).mean.values, style.values)
    assert torch.equal(seeded(converted, where, style), seeded(model, where, style))


def test_layers_of_classes_are_joined_in_the_order_of_their_numbers() -> None:
    state = {f"a.fc_mu{j}.weight": torch.full((1, 1), float(j)) for j in (10, 2, 0, 1, *range(3, 10))}
    assert joined(state, 11)["a.fc_mu.weight"].flatten().tolist() == [*map(float, range(11))]


@pytest.mark.parametrize(
    ("drop", "labels", "message"),
    [
        ("Zencoder.model.14.bias", 5, "a SEAN generator has the key 'Zencoder.model.14.bias'"),
        ("up_1.ace_0.noise_var", 5, r"1 weights are missing \(first: blocks.4.norm_0.noise.weight\)"),
        ("", 7, r"was trained with 5 \(or 4 and instance edges\) classes"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(drop: str, labels: int, message: str) -> None:
    state = official(small(hidden_channels=128))
    state.pop(drop, None)
    with pytest.raises(CheckpointError, match=message):
        convert(state, labels=labels, image_size=(64, 64))
