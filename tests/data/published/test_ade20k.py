"""ADE20K: the layout of SceneParsing, the label shift, and its outdoor part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segscape.data import ADE20K, find_listing, list_splits
from segscape.data.folder import FolderDataset
from segscape.data.published.ade20k import outdoor_names
from segscape.errors import DataError, LabelMapError
from segscape.labels import LABEL_SETS, LabelSet
from tests.data.samples import ids, photo

STORED = np.array([[0, 1, 2], [149, 150, 3]])
"""Values of a file: unknown, wall, building; clock, flag, sky."""
NAMES = [["unknown", "wall", "building"], ["clock", "flag", "sky"]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training scenes, one in a subfolder, and one for validation."""
    home = tmp_path / "ADEChallengeData2016"
    for place in ("training/ADE_train_00000001", "training/deep/ADE_train_00000002", "validation/ADE_val_00000001"):
        photo(home / "images" / f"{place}.jpg", STORED.shape)
        ids(home / "annotations" / f"{place}.png", STORED)
    return tmp_path


@pytest.mark.parametrize("name", ["ade20k", "ade20k-official"])
def test_values_of_the_files_are_the_same_classes_in_both_orders(root: Path, name: str) -> None:
    labels = LABEL_SETS[name]
    label_map = ADE20K(root, "train", labels).sample(0).label_map
    assert [[labels.names[index] for index in row] for row in label_map] == NAMES


def test_the_default_shift_is_that_of_the_paper(root: Path) -> None:
    dataset = ADE20K(root / "ADEChallengeData2016", "train")
    assert dataset.names == ("ADE_train_00000001", "deep/ADE_train_00000002")
    assert dataset.sample(1).label_map.tolist() == [[150, 0, 1], [148, 149, 2]]
    assert ADE20K(root, "val").names == ("ADE_val_00000001",)
    assert list_splits(root) == ("train", "val") and find_listing(root).kind == "ade20k"


def test_layouts_without_photographs_open(root: Path) -> None:
    (root / "ADEChallengeData2016" / "images").rename(root / "elsewhere")
    sample = ADE20K(root, "val").sample(0)
    assert sample.image is None and sample.label_map[0, 1] == 0


def test_splits_by_file_name(root: Path) -> None:
    for sort in ("images", "annotations"):
        home = root / "ADEChallengeData2016" / sort
        for folder in ("training", "validation"):
            (home / folder).rename(home / f"some {folder}")
    assert list_splits(root) == ("train", "val")
    assert ADE20K(root, "train").names == ("some training/ADE_train_00000001", "some training/deep/ADE_train_00000002")
    assert len(ADE20K(root, "val")) == 1


def test_other_versions_and_splits_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="test split of ade20k has no public label maps: use train or val"):
        ADE20K(root, "test")
    ids(tmp_path / "full" / "images" / "ADE" / "training" / "x_seg.png")
    with pytest.raises(DataError, match=r"full ADE20K: get its SceneParsing version .* ADEChallengeData2016"):
        find_listing(tmp_path / "full")
    with pytest.raises(LabelMapError, match="'ade20k' or 'ade20k-official', but not in 'numbered-151'"):
        ADE20K(root, "train", LabelSet.numbered(151)).sample(0)
    ids(root / "ADEChallengeData2016" / "annotations" / "validation" / "ADE_val_00000001.png", 151, STORED.shape)
    with pytest.raises(LabelMapError, match=r"ADE_val_00000001\.png: 6 pixels .*\(151 in .* allows 0 to 150"):
        ADE20K(root, "val").sample(0)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Training: indoors (bed), a sea, a little sky; validation: a tree."""
    values = {
        "a_train_1": 8,
        "b_train_2": 27,
        "c_train_3": np.where(np.arange(48).reshape(6, 8) < 3, 3, 1),
        "d_val_1": 5,
    }
    for name, value in values.items():
        place = "training" if "train" in name else "validation"
        photo(tmp_path / "images" / place / f"{name}.jpg")
        ids(tmp_path / "annotations" / place / f"{name}.png", value)
    return tmp_path


def test_outdoor_scenes(scenes: Path) -> None:
    listing = find_listing(scenes, "train")
    assert outdoor_names(listing) == ("b_train_2", "c_train_3")
    assert outdoor_names(listing, minimum_share=3 / 48) == ("b_train_2",)
    assert outdoor_names(listing, ["bed"]) == ("a_train_1",)
    with pytest.raises(LabelMapError, match="no class 'skies'"):
        outdoor_names(listing, ["skies"])


def test_a_folder_of_own_pairs_is_not_shifted(tmp_path: Path) -> None:
    ids(tmp_path / "labels" / "a.png", 2)
    assert FolderDataset(None, tmp_path / "labels", LABEL_SETS["ade20k"]).sample(0).label_map.max() == 2
