"""What is measured about the game of the two networks, and when it is warned of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segscape.losses import GANMode
from segscape.training.balance import HALF_LIFE_STEPS, BalanceWatch, clip_gradients, judgement, saturation
from segscape.training.loop import train
from segscape.training.recipe import Recipe


@pytest.mark.parametrize(
    ("mode", "real_right", "fake_right"),
    [("hinge", 0.75, 0.5), ("original", 0.75, 0.5), ("least-squares", 0.25, 1.0), ("wasserstein", 0.25, 0.5)],
)
def test_judgement(mode: GANMode, real_right: float, fake_right: float) -> None:
    real = [torch.tensor([3.0, 0.2, 0.1, -0.3]).view(1, 1, 2, 2)]
    fake = [torch.tensor([0.3, 0.4, -0.2, -1.5]).view(1, 1, 2, 2)]
    found = {name: float(value) for name, value in judgement(real, fake, mode).items()}
    assert found["real_score"] == pytest.approx(0.75) and found["fake_score"] == pytest.approx(-0.25)
    assert (found["real_right"], found["fake_right"]) == (real_right, fake_right)


def test_judgement_weighs_scales_alike() -> None:
    real = [torch.ones(1, 1, 4, 4), -torch.ones(1, 1, 2, 2)]
    assert float(judgement(real, real, "hinge")["real_right"]) == 0.5


def test_saturation() -> None:
    found = saturation(torch.tensor([-1.0, 0.995, 0.5, 0.98]), torch.tensor([0.0, 1.0, 0.1, 0.2]))
    assert {name: float(share) for name, share in found.items()} == {"saturation": 0.5, "photo_saturation": 0.25}


def test_gradients_are_measured_and_shortened() -> None:
    network = torch.nn.Linear(2, 2)
    for value, parameter in zip((3.0, 4.0), network.parameters(), strict=True):
        parameter.grad = torch.full_like(parameter, value)
    length = (4 * 9 + 2 * 16) ** 0.5
    assert float(clip_gradients(network, None)) == pytest.approx(length)
    assert float(network.bias.grad[0]) == 4
    assert float(clip_gradients(network, 1.0)) == pytest.approx(length)
    assert float(clip_gradients(network, None)) == pytest.approx(1, rel=1e-4)


def step(right: float, saturated: float = 0.0) -> dict[str, float]:
    return {
        "discriminator/real_right": right,
        "discriminator/fake_right": right,
        "generator/saturation": saturated + 0.3,
        "generator/photo_saturation": 0.3,
    }


def test_a_warning_comes_once_for_each_time_that_the_discriminator_wins() -> None:
    watch = BalanceWatch()
    warnings = [watch.observe(step(1.0)) for _ in range(3 * HALF_LIFE_STEPS)]
    assert [number for number, new in enumerate(warnings) if new] == [HALF_LIFE_STEPS - 1]
    assert "without a mistake (100.0% right)" in warnings[HALF_LIFE_STEPS - 1][0]
    again = BalanceWatch()
    again.load_state_dict(watch.state_dict())
    assert not any(again.observe(step(1.0)) for _ in range(10))
    assert not any(again.observe(step(0.5)) for _ in range(50))
    warnings = [again.observe(step(1.0)) for _ in range(10 * HALF_LIFE_STEPS)]
    assert sum(map(len, warnings)) == 1


def test_saturated_outputs_are_warned_of() -> None:
    watch = BalanceWatch()
    warnings = [line for _ in range(HALF_LIFE_STEPS) for line in watch.observe(step(0.8, 0.5))]
    assert len(warnings) == 1 and "50% more of the generated pixels" in warnings[0]


def test_a_fair_game_is_not_warned_of() -> None:
    watch = BalanceWatch()
    assert not any(watch.observe(step(0.9, 0.1)) for _ in range(5 * HALF_LIFE_STEPS))


def test_a_run_logs_the_game(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    objective = {"perceptual": 0.0, "r1": 10.0, "r1_every": 3}
    run = tmp_path / "run"
    train(make_recipe(objective=objective, images=8, optimizer={"clip_norm": 1e-3}, trackers=[]), run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert ["discriminator/r1" in line for line in lines] == [True, False, False, True]
    for line in lines:
        assert 0 <= line["discriminator/real_right"] <= 1 and 0 <= line["generator/saturation"] <= 1
        assert line["generator/gradient_norm"] > 1e-3 and line["discriminator/gradient_norm"] > 1e-3  # before clipping
        assert {"discriminator/real_score", "discriminator/fake_score"} <= line.keys()
