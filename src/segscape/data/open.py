"""The folders of pairs that a command line names."""

from __future__ import annotations

from pathlib import Path

from segscape.data.folder import FolderDataset
from segscape.errors import DataError
from segscape.labels import LabelSet


def open_pairs(folder: Path | str, labels: LabelSet, split: str) -> FolderDataset:
    """Open the photos and label maps of a folder.

    Args:
        folder: holds a folder per split (`train`, `val`) with `images` and `labels` and perhaps `instances` inside, as
            CamVid does; or `images` and `labels` directly, which are then every split.
        labels: the label set to read the label maps with.
        split: which folder to take, where there are splits.

    Raises:
        DataError: neither is there, or the files do not pair up.
    """
    root = Path(folder)
    for candidate in (root / split, root):
        if (candidate / "images").is_dir() and (candidate / "labels").is_dir():
            instances = candidate / "instances"
            return FolderDataset(
                candidate / "images", candidate / "labels", labels, instances if instances.is_dir() else None
            )
    raise DataError(f"{root} holds neither {split}/images and {split}/labels nor images and labels: give their folder.")


def has_splits(folder: Path | str) -> bool:
    """Whether a folder has its own `train` and `val`."""
    return all((Path(folder) / split / "images").is_dir() for split in ("train", "val"))
