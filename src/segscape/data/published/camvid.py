"""CamVid: street scenes from a driving car (Brostow, Fauqueur, Cipolla, Pattern Recognition Letters 2009).

The 12-class version of the SegNet authors, 480 x 360, as ``{train,val,test}/{images,labels}`` or as they distribute it:
``{train,val,test}`` with photographs and ``{train,val,test}annot`` with label maps.
"""

from __future__ import annotations

from pathlib import Path

from segscape.data.folder import FileDataset
from segscape.data.published.kind import DatasetKind, Files
from segscape.data.published.pairing import find_files
from segscape.labels import LABEL_SETS, LabelSet

SPLITS = ("train", "val", "test")
SEQUENCES = ("0001TP", "0006R0", "0016E5", "Seq05VD")
"""The four drives: how the names of the files begin."""


class CamVid(FileDataset):
    """One split of CamVid.

    Args:
        root: folder that holds the splits.
        split: which split.
        labels: the label set.

    Raises:
        DataError: if the folders are not there, or their files do not pair up.
    """

    def __init__(self, root: Path | str, split: str = "train", labels: LabelSet = LABEL_SETS["camvid"]) -> None:
        super().__init__(KIND.listing(root, split, labels))


def _places(root: Path, split: str) -> tuple[Path, Path]:
    """The folders of photographs and label maps."""
    if (root / f"{split}annot").is_dir():
        return root / split, root / f"{split}annot"
    return root / split / "images", root / split / "labels"


def _find_splits(root: Path) -> tuple[str, ...]:
    """A folder of pairs is CamVid if its files are named as CamVid's are."""
    places = {split: _places(root, split)[1] for split in SPLITS}
    files = {split: next(iter(sorted(place.glob("*.png"))), None) for split, place in places.items()}
    return tuple(split for split, file in files.items() if file is not None and file.name.startswith(SEQUENCES))


def _find_files(root: Path, split: str) -> Files:
    images, labels = _places(root, split)
    return Files(
        label_maps=find_files(labels, "label map"),
        images=find_files(images, "photograph") if images.is_dir() else None,
    )


KIND = DatasetKind(
    name="camvid",
    layout="it needs {train,val}/{images,labels}, with the names of the files of CamVid",
    find_splits=_find_splits,
    find_files=_find_files,
    label_set="camvid",
    sizes={"train": 367, "val": 101, "test": 233},
)
