"""Find out whether a label map was resized with interpolation, which invents labels between those of two areas."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SOFT_INDICES = 0.6  # share of smoothed borders from which an index map counts as resampled
SOFT_COLORS = 0.35  # the same for colours, which lie between two others by chance far less often
SOFT_PAIR = 0.25  # share of a pair's borders from which they count as smoothed
FEWEST = 12  # smoothed borders below which nothing is said
MOST_OF_A_PAIR = 30  # borders beyond which a pair of areas does not count more, so that no single one decides
FLAT = 0.5  # share of equal neighbours in a map
LINES = 256  # rows and columns looked at


def looks_interpolated(values: Array) -> bool:
    """Whether the borders of a map look smoothed by bilinear, bicubic or area resizing, or by a soft brush.

    Along rows and columns, areas (runs of two and more equal pixels) meet at borders. A border is smoothed if thin
    pixels lie in it whose values step from the one side's to the other's, and sharp if there are none. In a true map
    some pairs of classes may have such a border everywhere (road, kerb, grass), but few pairs do; after interpolation
    nearly all. Where neighbours are seldom equal, as in photographs and noise, nothing is said.

    Measured on CamVid, COCO-Stuff, Cityscapes and procedural scenes: smoothed pairs make up 0 to 0.06 of real index
    maps, up to 0.5 of scenes and of maps shrunk to a sixth by nearest neighbour; 0.7 and more (most of them above 0.9)
    after bilinear resizing by 0.5 to 4.

    Args:
        values: integers ``[H, W]`` or colours ``[H, W, 3]``.
    """
    both = [_lines(values, axis) for axis in (0, 1)]
    if not all((lines[:, 1:] == lines[:, :-1]).all(-1).mean() > FLAT for lines in both if lines.shape[1] > 1):
        return False
    found = [_borders(lines) for lines in both]
    pairs, soft = np.concatenate([pair for pair, _ in found]), np.concatenate([smooth for _, smooth in found])
    if soft.sum() < FEWEST:
        return False
    _, which = np.unique(pairs, axis=0, return_inverse=True)
    borders = np.bincount(which.ravel())
    smoothed = np.bincount(which.ravel(), weights=soft) > SOFT_PAIR * borders
    weights = np.minimum(borders, MOST_OF_A_PAIR)
    return bool((weights * smoothed).sum() > weights.sum() * (SOFT_COLORS if values.ndim == 3 else SOFT_INDICES))


def _lines(values: Array, axis: int) -> Array:
    """Up to `LINES` rows or columns, evenly spread, ``[lines, length, channels]``."""
    lines = np.moveaxis(values, axis, 0)
    lines = lines[:: -(-len(lines) // LINES)]
    return lines.reshape(*lines.shape[:2], -1)


def _borders(lines: Array) -> tuple[Array, Array]:
    """The borders on lines ``[lines, length, channels]``: the two values (low, high), and which are smoothed."""
    count, length, channels = lines.shape
    same = np.zeros((count, length + 1), dtype=bool)  # as the pixel before
    same[:, 1:-1] = (lines[:, 1:] == lines[:, :-1]).all(-1)
    before, after = same[:, :-1], same[:, 1:]
    between = np.zeros((count, length), dtype=np.int32)
    between[:, 1:-1] = _is_between(lines) & ~(before | after)[:, 1:-1]
    passed = np.cumsum(between)
    left, right = (
        np.flatnonzero(before & ~after)[:-1],
        np.flatnonzero(after & ~before)[1:],
    )  # where an area ends or begins
    pixels = lines.reshape(-1, channels)
    low, high = np.minimum(pixels[left], pixels[right]), np.maximum(pixels[left], pixels[right])
    gap = right - left - 1
    soft = (gap > 0) & (passed[right - 1] - passed[left] == gap)
    border = ((high - low) > 1).any(-1) & (left // length == right // length) & (soft | (gap == 0))
    return np.concatenate([low, high], axis=-1)[border], soft[border]


def _is_between(lines: Array) -> Array:
    """Which inner pixels have in every channel a value from one neighbour's to the other's, ``[lines, length - 2]``."""
    before, after = lines[:, :-2], lines[:, 2:]
    low, high = np.minimum(before, after), np.maximum(before, after)
    return np.asarray(((low <= lines[:, 1:-1]) & (lines[:, 1:-1] <= high)).all(-1))
