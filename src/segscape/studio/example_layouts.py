"""The layouts to start from that come with Segscape, in CamVid's classes."""

from __future__ import annotations

from importlib.resources import files
from io import BytesIO
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segscape.label_files import read_label_map
from segscape.labels import LABEL_SETS, LabelSet

_LABELS = LABEL_SETS["camvid"]


def has_examples(labels: LabelSet) -> bool:
    """Whether the layouts are in the classes of a label set."""
    return labels.names == _LABELS.names


def example_layouts() -> dict[str, bytes]:
    """Name -> grey PNG of class indices."""
    folder = files("segscape.studio").joinpath("examples")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".png"))
    maps = {name: read_label_map(name, _LABELS, folder.joinpath(name).read_bytes()) for name in names}
    return {PurePath(name).stem: grey_png(label_map, _LABELS) for name, label_map in maps.items()}


def grey_png(label_map: NDArray[Any], labels: LabelSet) -> bytes:
    """Class indices `[H, W]` as grey of 8 bits, or of 16 where there are more than 256 classes."""
    buffer = BytesIO()
    Image.fromarray(label_map.astype(np.uint8 if labels.num_classes <= 256 else np.uint16)).save(buffer, format="PNG")
    return buffer.getvalue()
