"""A first label set and recipe for a dataset that has none, to be looked over by whoever knows the data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segscape.data.inspection.examination import Color
from segscape.data.inspection.inspection import IGNORED, Inspection, has_ignored
from segscape.errors import DataError
from segscape.labels import LabelClass, LabelSet

MOST_CLASSES = 1024
MANY_COLORS = 256
SHORT_SIDE = 256  # at most, of the first model's pictures: that of the papers
SIDE_STEP = 32  # what the generators' sizes are multiples of
EPOCHS = 100
IMAGES = (20_000, 1_000_000)  # shortest and longest run
LARGEST_BATCH = 8


@dataclass(frozen=True)
class Draft:
    """A label set that was guessed, and what its owner should know about it."""

    labels: LabelSet
    remarks: tuple[str, ...]


def draft_label_set(inspection: Inspection, name: str) -> Draft:
    """A label set of the labels that a dataset holds.

    Indices become classes 0 to the highest; a lone 255 above them becomes the class `unknown`. Palette images give
    their colours. Colours become classes in order of their number of pixels.

    Args:
        inspection: of a dataset whose label set nobody named.
        name: what to call the set.

    Raises:
        DataError: there are no labels, labels of two sorts, or far too many.
    """
    indices = [entry.value for entry in inspection.classes if isinstance(entry.value, int)]
    by_pixels = sorted(inspection.classes, key=lambda entry: -entry.pixels)
    colors = [entry.value for entry in by_pixels if not isinstance(entry.value, int)]
    if indices and colors:
        raise DataError(f"{inspection.root} has label maps of indices and of colours: save all of them in one way.")
    if not indices and not colors:
        raise DataError(f"{inspection.root} has no label map that can be read: see segscape dataset inspect.")
    return _of_colors(colors, name, inspection) if colors else _of_indices(indices, name, inspection)


def draft_recipe(inspection: Inspection, label_set: str) -> dict[str, Any]:
    """A recipe that trains CLADE on a dataset.

    Args:
        inspection: of the dataset.
        label_set: name or JSON file of its label set.

    Returns:
        What a recipe's YAML file holds, as `segscape.training.recipe.parse_recipe` reads it.

    Raises:
        DataError: the dataset has no samples, or no photographs.
    """
    listing = next((each for each in inspection.listings if each.split == "train"), inspection.listings[0])
    if not any(files.image is not None for files in listing.samples):
        raise DataError(f"{inspection.root} has no photographs with label maps: training needs both.")
    count = len(listing.samples)
    home = Path(os.path.abspath(inspection.root / listing.split))
    instances = any(files.instance_map is not None for files in listing.samples)
    size = _image_size(inspection.sizes)
    data: dict[str, Any] = {"kind": "folder", "images": str(home / "images"), "labels": str(home / "labels")}
    data["label_set"] = label_set
    if instances:
        data["instances"] = str(home / "instances")
    if inspection.kind != "folder":
        data = {"kind": inspection.kind, "root": str(Path(os.path.abspath(inspection.root))), "split": listing.split}
    model = {"name": "clade", "image_size": list(size), "base_channels": 64}
    return {
        "data": data,
        "model": {**model, "use_instances": True} if instances else model,
        "objective": {"features": "efficientnet-lite0"},
        "images": min(max(EPOCHS * count, IMAGES[0]), IMAGES[1]),
        "batch_size": max(1, min(LARGEST_BATCH, count)),
        "workers": 2,
    }


def recipe_text(recipe: dict[str, Any]) -> str:
    """The recipe as YAML, one option per line."""
    return "".join(_yaml_lines(recipe))


def _yaml_lines(recipe: dict[str, Any]) -> Iterator[str]:
    for key, value in recipe.items():
        if isinstance(value, dict):
            yield f"{key}:\n"
            yield from (f"  {_yaml_line(option)}" for option in value.items())
        else:
            yield _yaml_line((key, value))


def _yaml_line(option: tuple[str, Any]) -> str:
    flow = None if isinstance(option[1], list) else False  # a list in brackets, a scalar without braces
    return yaml.safe_dump(dict([option]), default_flow_style=flow, width=10_000, allow_unicode=True)


def _of_indices(indices: list[int], name: str, inspection: Inspection) -> Draft:
    remarks = []
    ignored = has_ignored(indices)
    highest = max(index for index in indices if not (ignored and index == IGNORED))
    if highest >= MOST_CLASSES:
        raise DataError(
            f"{inspection.root} has labels up to {highest}: these look like object ids or scaled indices; "
            "write class indices from 0, for example with segscape dataset convert."
        )
    numbered = LabelSet.numbered(highest + 1 + ignored)
    classes = [
        LabelClass(name=entry.name, color=inspection.palette.get(index, entry.color))
        for index, entry in enumerate(numbered.classes)
    ]
    if ignored:
        classes[-1] = LabelClass(name="unknown", color=(0, 0, 0))
        hint = ": rename it if these are 0/255 masks" if indices == [0, IGNORED] else ""
        remarks.append(f"255 is read as class {highest + 1}, 'unknown'{hint}")
    unseen = sorted(set(range(highest + 1)) - set(indices))
    if unseen:
        remarks.append(f"no label map has {_listed(unseen)}, which are classes nevertheless")
    return Draft(_label_set(name, classes, highest + 1 if ignored else None), tuple(remarks))


def _of_colors(colors: list[Color], name: str, inspection: Inspection) -> Draft:
    if len(colors) > MANY_COLORS:
        raise DataError(
            f"{inspection.root} has label maps in {len(colors)} colours: borders are soft, or these are photographs; "
            "save label maps with one exact colour per class."
        )
    classes = [LabelClass(name=f"class {index}", color=color) for index, color in enumerate(colors)]
    rare = [entry for entry in inspection.classes if entry.maps == 1 and len(colors) > 8]
    remarks = [f"{len(rare)} colours occur in one label map only: they may be blended borders"] if rare else []
    return Draft(_label_set(name, classes, None), tuple(remarks))


def _label_set(name: str, classes: list[LabelClass], unknown: int | None) -> LabelSet:
    ignore_value = None if unknown is None else IGNORED
    return LabelSet(name=name, classes=tuple(classes), unknown=unknown, ignore_value=ignore_value)


def _image_size(sizes: dict[tuple[int, int], int]) -> tuple[int, int]:
    """(height, width) in multiples of 32, in the shape of the most frequent size, the short side at most 256."""
    height, width = max(sizes, key=lambda size: sizes[size]) if sizes else (256, 256)
    scale = min(1.0, SHORT_SIDE / min(height, width))
    rounded = [max(1, round(side * scale / SIDE_STEP)) * SIDE_STEP for side in (height, width)]
    return rounded[0], rounded[1]


def _listed(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:8]))
    return f"{shown} and {len(indices) - 8} more" if len(indices) > 8 else shown
