"""A folder of downloaded shards that stays below a number of bytes, shared by any number of processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from segscape.errors import DataError

POLL_SECONDS = 0.05


class ShardCache:
    """Whole files on the local disk; those not used for longest make room for new ones.

    A file is `<key>-<bytes>.shard`, and `<key>-<bytes>.part` while it is fetched. The time of its last change is that
    of its last use.

    Args:
        folder: where they lie; made if it is not there.
        limit: bytes that all of them together may take.
    """

    def __init__(self, folder: Path | str, limit: int) -> None:
        self.folder = Path(folder)
        self.limit = limit

    def open(self, key: str, size: int, fetch: Callable[[Path], None]) -> BinaryIO:
        """Open the file of a key for reading, fetching it first if it is not here.

        Args:
            key: names the content.
            size: its bytes.
            fetch: writes the content to the path that it is given; called by one process at a time per key.

        Raises:
            DataError: the file is larger than the cache, or `fetch` wrote another number of bytes.
        """
        if size > self.limit:
            raise DataError(f"a shard of {size} bytes does not fit into a cache of {self.limit}: raise cache_bytes.")
        path = self.folder / f"{key}-{size}.shard"
        while True:
            try:
                file = path.open("rb")
                os.utime(path)
                return file
            except FileNotFoundError:  # not fetched yet, or making room for another just now
                self._fetch(path, size, fetch)

    def _fetch(self, path: Path, size: int, fetch: Callable[[Path], None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock(path):
            if path.exists():
                return
            part = path.with_suffix(".part")
            while not self._reserve(part, size):
                time.sleep(POLL_SECONDS)  # other processes are fetching; what they have fetched can make room
            try:
                fetch(part)
                if part.stat().st_size != size:
                    raise DataError(f"{part.stat().st_size} bytes came instead of {size}: the shard has changed.")
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def _reserve(self, part: Path, size: int) -> bool:
        """Make room and lay an empty file there, which counts with its full size from now on."""
        with FileLock(self.folder / "cache.lock"):
            kept = sorted((path for path in self._files() if path != part), key=_last_use)
            total = sum(map(_size, kept))
            for path in kept:
                if total + size <= self.limit:
                    break
                total -= _size(path) if self._remove(path) else 0
            if total + size > self.limit:
                return False
            part.touch()
            return True

    def _files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.suffix in (".shard", ".part")]

    def _remove(self, path: Path) -> bool:
        """Remove a file, unless it is being fetched (or, where the system forbids it, read)."""
        try:
            if path.suffix == ".part":
                with self._lock(path, timeout=0):
                    path.unlink(missing_ok=True)
            else:
                path.unlink(missing_ok=True)
        except (Timeout, PermissionError):
            return False
        return True

    def _lock(self, path: Path, timeout: float = -1) -> FileLock:
        """The lock of a file that is being fetched; it is free again when its process has died."""
        return FileLock(path.with_suffix(".lock"), timeout=timeout)


def _size(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
