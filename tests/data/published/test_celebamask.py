"""CelebAMask-HQ: masks of parts become one label map; photographs take its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.data import CelebAMaskHQ, find_listing, list_splits
from segscape.errors import DataError, LabelMapError
from tests.data.samples import ids, photo


def mask(root: Path, index: int, part: str, rows: slice, columns: slice) -> Path:
    values = np.zeros((8, 8))
    values[rows, columns] = 255
    return ids(root / "CelebAMask-HQ-mask-anno" / str(index // 2000) / f"{index:05d}_{part}.png", values)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two faces to train on, one to validate: skin everywhere but on the left, hair above, a hat over it."""
    home = tmp_path / "CelebAMask-HQ"
    for index in (0, 27_999, 28_000):
        photo(home / "CelebA-HQ-img" / f"{index}.jpg", (16, 16))
        mask(home, index, "hat", slice(0, 1), slice(0, 8))
        mask(home, index, "hair", slice(0, 2), slice(0, 8))
        mask(home, index, "skin", slice(0, 8), slice(2, 8))
        mask(home, index, "l_eye", slice(4, 5), slice(4, 5))
    return tmp_path


def test_parts_are_painted_in_the_published_order(root: Path) -> None:
    dataset = CelebAMaskHQ(root, "train")
    label_map, names = dataset.sample(0).label_map, dataset.labels.names
    found = [names[label_map[place]] for place in ((0, 5), (1, 5), (4, 5), (4, 4), (4, 0))]
    assert found == ["hat", "hair", "skin", "left eye", "background"]


def test_the_split_is_by_number(root: Path) -> None:
    assert find_listing(root).kind == "celebamask-hq" and list_splits(root) == ("train", "val")
    assert CelebAMaskHQ(root, "train").names == ("00000", "27999")
    assert CelebAMaskHQ(root / "CelebAMask-HQ", "val").names == ("28000",)


def test_photographs_are_resized_to_the_masks(root: Path) -> None:
    dataset = CelebAMaskHQ(root, "val")
    sample = dataset.sample(0)
    stored = Image.open(dataset.image_files["28000"]).convert("RGB")
    assert sample.image is not None and sample.size == (8, 8)
    assert np.array_equal(sample.image, np.asarray(stored.resize((8, 8), Image.Resampling.BICUBIC)))
    photo(root / "CelebAMask-HQ" / "CelebA-HQ-img" / "28000.jpg", (16, 20))  # another shape is no larger copy
    with pytest.raises(DataError, match=r"28000\.jpg is 16x20, but its label map is 8x8"):
        dataset.sample(0)


def test_orphans_and_unknown_parts_are_named(root: Path) -> None:
    home = root / "CelebAMask-HQ"
    photo(home / "CelebA-HQ-img" / "5.jpg")
    photo(home / "CelebA-HQ-img" / "².jpg")  # a digit to isdigit, but not to int
    mask(home, 6, "nose", slice(0, 2), slice(0, 2))
    mask(home, 0, "beard", slice(0, 2), slice(0, 2))
    kinds = {(problem.path.name, problem.kind) for problem in find_listing(root, "train").problems}
    assert kinds == {("5.jpg", "no-partner"), ("00006_nose.png", "no-partner"), ("00000_beard.png", "unknown-label")}


def test_masks_of_one_face_must_agree_in_size(root: Path) -> None:
    ids(root / "CelebAMask-HQ" / "CelebAMask-HQ-mask-anno" / "0" / "00000_nose.png", 0, (4, 4))
    with pytest.raises(LabelMapError, match=r"00000_nose\.png is \(4, 4\), but 00000_skin\.png is \(8, 8\)"):
        CelebAMaskHQ(root, "train").sample(0)
