"""Checkpoints: sealed, rotated, and passed over when damaged."""

from __future__ import annotations

import errno
import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from segscape.errors import CheckpointError, TrainingError
from segscape.training.checkpoint import Checkpoints, read_sealed, write_sealed


class Value:
    """One tensor as state."""

    def __init__(self) -> None:
        self.value = torch.zeros(1000)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """Three saved, the last two of which are kept."""
    part = Value()
    made = Checkpoints(tmp_path / "checkpoints", {"part": part}, 2, told.append)
    for images in (4, 8, 12):
        part.value = torch.full((1000,), float(images))
        made.save(images)
    told.clear()
    return made


told: list[str] = []


def test_the_seal_is_the_comment_of_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_sealed({"a": torch.arange(5)}, path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment.decode() == hashlib.sha256(path.read_bytes()[:-64]).hexdigest()
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.arange(5))  # as any other file of PyTorch's


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_sealed({"a": 1}, path)
    content = path.read_bytes()
    assert read_sealed(path) == {"a": 1}
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        assert read_sealed(path) is None
    for length in (0, 10, 64, 65, len(content) - 64, len(content) - 1):
        path.write_bytes(content[:length])
        assert read_sealed(path) is None
    path.write_bytes(content + b"\n")
    assert read_sealed(path) is None


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    write_sealed({"a": Value()}, tmp_path / "a.pt")
    assert read_sealed(tmp_path / "a.pt") is None


def test_the_newest_are_kept_and_loaded(checkpoints: Checkpoints) -> None:
    assert [path.name for path in checkpoints.files()] == ["0000000008.pt", "0000000012.pt"]
    part = checkpoints.state["part"] = Value()
    assert checkpoints.load_latest() == 12
    assert (part.value == 12).all() and not told


def test_a_damaged_one_is_passed_over_and_set_aside(checkpoints: Checkpoints) -> None:
    newest = checkpoints.files()[-1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    part = checkpoints.state["part"] = Value()
    assert checkpoints.load_latest() == 8 and (part.value == 8).all()
    assert told == [f"warning: {newest} is damaged (its checksum does not match): going on from the one before."]
    checkpoints.save(10)
    names = {path.name for path in checkpoints.folder.iterdir()}
    assert names == {"0000000008.pt", "0000000010.pt", "0000000012.pt.damaged"}


def test_only_damaged_ones_and_none_at_all(checkpoints: Checkpoints) -> None:
    for path in checkpoints.files():
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
        checkpoints.load_latest()
    for path in checkpoints.folder.iterdir():
        path.unlink()
    again = Checkpoints(checkpoints.folder, checkpoints.state, 2, told.append)
    assert again.load_latest() == 0 and "holds no checkpoint yet" in told[-1]


def test_another_model_is_an_error_and_not_damage(checkpoints: Checkpoints) -> None:
    checkpoints.state["part"] = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"0000000012\.pt does not fit this recipe \(part: "):
        checkpoints.load_latest()


def test_a_full_disk_keeps_what_there_is(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in checkpoints.folder.iterdir()}

    def full(content: Any, file: Any) -> None:
        file.write(b"half of it")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904  (as PyTorch does)

    monkeypatch.setattr(torch, "save", full)
    with checkpoints.may_fail(last=False):
        checkpoints.save(16)
    assert "No space left on device" in told[-1] and "0000000012.pt, and training goes on" in told[-1]
    with (
        pytest.raises(TrainingError, match=r"last whole checkpoint is .*12\.pt: make room"),
        checkpoints.may_fail(True),
    ):
        checkpoints.save(16)
    assert {path: path.read_bytes() for path in checkpoints.folder.iterdir()} == before


def test_other_errors_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        write_sealed({"a": lambda: None}, tmp_path / "a.pt")
