"""Finding out which dataset a folder holds."""

from __future__ import annotations

from pathlib import Path

from segscape.data import folder
from segscape.data.folder import FileDataset
from segscape.data.listing import Listing
from segscape.data.published import ade20k, camvid, celebamask, cityscapes, coco_stuff, deepfashion
from segscape.data.published.kind import DatasetKind
from segscape.data.published.subset import Subset
from segscape.errors import DataError
from segscape.labels import LabelSet

KINDS: dict[str, DatasetKind] = {
    module.KIND.name: module.KIND
    for module in (celebamask, deepfashion, cityscapes, coco_stuff, ade20k, camvid, folder)
}
"""The datasets by name, in the order in which they are looked for."""


def find_listing(
    root: Path | str, split: str | None = None, kind: str | None = None, labels: LabelSet | None = None
) -> Listing:
    """The files of one split of whatever dataset a folder holds.

    Args:
        root: the folder; or the list of a part of a dataset (see `segscape.data.published.subset`).
        split: by default `train` if there is one, else the first. A folder without splits is every split.
        kind: a key of `KINDS`; by default the layout decides.
        labels: the label set to read the label maps with; by default that of the published dataset, or of a
            `label_set.json` in the folder.

    Raises:
        DataError: nothing there that Segscape knows, or no such split.
    """
    return find_kind(root, kind).listing(root, split, labels)


def find_kind(root: Path | str, kind: str | None = None) -> DatasetKind:
    """Which dataset a folder, or a list of a part of one, holds.

    Raises:
        DataError: `kind` is none of `KINDS`; or without it, nothing there that Segscape knows.
    """
    if kind is not None and kind not in KINDS:
        raise DataError(f"{kind!r} is no dataset that Segscape knows: choose one of {', '.join(KINDS)}.")
    if kind is not None:
        return KINDS[kind]
    root = Path(root)
    if root.is_file():
        return find_kind(Subset.read(root).root)
    if not root.is_dir():
        raise DataError(f"{root} does not exist: give the folder of a dataset.")
    found = next((known for known in KINDS.values() if known.find_splits(root)), None)
    if found is None:
        raise DataError(_unknown(root))
    return found


def list_splits(root: Path | str, kind: str | None = None) -> tuple[str, ...]:
    """The splits of a dataset; none if it has no splits, or is not of the kind, or none that Segscape knows.

    Args:
        root: as `find_listing`.
        kind: as `find_listing`.

    Raises:
        DataError: `kind` is none of `KINDS`, or a file is no list.
    """
    root = Path(root)
    if root.is_file():
        return tuple(Subset.read(root).names)
    kinds = KINDS.values() if kind is None else (find_kind(root, kind),)
    splits = next(filter(None, (known.find_splits(root) for known in kinds)), ())
    return tuple(filter(None, splits))


def has_splits(root: Path | str) -> bool:
    """Whether a dataset has its own `train` and `val`."""
    return {"train", "val"} <= set(list_splits(root))


def open_pairs(root: Path | str, labels: LabelSet, split: str) -> FileDataset:
    """Open one split of the dataset in a folder.

    Args:
        root: as `find_listing`.
        labels: the label set to read the label maps with.
        split: which split, where there are splits.

    Raises:
        DataError: nothing there that Segscape knows, no such split, or the files do not pair up.
    """
    return FileDataset(find_listing(root, split, labels=labels))


def _unknown(root: Path) -> str:
    present = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(present[:6]) + (", ..." if len(present) > 6 else "")
    full_ade = next(root.glob("images/ADE/*"), None) is not None or next(root.glob("**/*_seg.png"), None) is not None
    if full_ade:
        return f"{root} holds the full ADE20K: get its SceneParsing version (150 classes), ADEChallengeData2016.zip."
    for near in (root.absolute().parent, *sorted(entry for entry in root.iterdir() if entry.is_dir())):
        kind = next((known.name for known in KINDS.values() if known.label_set and known.find_splits(near)), None)
        if kind is not None:
            return f"{root} is no dataset that Segscape knows, but {near} is ({kind}): give that folder."
    tar = next(root.glob("**/*.tar"), None)
    if tar is not None and not (tar.parent / "index.json").is_file():
        return f"{tar.parent} holds tar files without index.json: see segscape.data.shards.index.index_shards."
    if tar is not None:
        return (
            f"{root} holds tar shards, which training reads (data: {{kind: shards}}): for everything else bring them "
            "into a folder with segscape dataset convert --to folder."
        )
    return (
        f"{root} is no dataset that Segscape knows (found: {shown or 'nothing'}): {folder.KIND.layout}; or the layout "
        f"of {', '.join(name for name in KINDS if name != folder.KIND.name)}."
    )
