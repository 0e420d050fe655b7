"""The real images of the fidelity scores, and the cache of their features."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from segscape.errors import DataError, EvaluationError
from segscape.evaluation.fidelity.distances import FeatureStatistics
from segscape.evaluation.fidelity.extractors import MetricNames
from segscape.evaluation.fidelity.reference import Reference, open_reference, reference_features
from segscape.evaluation.processes import Processes
from segscape.labels import LABEL_SETS

SCENES = LABEL_SETS["scenes"]


class MeanColor:
    """An extractor that can be computed by hand, and counts the images that it sees."""

    names = MetricNames.through("MeanColor")
    dimensions = 3

    def __init__(self, description: str = "mean colour") -> None:
        self.description = description
        self.seen = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.float().mean((2, 3))


def features(reference: Reference, extractor: MeanColor, cache: Path, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return reference_features(reference, size, extractor, batch_size=3, processes=Processes(), cache=cache)


def opened(where: str | Path, pairs: Path) -> Reference:
    reference = open_reference(str(where), pairs, SCENES)
    assert isinstance(reference, Reference)
    return reference


def test_splits_and_folders_are_found(pairs: Path) -> None:
    assert [len(opened(split, pairs).files) for split in ("train", "val")] == [7, 6]
    folder = opened(pairs / "val" / "images", pairs)
    assert folder.name == "images" and folder.fingerprint == opened("val", pairs).fingerprint


def test_features_are_those_of_the_images(pairs: Path, tmp_path: Path) -> None:
    reference = opened("train", pairs)
    found = features(reference, MeanColor(), tmp_path)
    by_hand = [np.asarray(Image.open(file)).reshape(-1, 3).mean(0) for file in reference.files]
    assert np.allclose(found, by_hand, atol=1e-3)


def test_features_are_computed_once(pairs: Path, tmp_path: Path) -> None:
    reference, extractor = opened("train", pairs), MeanColor()
    first = features(reference, extractor, tmp_path)
    second = features(opened("train", pairs), extractor, tmp_path)
    assert extractor.seen == 7 and np.array_equal(first, second)


def test_another_size_network_or_image_is_computed_anew(pairs: Path, tmp_path: Path) -> None:
    reference = opened("train", pairs)
    features(reference, MeanColor(), tmp_path)
    for extractor, size in ((MeanColor(), (24, 32)), (MeanColor("other"), (48, 64))):
        features(reference, extractor, tmp_path, size)
        assert extractor.seen == 7
    copy = tmp_path / "copy"
    shutil.copytree(pairs / "train" / "images", copy)
    again = MeanColor()
    features(opened(copy, pairs), again, tmp_path)
    assert again.seen == 0  # the same contents elsewhere
    pixels = np.asarray(Image.open(copy / "3.png")).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(copy / "3.png")
    features(opened(copy, pairs), again, tmp_path)
    assert again.seen == 7


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\x93NUMPY\x01\x00"])
def test_a_broken_cache_is_written_anew(pairs: Path, tmp_path: Path, damage: bytes) -> None:
    reference, extractor = opened("val", pairs), MeanColor()
    first = features(reference, extractor, tmp_path)
    (kept,) = (tmp_path / "features").iterdir()
    kept.write_bytes(damage)
    assert np.array_equal(features(reference, extractor, tmp_path), first)
    assert extractor.seen == 12
    assert np.array_equal(np.load(kept), first)


def test_a_cache_that_cannot_be_written_costs_nothing_else(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file in the way")
    assert features(opened("val", pairs), MeanColor(), tmp_path).shape == (6, 3)


def test_statistics_are_read(tmp_path: Path, pairs: Path) -> None:
    FeatureStatistics(np.zeros(3), np.eye(3), 10).save(tmp_path / "real.npz")
    statistics = open_reference(str(tmp_path / "real.npz"), pairs, SCENES)
    assert isinstance(statistics, FeatureStatistics) and statistics.count == 10


def test_what_is_not_there_is_named(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither train, val, a folder of images nor"):
        open_reference("nowhere", pairs, SCENES)
    with pytest.raises(DataError, match="holds no real image"):
        open_reference(str(tmp_path), pairs, SCENES)
    with pytest.raises(EvaluationError, match=r"has no train split .* --reference DIR"):
        open_reference("train", pairs / "val", SCENES)
