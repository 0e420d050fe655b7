"""The recipes of pix2pixHD: published sizes and lengths, and two stages that fit each other."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch

from segscape.data.open import KINDS
from segscape.labels import LABEL_SETS
from segscape.models.generator import Generator
from segscape.models.registry import create_model
from segscape.training.initialize import initialize
from segscape.training.recipe import PublishedData, Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
EPOCHS = {
    "ade20k-pix2pixhd": (200, 100),
    "coco-stuff-pix2pixhd": (100, 0),
    "cityscapes-pix2pixhd": (200, 100),
    "cityscapes-pix2pixhd-512p": (200, 100),
    "cityscapes-pix2pixhd-1024p": (100, 50),
}
"""All epochs, and those in which the learning rates fall."""


def read(name: str) -> tuple[Recipe, PublishedData]:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert isinstance(recipe.data, PublishedData)
    return recipe, recipe.data


def build(name: str) -> Generator:
    recipe, data = read(name)
    labels = LABEL_SETS[KINDS[data.kind].label_set or ""]
    return create_model(recipe.model.name, labels=labels, **recipe.model.options | {"base_channels": 2})


@pytest.mark.parametrize("name", sorted(EPOCHS))
def test_sizes_and_lengths(name: str) -> None:
    recipe, data = read(name)
    assert recipe.preprocess is not None
    assert recipe.preprocess.output_size((1024, 2048)) == build(name).config.image_size
    size = KINDS[data.kind].sizes["train"]
    assert (recipe.images, recipe.optimizer.decay_images) == tuple(epochs * size for epochs in EPOCHS[name])


def test_the_second_stage_starts_from_the_first(tmp_path: Path) -> None:
    """With its discriminator's scales; what is frozen at first is what was trained before."""
    first, second = build("cityscapes-pix2pixhd-512p"), build("cityscapes-pix2pixhd-1024p")
    recipe, data = read("cityscapes-pix2pixhd-1024p")
    assert recipe.init_from == "runs/cityscapes-pix2pixhd-512p"
    assert recipe.thaw_images == 10 * KINDS[data.kind].sizes["train"]
    first.save_pretrained(tmp_path)
    initialize(second, recipe.discriminator.build(first.config.labels.num_classes, True), tmp_path)
    taken = {
        key for key, value in first.state_dict().items() if torch.equal(value, second.state_dict().get(key, value))
    }
    frozen = {key for key in second.state_dict() if any(fnmatchcase(key, pattern) for pattern in recipe.freeze)}
    assert frozen and frozen <= taken
    assert all(key.startswith("enhancers.") for key in second.state_dict().keys() - frozen)
