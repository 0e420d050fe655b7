"""The cache of shards: below its limit, shared by processes, and not held up by one that was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from segscape.data.shards.cache import ShardCache
from segscape.errors import DataError


def content(key: str) -> bytes:
    return key.encode() * 100


def fetch(key: str, log: Path, seconds: float = 0.0) -> object:
    def write(path: Path) -> None:
        with log.open("a") as file:
            file.write(key + "\n")
        time.sleep(seconds)
        path.write_bytes(content(key))

    return write


def get(cache: ShardCache, key: str, log: Path, seconds: float = 0.0) -> bytes:
    with cache.open(key, 100, fetch(key, log, seconds)) as file:
        return file.read()


def test_those_not_used_for_longest_make_room(tmp_path: Path) -> None:
    cache, log = ShardCache(tmp_path / "cache", 300), tmp_path / "log"
    moment = 1_000_000_000
    for key in "abcab" + "d" + "abc":
        assert get(cache, key, log) == content(key)
        moment += 1
        os.utime(tmp_path / "cache" / f"{key}-100.shard", (moment, moment))  # finer than any clock
        assert len(list((tmp_path / "cache").glob("*.shard"))) <= 3
    assert log.read_text().split() == ["a", "b", "c", "d", "c"]  # d took the place of c, c that of d


def test_what_does_not_fit(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 99)
    with pytest.raises(DataError, match="raise cache_bytes"):
        get(cache, "a", tmp_path / "log")
    with pytest.raises(DataError, match="100 bytes came instead of 50"):
        cache.open("b", 50, fetch("b", tmp_path / "log"))  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.shard")) and not list(tmp_path.glob("*.part"))


def read_often(folder: Path, log: Path, number: int) -> None:
    cache = ShardCache(folder, 200)
    for step in range(30):
        key = "abcd"[(step // 4 + number) % 4]
        assert get(cache, key, log, 0.001) == content(key)


def test_processes_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    folder, log = tmp_path / "cache", tmp_path / "log"
    runs = [context.Process(target=read_often, args=(folder, log, number)) for number in range(3)]
    for run in runs:
        run.start()
    largest = 0
    while any(run.is_alive() for run in runs):
        largest = max(largest, len([*folder.glob("*.shard"), *folder.glob("*.part")]))
        time.sleep(0.001)
    assert [run.exitcode for run in runs] == [0, 0, 0]
    assert largest <= 2


def read_together(folder: Path, log: Path) -> None:
    assert get(ShardCache(folder, 200), "a", log, 0.3) == content("a")


def test_a_shard_is_fetched_once_for_all(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=read_together, args=(tmp_path / "cache", tmp_path / "log")) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0, 0] and (tmp_path / "log").read_text() == "a\n"


def test_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    run = multiprocessing.get_context("fork").Process(target=get, args=(ShardCache(folder, 100), "a", log, 60.0))
    run.start()
    while not (folder / "a-100.part").exists():
        time.sleep(0.01)
    os.kill(run.pid or 0, signal.SIGKILL)
    run.join()
    cache = ShardCache(folder, 100)
    assert get(cache, "b", log) == content("b")  # what the other left makes room
    assert not (folder / "a-100.part").exists()
    assert get(cache, "a", log) == content("a")
