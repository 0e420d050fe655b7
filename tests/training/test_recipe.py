"""Recipes: validation, overrides, defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from segscape.errors import RecipeError
from segscape.training.recipe import load_recipe, parse_recipe

MINIMAL = {"data": {"kind": "scenes"}, "model": {"name": "clade"}, "images": 100}
RECIPES = Path(__file__).parents[2] / "recipes"


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_defaults_are_the_official_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert (recipe.optimizer.generator_lr, recipe.optimizer.discriminator_lr) == (1e-4, 4e-4)
    assert recipe.optimizer.betas == (0.0, 0.9)
    objective = recipe.objective
    assert (objective.feature_matching, objective.perceptual, objective.kl) == (10.0, 10.0, 0.05)
    assert (objective.gan_mode, objective.features, objective.fresh_fake) == ("hinge", "vgg19", True)
    assert recipe.ema is not None


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    overrides = ["batch_size=4", "model.base_channels=8", "optimizer.betas=[0.5, 0.999]", "ema=null"]
    recipe = load_recipe(write(tmp_path, MINIMAL), overrides)
    assert recipe.batch_size == 4
    assert recipe.model.options == {"base_channels": 8}
    assert recipe.optimizer.betas == (0.5, 0.999)
    assert recipe.ema is None


def test_no_precision_is_written_plainly(tmp_path: Path) -> None:
    """YAML reads a bare `no` as false."""
    assert load_recipe(write(tmp_path, MINIMAL | {"precision": "bf16"}), ["precision=no"]).precision == "no"


def test_resolved_recipe_reads_back(tmp_path: Path) -> None:
    augmentation = {"color": {"hue": [-0.1, 0.1]}, "scale": [0.5, 2], "drop": {"probability": 0.1}, "merge": 0.2}
    recipe = load_recipe(write(tmp_path, MINIMAL | {"augmentation": augmentation, "position_cache": "cache"}))
    assert parse_recipe(yaml.safe_load(recipe.to_yaml()), "again") == recipe


@pytest.mark.usefixtures("ascii_locale")
def test_a_recipe_is_utf_8_on_every_machine(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("# Straßen\n" + yaml.safe_dump(MINIMAL), encoding="utf-8")
    assert load_recipe(path).images == 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batchsize": 4}, r"unknown key 'batchsize', did you mean 'batch_size'\?"),
        ({"optimizer": {"generator_rl": 1}}, r"unknown key 'optimizer.generator_rl', did you mean 'generator_lr'\?"),
        ({"data": {"kind": "scenes", "cuont": 4}}, r"unknown key 'data.scenes.cuont', did you mean 'count'\?"),
        ({"data": {"kind": "camvod", "root": "x"}}, "data: .*'camvid', .*'folder', .*'scenes'"),
        (
            {"augmentation": {"color": {"sturation": [1, 2]}}},
            r"augmentation.color.sturation', did you mean 'saturation'",
        ),
        ({"tolerance": {"sample": 1}}, r"unknown key 'tolerance.sample', did you mean 'samples'\?"),
        ({"validation": {"images": 1, "data": {"kind": "scenes"}}}, r"validation.images.*did you mean .every_images"),
        ({"augmentation": {"scale": [2, 1]}}, r"augmentation.scale: .*2.0 is more than 1.0"),
        ({"images": 0}, "images: .*greater than 0"),
        ({"images": "many"}, "images: .*valid integer"),
        ({"optimizer": {"decay_images": 200}}, r"decay_images \(200\) is more than images \(100\)"),
        ({"objective": {"gan_mode": "hinges"}}, "gan_mode: .*'hinge'"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(MINIMAL | change, "r.yaml")


@pytest.mark.parametrize("override", ["batch_size", "=3", "images.more=3", "images=[1"])
def test_malformed_overrides_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        load_recipe(write(tmp_path, MINIMAL), [override])


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "not valid YAML"), ("- 1", "must be a mapping"), ("", "mapping")]
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)
    with pytest.raises(RecipeError, match="does not exist"):
        load_recipe(tmp_path / "other.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_repository_is_valid(path: Path) -> None:
    """Its options fit its model, which is built without memory, for as many classes as its widths are made for."""
    from segscape.models.registry import create_model

    recipe = load_recipe(path)
    classes = {"ade20k": 151, "celebamask-hq": 19, "cityscapes": 35, "deepfashion": 8}.get(recipe.data.kind, 12)
    with torch.device("meta"):
        assert create_model(recipe.model.name, labels=classes, **recipe.model.options)
