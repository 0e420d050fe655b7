"""What a report shows: how well each class is recognised, and single pictures with their layouts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised in the generated images.

    Attributes:
        name: of the class.
        color: red, green and blue, 0..255.
        iou: intersection over union on the generated images, 0..1; None if the class is absent or not scored.
        ceiling: the same on the real images.
        pixels: how many pixels of the layouts have this class.
    """

    name: str
    color: tuple[int, int, int]
    iou: float | None
    ceiling: float | None
    pixels: int


@dataclass(frozen=True)
class Case:
    """One picture with its layout, to look at.

    Attributes:
        name: of the sample.
        accuracy: share of the pixels in which the segmenter sees what the layout says, 0..1; NaN without a segmenter.
        layout: uint8 `[H, W, 3]`, in the classes' colours.
        real: the photograph, uint8 `[H, W, 3]`, if there is one.
        generated: uint8 `[H, W, 3]`.
        predicted: what the segmenter sees in `generated`, in the classes' colours, uint8 `[H, W, 3]`.
    """

    name: str
    accuracy: float
    layout: Pixels
    real: Pixels | None
    generated: Pixels
    predicted: Pixels | None
