"""Conversions between layouts: nothing is lost, photographs are not compressed again, broken samples are left out."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.data import ProceduralScenes
from segscape.data.conversion.layouts import Conversion, find_splits, open_conversion, write_folders
from segscape.data.conversion.remap import Remap
from segscape.data.published.subset import Subset
from segscape.data.sample import Sample
from segscape.data.shards.dataset import ShardDataset
from segscape.data.shards.writing import write_shards
from segscape.errors import DataError, LabelMapError
from segscape.label_files import read_label_map, write_label_map
from segscape.labels import LABEL_SETS, LabelSet

CAMVID, SCENES = LABEL_SETS["camvid"], LABEL_SETS["scenes"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A dataset of two splits: JPEG, PNG and BMP photographs, one of them in a folder of its own."""
    rng = np.random.default_rng(0)
    for name in ("train/{}/a.jpg", "train/{}/sub/b.JPEG", "train/{}/c.png", "train/{}/d.bmp", "val/{}/e.jpg"):
        image, label_map = tmp_path / "raw" / name.format("images"), tmp_path / "raw" / name.format("labels")
        for path in (image, label_map):
            path.parent.mkdir(parents=True, exist_ok=True)
        content = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)
        Image.fromarray(content).save(image, "JPEG" if "jp" in name.lower() else None)
        write_label_map(label_map.with_suffix(".png"), rng.integers(0, 12, (12, 20)), CAMVID)
    return tmp_path / "raw"


def convert(path: Path | str, out: Path, to: str = "folder", split: str | None = None, **options: object) -> list[str]:
    conversion, problems = open_conversion(path, split, **options)  # type: ignore[arg-type]
    written = write_folders({"": conversion}, out) if to == "folder" else write_shards(conversion, out)
    return [problem.message for problem in (*problems, *written)]


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_same_samples(found: object, wanted: object) -> None:
    assert len(found) == len(wanted)  # type: ignore[arg-type]
    for index in range(len(wanted)):  # type: ignore[arg-type]
        first, second = found.sample(index), wanted.sample(index)  # type: ignore[attr-defined]
        assert first.name == second.name
        for field in ("image", "label_map", "instance_map"):
            np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


def test_folder_to_shards_to_folder(pairs: Path, tmp_path: Path) -> None:
    assert find_splits(pairs) == ("train", "val")
    source = open_conversion(pairs, "train", labels=CAMVID)[0].source
    assert convert(pairs, tmp_path / "shards", "shards", "train", labels=CAMVID) == []
    assert_same_samples(ShardDataset(tmp_path / "shards"), source)
    assert convert(tmp_path / "shards", tmp_path / "back") == []
    back = files(tmp_path / "back")
    assert LabelSet.load(tmp_path / "back" / "label_set.json") == CAMVID
    assert back["images/a.jpg"] == (pairs / "train/images/a.jpg").read_bytes()
    assert back["images/sub/b.jpg"] == (pairs / "train/images/sub/b.JPEG").read_bytes()
    assert back["images/c.png"] == (pairs / "train/images/c.png").read_bytes()
    assert "images/d.png" in back and len(back) == 9
    assert_same_samples(open_conversion(tmp_path / "back", labels=CAMVID)[0].source, source)
    assert files(tmp_path / "back")["labels/sub/b.png"] == (pairs / "train/labels/sub/b.png").read_bytes()


def test_splits_and_processes(pairs: Path, tmp_path: Path) -> None:
    splits = {split: open_conversion(pairs, split, labels=CAMVID)[0] for split in find_splits(pairs)}
    assert write_folders(splits, tmp_path / "one") == []
    assert write_folders(splits, tmp_path / "two", workers=2) == []
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert {name.partition("/")[0] for name in files(tmp_path / "one")} == {"train", "val", "label_set.json"}
    for split, conversion in splits.items():
        write_shards(conversion, tmp_path / "shards" / split)
    assert find_splits(tmp_path / "shards") == ("train", "val")
    with pytest.raises(DataError, match="not empty"):
        write_folders(splits, tmp_path / "one")


@pytest.mark.parametrize("kind", [None, "folder"])
def test_the_list_of_a_part_has_its_splits(pairs: Path, tmp_path: Path, kind: str | None) -> None:
    path = tmp_path / "part.txt"
    Subset(path, pairs, {"train": ["a"], "val": ["e"]}).write()
    assert find_splits(path, kind) == ("train", "val")


def test_instances_and_procedural_samples(tmp_path: Path) -> None:
    scenes = ProceduralScenes(3, (16, 20))
    write_folders({"": Conversion(scenes)}, tmp_path / "out")
    found = open_conversion(tmp_path / "out", labels=SCENES)[0].source
    for index in range(3):
        for field in ("image", "label_map", "instance_map"):
            np.testing.assert_array_equal(getattr(found.sample(index), field), getattr(scenes.sample(index), field))


@pytest.mark.parametrize(("size", "expected"), [((6, 10), (6, 10)), (6, (6, 10)), (24, (24, 40)), (12, (12, 20))])
def test_resizing(pairs: Path, tmp_path: Path, size: int | tuple[int, int], expected: tuple[int, int]) -> None:
    convert(pairs, tmp_path / "out", split="train", labels=CAMVID, size=size)
    raw = np.asarray(Image.open(pairs / "train/labels/c.png"))
    wanted = Image.fromarray(raw).resize(expected[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(read_label_map(tmp_path / "out/labels/c.png", CAMVID), np.asarray(wanted))
    photograph = Image.open(pairs / "train/images/c.png").resize(expected[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/images/c.png")), np.asarray(photograph))
    jpeg = Image.open(tmp_path / "out/images/a.jpg")
    assert jpeg.format == "JPEG" and jpeg.size == expected[::-1]
    kept = (tmp_path / "out/images/a.jpg").read_bytes() == (pairs / "train/images/a.jpg").read_bytes()
    assert kept == (expected == (12, 20))


def test_values_in_files_are_renamed(pairs: Path, tmp_path: Path) -> None:
    for path in (pairs / "train/labels").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) * 20).save(path)
    table = ",".join(f"{20 * index}={11 - index}" for index in range(12))
    before = np.asarray(Image.open(pairs / "train/labels/a.png"))
    assert convert(pairs, tmp_path / "out", split="train", kind="folder", labels=CAMVID, remap=table) == []
    np.testing.assert_array_equal(read_label_map(tmp_path / "out/labels/a.png", CAMVID), 11 - before // 20)
    with pytest.raises(DataError, match="none of the 4 samples"):
        convert(pairs, tmp_path / "no", split="train", kind="folder", labels=CAMVID, remap="0=1")
    assert not (tmp_path / "no").exists()
    with pytest.raises(DataError, match="--labels"):
        convert(pairs, tmp_path / "no", kind="folder", remap=table)


def test_classes_of_a_label_set_are_renamed(tmp_path: Path) -> None:
    scenes = ProceduralScenes(2, (16, 20))
    write_shards(Conversion(scenes), tmp_path / "shards")
    two = LabelSet.numbered(2)
    conversion, _ = open_conversion(tmp_path / "shards", labels=two, remap="sky=1,*=0")
    write_shards(conversion, tmp_path / "sky")
    found = ShardDataset(tmp_path / "sky")
    assert found.labels == two
    for index in range(2):
        sky = scenes.sample(index).label_map == SCENES.index("sky")
        np.testing.assert_array_equal(found.sample(index).label_map, sky.astype(int))
    with pytest.raises(DataError, match="--remap"):
        open_conversion(tmp_path / "shards", labels=two)
    with pytest.raises(LabelMapError, match="no class 'skies'"):
        open_conversion(tmp_path / "shards", remap="skies=1")


def test_colour_maps_become_indices(pairs: Path, tmp_path: Path) -> None:
    path = pairs / "train/labels/a.png"
    wanted = np.asarray(Image.open(path))
    Image.fromarray(CAMVID.colorize(wanted)).save(path)
    assert convert(pairs, tmp_path / "out", split="train", labels=CAMVID) == []
    stored = Image.open(tmp_path / "out/labels/a.png")
    assert stored.mode == "P"
    np.testing.assert_array_equal(np.asarray(stored), wanted)


@pytest.mark.parametrize("to", ["folder", "shards"])
def test_every_broken_sample_is_reported_and_the_others_converted(pairs: Path, tmp_path: Path, to: str) -> None:
    home = pairs / "train"
    (home / "images/a.jpg").write_bytes((home / "images/a.jpg").read_bytes()[:300])
    Image.fromarray(np.full((12, 20), 77, np.uint8)).save(home / "labels/c.png")
    Image.fromarray(np.zeros((13, 20), np.uint8)).save(home / "labels/d.png")
    Image.fromarray(np.zeros((12, 20), np.uint8)).save(home / "labels/orphan.png")
    messages = convert(pairs, tmp_path / "out", to, "train", kind="folder", labels=CAMVID)
    assert len(messages) == 4
    for word in ("orphan", "a.jpg", "c.png", "d.bmp"):
        assert sum(word in message for message in messages) == 1, messages
    kept = (
        ShardDataset(tmp_path / "out") if to == "shards" else open_conversion(tmp_path / "out", labels=CAMVID)[0].source
    )
    assert [kept.sample(index).name for index in range(len(kept))] == ["sub/b"]


def test_an_interrupted_conversion_to_a_folder_is_no_folder(pairs: Path, tmp_path: Path) -> None:
    conversion, _ = open_conversion(pairs, "train", labels=CAMVID)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folders({"": conversion}, tmp_path / "out", report=stop)
    assert not (tmp_path / "out").exists()
    assert write_folders({"": conversion}, tmp_path / "out") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_a_changed_source_is_another_conversion(pairs: Path) -> None:
    def fingerprint(**options: object) -> str:
        return open_conversion(pairs, "train", labels=CAMVID, **options)[0].fingerprint  # type: ignore[arg-type]

    first = fingerprint()
    assert first == fingerprint() != fingerprint(size=6) != fingerprint(remap="*=0")
    (pairs / "train/images/a.jpg").touch()
    assert fingerprint() != first


class Photo:
    """One JPEG-sized sample that exists only in memory, without a name."""

    labels = LabelSet.numbered(3)

    def __len__(self) -> int:
        return 1

    def sample(self, index: int) -> Sample:
        return Sample(None, np.array([[0, 1], [2, 0]]))


def test_layouts_without_photographs(tmp_path: Path) -> None:
    packed = Conversion(Photo(), remap=Remap.parse("2=0,*=same", Photo.labels)).packed(0)
    assert (packed.name, list(packed.members)) == ("00000000", ["label.png"])
    stored = Image.open(BytesIO(packed.members["label.png"]))
    assert np.asarray(stored).tolist() == [[0, 1], [0, 0]]
    write_shards(Conversion(Photo()), tmp_path / "out")
    assert ShardDataset(tmp_path / "out").sample(0).image is None
