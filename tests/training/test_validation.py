"""Measuring during training: the scores are those of the saved model, and the best model is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import segscape.training.validation
from segscape.errors import RecipeError
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.evaluation.agreement.segmenters import UNetSegmenter
from segscape.evaluation.agreement.unet import UNet, UNetConfig
from segscape.evaluation.evaluate import Judge, evaluate
from segscape.evaluation.fidelity.extractors import MetricNames, NetworkExtractor
from segscape.evaluation.protocol import find_protocol
from segscape.evaluation.sources import ModelPictures
from segscape.inference import Pipeline
from segscape.labels import LABEL_SETS
from segscape.training.loop import train
from segscape.training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


class Colours(torch.nn.Module):
    """Mean colours of four quarters as features."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 2).flatten(1)


@pytest.fixture
def validation(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A section with networks that answer at once."""

    def colours(device: torch.device) -> NetworkExtractor:
        return NetworkExtractor(Colours(), MetricNames.through("Colours"), "colours", 12, device)

    monkeypatch.setattr(segscape.training.validation, "lite0_extractor", colours)
    torch.manual_seed(0)
    UNet(UNetConfig(labels=LABEL_SETS["camvid"], encoder="plain", base_channels=2)).save_pretrained(tmp_path / "unet")
    data = {"kind": "folder", "images": str(pairs / "images"), "labels": str(pairs / "labels"), "label_set": "camvid"}
    return {"data": data, "every_images": 4, "count": 3, "metric": "accuracy", "segmenter": str(tmp_path / "unet")}


def scores(run: Path) -> dict[int, dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["images"]: line for line in lines if "validation/accuracy" in line}


def test_the_scores_are_those_of_the_saved_model(
    make_recipe: MakeRecipe, validation: dict[str, Any], tmp_path: Path
) -> None:
    recipe = make_recipe(images=6, validation=validation)
    model = train(recipe, tmp_path / "run")
    measured = scores(tmp_path / "run")
    assert list(measured) == [4, 6]  # every 4 images, and at the end
    segmenter = UNetSegmenter(tmp_path / "unet", "cpu")
    dataset = recipe.data.open()

    class Chosen:  # 3 of 5 samples, evenly spread
        labels = dataset.labels
        __len__ = lambda self: 3  # noqa: E731
        sample = lambda self, index: dataset.sample([0, 2, 4][index])  # noqa: E731

    protocol = find_protocol("validation")
    again = evaluate(
        ModelPictures(Pipeline.from_pretrained(model, "cpu"), protocol, "model"),
        Chosen(),
        protocol=protocol,
        size=(32, 32),
        judge=Judge(segmenter, ClassMapping.by_name(segmenter.classes, dataset.labels)),
    )
    assert again is not None
    wanted = {score.name: score.value for score in again.report.scores}
    assert {name: measured[6][f"validation/{name}"] for name in wanted} == wanted
    assert measured[6]["validation/FD-Colours"] > 0


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", 1), ("fd", -1)])
def test_the_best_is_kept(
    make_recipe: MakeRecipe, validation: dict[str, Any], tmp_path: Path, metric: str, sign: int
) -> None:
    run = tmp_path / "run"
    train(make_recipe(images=12, validation=validation | {"metric": metric}), run)
    kept = json.loads((run / "best" / "score.json").read_text())
    values = {images: line[f"validation/{kept['metric']}"] for images, line in scores(run).items()}
    best = max(values, key=lambda images: (sign * values[images], -images))
    assert (kept["images"], kept["value"]) == (best, values[best])
    train(make_recipe(images=best), tmp_path / "short")
    assert _weights(run / "best") == _weights(tmp_path / "short" / "model")


def test_a_resumed_run_measures_and_keeps_the_same(
    make_recipe: MakeRecipe, validation: dict[str, Any], tmp_path: Path
) -> None:
    options = {"validation": validation, "snapshot_images": 6}
    train(make_recipe(images=12, **options), tmp_path / "whole")
    run = tmp_path / "parts"
    train(make_recipe(images=10, **options), run)
    sorted((run / "checkpoints").glob("*.pt"))[-1].unlink()  # as if it had died after measuring at 8
    train(make_recipe(images=12, **options), run, resume=True)
    assert scores(run) == scores(tmp_path / "whole")
    assert _weights(run / "best") == _weights(tmp_path / "whole" / "best")


def test_measuring_does_not_change_the_training(
    make_recipe: MakeRecipe, validation: dict[str, Any], tmp_path: Path
) -> None:
    train(make_recipe(ema=None), tmp_path / "without")
    train(make_recipe(ema=None, validation=validation), tmp_path / "with")
    assert _weights(tmp_path / "with" / "model") == _weights(tmp_path / "without" / "model")


def test_impossible_validations(make_recipe: MakeRecipe, validation: dict[str, Any], tmp_path: Path) -> None:
    scenes = {"kind": "scenes", "count": 4, "size": [32, 32]}
    for change, message in (
        ({"data": scenes}, "validation.data has the label set"),
        ({"count": 1}, "validation needs 2 samples or more"),
    ):
        with pytest.raises(RecipeError, match=message):
            train(make_recipe(validation=validation | change), tmp_path / "run")
    with pytest.raises(RecipeError, match="metric miou needs a segmenter"):
        train(make_recipe(data=scenes, validation={"data": scenes, "metric": "miou"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()
