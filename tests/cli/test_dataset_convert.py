"""`segscape dataset convert`: between layouts, and what it says about broken samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.data.procedural import ProceduralScenes
from segscape.data.shards.dataset import ShardDataset
from segscape.label_files import read_label_map
from segscape.labels import LABEL_SETS
from tests.cli.conftest import Run

CAMVID = LABEL_SETS["camvid"]


def write_scenes(run: Run) -> None:
    assert run("scenes", "--out", "scenes", "--count", 4, "--size", "16x24", "--seed", 5).code == 0


def test_to_shards_and_back(run: Run, workplace: Path) -> None:
    write_scenes(run)
    options = ("--labels", "scenes", "--workers", 1, "--samples-per-shard", 3)
    result = run("dataset", "convert", "scenes", "--to", "shards", "--out", "shards", *options)
    assert (result.code, result.errors) == (0, [])
    assert "4 samples" in result.out
    assert sorted(path.name for path in Path("shards").iterdir()) == ["000000.tar", "000001.tar", "index.json"]
    again = run("dataset", "convert", "scenes", "--to", "shards", "--out", "shards", *options)
    assert again.code == 0
    back = run("dataset", "convert", "shards", "--to", "folder", "--out", "back")
    assert back.code == 0
    for kind in ("images", "labels", "instances"):
        for path in Path("scenes", kind).iterdir():
            assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(Path("back", kind, path.name))))
    other = run("dataset", "convert", "scenes", "--to", "folder", "--out", "back", "--labels", "scenes")
    assert other.code == 2 and "back is not empty" in other.errors[0]


def test_every_split_is_converted(run: Run, workplace: Path) -> None:
    for split in ("train", "val"):
        run("scenes", "--out", f"data/{split}", "--count", 2, "--size", "16x24")
    table = ("--labels", "camvid", "--remap", ",".join(f"{value}={11 - value}" for value in range(12)))
    # (the folder does not name its classes, so the table is about the values in its files)
    result = run("dataset", "convert", "data", "--to", "shards", "--out", "out", "--size", 8, *table)
    assert result.code == 0, result.err
    for split in ("train", "val"):
        dataset = ShardDataset(Path("out", split))
        assert dataset.labels == CAMVID and dataset.sample(0).size == (8, 12)
        assert f"{split}: 2 samples" in result.out
    one = run("dataset", "convert", "out", "--to", "folder", "--out", "one", "--split", "val")
    assert one.code == 0 and sorted(path.name for path in Path("one/labels").iterdir()) == ["000000.png", "000001.png"]
    raw = ProceduralScenes(2, size=(16, 24)).sample(0).label_map
    expected = 11 - raw[1::2, 1::2]  # nearest neighbour at half the size
    np.testing.assert_array_equal(read_label_map("one/labels/000000.png", CAMVID), expected)


def test_broken_samples_are_reported_and_left_out(run: Run, workplace: Path) -> None:
    write_scenes(run)
    Path("scenes/images/000001.png").write_bytes(b"")
    Image.fromarray(np.full((16, 24), 99, np.uint8)).save("scenes/labels/000002.png")
    result = run(
        "dataset", "convert", "scenes", "--to", "folder", "--out", "out", "--labels", "scenes", "--kind", "folder"
    )
    assert result.code == 1
    assert len(result.errors) == 2 and "000001.png" in result.errors[0] and "000002.png" in result.errors[1]
    assert "2 problems; what is broken was left out" in result.out
    assert [path.name for path in sorted(Path("out/images").iterdir())] == ["000000.png", "000003.png"]


def test_into_the_folder_one_is_in(run: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(run)
    Path("here").mkdir()
    monkeypatch.chdir("here")
    result = run("dataset", "convert", "../scenes", "--to", "folder", "--out", ".", "--labels", "scenes")
    assert result.code == 0, result.err
    assert len(list((workplace / "here" / "labels").iterdir())) == 4


def test_a_server_that_is_gone_is_no_missing_folder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("segscape.data.shards.storage.WAITS", ())
    result = run("dataset", "convert", "http://127.0.0.1:9/x", "--to", "folder", "--out", "out")
    assert result.code == 2 and "http://127.0.0.1:9/x cannot be read: ClientConnectorError" in result.errors[0]


def test_wrong_use_is_one_error(run: Run, workplace: Path) -> None:
    write_scenes(run)
    convert = ("dataset", "convert", "scenes", "--out", "out", "--to")
    for options, message in (
        (("folder",), "label set"),
        (("folder", "--labels", "scenes", "--remap", "0=sun"), "no class 'sun'"),
        (("folder", "--labels", "scenes", "--size", "0"), "--size"),
        (("folder", "--labels", "scenes", "--size", "²"), "--size"),
        (("folder", "--labels", "²"), "unknown label set '²'"),
        (("folder", "--labels", "scenes", "--kind", "imagenet"), "imagenet"),
    ):
        result = run(*convert, *options)
        assert result.code == 2 and len(result.errors) == 1 and message in result.errors[0], result.err
    assert not Path("out").exists()
    missing = run("dataset", "convert", "nowhere", "--to", "shards", "--out", "out")
    assert missing.code == 2 and "nowhere" in missing.errors[0]
    remote = run("dataset", "convert", "scenes", "--to", "folder", "--out", "s3://bucket/x", "--labels", "scenes")
    assert remote.code == 2 and "--to shards" in remote.errors[0]
