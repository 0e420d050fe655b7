"""Steps that are not finite leave nothing behind."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from segscape.training.guard import Guard


class TooMany(Exception):
    """Stands for the run's error."""


def make(limit: int = 2) -> tuple[Guard, nn.Module, list[str]]:
    network, told = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), []
    guard = Guard([network], limit, lambda kind, sentence: told.append(f"{kind}: {sentence}"), TooMany)
    return guard, network, told


def test_running_statistics_of_a_refused_step_are_undone() -> None:
    guard, network, told = make()
    network(torch.randn(2, 1, 4, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    guard.begin()
    network(torch.full((2, 1, 4, 4), math.nan))
    assert network[1].running_mean.isnan().any()  # type: ignore[index]
    assert not guard.accepts({"generator/gan": math.nan}, 1.0)
    assert not guard.settle(8)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert told == ["skipped_steps: after 8 images a step is not finite (generator/gan = nan): it is left out."]


def test_an_accepted_step_stays() -> None:
    guard, network, told = make()
    guard.begin()
    network(torch.randn(2, 1, 4, 4))
    moved = network[1].running_mean.clone()  # type: ignore[index]
    assert guard.accepts({"a": 1.0}, 2.0) and guard.settle(8)
    assert torch.equal(network[1].running_mean, moved) and not told  # type: ignore[index]


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_gradients_count_unless_a_scaler_looks_at_them(norm: float) -> None:
    guard, _, _ = make()
    guard.begin()
    assert not guard.accepts({"a": 1.0}, norm)
    guard.scaler = object()
    guard.begin()
    assert guard.accepts({"a": 1.0}, norm)


def test_what_follows_a_refused_update_is_refused() -> None:
    guard, _, _ = make()
    guard.begin()
    assert not guard.accepts({"a": math.inf}, 1.0)
    assert not guard.accepts({"b": 1.0}, 1.0)


def test_too_many_in_a_row_are_an_error() -> None:
    guard, _, told = make(limit=2)

    def step(value: float) -> bool:
        guard.begin()
        guard.accepts({"a": value}, 1.0)
        return guard.settle(4)

    assert [step(value) for value in (math.nan, math.nan, 1.0, math.nan, math.nan)] == [
        False,
        False,
        True,
        False,
        False,
    ]
    again, _, _ = make(limit=2)
    again.load_state_dict(guard.state_dict())  # counts on in a resumed run
    again.begin()
    again.accepts({"a": math.nan}, 1.0)
    with pytest.raises(TooMany, match=r"after 6 images a step is not finite \(a = nan\), and 2 before it were not"):
        again.settle(6)
    assert len(told) == 4
