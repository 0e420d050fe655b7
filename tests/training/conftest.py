"""A dataset of a few small pictures and a recipe that trains on it in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segscape.training.recipe import Recipe, parse_recipe
from tests.pairs import make_pairs


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Five pairs of 40x44 pictures: horizontal bands of sky, building and road, each class in one colour plus noise."""
    return make_pairs(tmp_path / "pairs", 5)


@pytest.fixture
def make_recipe(pairs: Path) -> Callable[..., Recipe]:
    """Build a tiny recipe on `pairs`; keywords replace its keys."""

    def make(**changes: Any) -> Recipe:
        content: dict[str, Any] = {
            "data": {
                "kind": "folder",
                "images": str(pairs / "images"),
                "labels": str(pairs / "labels"),
                "label_set": "camvid",
            },
            "model": {"name": "clade", "image_size": [32, 32], "base_channels": 1},
            "discriminator": {"base_channels": 2, "num_scales": 1, "num_layers": 2},
            "objective": {"perceptual": 0.0},
            "ema": {"half_life_images": 8, "statistics_batches": 2},
            "images": 12,
            "batch_size": 2,
            "snapshot_images": 6,
            "log_images": 2,
            "samples": 2,
        }
        return parse_recipe(content | changes, "test recipe")

    return make
