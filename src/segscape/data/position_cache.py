"""Positional encodings kept on disk, found again by the content of the label map.

Worth it for large maps only: docs/data.md has the measured times.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segscape.errors import DataError
from segscape.files import write_atomically
from segscape.position import PositionRule, intra_class_position

VERSION = 1
"""Part of every key; raised when :func:`intra_class_position` gives other numbers or the files another content."""


class PositionCache:
    """:func:`intra_class_position`, computed once per label map and rule; the numbers are the same, bit for bit.

    Any number of processes may share a folder: a file appears whole or not at all. A file that is broken is computed
    and written anew. Files take 8 bytes a pixel and are never removed; delete the folder when the run is over.

    Args:
        folder: Where the files lie; made on first use.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def encode(self, label_map: NDArray[Any], rule: PositionRule = "official") -> NDArray[np.float32]:
        """The encoding of an integer label map ``[H, W]``: float32 ``[2, H, W]``.

        Raises:
            LayoutError: As :func:`intra_class_position`.
            DataError: The folder cannot be written.
        """
        path = self._path(label_map, rule)
        kept = _read(path, (2, *label_map.shape))
        if kept is not None:
            return kept
        encoding = intra_class_position(label_map, rule)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda temporary: _write(temporary, encoding))
        except OSError as error:
            raise DataError(
                f"the positional encoding cannot be kept in {path.parent} ({error.strerror}): give position_cache a "
                "folder that can be written and has room, or leave it out."
            ) from None
        return encoding

    def _path(self, label_map: NDArray[Any], rule: PositionRule) -> Path:
        """The file of a map: values decide, not their integer type."""
        narrow = _narrowed(label_map)
        facts = f"{VERSION} {rule} {narrow.dtype.str} {narrow.shape}"
        digest = hashlib.blake2b(np.ascontiguousarray(narrow).data, digest_size=16)
        digest.update(facts.encode())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.position"


def _narrowed(label_map: NDArray[Any]) -> NDArray[Any]:
    """The map in the smallest unsigned type that holds it; to digest 64-bit labels would take longer than to read."""
    if not label_map.size or label_map.dtype.kind not in "iu" or label_map.min() < 0:
        return label_map
    return label_map.astype(np.min_scalar_type(label_map.max()))


def _write(path: Path, encoding: NDArray[np.float32]) -> None:
    """The numbers, then their checksum; the shape is the label map's."""
    numbers = encoding.astype("<f4", copy=False).data
    with path.open("wb") as file:
        file.write(numbers)
        file.write(zlib.crc32(numbers).to_bytes(4, "little"))


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """What a file holds, or None if there is none or it is broken."""
    try:
        words = np.fromfile(path, "<u4")
    except OSError:
        return None
    if len(words) != math.prod(shape) + 1 or zlib.crc32(words[:-1].data) != words[-1]:
        return None
    return words[:-1].view("<f4").reshape(shape)
