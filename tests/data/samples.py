"""Tiny datasets in published layouts, and where the real samples lie."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from PIL import Image

SAMPLES = Path(os.environ.get("SEGSCAPE_DATA", Path(__file__).parents[3] / "shared" / "data"))
"""Folder of the real samples: `camvid`, `coco_stuff_sample`, `cityscapes_sample`."""


def sample_of(name: str) -> Path:
    """The folder of a real sample; the test is skipped where there is none."""
    if not (SAMPLES / name).is_dir():
        pytest.skip(f"no {SAMPLES / name}; SEGSCAPE_DATA names the folder of the samples")
    return SAMPLES / name


def photo(path: Path, size: tuple[int, int] = (6, 8)) -> Path:
    """Write a photograph of `size` (height, width) whose pixels tell where they are."""
    rows, columns = np.indices(size)
    pixels = np.stack([rows * 255 // size[0], columns * 255 // size[1], rows * 0 + 100], -1)
    return save(path, pixels.astype(np.uint8))


def ids(path: Path, values: ArrayLike = 0, size: tuple[int, int] = (6, 8), dtype: type = np.uint8) -> Path:
    """Write a map: one value everywhere, or the values `[H, W]`."""
    return save(path, np.broadcast_to(np.asarray(values, dtype), np.shape(values) or size).copy())


def save(path: Path, array: np.ndarray) -> Path:
    """Write an array as an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path
