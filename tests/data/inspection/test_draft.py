"""Drafts of label sets and recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segscape.data.inspection.draft import draft_label_set, draft_recipe, recipe_text
from segscape.data.inspection.inspection import inspect_dataset
from segscape.data.open import open_pairs
from segscape.errors import DataError
from segscape.training.recipe import parse_recipe
from tests.data.planted import LABELS, label_map, photo


def write(root: Path, maps: list[Image.Image], size: tuple[int, int] = (48, 64), home: str = "") -> Path:
    for folder in ("images", "labels"):
        (root / home / folder).mkdir(parents=True)
    for number, image in enumerate(maps):
        Image.fromarray(photo(number, size)).save(root / home / f"images/{number}.jpg")
        image.resize((size[1], size[0]), Image.Resampling.NEAREST).save(root / home / f"labels/{number}.png")
    return root


def indices(number: int) -> Image.Image:
    return Image.fromarray(label_map(number))


def test_indices_become_classes_and_255_unknown(tmp_path: Path) -> None:
    maps = [np.where(label_map(number) == 5, 255, label_map(number)) for number in range(3)]
    write(tmp_path, [Image.fromarray(values.astype(np.uint8)) for values in maps])
    draft = draft_label_set(inspect_dataset(tmp_path), "mine")
    labels = draft.labels
    assert labels.names == ("class 0", "class 1", "class 2", "class 3", "class 4", "unknown")
    assert (labels.name, labels.unknown, labels.ignore_value) == ("mine", 5, 255)
    assert len(draft.remarks) == 1 and "255" in draft.remarks[0]
    np.testing.assert_array_equal(open_pairs(tmp_path, labels, "train").sample(1).label_map, label_map(1))


def test_gaps_in_the_indices_are_classes(tmp_path: Path) -> None:
    write(tmp_path, [Image.fromarray(np.where(label_map(n) == 3, 9, label_map(n)).astype(np.uint8)) for n in range(2)])
    draft = draft_label_set(inspect_dataset(tmp_path), "mine")
    assert draft.labels.num_classes == 10 and draft.labels.unknown is None
    assert draft.remarks == ("no label map has 3, 6, 7, 8, which are classes nevertheless",)


def test_palettes_give_the_colours(tmp_path: Path) -> None:
    image = indices(0)
    image.putpalette(LABELS.colors.tobytes())
    write(tmp_path, [image, indices(1)])
    np.testing.assert_array_equal(draft_label_set(inspect_dataset(tmp_path), "mine").labels.colors, LABELS.colors)


def test_colours_become_classes_by_pixels(tmp_path: Path) -> None:
    write(tmp_path, [Image.fromarray(LABELS.colorize(label_map(number))) for number in range(3)])
    draft = draft_label_set(inspect_dataset(tmp_path), "mine")
    found = {tuple(color) for color in draft.labels.colors.tolist()}
    assert found == {tuple(color) for color in LABELS.colors.tolist()}
    dataset = open_pairs(tmp_path, draft.labels, "train")
    counts = sum(np.bincount(dataset.sample(index).label_map.ravel(), minlength=6) for index in range(3))
    assert counts.tolist() == sorted(counts.tolist(), reverse=True)
    np.testing.assert_array_equal(draft.labels.colors[dataset.sample(2).label_map], LABELS.colorize(label_map(2)))


def test_soft_colours_do_not_become_classes(tmp_path: Path) -> None:
    colored = [Image.fromarray(LABELS.colorize(label_map(number))) for number in range(4)]
    write(tmp_path, colored)
    small = colored[0].resize((43, 32), Image.Resampling.NEAREST)
    small.resize((64, 48), Image.Resampling.BILINEAR).save(tmp_path / "labels/0.png")
    assert draft_label_set(inspect_dataset(tmp_path), "mine").labels.num_classes == 6


def test_masks_of_255_become_two_classes(tmp_path: Path) -> None:
    masks = [np.where(label_map(number) > 2, 255, 0).astype(np.uint8) for number in range(3)]
    write(tmp_path, [Image.fromarray(mask) for mask in masks])
    inspection = inspect_dataset(tmp_path)
    assert {problem.kind for problem in inspection.problems} == {"mask-0-255"}
    draft = draft_label_set(inspection, "mine")
    assert draft.labels.num_classes == 2 and "0/255 masks" in draft.remarks[0]
    assert not inspect_dataset(tmp_path, labels=draft.labels).problems


def test_what_cannot_be_drafted(tmp_path: Path) -> None:
    write(tmp_path / "ids", [Image.fromarray(label_map(0).astype(np.uint16) * 1001)])
    with pytest.raises(DataError, match="labels up to 5005"):
        draft_label_set(inspect_dataset(tmp_path / "ids"), "mine")
    write(tmp_path / "both", [indices(0), Image.fromarray(LABELS.colorize(label_map(1)))])
    with pytest.raises(DataError, match="of indices and of colours"):
        draft_label_set(inspect_dataset(tmp_path / "both"), "mine")
    write(tmp_path / "photo", [Image.fromarray(photo())])
    with pytest.raises(DataError, match="no label map"):
        draft_label_set(inspect_dataset(tmp_path / "photo"), "mine")
    write(tmp_path / "maps", [indices(0)])
    (tmp_path / "maps/images/0.jpg").unlink()
    (tmp_path / "maps/images").rmdir()
    with pytest.raises(DataError, match="no photographs"):
        draft_recipe(inspect_dataset(tmp_path / "maps"), "mine.json")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((48, 64), (64, 64)),
        ((20, 30), (32, 32)),
        ((360, 480), (256, 352)),
        ((512, 1024), (256, 512)),
        ((96, 64), (96, 64)),
    ],
)
def test_recipes_fit_the_pictures(tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    write(tmp_path, [indices(0), indices(1)], size, home="train")
    LABELS.save(tmp_path / "labels.json")
    text = recipe_text(draft_recipe(inspect_dataset(tmp_path), str(tmp_path / "labels.json")))
    recipe = parse_recipe(yaml.safe_load(text), "draft")
    assert tuple(recipe.model.options["image_size"]) == expected
    dataset = recipe.data.open()
    assert len(dataset) == 2 and dataset.labels == LABELS and dataset.sample(1).size == size


def test_recipes_use_instance_maps(tmp_path: Path) -> None:
    write(tmp_path, [indices(0)])
    (tmp_path / "instances").mkdir()
    indices(0).save(tmp_path / "instances/0.png")
    LABELS.save(tmp_path / "labels.json")
    recipe = parse_recipe(draft_recipe(inspect_dataset(tmp_path), str(tmp_path / "labels.json")), "draft")
    assert recipe.model.options["use_instances"] is True
    assert recipe.data.open().sample(0).instance_map is not None
