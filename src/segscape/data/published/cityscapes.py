"""Cityscapes: streets of 50 cities, 2048 x 1024 (Cordts et al., CVPR 2016).

The layout is that of the downloads: ``gtFine/{train,val}/CITY/*_gtFine_{labelIds,instanceIds}.png`` and
``leftImg8bit/{train,val}/CITY/*_leftImg8bit.png``. The label maps are those of the 35 label ids, not of the train ids.
"""

from __future__ import annotations

from pathlib import Path

from segscape.data.folder import FileDataset
from segscape.data.published.kind import DatasetKind, Files, existing
from segscape.data.published.pairing import Found, ending, find_files
from segscape.labels import LABEL_SETS, LabelSet


class Cityscapes(FileDataset):
    """One split of Cityscapes: 35 label ids and instance ids.

    Args:
        root: folder that holds ``gtFine`` and ``leftImg8bit``. A split without photographs has layouts only.
        split: which split; the labels of the test split are not public.
        labels: the label set.

    Raises:
        DataError: if the folders are not there, or their files do not pair up.
    """

    def __init__(self, root: Path | str, split: str = "train", labels: LabelSet = LABEL_SETS["cityscapes"]) -> None:
        super().__init__(KIND.listing(root, split, labels))


def _find_files(root: Path, split: str) -> Files:
    labels = root / "gtFine" / split
    images = root / "leftImg8bit" / split
    instances = _png(labels, "instance map", "_gtFine_instanceIds")
    return Files(
        label_maps=_png(labels, "label map (*_gtFine_labelIds.png)", "_gtFine_labelIds"),
        images=_png(images, "photograph", "_leftImg8bit") if images.is_dir() else None,
        instance_maps=instances if instances.files else None,
    )


def _png(folder: Path, what: str, mark: str) -> Found:
    return find_files(folder, what, frozenset({".png"}), ending(mark))


KIND = DatasetKind(
    name="cityscapes",
    layout="it needs gtFine/{train,val} and leftImg8bit/{train,val}",
    find_splits=lambda root: existing(root, {split: (f"gtFine/{split}",) for split in ("train", "val")}),
    find_files=_find_files,
    label_set="cityscapes",
    sizes={"train": 2_975, "val": 500},
    unlabelled=("test",),
    companions=(
        *(f"*_gtFine_{what}" for what in ("color.png", "labelTrainIds.png", "polygons.json")),
        "gtFine/test/*/*",
        "leftImg8bit/test/*/*",
        "license.txt",
        "README",
    ),
)
