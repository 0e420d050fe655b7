"""Training from shards: the run that files give, whatever the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from segscape.data.conversion.layouts import open_conversion
from segscape.data.shards.writing import write_shards
from segscape.errors import RecipeError
from segscape.labels import LABEL_SETS
from segscape.training.loop import train
from segscape.training.recipe import Recipe, ShardsData, parse_recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def shards(pairs: Path, tmp_path: Path) -> Path:
    conversion, _ = open_conversion(pairs, labels=LABEL_SETS["camvid"])
    write_shards(conversion, tmp_path / "shards", samples_per_shard=2)
    return tmp_path / "shards"


def losses(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def test_shards_give_the_run_that_files_give(make_recipe: MakeRecipe, shards: Path, tmp_path: Path) -> None:
    train(make_recipe(images=8), tmp_path / "files")
    train(make_recipe(images=8, data={"kind": "shards", "url": str(shards)}, workers=1), tmp_path / "shards-run")
    assert losses(tmp_path / "files") == losses(tmp_path / "shards-run")


def test_a_run_with_a_small_window_resumes_with_another_cache(
    make_recipe: MakeRecipe, shards: Path, tmp_path: Path
) -> None:
    data = {"kind": "shards", "url": f"file://{shards}", "window": 2}
    train(make_recipe(images=12, data=data), tmp_path / "whole")
    train(make_recipe(images=6, data=data), tmp_path / "parts")
    cached = data | {"cache": str(tmp_path / "cache"), "cache_bytes": 1_000_000}
    train(make_recipe(images=12, data=cached), tmp_path / "parts", resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(list((tmp_path / "cache").glob("*.shard"))) == 3
    with pytest.raises(RecipeError, match=r"differs from the one of the run .* in data; .*cache of shards"):
        train(make_recipe(images=14, data=data | {"window": 3}), tmp_path / "parts", resume=True)


def test_the_section_is_validated() -> None:
    minimal = {"model": {"name": "clade"}, "images": 4}
    recipe = parse_recipe({"data": {"kind": "shards", "url": "s3://bucket/train"}} | minimal, "r.yaml")
    assert recipe.data == ShardsData(kind="shards", url="s3://bucket/train", cache=None, window=10_000)
    with pytest.raises(RecipeError, match=r"unknown key 'data.shards.cache_size', did you mean 'cache_bytes'"):
        parse_recipe({"data": {"kind": "shards", "url": "x", "cache_size": 3}} | minimal, "r.yaml")
