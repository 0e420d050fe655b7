"""Atomic writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from segscape.files import write_atomically


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
