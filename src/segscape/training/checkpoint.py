"""Checkpoints of a run: everything that changes in training, in one file that is whole or not there.

A checkpoint is what `torch.save` writes, sealed: the comment of the zip archive, its last 64 bytes, is the SHA-256 of
all bytes before. So `torch.load` reads it like any other, and a damaged one is found before it is used.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from segscape.errors import CheckpointError, TrainingError
from segscape.files import write_atomically

DIGITS = 64  # of a SHA-256


class Stateful(Protocol):
    """What a checkpoint holds: networks, optimisers, scalers."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take the state over."""
        ...


class Checkpoints:
    """The numbered checkpoints in a run folder.

    What a checkpoint holds does not depend on the number of processes: the networks are replicas, the place in the data
    is the number of images, and everything random is drawn from (seed, images, process).

    Args:
        folder: `RUN/checkpoints`.
        state: every stateful thing of the run, by name.
        keep: how many of the newest files stay.
        tell: prints a sentence to the user.
    """

    def __init__(self, folder: Path, state: dict[str, Stateful], keep: int, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.state = state
        self.keep = keep
        self.tell = tell
        self._damaged: list[Path] = []

    def files(self) -> list[Path]:
        """The checkpoints, oldest first; the number in the name counts images."""
        return sorted(path for path in self.folder.glob("*.pt") if path not in self._damaged)

    def save(self, images: int) -> Path:
        """Write the state after `images` images and remove the oldest files beyond `keep`.

        Damaged files, as `load_latest` found them, are renamed to `*.damaged`. Raises OSError if the disk is full or
        fails; then all older checkpoints are still there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self._damaged:
            path.replace(path.with_name(f"{path.name}.damaged"))
        self._damaged = []
        content = {"images": images} | {name: part.state_dict() for name, part in self.state.items()}
        path = self.folder / f"{images:010d}.pt"
        write_atomically(path, lambda temporary: write_sealed(content, temporary), durable=True)
        for old in self.files()[: -self.keep]:
            old.unlink()
        return path

    def load_latest(self) -> int:
        """Load the newest whole checkpoint into the state and return its number of images; 0 if there is none yet.

        Each damaged one is named in a warning. Raises CheckpointError if all are damaged, or the newest whole one
        belongs to another model.
        """
        files = self.files()
        for path in reversed(files):
            content = read_sealed(path)
            if content is not None:
                self._take_over(content, path)
                return int(content["images"])
            self._damaged.append(path)
            self.tell(f"warning: {path} is damaged (its checksum does not match): going on from the one before.")
        if files:
            raise CheckpointError(
                f"every checkpoint in {self.folder} is damaged: begin a new run, or delete them to begin this one anew."
            )
        self.tell(f"{self.folder} holds no checkpoint yet: beginning at the first image.")
        return 0

    def diverged(self, what: str) -> TrainingError:
        """The error of a run whose numbers are no longer finite, with the checkpoint to go on from."""
        files = self.files()
        kept = f"the last good checkpoint is {files[-1]}: go on with --resume and" if files else "start again with"
        return TrainingError(f"{what}; {kept} lower learning rates (--set optimizer.generator_lr=...) or precision=no.")

    @contextmanager
    def may_fail(self, last: bool) -> Iterator[None]:
        """A block that writes to the run folder; a full or broken disk is a warning, or an error at the `last` chance.

        Raises TrainingError, which names the checkpoint to resume from.
        """
        try:
            yield
        except (OSError, SafetensorError) as error:
            files = self.files()
            kept = f"the last whole checkpoint is {files[-1]}" if files else "there is no checkpoint yet"
            what = f"{self.folder.parent} cannot be written ({error}); {kept}"
            if last:
                raise TrainingError(f"{what}: make room and go on with --resume.") from None
            self.tell(f"warning: {what}, and training goes on: make room before the next snapshot.")

    def _take_over(self, content: dict[str, Any], path: Path) -> None:
        for name, part in self.state.items():
            try:
                part.load_state_dict(content[name])
            except (KeyError, RuntimeError, ValueError) as error:
                reason = str(error).split("\n")[0]
                raise CheckpointError(f"{path} does not fit this recipe ({name}: {reason}).") from None


def write_sealed(content: dict[str, Any], path: Path) -> None:
    """Save tensors and plain values with a checksum of the whole file; raises OSError if the disk is full or fails."""
    with path.open("w+b") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # PyTorch hides what the file said
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        file.seek(-2, 2)
        file.write(struct.pack("<H", DIGITS))  # the length of the archive's comment
        file.seek(0)
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        file.write(digest.hexdigest().encode())


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` has saved, on the CPU; None if the file is not, to the bit, as it was written."""
    try:
        if not _is_whole(path):
            return None
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError):
        return None
    return content


def _is_whole(path: Path) -> bool:
    """Whether the last bytes of a file are the checksum of those before."""
    digest, left = hashlib.sha256(), path.stat().st_size - DIGITS
    with path.open("rb") as file:
        while left > 0:
            block = file.read(min(left, 1 << 20))
            if not block:
                return False
            digest.update(block)
            left -= len(block)
        return file.read() == digest.hexdigest().encode()
