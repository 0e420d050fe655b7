"""The index of shards: what is none is named, tar files of others get one, and a large one is small."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.data.shards.dataset import ShardDataset
from segscape.data.shards.index import Members, Shard, ShardIndex, index_shards
from segscape.errors import DataError
from segscape.labels import LabelSet

LABELS = LabelSet.numbered(2)


def test_what_is_no_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dataset convert --to shards"):
        ShardIndex.load(str(tmp_path / "nothing"))
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    with pytest.raises(DataError, match="index_shards"):
        ShardIndex.load(str(tmp_path))
    (tmp_path / "index.json").write_text('{"format": "something else"}')
    with pytest.raises(DataError, match="is not an index of shards"):
        ShardIndex.load(str(tmp_path))
    with pytest.raises(DataError, match="nonsense"):
        ShardIndex.load("nonsense://x")


@pytest.mark.parametrize("offsets", [[4096, 0], [-512, 4096], [0, 10**15], [0, 10**30]])
def test_offsets_that_cannot_be(tmp_path: Path, offsets: list[int]) -> None:
    ShardIndex(labels=LABELS, shards=(Shard(file="a.tar", bytes=4096, offsets=(0, 4096)),)).save(str(tmp_path))
    content = json.loads((tmp_path / "index.json").read_text())
    content["shards"][0]["offsets"] = offsets
    (tmp_path / "index.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"is not an index of shards: shards.0: the offsets .* must ascend within its"):
        ShardIndex.load(str(tmp_path))


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def foreign(path: Path, names: list[str]) -> dict[str, bytes]:
    files = {}
    for number, name in enumerate(names):
        buffer = io.BytesIO()
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(buffer, "PNG")
        colored = io.BytesIO()
        wrong = name.endswith("z")
        Image.fromarray(LABELS.colorize(np.full((4, 4 + wrong), number % 2))).save(colored, "PNG")
        files |= {f"{name}.json": b"{}", f"{name}.png": buffer.getvalue(), f"{name}.Seg.PNG": colored.getvalue()}
    write_tar(path, files)
    return files


def test_tar_files_of_others_are_indexed(tmp_path: Path) -> None:
    foreign(tmp_path / "b.tar", ["set/x", "set/y"])
    foreign(tmp_path / "a.tar", ["set/z"])
    with pytest.raises(DataError, match=r"1 of 1 samples in .*a.tar have no label.png .*json, png, seg.png"):
        index_shards(tmp_path, LABELS)
    members = Members(label_map=("seg.png",))
    index = index_shards(tmp_path, LABELS, members=members)
    index.save(str(tmp_path))
    dataset = ShardDataset(tmp_path)
    assert [dataset.packed(index).name for index in range(3)] == ["set/z", "set/x", "set/y"]
    with pytest.raises(DataError, match=r"a.tar/set/z: the photograph is 4x4, but the label map 4x5"):
        dataset.sample(0)
    second = dataset.sample(2)
    assert second.image is not None and second.image.max() == 1 and second.label_map.max() == 1
    with pytest.raises(DataError, match=r"lists no \.tar files"):
        index_shards(tmp_path / "set", LABELS)


def test_tar_files_that_cannot_be_indexed(tmp_path: Path) -> None:
    members = Members(label_map=("seg.png",))
    files = foreign(tmp_path / "a.tar", ["x", "y"])
    write_tar(tmp_path / "a.tar", dict(sorted(files.items(), key=lambda entry: entry[0].partition(".")[2])))
    with pytest.raises(DataError, match=r"have no seg\.png"):
        index_shards(tmp_path, LABELS, members=members)
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(DataError, match="not a plain tar file"):
        index_shards(tmp_path, LABELS, members=members)


def test_an_index_of_100000_samples_is_small_and_fast(tmp_path: Path) -> None:
    offsets = tuple(range(0, 1001 * 51200, 51200))
    shards = tuple(Shard(file=f"http://x/{n}.tar", bytes=offsets[-1], offsets=offsets) for n in range(100))
    ShardIndex(labels=LABELS, shards=shards).save(str(tmp_path))
    assert (tmp_path / "index.json").stat().st_size < 1_000_000
    dataset = ShardDataset(tmp_path)
    assert len(dataset) == 100_000 and len(pickle.dumps(dataset)) < 2_000_000
    assert dataset.where(99_999) == "http://x/99.tar"
