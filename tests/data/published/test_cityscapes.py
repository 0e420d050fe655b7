"""Cityscapes: the layout of the downloads, and splits without photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segscape.data import Cityscapes, FileDataset, collate, find_listing, inspect_dataset, list_splits
from segscape.errors import DataError
from tests.data.samples import ids, photo, sample_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two cities to train on, one layout without a photograph to validate."""
    for split, city in (("train", "aachen"), ("train", "ulm"), ("val", "lindau")):
        stem = f"{split}/{city}/{city}_000000_000019"
        if split == "train":
            photo(tmp_path / "leftImg8bit" / f"{stem}_leftImg8bit.png")
        ids(tmp_path / "gtFine" / f"{stem}_gtFine_labelIds.png", 7)
        ids(tmp_path / "gtFine" / f"{stem}_gtFine_instanceIds.png", 26_001, dtype=np.uint16)
        ids(tmp_path / "gtFine" / f"{stem}_gtFine_color.png")
        (tmp_path / "gtFine" / f"{stem}_gtFine_polygons.json").write_text("{}")
    return tmp_path


def test_photographs_labels_and_instances_pair(root: Path) -> None:
    assert find_listing(root).kind == "cityscapes" and list_splits(root) == ("train", "val")
    dataset = Cityscapes(root, "train")
    assert dataset.names == ("aachen/aachen_000000_000019", "ulm/ulm_000000_000019")
    sample = dataset.sample(0)
    assert sample.instance_map is not None and sample.instance_map.max() == 26_001  # all 16 bits
    assert dataset.labels.names[sample.label_map[0, 0]] == "road"


def test_what_comes_with_the_downloads_is_not_remarked_on(root: Path) -> None:
    ids(root / "gtFine" / "test" / "berlin" / "berlin_000000_000019_gtFine_labelIds.png")
    ids(root / "gtFine" / "train" / "ulm" / "mine.png")
    others = [note.path.name for note in inspect_dataset(root).notes if note.kind == "not-used"]
    assert others == ["mine.png"]


def test_layouts_without_photographs_open(root: Path) -> None:
    dataset = Cityscapes(root, "val")
    assert dataset.image_files == {} and dataset.sample(0).image is None
    with pytest.raises(DataError, match="has no image"):
        collate([dataset.sample(0)], dataset.labels)


def test_one_missing_photograph_is_a_problem(root: Path) -> None:
    (root / "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(DataError, match=r"ulm_000000_000019_gtFine_labelIds\.png has no photograph"):
        Cityscapes(root, "train")


def test_test_split_and_train_ids_are_refused(root: Path) -> None:
    (root / "gtFine" / "test").mkdir()
    with pytest.raises(DataError, match="test split of cityscapes has no public label maps: use train or val"):
        Cityscapes(root, "test")
    for path in root.rglob("*_labelIds.png"):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    with pytest.raises(DataError, match=r"holds no label map \(\*_gtFine_labelIds\.png\)"):
        Cityscapes(root, "val")


def test_real_sample() -> None:
    root = sample_of("cityscapes_sample")
    train, val = (FileDataset(find_listing(root, split)) for split in ("train", "val"))
    assert (train.listing.kind, len(train), len(val)) == ("cityscapes", 3, 15)
    sample = train.sample(0)
    assert sample.image is not None and sample.image.shape == (1024, 2048, 3)
    assert sample.instance_map is not None and sample.instance_map.max() > 1000
    assert not val.image_files and val.sample(14).size == (1024, 2048)
