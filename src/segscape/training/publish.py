"""What goes out with the models of a run: their cards, and pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from segscape.files import write_text
from segscape.models.card import SAMPLES_FILE, TrainingFacts, model_card
from segscape.models.generator import Generator
from segscape.training.recipe import Recipe
from segscape.training.tracking import read_metrics


def write_cards(run: Path, generator: Generator, recipe: Recipe, images: int) -> None:
    """Write `README.md` and the sample grid into `RUN/model`, saved after `images` images, and into `RUN/best`.

    The card names the scores of the validation; without one, the metrics of training.

    Args:
        run: the run folder.
        generator: any of the run's; it says how the models are built.
        recipe: of the run.
        images: seen so far.
    """
    numbers = {"model": images}
    if (run / "best" / "score.json").is_file():
        numbers["best"] = int(json.loads((run / "best" / "score.json").read_text(encoding="utf-8"))["images"])
    for name, number in numbers.items():
        grid = run / "samples" / f"{number:010d}.png"
        (run / name / SAMPLES_FILE).unlink(missing_ok=True)
        if grid.is_file():
            shutil.copyfile(grid, run / name / SAMPLES_FILE)
        metrics = metrics_after(run, number)
        scores = {title: value for title, value in metrics.items() if title.startswith("validation/")}
        facts = TrainingFacts(number, shareable_recipe(recipe), scores or metrics, grid.is_file())
        write_text(run / name / "README.md", model_card(generator.config, generator.count_parameters(), facts))


def shareable_recipe(recipe: Recipe) -> str:
    """The recipe as YAML without the folders of this machine: of each path the last part stays."""
    content: dict[str, Any] = yaml.safe_load(recipe.to_yaml())
    return yaml.safe_dump({key: _without_folders(value) for key, value in content.items()}, sort_keys=False)


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    return Path(value).name if isinstance(value, str) and "/" in value and "://" not in value else value


def metrics_after(run: Path, images: int) -> dict[str, float]:
    """The metrics of a run as they were measured last, up to image number `images`."""
    path = run / "metrics.jsonl"
    lines = [line for line in read_metrics(path) if line["images"] <= images] if path.is_file() else []
    merged = {name: value for line in lines for name, value in line.items()}
    return {name: value for name, value in merged.items() if name != "images"}
