"""ADE20K SceneParsing: indoor and outdoor scenes in 150 classes (Zhou et al., CVPR 2017), and its outdoor part.

The layout is that of the archive `ADEChallengeData2016`: ``{images,annotations}/{training,validation}``, any depth
below. Without those subfolders, files whose names contain ``_train_`` or ``_val_`` make up the splits. The full ADE20K,
with its 3,000 classes and `_seg.png` files, is another archive.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from segscape.data.folder import FileDataset
from segscape.data.listing import Array, Listing
from segscape.data.published.kind import DatasetKind, Files
from segscape.data.published.pairing import Found, NameOf, find_files
from segscape.errors import LabelMapError
from segscape.label_files import read_label_map
from segscape.labels import LABEL_SETS, LabelSet

SPLITS = {"train": ("training", "_train_"), "val": ("validation", "_val_")}
"""Split -> its folder, and what its file names contain."""

OUTDOOR_CLASSES = ("sky", "tree", "sea")
"""What the CLADE paper names for ADE20K-outdoor ("such as sky, trees, and sea"); its whole list is not public."""

OUTDOOR_SIZES = {"train": 9_649, "val": 943}
"""Images in the paper's ADE20K-outdoor."""


class ADE20K(FileDataset):
    """One split of ADE20K SceneParsing.

    Args:
        root: folder that holds ``images`` and ``annotations``, or ``ADEChallengeData2016``, which holds them; or a list
            of some of its samples, as `segscape dataset outdoor` writes for ADE20K-outdoor.
        split: which split.
        labels: `ade20k` shifts the values of the files (0 is unknown, k is class k - 1) to its indices, with unknown
            last; `ade20k-official` takes them as they are, as networks of the official code need them.

    Raises:
        DataError: if the folders are not there, or their files do not pair up.
    """

    def __init__(self, root: Path | str, split: str = "train", labels: LabelSet = LABEL_SETS["ade20k"]) -> None:
        super().__init__(KIND.listing(root, split, labels))


def read_scene_labels(paths: tuple[Path, ...], labels: LabelSet) -> Array:
    """Read a label map of SceneParsing: 0 is unknown, k is class k.

    Returns:
        int64 ``[H, W]``. Where unknown is the last of the 151 indices of `labels`, the values are shifted: k - 1, and
        150 for unknown. Where it is the first, they stay.

    Raises:
        LabelMapError: another label set, or a file that is no label map of SceneParsing.
    """
    if labels.num_classes != 151 or labels.unknown not in (0, 150):
        raise LabelMapError(
            f"{paths[0]}: label maps of ADE20K are read in the label set 'ade20k' or 'ade20k-official', but not in "
            f"{labels.name!r}, which has not the 151 classes with unknown first or last: use one of the two."
        )
    values = read_label_map(paths[0], LABEL_SETS["ade20k-official"])
    return values if labels.unknown == 0 else (values - 1) % 151


def outdoor_names(
    listing: Listing, classes: Iterable[str] = OUTDOOR_CLASSES, minimum_share: float = 0.0
) -> tuple[str, ...]:
    """The samples of ADE20K in which outdoor classes are seen: how the CLADE paper made ADE20K-outdoor.

    Args:
        listing: a split of ADE20K.
        classes: names of classes; one of them is enough.
        minimum_share: these classes together must cover more than this share of the pixels.

    Raises:
        LabelMapError: no such class, or a label map that cannot be read.
    """
    labels = LABEL_SETS["ade20k"]
    wanted = [labels.index(name) for name in classes]

    def share(paths: tuple[Path, ...]) -> float:
        return float(np.isin(read_scene_labels(paths, labels), wanted).mean())

    files = [sample.label_maps for sample in listing.samples]
    with ThreadPoolExecutor() as pool:  # decoding a PNG does not hold the interpreter's lock
        shares = list(tqdm(pool.map(share, files), total=len(files), desc=listing.split, unit="map", disable=None))
    return tuple(sample.name for sample, found in zip(listing.samples, shares, strict=True) if found > minimum_share)


def _home(root: Path) -> Path:
    nested = root / "ADEChallengeData2016"
    return nested if nested.is_dir() else root


def _find_splits(root: Path) -> tuple[str, ...]:
    home = _home(root)
    if not (home / "annotations").is_dir():
        return ()
    in_folders = tuple(split for split, (folder, _) in SPLITS.items() if (home / "annotations" / folder).is_dir())
    if in_folders:
        return in_folders
    names = [path.name for path in (home / "annotations").rglob("*.png")]
    return tuple(split for split, (_, mark) in SPLITS.items() if any(mark in name for name in names))


def _find_files(root: Path, split: str) -> Files:
    home = _home(root)
    images = home / "images"
    return Files(
        label_maps=_of_split(home / "annotations", split, "label map", ".png"),
        images=_of_split(images, split, "photograph", ".jpg") if images.is_dir() else None,
        read_label_map=read_scene_labels,
    )


def _of_split(folder: Path, split: str, what: str, suffix: str) -> Found:
    subfolder, mark = SPLITS[split]
    if (folder / subfolder).is_dir():
        return find_files(folder / subfolder, what, frozenset({suffix}))
    return find_files(folder, what, frozenset({suffix}), _containing(mark))


def _containing(mark: str) -> NameOf:
    def name(path: str) -> str | None:
        return path if mark in path.rpartition("/")[2] else None

    return name


KIND = DatasetKind(
    name="ade20k",
    layout="it needs images/{training,validation} and annotations/{training,validation}, from the archive "
    "ADEChallengeData2016 (150 classes)",
    find_splits=_find_splits,
    find_files=_find_files,
    label_set="ade20k",
    sizes={"train": 20_210, "val": 2_000},
    unlabelled=("test",),
    companions=("objectInfo150.txt", "sceneCategories.txt"),
)
