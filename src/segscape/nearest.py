"""Which pixel a nearest-neighbour resize reads."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@lru_cache(maxsize=256)
def nearest_index(old: int, new: int) -> NDArray[Any]:
    """Which of ``old`` places each of ``new`` places reads, with pixel centres and Pillow's own rounding; ``[new]``."""
    places = Image.fromarray(np.arange(old, dtype=np.int32)[None])
    index: NDArray[Any] = np.asarray(places.resize((new, 1), Image.Resampling.NEAREST))[0]
    return index
