"""The report of a run, the cards of its models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.errors import RecipeError
from segscape.models.registry import load_model
from segscape.training.loop import train
from segscape.training.publish import metrics_after, shareable_recipe
from segscape.training.recipe import Recipe
from segscape.training.report import read_curves, write_report

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def run(make_recipe: MakeRecipe, tmp_path: Path) -> Path:
    """A folder such as a run leaves it behind, without the run."""
    folder = tmp_path / "street run"
    (folder / "samples").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(make_recipe(images=400).to_yaml())
    lines = [
        {"images": 100 * step, "generator/gan": 3.0 - step, "discriminator/real": 0.5, "images_per_second": 4.0}
        for step in (1, 2, 3)
    ]
    lines.insert(2, {"images": 200, "validation/mIoU": 41.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "samples" / "0000000200.png")
    return folder


def test_report(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report" / "report.md"
    files = {file.name for file in path.parent.iterdir()}
    assert files == {"report.md", "generator.png", "discriminator.png", "validation.png", "run.png"}
    text = path.read_text()
    assert "# street run" in text and "300 of 400 images" in text
    assert "![layout, generated, photograph](../samples/0000000200.png)" in text
    assert "| generator/gan | 2 | 0 | 0 (at 300) | 2 (at 100) |" in text
    assert "base_channels: 1" in text and "Best model" not in text
    assert Image.open(path.parent / "generator.png").size > (300, 200)


def test_report_names_the_best_model_and_may_lie_elsewhere(run: Path, tmp_path: Path) -> None:
    score = {"images": 200, "metric": "mIoU", "value": 41.5, "protocol": "validation/1"}
    (run / "best").mkdir()
    (run / "best" / "score.json").write_text(json.dumps(score))
    text = write_report(run, tmp_path / "elsewhere").read_text()
    assert "Best model by mIoU: 41.5 after 200 images, in `best/` (validation/1)" in text
    assert "(../street run/samples/0000000200.png)" in text


@pytest.mark.usefixtures("ascii_locale")
def test_a_run_of_any_name_on_every_machine(run: Path) -> None:
    run = run.rename(run.with_name("straße"))
    assert write_report(run).read_text(encoding="utf-8").startswith("# straße\n")


def test_half_a_line_and_values_that_are_not_finite_do_not_matter(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"images": 400, "generator/gan": NaN, "discriminator/real": 0.25}\n{"images": 500, "gener')
    curves = read_curves(run / "metrics.jsonl")
    assert curves["generator/gan"] == [(100, 2.0), (200, 1.0), (300, 0.0)]
    assert curves["discriminator/real"][-1] == (400, 0.25)
    assert "400 of 400" in write_report(run).read_text()


def test_a_folder_without_a_run_or_metrics(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"holds no run \(there is no recipe.yaml\)"):
        write_report(tmp_path)
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(RecipeError, match="has written no metrics yet"):
        write_report(run)


def test_metrics_up_to_a_number_of_images(run: Path) -> None:
    found = metrics_after(run, 250)
    assert found == {"generator/gan": 1.0, "discriminator/real": 0.5, "images_per_second": 4.0, "validation/mIoU": 41.5}


def test_training_writes_the_card(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = train(make_recipe(images=4, trackers=[]), run)
    card = (folder / "README.md").read_text()
    assert "on 4 images shown" in card and "![layouts, generated pictures, photographs](samples.png)" in card
    assert (folder / "samples.png").read_bytes() == (run / "samples" / "0000000004.png").read_bytes()
    value = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["generator/gan"]
    assert f"| generator/gan | {value:.4g} |" in card
    assert "| 3 | road |" in card and "kind: folder" in card and str(tmp_path) not in card
    assert load_model(folder).config.labels.name in card
    assert "Generated" not in write_report(run).read_text()


def test_recipes_are_shared_without_folders(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(data={"kind": "shards", "url": "s3://bucket/train", "cache": "/home/me/cache"})
    text = shareable_recipe(recipe)
    assert "url: s3://bucket/train" in text and "cache: cache" in text and "/home" not in text
