"""Boards: metrics and samples reach each tracker; a missing package is found before the run begins."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import segscape.training.boards as boards
from segscape.errors import DependencyError, RecipeError
from segscape.training.loop import train
from segscape.training.recipe import Recipe
from tests.training.test_loop import metrics

MakeRecipe = Callable[..., Recipe]


class FakeWandb:
    """Takes note of what accelerate's tracker would send."""

    requires_logging_directory = False
    calls: ClassVar[list[tuple[str, Any]]] = []

    def __init__(self, project: str, **options: Any) -> None:
        self.calls.append(("init", (project, options)))

    def start(self) -> None:
        self.calls.append(("start", None))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.calls.append(("configuration", values))

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", (values, step)))

    def log_images(self, values: dict[str, list[np.ndarray]], step: int) -> None:
        self.calls.append(("images", (values, step)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def test_another_tracker_gets_recipe_metrics_and_samples(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", FakeWandb)
    monkeypatch.setattr(boards, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(FakeWandb, "calls", [])
    run = tmp_path / "run"
    train(make_recipe(images=4, trackers=["wandb"]), run)
    assert [kind for kind, _ in FakeWandb.calls] == ["init", "start", "configuration", "log", "log", "images", "finish"]
    sent = dict(FakeWandb.calls)
    assert sent["init"] == ("segscape", {"name": "run", "dir": str(run)})
    assert sent["configuration"]["images"] == 4
    values, step = sent["log"]
    assert step == 4 and values["generator/gan"] == metrics(run)[-1]["generator/gan"]
    assert sent["images"][0]["samples"][0].shape == (64, 96, 3) and sent["images"][1] == 4
    assert not (run / "tensorboard").exists()


def test_a_resumed_run_goes_on_in_tensorboard(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(make_recipe(images=4, snapshot_images=2), run)
    sorted((run / "checkpoints").glob("*.pt"))[-1].unlink()
    train(make_recipe(images=6, snapshot_images=2), run, resume=True)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("generator/gan")] == [2, 4, 6]
    assert [event.step for event in events.Images("samples")][-1] == 6
    found = [event.value for event in events.Scalars("generator/gan")]
    np.testing.assert_allclose(found, [line["generator/gan"] for line in metrics(run)], rtol=1e-6)


def test_a_missing_package_is_found_before_the_run_begins(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="the tracker comet_ml needs the package comet_ml: pip install comet-ml"):
        train(make_recipe(trackers=["tensorboard", "comet_ml"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_an_error(make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match=r"trackers.0: Input should be 'tensorboard', 'wandb'"):
        make_recipe(trackers=["tensorbord"])
