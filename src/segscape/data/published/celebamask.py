"""CelebAMask-HQ: faces in 19 parts (Lee et al., CVPR 2020).

The layout is that of the download: ``CelebA-HQ-img/K.jpg``, 1024 x 1024, and for each part that is seen a mask
``CelebAMask-HQ-mask-anno/F/K_PART.png``, 512 x 512, where K has five digits there and F is K // 2000. The masks are
painted over each other in the published order (SEAN, CA2-SIS); photographs are resized to the result (bicubic).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segscape.data.folder import FileDataset
from segscape.data.listing import Array, Problem
from segscape.data.published.kind import DatasetKind, Files
from segscape.data.published.pairing import NameOf, find_files
from segscape.errors import LabelMapError
from segscape.label_files import read_instance_map
from segscape.labels import LABEL_SETS, LabelSet

PARTS = (
    "skin",
    "nose",
    "eye_g",
    "l_eye",
    "r_eye",
    "l_brow",
    "r_brow",
    "l_ear",
    "r_ear",
    "mouth",
    "u_lip",
    "l_lip",
    "hair",
    "hat",
    "ear_r",
    "neck_l",
    "neck",
    "cloth",
)
"""The parts in the order in which they are painted; part number i is class i + 1, class 0 is what no part covers."""

TRAINING = 28_000
"""The first images train, the other 2,000 validate (SEAN and the CLADE paper)."""


class CelebAMaskHQ(FileDataset):
    """One split of CelebAMask-HQ, at the 512 x 512 of its masks.

    Args:
        root: folder that holds ``CelebA-HQ-img`` and ``CelebAMask-HQ-mask-anno``, or ``CelebAMask-HQ`` with them in it.
        split: `train`: images 0 to 27,999; `val`: the others.
        labels: the label set.

    Raises:
        DataError: if the folders are not there, or their files do not pair up.
    """

    def __init__(self, root: Path | str, split: str = "train", labels: LabelSet = LABEL_SETS["celebamask-hq"]) -> None:
        super().__init__(KIND.listing(root, split, labels))


def read_parts(paths: tuple[Path, ...], labels: LabelSet) -> Array:
    """Paint the masks of the parts into one label map.

    Args:
        paths: the masks, in the order in which they are painted.
        labels: the label set of the result.

    Returns:
        int64 ``[H, W]``.

    Raises:
        LabelMapError: masks of different sizes, one that cannot be read, or a label set without these classes.
    """
    label_map: Array | None = None
    for path in paths:
        mask = read_instance_map(path)
        if label_map is None:
            label_map = np.zeros(mask.shape, dtype=np.int64)
        if mask.shape != label_map.shape:
            raise LabelMapError(f"{path} is {mask.shape}, but {paths[0].name} is {label_map.shape}: copy it again.")
        label_map[mask != 0] = PARTS.index(_part(path.stem)) + 1
    if label_map is None:
        raise LabelMapError("a face needs the mask of one part at least, but there is none.")
    labels.check(label_map, source=str(paths[0]))
    return label_map


def _part(stem: str) -> str:
    """`l_eye` of `00012_l_eye`."""
    return stem.partition("_")[2]


def _home(root: Path) -> Path:
    nested = root / "CelebAMask-HQ"
    return nested if nested.is_dir() else root


def _find_splits(root: Path) -> tuple[str, ...]:
    home = _home(root)
    found = (home / "CelebAMask-HQ-mask-anno").is_dir() and (home / "CelebA-HQ-img").is_dir()
    return ("train", "val") if found else ()


def _find_files(root: Path, split: str) -> Files:
    home = _home(root)
    masks = find_files(home / "CelebAMask-HQ-mask-anno", "mask", frozenset({".png"}), _mask_name(split))
    parts: dict[str, dict[str, Path]] = {}
    for name, path in masks.files.items():
        index, _, part = name.partition("_")
        if part in PARTS:
            parts.setdefault(index, {})[part] = path
        else:
            message = f"{path} is the mask of no known part: rename or remove it."
            masks.problems.append(Problem(path, "unknown-label", message))
    return Files(
        label_maps=masks,
        images=find_files(home / "CelebA-HQ-img", "photograph", name=_image_name(split)),
        read_label_map=read_parts,
        parts={name: tuple(found[part] for part in PARTS if part in found) for name, found in parts.items()},
        larger_images=True,
    )


def _in_split(index: str, split: str) -> bool:
    return index.isdecimal() and (int(index) < TRAINING) == (split == "train")


def _mask_name(split: str) -> NameOf:
    """`3/06012_skin` -> `06012_skin`."""

    def name(path: str) -> str | None:
        file = path.rpartition("/")[2]
        return file if _in_split(file.partition("_")[0], split) else None

    return name


def _image_name(split: str) -> NameOf:
    """`6012` -> `06012`."""

    def name(path: str) -> str | None:
        return path.zfill(5) if _in_split(path, split) else None

    return name


KIND = DatasetKind(
    name="celebamask-hq",
    layout="it needs CelebA-HQ-img and CelebAMask-HQ-mask-anno",
    find_splits=_find_splits,
    find_files=_find_files,
    label_set="celebamask-hq",
    sizes={"train": TRAINING, "val": 2_000},
    companions=("CelebA-HQ-to-CelebA-mapping.txt", "CelebAMask-HQ-*-anno.txt", "README.txt"),
)
