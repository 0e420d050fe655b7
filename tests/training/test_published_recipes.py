"""The recipes of the published datasets: data, sizes and lengths as published."""

from __future__ import annotations

from pathlib import Path

import pytest

from segscape.data.folder import FileDataset
from segscape.data.open import KINDS
from segscape.errors import DataError, RecipeError
from segscape.labels import LABEL_SETS
from segscape.models.registry import create_model
from segscape.training.recipe import PublishedData, Recipe, load_recipe, parse_recipe
from tests.data.samples import ids, photo

RECIPES = Path(__file__).parents[2] / "recipes"
EPOCHS = {"ade20k": (200, 100), "cityscapes": (200, 100), "coco-stuff": (100, 0), "celebamask-hq": (100, 50)}
"""All epochs, and those in which the learning rates fall."""
MODELS = {"ade20k", "ade20k-outdoor", "coco-stuff", "cityscapes"}
PUBLISHED = sorted(
    [f"{data}-{model}" for data in MODELS for model in ("spade", "clade", "clade-icpe")]
    + ["celebamask-hq-clade", "deepfashion-clade"]
)


def read(name: str) -> tuple[Recipe, PublishedData]:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert isinstance(recipe.data, PublishedData)
    return recipe, recipe.data


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_build_their_model(name: str) -> None:
    recipe, data = read(name)
    labels = LABEL_SETS[KINDS[data.kind].label_set or ""]
    options = recipe.model.options | {"base_channels": 1}
    model = create_model(recipe.model.name, labels=labels, **options)
    assert name.endswith(recipe.model.name) and recipe.preprocess is not None
    assert recipe.preprocess.output_size((300, 700)) == model.config.image_size
    unknown_first = labels.unknown == 0
    assert (model.config.encoding_rule or "official-all") == ("official" if unknown_first else "official-all") or (
        recipe.model.name != "clade-icpe"
    )


@pytest.mark.parametrize("data", sorted(EPOCHS))
def test_lengths_are_epochs_of_the_published_split(data: str) -> None:
    for name in (name for name in PUBLISHED if name.startswith(data) and "outdoor" not in name):
        recipe, section = read(name)
        epochs, falling = EPOCHS[data]
        size = KINDS[section.kind].sizes["train"]
        assert (recipe.images, recipe.optimizer.decay_images) == (epochs * size, falling * size), name


@pytest.mark.parametrize("kind", ["deepfashion", "coco-stuff"])
def test_data_sections_open(kind: str, tmp_path: Path) -> None:
    folders = {"deepfashion": ("train", "cihp_train_mask"), "coco-stuff": ("train_img", "train_label")}[kind]
    photo(tmp_path / folders[0] / "7.jpg")
    ids(tmp_path / folders[1] / "7.png", 3)
    if kind == "coco-stuff":
        ids(tmp_path / "train_inst" / "7.png", 1)
    dataset = PublishedData(kind=kind, root=tmp_path).open()  # type: ignore[arg-type]
    assert isinstance(dataset, FileDataset) and dataset.labels is LABEL_SETS[kind]
    assert (dataset.sample(0).instance_map is None) == (kind == "deepfashion")
    spared = PublishedData(kind=kind, root=tmp_path, instances=False).open()  # type: ignore[arg-type]
    assert spared.sample(0).instance_map is None
    with pytest.raises(DataError, match="has no split 'val'"):
        PublishedData(kind=kind, root=tmp_path, split="val").open()  # type: ignore[arg-type]


def test_mistakes_in_the_section_are_named() -> None:
    content = {"data": {"kind": "ade20k", "rot": "x"}, "model": {"name": "clade"}, "images": 1}
    with pytest.raises(RecipeError, match=r"unknown key 'data.ade20k.rot', did you mean 'root'\?"):
        parse_recipe(content, "r.yaml")
