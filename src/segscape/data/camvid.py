"""CamVid: street scenes from a driving car (Brostow, Fauqueur, Cipolla, Pattern Recognition Letters 2009).

The layout is that of the 12-class version of the SegNet authors: ``ROOT/{train,val}/{images,labels}``, 480 x
360.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segscape.data.folder import FolderDataset
from segscape.errors import DataError
from segscape.labels import LABEL_SETS


class CamVid(FolderDataset):
    """One split of CamVid.

    Args:
        root: folder that holds ``train`` and ``val``, each with ``images`` and ``labels``.
        split: which of the two.

    Raises:
        DataError: if the folders are not there, or their files do not pair up.
    """

    def __init__(self, root: Path | str, split: Literal["train", "val"] = "train") -> None:
        folder = Path(root) / split
        missing = [path.name for path in (folder / "images", folder / "labels") if not path.is_dir()]
        if missing:
            raise DataError(
                f"{folder} has no folder {' and no folder '.join(missing)}: CamVid must lie there as "
                "ROOT/{train,val}/{images,labels}"
            )
        super().__init__(folder / "images", folder / "labels", LABEL_SETS["camvid"])
