"""Writing files so that a crash never leaves half of one, and knowing a file by its content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

UNFINISHED = ".*.part"
"""The names of files that are being written, as a pattern."""


def write_atomically(path: Path, write: Callable[[Path], object], *, durable: bool = False) -> None:
    """Call `write(temporary_path)` and move the result to `path`, so that a crash never leaves half a file.

    Args:
        path: where the file goes; replaced if it exists.
        write: writes the whole file.
        durable: wait until the disk has the file and its name, so that it also outlasts a power cut.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private
        if durable:
            _flush(temporary)
        temporary.replace(path)
        if durable and os.name == "posix":  # Windows cannot open a folder, and needs not
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: UTF-8 with Unix line ends, whatever machine this is."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))


def write_png(path: Path, image: Image.Image) -> None:
    """Write a picture atomically as PNG, whatever the suffix of the path."""
    write_atomically(path, lambda part: image.save(part, format="PNG"))


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remove_unfinished(folder: Path) -> list[Path]:
    """Delete what a killed process was writing in a folder and its subfolders; nobody may be writing there now."""
    found = sorted(folder.rglob(UNFINISHED))
    for path in found:
        path.unlink(missing_ok=True)
    return found


def _flush(path: Path) -> None:
    """Wait until the disk has the content of a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
