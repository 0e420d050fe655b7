"""Label maps that were resized with interpolation are found, true ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.data.inspection.interpolation import looks_interpolated
from segscape.data.procedural import ProceduralScenes
from segscape.labels import LABEL_SETS
from tests.data.samples import sample_of

SCALES = [0.5, 0.8, 1.3, 2.5]


def resized(array: np.ndarray, scale: float, how: Image.Resampling) -> np.ndarray:
    height, width = array.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(array).resize(size, how))


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    dataset = ProceduralScenes(4, size=(96, 160), seed=3)
    return [dataset.sample(index).label_map.astype(np.uint8) for index in range(4)]


@pytest.mark.parametrize("colored", [False, True], ids=["indices", "colours"])
@pytest.mark.parametrize("scale", SCALES)
def test_resampled_maps_are_found(scenes: list[np.ndarray], scale: float, colored: bool) -> None:
    for scene in scenes:
        drawn = LABEL_SETS["scenes"].colorize(scene) if colored else scene
        assert not looks_interpolated(drawn)
        assert not looks_interpolated(resized(drawn, scale, Image.Resampling.NEAREST))
        assert looks_interpolated(resized(drawn, scale, Image.Resampling.BILINEAR))
        assert scale < 1 or looks_interpolated(resized(drawn, scale, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("classes", [2, 3, 12, 200])
def test_noise_and_tiny_maps_are_no_alarm(classes: int) -> None:
    rng = np.random.default_rng(0)
    assert not looks_interpolated(rng.integers(0, classes, (64, 64)))
    assert not looks_interpolated(rng.integers(0, classes, (64, 64, 3), dtype=np.uint8))
    for size in ((1, 1), (1, 9), (2, 2), (9, 1)):
        assert not looks_interpolated(rng.integers(0, classes, size))


@pytest.mark.parametrize(
    ("sample", "pattern"),
    [
        ("camvid", "*/labels/*.png"),
        ("coco_stuff_sample", "*_label/*.png"),
        ("cityscapes_sample", "gtFine/*/*/*_labelIds.png"),
    ],
)
def test_real_maps(sample: str, pattern: str) -> None:
    root: Path = sample_of(sample)
    files = sorted(root.glob(pattern))
    for file in files[:: max(1, len(files) // 12)]:
        label_map = np.asarray(Image.open(file))
        assert not looks_interpolated(label_map), file
        assert not looks_interpolated(resized(label_map, 0.4, Image.Resampling.NEAREST)), file
        assert looks_interpolated(resized(label_map, 0.4, Image.Resampling.BILINEAR)), file
