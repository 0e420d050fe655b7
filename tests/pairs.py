"""A tiny dataset on disk, for tests and drills that train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS


def make_pairs(folder: Path, count: int = 6) -> Path:
    """Pairs of 40x44 pictures: bands of three classes, each in one colour plus noise."""
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        label_map = np.zeros((40, 44), np.int64)
        label_map[random.integers(8, 16) :] = 1
        label_map[random.integers(20, 32) :] = 3
        color = np.array([[120, 160, 250], [180, 120, 90], [0, 0, 0], [90, 90, 90]])[label_map]
        image = (color + random.integers(-20, 20, color.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        write_label_map(folder / "labels" / f"{number}.png", label_map, LABEL_SETS["camvid"])
    return folder
