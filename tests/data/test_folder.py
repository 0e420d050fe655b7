"""Pairing of files: what does not pair is listed before training starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.data import FolderDataset
from segscape.data.folder import files_by_name, stored_size
from segscape.errors import DataError
from segscape.labels import LabelSet

LABELS = LabelSet.numbered(4)


def write_png(path: Path, size: tuple[int, int] = (6, 8), channels: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, channels) if channels else size
    Image.fromarray((np.arange(np.prod(shape)) % 4).astype(np.uint8).reshape(shape)).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three pairs, one of them in a subfolder."""
    for stem in ("b", "a", "night/c"):
        write_png(tmp_path / "images" / f"{stem}.png", channels=3)
        write_png(tmp_path / "labels" / f"{stem}.png")
    return tmp_path / "images", tmp_path / "labels"


def test_pairs_by_path_without_suffix(folders: tuple[Path, Path]) -> None:
    dataset = FolderDataset(*folders, LABELS)
    assert dataset.names == ("a", "b", "night/c")
    sample = dataset.sample(2)
    assert sample.name == "night/c" and sample.size == (6, 8)
    assert sample.image is not None and sample.image.shape == (6, 8, 3)
    assert sample.instance_map is None and sample.position is None


def test_instances_and_missing_images(folders: tuple[Path, Path]) -> None:
    _, labels = folders
    dataset = FolderDataset(None, labels, LABELS, instances=labels)
    sample = dataset.sample(0)
    assert sample.image is None
    assert sample.instance_map is not None and sample.instance_map.max() == 3


def test_npy_label_maps_pair_too(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    (labels / "a.png").unlink()
    np.save(labels / "a.npy", np.ones((6, 8), np.int32))
    assert FolderDataset(images, labels, LABELS).sample(0).label_map.sum() == 48


def test_orphans_on_both_sides_are_listed(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    write_png(images / "alone.png", channels=3)
    (images / "a.png").unlink()
    with pytest.raises(
        DataError, match=r"^2 files .*labels/a\.png has no photograph .*images/alone\.png has no label map"
    ):
        FolderDataset(images, labels, LABELS)


def test_long_lists_are_cut(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    for number in range(9):
        write_png(labels / f"z{number}.png")
    with pytest.raises(DataError, match=r"^9 files .*z4\.png .*; and 4 more, which `segscape dataset inspect` lists"):
        FolderDataset(images, labels, LABELS)


def test_two_files_of_one_name_are_an_error(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    Image.new("RGB", (8, 6)).save(images / "a.jpg")
    with pytest.raises(DataError, match=r"images/a\.png and a\.jpg are two photographs of one name"):
        FolderDataset(images, labels, LABELS)


def test_sizes_are_compared_before_training(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    write_png(labels / "b.png", size=(5, 8))
    with pytest.raises(DataError, match=r"^1 file .*images/b\.png is 6x8, but its label map is 5x8"):
        FolderDataset(images, labels, LABELS)


def test_a_broken_file_is_named(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    (images / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"b\.png"):
        FolderDataset(images, labels, LABELS)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x")])
def test_missing_empty_and_wrong_folders(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "labels")
    with pytest.raises(DataError, match="label map"):
        FolderDataset(None, tmp_path / "labels", LABELS)


def test_sizes_are_compared_again_when_a_sample_is_read(folders: tuple[Path, Path]) -> None:
    images, labels = folders
    dataset = FolderDataset(images, labels, LABELS, instances=labels)
    write_png(images / "b.png", size=(6, 9), channels=3)
    with pytest.raises(DataError, match=r"images/b\.png is 6x9, but its label map is 6x8"):
        dataset.sample(1)


def test_a_size_that_pillow_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "huge.png", size=(6, 8))
    assert stored_size(tmp_path / "huge.png") == (6, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6 * 8 // 2 - 1)
    with pytest.raises(DataError, match=r"huge\.png is not a readable image"):
        stored_size(tmp_path / "huge.png")


def test_files_by_name_lists_pictures(folders: tuple[Path, Path]) -> None:
    images, _ = folders
    assert list(files_by_name(images, "picture")) == ["a", "b", "night/c"]
    with pytest.raises(DataError, match=r"The picture folder .* does not exist"):
        files_by_name(images / "none", "picture")
    Image.new("RGB", (8, 6)).save(images / "a.jpg")
    with pytest.raises(DataError, match="two pictures of one name"):
        files_by_name(images, "picture")
