"""Shards: what is written is read back, from any place, once per epoch, and goes on after an interruption."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch.utils.data
from PIL import Image

from segscape.data import ProceduralScenes, Sample, TrainingOrder
from segscape.data.conversion.layouts import Conversion
from segscape.data.shards.dataset import ShardDataset
from segscape.data.shards.index import PackedSample
from segscape.data.shards.writing import write_shards
from segscape.errors import DataError, LabelMapError
from segscape.label_files import encode_label_map
from segscape.labels import LABEL_SETS, LabelSet

SCENES = ProceduralScenes(7, (16, 24))


class Numbers:
    """Samples that are nothing but their number: the cheapest that can be written."""

    labels = LabelSet.numbered(2)
    fingerprint = "numbers"

    def __init__(self, count: int) -> None:
        self.count = count
        self.label_map = encode_label_map(np.ones((1, 1), np.int64), self.labels)

    def __len__(self) -> int:
        return self.count

    def packed(self, index: int) -> PackedSample:
        return PackedSample(f"{index:06d}", {"label.png": self.label_map})

    def where(self, index: int) -> str:
        return f"number {index}"


class Broken(Numbers):
    """The same, some of which cannot be read; `stop` interrupts."""

    def __init__(self, count: int, broken: tuple[int, ...] = (), stop: int | None = None) -> None:
        super().__init__(count)
        self.broken, self.stop = broken, stop

    def packed(self, index: int) -> PackedSample:
        if index == self.stop:
            raise KeyboardInterrupt
        if index in self.broken:
            raise LabelMapError(f"sample {index} is broken", "damaged")
        return super().packed(index)


class Named:
    """Two samples with awkward names, the second without an instance map."""

    labels = LABEL_SETS["camvid"]
    names = ("a.b/c%2E d.0001", "ünïcode/" + "x" * 150)

    def __len__(self) -> int:
        return 2

    def sample(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        image, label_map = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), rng.integers(0, 12, (5, 6))
        instances = None if index else rng.integers(0, 1 << 20, (5, 6))
        return Sample(image, label_map, instances, name=self.names[index])


def assert_equal(found: Sample, wanted: Sample) -> None:
    for field in ("image", "label_map", "instance_map"):
        np.testing.assert_array_equal(getattr(found, field), getattr(wanted, field))


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    write_shards(Conversion(SCENES), tmp_path / "shards", samples_per_shard=3)
    return tmp_path / "shards"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def test_samples_come_back(scenes: Path) -> None:
    dataset = ShardDataset(scenes)
    assert (len(dataset), dataset.labels) == (7, SCENES.labels)
    for index in (6, 0, 3, 2):
        assert_equal(dataset.sample(index), SCENES.sample(index))
    with pytest.raises(IndexError):
        dataset.sample(7)
    assert not list(scenes.glob("unfinished*"))


def test_names_and_large_instance_ids_come_back(tmp_path: Path) -> None:
    write_shards(Conversion(Named()), tmp_path / "out")
    dataset = ShardDataset(tmp_path / "out")
    assert tuple(dataset.sample(index).name for index in range(2)) == Named.names
    for index in range(2):
        assert_equal(dataset.sample(index), Named().sample(index))
    with tarfile.open(tmp_path / "out" / "000000.tar") as tar:  # the parts of the name before the first dot differ
        assert len({name.rpartition("/")[2].partition(".")[0] for name in tar.getnames()}) == 2


def test_a_shard_is_a_plain_tar_file(scenes: Path) -> None:
    with tarfile.open(scenes / "000001.tar") as tar:
        assert [member.mtime for member in tar] == [0] * 9
        first = {name.partition(".")[2]: io.BytesIO(tar.extractfile(name).read()) for name in tar.getnames()[:3]}
    image, label_map, instances = (Image.open(first[suffix]) for suffix in ("png", "label.png", "instance.png"))
    expected = SCENES.sample(3)
    np.testing.assert_array_equal(np.asarray(image), expected.image)
    np.testing.assert_array_equal(np.asarray(label_map), expected.label_map)
    np.testing.assert_array_equal(np.asarray(instances), expected.instance_map)
    assert label_map.getpalette()[:36] == LABEL_SETS["scenes"].colors.ravel().tolist()


def test_webdataset_reads_them(scenes: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(scenes.glob("*.tar"))]
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert len(found) == 7
    for index, sample in enumerate(found):
        np.testing.assert_array_equal(sample["png"], SCENES.sample(index).image)


def test_the_same_samples_give_the_same_bytes(scenes: Path, tmp_path: Path) -> None:
    write_shards(Conversion(SCENES), tmp_path / "again", samples_per_shard=3, workers=2)
    assert contents(tmp_path / "again") == contents(scenes)


def test_an_interrupted_conversion_goes_on(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    found = write_shards(Broken(10, broken=(1, 8)), whole, samples_per_shard=3)
    with pytest.raises(KeyboardInterrupt):
        write_shards(Broken(10, broken=(1, 8), stop=7), out, samples_per_shard=3)
    with pytest.raises(DataError, match="not finished"):
        ShardDataset(out)
    (out / ".000002.tar.x.part").touch()  # as a kill would leave it
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert len(times) == 2
    with pytest.raises(DataError, match="another conversion"):
        write_shards(Broken(10), out, samples_per_shard=4)
    reported: list[Any] = []
    assert write_shards(Broken(10, broken=(1, 8)), out, samples_per_shard=3, report=reported.extend) == found
    assert reported == found and [str(problem.path) for problem in found] == ["number 1", "number 8"]
    assert contents(out) == contents(whole)
    assert all((out / name).stat().st_mtime_ns == moment for name, moment in times.items())
    assert sorted(path.name for path in out.iterdir()) == [*sorted(contents(out)), "index.json"]
    assert write_shards(Broken(10, stop=0), out, samples_per_shard=3) == []  # nothing is left to do
    with pytest.raises(DataError, match="other shards"):
        write_shards(Broken(10), out, samples_per_shard=5)


def test_broken_samples_are_left_out(tmp_path: Path) -> None:
    problems = write_shards(Broken(10, broken=(0, 4, 5)), tmp_path / "out", samples_per_shard=2, workers=1)
    assert [(problem.kind, problem.message) for problem in problems] == [
        ("damaged", f"sample {index} is broken") for index in (0, 4, 5)
    ]
    dataset = ShardDataset(tmp_path / "out")
    assert [dataset.sample(index).name for index in range(len(dataset))] == [f"{n:06d}" for n in (1, 2, 3, 6, 7, 8, 9)]
    with pytest.raises(DataError, match="none of the 2 samples"):
        write_shards(Broken(2, broken=(0, 1)), tmp_path / "none")


class Meadow(Broken):
    """Samples that nobody can name in ASCII."""

    labels = LabelSet.numbered(2).model_copy(update={"name": "草"})

    def where(self, index: int) -> str:
        return f"草/{index}"


@pytest.mark.usefixtures("ascii_locale")
def test_names_in_any_script_on_every_machine(tmp_path: Path) -> None:
    (problem,) = write_shards(Meadow(2, broken=(1,)), tmp_path / "out")
    assert problem.path == Path("草/1") and ShardDataset(tmp_path / "out").labels.name == "草"


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="not empty"):
        write_shards(Numbers(2), tmp_path)


def test_memory_and_file_urls(scenes: Path) -> None:
    write_shards(Conversion(SCENES), "memory://bucket/scenes", samples_per_shard=3)
    for location in ("memory://bucket/scenes", f"file://{scenes}"):
        dataset = pickle.loads(pickle.dumps(ShardDataset(location)))
        dataset.fetch([5, 1, 3])
        for index in (1, 5, 3, 2):
            assert_equal(dataset.sample(index), SCENES.sample(index))
    stored = fsspec.filesystem("memory")
    assert stored.cat_file("/bucket/scenes/000002.tar") == (scenes / "000002.tar").read_bytes()
    assert not stored.exists("/bucket/scenes/unfinished")


class Ranged(SimpleHTTPRequestHandler):
    """A file server that sends parts of files, as every object store does."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, wanted = Path(self.translate_path(self.path)), self.headers.get("Range")
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        start, end = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        content = path.read_bytes()[start : end + 1]
        self.server.pieces.append(len(content))  # type: ignore[attr-defined]
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Whole(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path, handler: type[SimpleHTTPRequestHandler]) -> Iterator[tuple[str, list[int]]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    server.pieces = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server.pieces  # type: ignore[attr-defined]
    server.shutdown()


def test_http_sends_the_bytes_of_each_sample_only(scenes: Path) -> None:
    pytest.importorskip("aiohttp")
    with serving(scenes, Ranged) as (url, pieces):
        dataset = ShardDataset(url)
        assert_equal(dataset.sample(4), SCENES.sample(4))
        assert len(pieces) == 1 and pieces[0] < (scenes / "000001.tar").stat().st_size / 2
        loader = torch.utils.data.DataLoader(dataset_of(dataset), batch_size=3, num_workers=2, collate_fn=list)
        for index, sample in enumerate(sample for batch in loader for sample in batch):
            assert_equal(sample, SCENES.sample(index))
    with serving(scenes, Whole) as (url, _):
        with pytest.raises(DataError, match="give a cache folder"):
            ShardDataset(url).sample(4)
        assert_equal(ShardDataset(url, cache=scenes / "cache").sample(4), SCENES.sample(4))


def test_a_server_that_is_gone(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("segscape.data.shards.storage.WAITS", (0.0,))
    with serving(scenes, Ranged) as (url, _):
        dataset = ShardDataset(url)
        (scenes / "000000.tar").unlink()
        with pytest.raises(DataError, match=r"000000.tar does not exist"):
            dataset.sample(0)
        with pytest.raises(DataError, match=r"holds no shards \(no index.json\)"):
            ShardDataset(f"{url}/elsewhere")
    with pytest.raises(DataError, match=r"9/index.json cannot be read"):
        ShardDataset("http://127.0.0.1:9")
    dataset.location = "http://127.0.0.1:9"
    with pytest.raises(DataError, match="cannot be read"):
        dataset.fetch([6])


class dataset_of(torch.utils.data.Dataset[Sample]):
    def __init__(self, dataset: ShardDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset.sample(index)


def test_damaged_shards_are_named(scenes: Path) -> None:
    content = (scenes / "000000.tar").read_bytes()
    dataset = ShardDataset(scenes)

    (scenes / "000000.tar").write_bytes(b"\xff" * 200 + content[200:])  # the first header
    with pytest.raises(DataError, match=r"000000.tar is damaged"):
        dataset.sample(0)
    assert_equal(dataset.sample(1), SCENES.sample(1))
    (scenes / "000000.tar").write_bytes(content[:600] + b"\0" * 200 + content[800:])  # inside the first picture
    with pytest.raises(DataError, match=r"000000.tar/scene-0-000000.png: this image is truncated or damaged"):
        dataset.sample(0)
    (scenes / "000000.tar").write_bytes(content[:5000])
    with pytest.raises(DataError, match="shorter than its index says"):
        dataset.sample(2)
    with pytest.raises(DataError, match="5000 bytes instead of"):
        ShardDataset(scenes)
    (scenes / "000000.tar").unlink()
    with pytest.raises(DataError, match=r"000000.tar is missing"):
        ShardDataset(scenes)


def test_the_cache_must_hold_the_window(scenes: Path) -> None:
    total = sum(map(len, contents(scenes).values()))
    ShardDataset(scenes, cache=scenes / "cache", cache_bytes=total)
    with pytest.raises(DataError, match="a window of 5 samples"):
        ShardDataset(scenes, cache=scenes / "cache", cache_bytes=total - 1, window=5)


def test_a_shard_that_has_changed_is_not_cached(scenes: Path, tmp_path: Path) -> None:
    dataset = ShardDataset(scenes, cache=tmp_path / "cache")
    content = bytearray((scenes / "000000.tar").read_bytes())
    content[700] ^= 1
    (scenes / "000000.tar").write_bytes(content)
    with pytest.raises(DataError, match="not what its index says"):
        dataset.sample(0)
    assert not list((tmp_path / "cache").glob("*.shard")) and not list((tmp_path / "cache").glob("*.part"))
    assert_equal(dataset.sample(6), SCENES.sample(6))


class Names(torch.utils.data.Dataset[tuple[int, int]]):
    """Which sample lies where the order points, by its name in the tar file."""

    def __init__(self, folder: Path) -> None:
        self.shards = ShardDataset(folder, window=1000)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int]:
        index, draw = key
        return int(self.shards.packed(index).name), draw


def stream(folder: Path, batch_size: int, process: int, start: int, total: int, record: Path, dies: bool) -> None:
    """One of two training processes, with four workers: write down what it is given, batch by batch.

    One that `dies` waits to be killed before its last line: the other may have been slow to start.
    """
    names = Names(folder)
    shards = names.shards
    order = TrainingOrder(len(shards), batch_size, 3, start, total, process, 2, locality=shards.locality)
    loader: Any = torch.utils.data.DataLoader(names, batch_sampler=order, collate_fn=list, num_workers=4)
    with record.open("a") as file:
        for number, batch in enumerate(loader, 1):
            if dies and number == len(order):
                signal.pause()
            file.write(json.dumps(batch) + "\n")
            file.flush()


def run_two(folder: Path, batch_size: int, start: int, total: int, record: Path, kill_after: int | None = None) -> None:
    """Two processes at the same time; both are killed when each has written `kill_after` lines."""
    context = multiprocessing.get_context("fork")
    records = [record / f"{start}-{process}" for process in range(2)]
    dies = kill_after is not None
    runs = [
        context.Process(target=stream, args=(folder, batch_size, p, start, total, records[p], dies)) for p in range(2)
    ]
    for run in runs:
        run.start()
    while kill_after is not None and min(map(lines_in, records)) < kill_after:
        time.sleep(0.01)
    for run in runs:
        if kill_after is not None:
            os.kill(run.pid, signal.SIGKILL)
        run.join()
        assert run.exitcode == (0 if kill_after is None else -signal.SIGKILL)


def lines_in(record: Path) -> int:
    return record.read_bytes().count(b"\n") if record.exists() else 0


def recorded(record: Path, start: int) -> list[list[list[int]]]:
    """The batches that both processes have written whole."""
    shares = [(record / f"{start}-{process}").read_text().splitlines(keepends=True) for process in range(2)]
    whole = [[json.loads(line) for line in lines if line.endswith("\n")] for lines in shares]
    return [first + second for first, second in zip(*whole, strict=False)]


def check_streaming(folder: Path, count: int, batch_size: int, record: Path) -> None:
    record.mkdir()
    run_two(folder, batch_size, 0, count, record, kill_after=5)
    before = recorded(record, 0)
    done = len(before) * batch_size
    assert 0 < done < count
    run_two(folder, batch_size, done, count, record)
    batches = before + recorded(record, done)
    seen = sorted((draw, name) for batch in batches for name, draw in batch)
    assert [draw for draw, _ in seen] == list(range(count))
    assert sorted(name for _, name in seen) == list(range(count))  # each sample exactly once
    undisturbed = TrainingOrder(count, count, 3, 0, count, locality=Names(folder).shards.locality)
    assert [(name, draw) for draw, name in seen] == next(iter(undisturbed))


def test_an_epoch_survives_a_kill(tmp_path: Path) -> None:
    write_shards(Numbers(3000), tmp_path / "shards", samples_per_shard=250)
    check_streaming(tmp_path / "shards", 3000, 50, tmp_path / "record")


@pytest.mark.slow
def test_an_epoch_of_100000_samples_survives_a_kill(tmp_path: Path) -> None:
    write_shards(Numbers(100_000), tmp_path / "shards", samples_per_shard=1000, workers=2)
    check_streaming(tmp_path / "shards", 100_000, 800, tmp_path / "record")
