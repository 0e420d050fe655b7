"""Atomic writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.files import write_atomically, write_png, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_new_file_has_ordinary_permissions(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new", lambda part: part.write_text("new"))
    (tmp_path / "plain").write_text("plain")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.usefixtures("ascii_locale")
def test_text_is_utf_8_on_every_machine(tmp_path: Path) -> None:
    write_text(tmp_path / "grass", "草\n")
    assert (tmp_path / "grass").read_bytes() == b"\xe8\x8d\x89\n"


def test_a_picture_is_png_whatever_its_name(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    write_png(tmp_path / "picture.jpg", Image.fromarray(pixels))
    with Image.open(tmp_path / "picture.jpg") as image:
        assert image.format == "PNG" and np.array_equal(np.asarray(image), pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["picture.jpg"]
