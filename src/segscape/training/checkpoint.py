"""Checkpoints of a run: everything that changes in training, in one file, written atomically."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Protocol

import torch

from segscape.errors import CheckpointError
from segscape.files import write_atomically


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

    Args:
        folder: `RUN/checkpoints`.
        state: every stateful thing of the run, by name.
        keep: how many of the newest files stay.
    """

    def __init__(self, folder: Path, state: dict[str, Stateful], keep: int) -> None:
        self.folder = folder
        self.state = state
        self.keep = keep

    def files(self) -> list[Path]:
        """The checkpoints, oldest first; the number in the name counts images."""
        return sorted(self.folder.glob("*.pt"))

    def save(self, images: int) -> Path:
        """Write the state after `images` images and remove the oldest files beyond `keep`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"images": images} | {name: part.state_dict() for name, part in self.state.items()}
        path = self.folder / f"{images:010d}.pt"
        write_atomically(path, lambda temporary: torch.save(content, temporary))
        for old in self.files()[: -self.keep]:
            old.unlink()
        return path

    def load_latest(self) -> int:
        """Load the newest checkpoint into the state and return its number of images.

        Raises CheckpointError if there is none, it is damaged, or it belongs to another model.
        """
        files = self.files()
        if not files:
            raise CheckpointError(f"{self.folder} holds no checkpoint; start the run without --resume.")
        try:
            content = torch.load(files[-1], map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError, OSError):
            raise CheckpointError(f"{files[-1]} is damaged; delete it to resume from the one before.") from None
        for name, part in self.state.items():
            try:
                part.load_state_dict(content[name])
            except (KeyError, RuntimeError, ValueError) as error:
                reason = str(error).split("\n")[0]
                raise CheckpointError(f"{files[-1]} does not fit this recipe ({name}: {reason}).") from None
        return int(content["images"])
