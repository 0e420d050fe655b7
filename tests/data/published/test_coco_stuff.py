"""COCO-Stuff: both layouts, the unlabelled value, and instance maps from annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segscape.data import COCOStuff, FileDataset, find_listing, list_splits
from segscape.data.published.coco_stuff import instance_map, write_instance_maps
from segscape.errors import DataError
from segscape.label_files import read_instance_map
from tests.data.samples import ids, photo, sample_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One picture in the layout of the downloads: a person (0) before the sky (156), unlabelled below."""
    photo(tmp_path / "train2017" / "000000000009.jpg", (20, 30))
    labels = np.full((20, 30), 156)
    labels[15:] = 255
    labels[5:15, 10:20] = 0
    ids(tmp_path / "stuffthingmaps" / "train2017" / "000000000009.png", labels)
    return tmp_path


def annotate(root: Path, annotations: list[dict[str, Any]], image: int = 9) -> Path:
    path = root / "annotations" / "instances_train2017.json"
    path.parent.mkdir(exist_ok=True)
    content = {
        "images": [{"id": image, "height": 20, "width": 30, "file_name": f"{image:012d}.jpg"}],
        "annotations": [{"id": i, "image_id": image, "category_id": 1, **a} for i, a in enumerate(annotations)],
        "categories": [{"id": 1, "name": "person"}],
    }
    path.write_text(json.dumps(content))
    return path


def rectangle(top: int, left: int, bottom: int, right: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def test_layout_of_the_downloads(root: Path) -> None:
    assert list_splits(root) == ("train",) and find_listing(root).kind == "coco-stuff"
    sample = COCOStuff(root, "train").sample(0)
    names = COCOStuff(root, "train").labels.names
    assert [names[sample.label_map[row, 12]] for row in (0, 9, 19)] == ["sky-other", "person", "unlabelled"]
    assert sample.instance_map is None and sample.name == "000000000009"


def test_instance_maps_number_the_polygons_over_the_labels(root: Path) -> None:
    crowd = {"segmentation": {"size": [20, 30], "counts": [0, 600]}, "iscrowd": 1}
    parts = [rectangle(5, 10, 15, 15), rectangle(5, 15, 15, 20)]
    annotate(root, [{"segmentation": parts[0]}, crowd, {"segmentation": parts[1]}])
    folder = write_instance_maps(root, "train")
    assert folder == root / "train_inst"
    found = read_instance_map(folder / "000000000009.png")
    assert found[9, [0, 12, 17]].tolist() == [156, 0, 1] and found[19, 0] == 255  # the crowd has no number
    sample = COCOStuff(root, "train").sample(0)
    assert sample.instance_map is not None and np.array_equal(sample.instance_map, found)
    assert not np.array_equal(found, sample.label_map)


def test_later_objects_cover_earlier_ones() -> None:
    whole, half = np.ones((1, 4), bool), np.array([[False, False, True, True]])
    assert instance_map(np.full((1, 4), 7), [whole, half]).tolist() == [[0, 0, 1, 1]]


def test_many_objects_need_sixteen_bits(root: Path) -> None:
    annotate(root, [{"segmentation": rectangle(2, 2, 8, 8)}] * 300)
    write_instance_maps(root, "train")
    assert COCOStuff(root, "train").sample(0).instance_map.max() == 299  # type: ignore[union-attr]


def test_wrong_annotations_are_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"instances_train2017\.json do not exist"):
        write_instance_maps(root, "train")
    path = annotate(root, [], image=10)
    with pytest.raises(DataError, match=r"has no image 000000000009: give the annotations of this split"):
        write_instance_maps(root, "train")
    path.write_text("<html>")
    with pytest.raises(DataError, match=r"instances_train2017\.json does not hold annotations of COCO"):
        write_instance_maps(root, "train")


def test_maps_that_are_not_whole_do_not_break_the_dataset(root: Path) -> None:
    photo(root / "train2017" / "000000000010.jpg", (20, 30))
    ids(root / "stuffthingmaps" / "train2017" / "000000000010.png", np.zeros((20, 30)))
    path = annotate(root, [{"segmentation": rectangle(5, 10, 15, 15)}])
    with pytest.raises(DataError, match=r"has no image 000000000010"):  # the first has been drawn by then
        write_instance_maps(root, "train")
    assert len(COCOStuff(root, "train")) == 2 and COCOStuff(root, "train").sample(0).instance_map is None
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "images": [*content["images"], {"id": 10, "height": 20, "width": 30}]}))
    (root / "train_inst").mkdir()  # as an earlier version left it
    write_instance_maps(root, "train")
    assert COCOStuff(root, "train").sample(1).instance_map is not None
    assert not list(root.glob(".*"))


def test_maps_go_where_a_link_points(root: Path) -> None:
    annotate(root, [])
    (root / "elsewhere").mkdir()
    (root / "train_inst").symlink_to("elsewhere")
    write_instance_maps(root, "train")
    assert [path.name for path in (root / "elsewhere").iterdir()] == ["000000000009.png"]
    assert (root / "train_inst").is_symlink()


def test_no_label_maps_to_draw_on(root: Path) -> None:
    annotate(root, [])
    ids(root / "train_inst" / "mine.png")
    (root / "stuffthingmaps" / "train2017" / "000000000009.png").unlink()
    with pytest.raises(DataError, match="holds no samples of the split 'train'"):
        write_instance_maps(root, "train")
    assert (root / "train_inst" / "mine.png").is_file()


def test_a_missing_instance_map_is_a_problem(root: Path) -> None:
    (root / "train_inst").mkdir()
    ids(root / "train_inst" / "other.png")
    with pytest.raises(DataError, match=r"^2 files .*9\.png has no instance map .*other\.png has no label map"):
        COCOStuff(root, "train")


def test_real_sample() -> None:
    root = sample_of("coco_stuff_sample")
    assert list_splits(root) == ("train", "val")
    train, val = (FileDataset(find_listing(root, split)) for split in ("train", "val"))
    assert (train.listing.kind, len(train), len(val)) == ("coco-stuff", 13, 8)
    for dataset in (train, val):
        for index in range(len(dataset)):
            sample = dataset.sample(index)
            assert sample.image is not None and sample.image.shape[:2] == sample.size
            assert sample.instance_map is not None and sample.label_map.max() <= 182
    zebra = val.sample(val.names.index("000000001818"))
    assert {val.labels.names[i] for i in np.unique(zebra.label_map)} == {"zebra", "grass", "unlabelled"}
