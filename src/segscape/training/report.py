"""The report of a run: curves of every metric, the recipe, the last samples; also of one that is not over."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segscape.errors import RecipeError
from segscape.evaluation.plotting import INK, new_figure, save_figure
from segscape.extras import require
from segscape.files import write_text
from segscape.training.recipe import Recipe, load_recipe
from segscape.training.tracking import read_metrics

COLUMNS = 3
OTHERS = "run"
"""The group of metrics whose names have no `/`."""

Curve = list[tuple[int, float]]


def write_report(run: Path, folder: Path | None = None) -> Path:
    """Write `report.md` and a PNG of curves per group of metrics, and return the path of the former.

    Args:
        run: the folder of a run, over or going on; a `metrics.jsonl` that ends in half a line does not matter.
        folder: where to write; `RUN/report` by default.

    Raises:
        RecipeError: there is no run, or it has written no metrics yet.
        DependencyError: matplotlib is not installed.
    """
    if not (run / "recipe.yaml").is_file():
        raise RecipeError(f"{run} holds no run (there is no recipe.yaml): give the folder that `segscape train` wrote.")
    curves = read_curves(run / "metrics.jsonl")
    if not curves:
        raise RecipeError(f"{run} has written no metrics yet: the first line comes after `log_images` images.")
    recipe = load_recipe(run / "recipe.yaml")
    require("matplotlib", "eval")
    folder = folder or run / "report"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [draw_curves(group, members, folder) for group, members in _groups(curves)]
    write_text(folder / "report.md", "\n".join(_sections(run, recipe, folder, curves, pictures)))
    return folder / "report.md"


def read_curves(path: Path) -> dict[str, Curve]:
    """The finite values of every metric with the number of images, by name, in the order of the images."""
    curves: dict[str, Curve] = {}
    for line in sorted(read_metrics(path) if path.is_file() else [], key=lambda line: int(line["images"])):
        for name, value in line.items():
            if name != "images" and isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(name, []).append((int(line["images"]), float(value)))
    return curves


def draw_curves(group: str, curves: dict[str, Curve], folder: Path) -> Path:
    """Draw each curve into its own axes of one PNG, `FOLDER/GROUP.png`."""
    rows = -(-len(curves) // COLUMNS)
    figure, axes = new_figure(rows, COLUMNS, width=4.2 * COLUMNS, height=2.8 * rows)
    for axis, (name, points) in zip(axes.flat, curves.items(), strict=False):
        images, values = zip(*points, strict=True)
        axis.plot(images, values, color=INK, linewidth=1, marker="." if len(points) < 30 else None)
        axis.set_title(name.removeprefix(f"{group}/"), fontsize=9)
        axis.set_xlabel("images")
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    path = folder / f"{group}.png"
    save_figure(figure, path)
    return path


def _groups(curves: dict[str, Curve]) -> Iterator[tuple[str, dict[str, Curve]]]:
    names = dict.fromkeys(name.partition("/")[0] if "/" in name else OTHERS for name in curves)
    for group in names:
        yield (
            group,
            {
                name: points
                for name, points in curves.items()
                if (name.partition("/")[0] if "/" in name else OTHERS) == group
            },
        )


def _sections(run: Path, recipe: Recipe, folder: Path, curves: dict[str, Curve], pictures: list[Path]) -> Iterator[str]:
    seen = max(points[-1][0] for points in curves.values())
    yield f"# {run.resolve().name}\n"
    yield f"`{recipe.model.name}`, {seen:,} of {recipe.images:,} images.\n"
    yield from _best(run)
    grids = sorted((run / "samples").glob("*.png"))
    if grids:
        link = Path(os.path.relpath(grids[-1], folder)).as_posix()
        yield f"## Samples after {int(grids[-1].stem):,} images\n\n![layout, generated, photograph]({link})\n"
    yield "## Metrics\n\n| metric | first | last | lowest | highest |\n|---|---:|---:|---:|---:|"
    yield from (_row(name, points) for name, points in curves.items())
    yield ""
    yield from (f"![{picture.stem}]({picture.name})\n" for picture in pictures)
    yield f"## Recipe\n\n```yaml\n{recipe.to_yaml().rstrip()}\n```\n"


def _best(run: Path) -> Iterator[str]:
    """The best model by validation, if the run has one."""
    path = run / "best" / "score.json"
    if path.is_file():
        score: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        yield (
            f"Best model by {score['metric']}: {score['value']:.4g} after {score['images']:,} images, in `best/` "
            f"({score['protocol']}).\n"
        )


def _row(name: str, points: Curve) -> str:
    lowest, highest = (choose(points, key=lambda point: point[1]) for choose in (min, max))
    ends = f"{points[0][1]:.4g} | {points[-1][1]:.4g}"
    return f"| {name} | {ends} | {lowest[1]:.4g} (at {lowest[0]:,}) | {highest[1]:.4g} (at {highest[0]:,}) |"
