"""DeepFashion (Liu et al., CVPR 2016) as SMIS distributes it (Zhu et al., CVPR 2020): people in 8 classes, 256 x 256.

The layout is ``{train,test}`` with photographs and ``cihp_{train,test}_mask`` with label maps of the same names. The
`test` folders are the split `val`.
"""

from __future__ import annotations

from pathlib import Path

from segscape.data.folder import FileDataset
from segscape.data.published.kind import DatasetKind, Files, existing
from segscape.data.published.pairing import find_files
from segscape.labels import LABEL_SETS, LabelSet

FOLDERS = {"train": "train", "val": "test"}


class DeepFashion(FileDataset):
    """One split of DeepFashion in the form of SMIS.

    Args:
        root: folder that holds ``train``, ``test``, ``cihp_train_mask`` and ``cihp_test_mask``.
        split: `train` or `val`.
        labels: the label set.

    Raises:
        DataError: if the folders are not there, or their files do not pair up.
    """

    def __init__(self, root: Path | str, split: str = "train", labels: LabelSet = LABEL_SETS["deepfashion"]) -> None:
        super().__init__(KIND.listing(root, split, labels))


def _masks(split: str) -> str:
    return f"cihp_{FOLDERS[split]}_mask"


def _find_files(root: Path, split: str) -> Files:
    images = root / FOLDERS[split]
    return Files(
        label_maps=find_files(root / _masks(split), "label map", frozenset({".png"})),
        images=find_files(images, "photograph") if images.is_dir() else None,
    )


KIND = DatasetKind(
    name="deepfashion",
    layout="it needs cihp_{train,test}_mask and {train,test}",
    find_splits=lambda root: existing(root, {split: (_masks(split),) for split in FOLDERS}),
    find_files=_find_files,
    label_set="deepfashion",
    sizes={"train": 30_000, "val": 2_247},
)
