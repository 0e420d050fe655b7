"""DeepFashion in the layout of SMIS."""

from __future__ import annotations

from pathlib import Path

import pytest

from segscape.data import DeepFashion, find_listing, list_splits
from segscape.errors import DataError, LabelMapError
from tests.data.samples import ids, photo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder, count in (("train", 2), ("test", 1)):
        for number in range(count):
            photo(tmp_path / folder / f"{number}.jpg")
            ids(tmp_path / f"cihp_{folder}_mask" / f"{number}.png", 7)
    return tmp_path


def test_splits(root: Path) -> None:
    assert find_listing(root).kind == "deepfashion" and list_splits(root) == ("train", "val")
    assert (len(DeepFashion(root, "train")), len(DeepFashion(root, "val"))) == (2, 1)
    with pytest.raises(DataError, match="has no split 'test': it has train and val"):
        DeepFashion(root, "test")


def test_labels(root: Path) -> None:
    dataset = DeepFashion(root)
    assert dataset.labels.num_classes == 8 and dataset.sample(0).label_map.max() == 7
    ids(root / "cihp_train_mask" / "0.png", 19)  # the 20 labels before they are merged
    with pytest.raises(LabelMapError, match="allows 0 to 7"):
        dataset.sample(0)
