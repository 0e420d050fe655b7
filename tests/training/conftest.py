"""A dataset of a few small pictures and a recipe that trains on it in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS
from segscape.training.recipe import Recipe, parse_recipe


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Five pairs of 40x44 pictures: horizontal bands of sky, building and road, each class in one colour plus noise."""
    random = np.random.default_rng(0)
    folder = tmp_path / "pairs"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(5):
        label_map = np.zeros((40, 44), np.int64)
        label_map[random.integers(8, 16) :] = 1
        label_map[random.integers(20, 32) :] = 3
        color = np.array([[120, 160, 250], [180, 120, 90], [0, 0, 0], [90, 90, 90]])[label_map]
        image = (color + random.integers(-20, 20, color.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        write_label_map(folder / "labels" / f"{number}.png", label_map, LABEL_SETS["camvid"])
    return folder


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
