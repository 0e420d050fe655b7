"""CamVid: both layouts, and how it is told from other pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from segscape.data import CamVid, find_listing, list_splits
from segscape.errors import DataError
from segscape.labels import LABEL_SETS
from tests.data.samples import ids, photo, sample_of


@pytest.mark.parametrize(("images", "labels"), [("{}/images", "{}/labels"), ("{}", "{}annot")])
def test_layouts(tmp_path: Path, images: str, labels: str) -> None:
    for split, name in (("train", "0001TP_006690"), ("val", "0016E5_07959")):
        photo(tmp_path / images.format(split) / f"{name}.png")
        ids(tmp_path / labels.format(split) / f"{name}.png", 8)
    dataset = CamVid(tmp_path, "val")
    assert dataset.labels is LABEL_SETS["camvid"] and dataset.names == ("0016E5_07959",)
    assert find_listing(tmp_path).kind == "camvid" and list_splits(tmp_path) == ("train", "val")


def test_other_names_are_not_camvid(tmp_path: Path) -> None:
    photo(tmp_path / "train" / "images" / "a.png")
    ids(tmp_path / "train" / "labels" / "a.png")
    assert find_listing(tmp_path).kind == "folder"
    with pytest.raises(DataError, match=r"does not hold camvid: it needs \{train,val\}/\{images,labels\}"):
        CamVid(tmp_path)


def test_real_sample() -> None:
    root = sample_of("camvid")
    assert find_listing(root).labels is LABEL_SETS["camvid"]
    train, val = CamVid(root, "train"), CamVid(root, "val")
    assert (len(train), len(val)) == (367, 101)
    sample = val.sample(0)
    assert sample.image is not None and sample.image.shape == (360, 480, 3)
