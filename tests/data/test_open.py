"""Recognising datasets without being told anything; lists of parts of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segscape.data import FileDataset, find_listing, list_splits
from segscape.data.open import KINDS, has_splits, open_pairs
from segscape.data.published.subset import Subset
from segscape.errors import DataError
from segscape.labels import LABEL_SETS, LabelSet
from tests.data.samples import ids, photo

LABELS = LabelSet.numbered(3)


def write_pairs(folder: Path, *names: str, photographs: bool = True) -> None:
    for name in names:
        ids(folder / "labels" / f"{name}.png", 1)
        if photographs:
            photo(folder / "images" / f"{name}.png")


def test_folders_with_splits(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", "a", "b")
    write_pairs(tmp_path / "val", "c")
    ids(tmp_path / "val" / "instances" / "c.png", 5)
    assert list_splits(tmp_path) == ("train", "val") and has_splits(tmp_path)
    assert list_splits(tmp_path, "folder") == ("train", "val") and list_splits(tmp_path, "cityscapes") == ()
    assert open_pairs(tmp_path, LABELS, "train").names == ("a", "b")
    sample = open_pairs(tmp_path, LABELS, "val").sample(0)
    assert sample.instance_map is not None and sample.instance_map.max() == 5
    with pytest.raises(DataError, match="has no split 'test': it has train and val"):
        open_pairs(tmp_path, LABELS, "test")


def test_a_folder_without_splits_is_every_split(tmp_path: Path) -> None:
    write_pairs(tmp_path, "a")
    assert list_splits(tmp_path) == () and not has_splits(tmp_path)
    assert open_pairs(tmp_path, LABELS, "val").names == open_pairs(tmp_path, LABELS, "train").names == ("a",)


def test_the_folder_above_or_below_is_named(tmp_path: Path) -> None:
    mask = tmp_path / "data" / "fashion" / "cihp_train_mask"
    ids(mask / "a.png")
    with pytest.raises(DataError, match=r"but .*data/fashion is \(deepfashion\): give that folder"):
        find_listing(tmp_path / "data")
    (mask.parent / "train").mkdir()
    with pytest.raises(DataError, match=r"fashion/train is no dataset .* but .*data/fashion is \(deepfashion\)"):
        find_listing(mask.parent / "train")


def test_tar_files_without_an_index_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"tar files without index.json: see .*index_shards"):
        find_listing(tmp_path)


def test_layouts_only(tmp_path: Path) -> None:
    write_pairs(tmp_path / "beside", "a", photographs=False)
    ids(tmp_path / "plain" / "a.png", 2)
    for folder in ("beside", "plain"):
        assert open_pairs(tmp_path / folder, LABELS, "val").sample(0).image is None


def test_own_data_needs_a_label_set(tmp_path: Path) -> None:
    write_pairs(tmp_path, "a")
    listing = find_listing(tmp_path)
    assert (listing.kind, listing.split, listing.labels) == ("folder", "", None)
    with pytest.raises(DataError, match="does not tell its classes"):
        FileDataset(listing)
    LABELS.save(tmp_path / "label_set.json")
    assert FileDataset(find_listing(tmp_path)).labels == LABELS
    assert find_listing(tmp_path, labels=LabelSet.numbered(2)).labels == LabelSet.numbered(2)


def test_an_empty_image_folder_is_a_problem(tmp_path: Path) -> None:
    write_pairs(tmp_path, "a", photographs=False)
    (tmp_path / "images").mkdir()
    assert [problem.kind for problem in find_listing(tmp_path).problems] == ["empty", "no-partner"]


def test_what_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(
        DataError, match=r"is no dataset that Segscape knows \(found: holiday\.jpg\): it needs images and"
    ):
        find_listing(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        find_listing(tmp_path / "gone")
    with pytest.raises(DataError, match=r"'camvod' is no dataset that Segscape knows: choose one of .*camvid"):
        find_listing(tmp_path, kind="camvod")
    with pytest.raises(DataError, match="'camvod' is no dataset that Segscape knows"):
        list_splits(tmp_path, "camvod")
    assert list_splits(tmp_path, "camvid") == ()
    with pytest.raises(DataError, match="does not hold cityscapes: it needs gtFine"):
        find_listing(tmp_path, kind="cityscapes")
    with pytest.raises(DataError, match=r"holiday\.jpg is neither a folder nor the list of a part"):
        find_listing(tmp_path / "holiday.jpg")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"folder"}))
def test_published_kinds_name_their_label_set_and_sizes(kind: str) -> None:
    assert KINDS[kind].label_set in LABEL_SETS
    assert {"train", "val"} <= KINDS[kind].sizes.keys()


def test_lists_of_parts(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data" / "train", "a", "b/c")
    write_pairs(tmp_path / "data" / "val", "d")
    path = tmp_path / "lists" / "part.txt"
    path.parent.mkdir()
    Subset(path, tmp_path / "data", {"train": ["b/c"], "val": ["d", "gone"]}).write()
    assert path.read_text().splitlines() == ["# a part of: ../data", "train/b/c", "val/d", "val/gone"]
    assert list_splits(path) == list_splits(path, "folder") == ("train", "val")
    assert open_pairs(path, LABELS, "train").names == ("b/c",)
    with pytest.raises(DataError, match=r"part\.txt lists gone, which .*data has not"):
        open_pairs(path, LABELS, "val")
