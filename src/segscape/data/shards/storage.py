"""Files on this machine or under any fsspec URL (`s3://`, `gs://`, `hf://`, `https://`, ...), read and written alike.

Nothing is kept between calls, so these functions work in processes that were forked or spawned.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segscape.errors import DataError, DependencyError
from segscape.files import write_atomically

WAITS = (1.0, 4.0)
"""Seconds to wait before a failed read of a remote file is tried again."""

MISSING = "missing"
"""The `kind` of the error that says that there is no such file."""


def is_remote(location: str) -> bool:
    """Whether a location is a URL of another place than this machine's disks."""
    return "://" in location and not location.startswith(("file://", "local://"))


def join(folder: str, name: str) -> str:
    """The location of a file in a folder; a name that is a URL or an absolute path stays as it is."""
    return name if "://" in name or os.path.isabs(name) else f"{folder.rstrip('/')}/{name}"


def read(location: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file, from `start` up to before `end`; remote ones are tried several times.

    Raises:
        DataError: the file is missing or cannot be read.
        DependencyError: the URL needs a package that is not installed.
    """
    if not is_remote(location):
        return _read_local(location, start or 0, end)
    content: bytes = _retried(location, lambda files, path: files.cat_file(path, start=start, end=end))
    return content


def read_ranges(ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Pieces of files as (location, start, end), at the same time where the protocol can; raises as `read`."""
    places = [_filesystem(location) for location, _, _ in ranges]
    if any(files is not places[0][0] for files, _ in places):
        return [read(*piece) for piece in ranges]
    paths = [path for _, path in places]
    _, starts, ends = (list(column) for column in zip(*ranges, strict=True))
    act = lambda files, _: files.cat_ranges(paths, starts, ends, on_error="raise")  # noqa: E731
    contents: list[bytes] = _retried(ranges[0][0], act)
    return contents


def download(location: str, path: Path) -> None:
    """Copy a whole file to `path`; raises as `read`."""
    _retried(location, lambda files, remote: files.get_file(remote, str(path)))


def exists(location: str) -> bool:
    """Whether there is such a file or folder."""
    files, path = _filesystem(location)
    return bool(files.exists(path))


def size(location: str) -> int | None:
    """The bytes of a file; None if there is no such file."""
    files, path = _filesystem(location)
    return int(files.size(path)) if files.isfile(path) else None


def names(folder: str, suffix: str = "") -> list[str]:
    """The names of the files in a folder that end in `suffix`, sorted; none without such a folder; raises as `read`."""
    _, path = _filesystem(folder)
    try:
        found = _retried(folder, lambda files, _: files.ls(path, detail=False))
    except DataError as error:
        if error.kind != MISSING:
            raise
        return []
    listed = (entry.rstrip("/").rpartition("/")[2] for entry in found if entry.rstrip("/") != path.rstrip("/"))
    return sorted(name for name in listed if name.endswith(suffix))


def open_file(location: str) -> Any:
    """A seekable binary file to read; raises as `read`."""
    return _retried(location, lambda files, path: files.open(path, "rb"))


def write(location: str, make: Callable[[Path], object]) -> None:
    """Call `make(temporary_path)` and bring the result to `location`, where it appears whole or not at all.

    Raises:
        DataError: the place cannot be written.
    """
    files, path = _filesystem(location)
    if not is_remote(location):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), make)
        return
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, "file")
        make(temporary)
        try:
            files.makedirs(path.rpartition("/")[0], exist_ok=True)
            files.put_file(str(temporary), path)
        except Exception as error:  # each protocol has errors of its own
            raise DataError(f"{location} cannot be written: {_reason(error)}") from error


def write_text(location: str, text: str) -> None:
    """Write a text file in UTF-8; raises as `write`."""
    write(location, lambda part: part.write_bytes(text.encode()))


def remove(location: str) -> None:
    """Remove a file, or a folder with all that is in it."""
    files, path = _filesystem(location)
    files.rm(path, recursive=True)


def _read_local(location: str, start: int, end: int | None) -> bytes:
    """The same without fsspec, which takes longer than the disk."""
    try:
        with open(location.partition("://")[2] or location, "rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else end - start)
    except OSError as error:
        raise _unreadable(location, error) from None


def _retried(location: str, act: Callable[[Any, str], Any]) -> Any:
    files, path = _filesystem(location)
    for wait in (*WAITS, None) if is_remote(location) else (None,):
        try:
            return act(files, path)
        except Exception as error:  # each protocol has errors of its own
            if wait is None or isinstance(error, FileNotFoundError):
                raise _unreadable(location, error) from None
            time.sleep(wait)
    return None


def _unreadable(location: str, error: Exception) -> DataError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return DataError(f"{location} does not exist: check the path or URL.", MISSING)
    return DataError(f"{location} cannot be read: {_reason(error)}")


def _filesystem(location: str) -> tuple[Any, str]:
    """The fsspec file system of a location, made anew in every process, and the path in it."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    try:
        files, path = url_to_fs(location)
    except ImportError as error:
        raise DependencyError(f"{location} needs a package that is not installed: {error}.") from None
    except ValueError as error:
        raise DataError(f"{location} is not a path or URL that can be read: {error}.") from None
    return files, path


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} ({error})" if str(error) else type(error).__name__
