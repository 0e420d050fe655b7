"""The intra-class positional encoding: where a pixel lies within its own object.

Source: "Efficient Semantic Image Synthesis via Class-Adaptive Normalization" (CLADE), the section on
intra-class positional encoding (ICPE), and its official code, which differs from the printed equations.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from segscape.errors import LayoutError

PositionRule = Literal["official", "official-all", "paper"]
"""``official``: the published code (label 0 has no encoding); ``official-all``: the same for every label;
``paper``: equations 12 to 14 as printed."""

_EPSILON = 1e-5


def intra_class_position(
    label_map: NDArray[Any], rule: PositionRule = "official", normalize: bool = True
) -> NDArray[np.float32]:
    """Encode each pixel's offset from the centre of its object.

    An object is an 8-connected component of pixels with the same label; its centre is their mean
    coordinate. The official rules divide each offset by its largest absolute value in the object (plus 1e-5);
    channel 0 is vertical and 1 horizontal. The paper's rule divides by the largest *signed* offset, so that
    values may fall below -1; channel 0 is horizontal and 1 vertical.

    Args:
        label_map: Integer ``[H, W]``; any values.
        rule: Which definition to follow.
        normalize: Whether to divide; otherwise the offsets stay in pixels.

    Returns:
        float32 ``[2, H, W]``, within (-1, 1) for the normalised official rules. Computed in float64.

    Raises:
        LayoutError: When the map is not a matrix of integers or the rule is unknown.
    """
    if rule not in get_args(PositionRule):
        raise LayoutError(f"unknown position rule {rule!r}; known are {', '.join(get_args(PositionRule))}")
    if label_map.ndim != 2 or label_map.dtype.kind not in "bui":
        found = f"{label_map.dtype} {list(label_map.shape)}"
        raise LayoutError(f"the positional encoding needs an integer label map [H, W], not {found}")
    encoding = np.zeros((2, *label_map.shape), dtype=np.float32)
    if label_map.size:
        vertical, horizontal = encoding[::-1] if rule == "paper" else encoding
        runs = _find_runs(label_map)
        vertical[:] = np.repeat(_vertical(runs, rule, normalize), runs.length).reshape(label_map.shape)
        _horizontal(runs, rule, normalize, out=horizontal)
    if rule == "official":
        np.copyto(encoding, 0, where=label_map == 0)
    return encoding


class _Runs(NamedTuple):
    """Stretches of one label within one row, in reading order; arrays ``[R]``.

    Objects are unions of runs. There are far fewer runs than pixels, and an object's mean and extent follow from the
    ends of its runs.
    """

    row: NDArray[np.int64]
    first: NDArray[np.int64]
    """Column of the first pixel."""
    length: NDArray[np.int64]
    owner: NDArray[np.int32]
    """Which object the run belongs to, 0 .. objects - 1."""
    objects: int
    """Number of objects."""


def _find_runs(label_map: NDArray[Any]) -> _Runs:
    starts = np.ones(label_map.shape, dtype=bool)
    np.not_equal(label_map[:, 1:], label_map[:, :-1], out=starts[:, 1:])
    places = np.flatnonzero(starts)
    row, first = np.divmod(places, label_map.shape[1])
    length = np.diff(places, append=label_map.size)
    above, below = _contacts(label_map, starts)
    graph = sparse.coo_array((np.ones(len(above)), (above, below)), shape=(len(places), len(places)))
    count, owner = connected_components(graph, directed=False)
    return _Runs(row, first, length, owner, count)


def _contacts(label_map: NDArray[Any], starts: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The pairs of runs of one label that touch, one in a row and one in the next: two arrays ``[E]`` of run numbers.

    Runs that overlap are met where the overlap starts, which is where one of them starts; runs that only touch at a
    corner are met there: one ends and another starts in both rows.
    """
    run = np.cumsum(starts, dtype=np.int32).reshape(starts.shape) - 1
    overlap = (label_map[:-1] == label_map[1:]) & (starts[:-1] | starts[1:])
    corner = starts[:-1, 1:] & starts[1:, 1:]
    falling = corner & (label_map[:-1, :-1] == label_map[1:, 1:])
    rising = corner & (label_map[:-1, 1:] == label_map[1:, :-1])
    above = run[:-1][overlap], run[:-1, :-1][falling], run[:-1, 1:][rising]
    below = run[1:][overlap], run[1:, 1:][falling], run[1:, :-1][rising]
    return np.concatenate(above), np.concatenate(below)


def _vertical(runs: _Runs, rule: PositionRule, normalize: bool) -> NDArray[np.float32]:
    """The vertical encoding of each run ``[R]``, which all its pixels share."""
    centre, extent = _centre_and_extent(runs, runs.row * runs.length, runs.row, runs.row, rule)
    offset = runs.row - centre[runs.owner]
    return (offset / extent[runs.owner] if normalize else offset).astype(np.float32)


def _horizontal(runs: _Runs, rule: PositionRule, normalize: bool, out: NDArray[np.float32]) -> None:
    """The horizontal encoding of each pixel, written to ``out [H, W]``."""
    last = runs.first + runs.length - 1
    centre, extent = _centre_and_extent(runs, (runs.first + last) * runs.length // 2, runs.first, last, rule)
    offset = np.repeat(centre[runs.owner], runs.length).reshape(out.shape)
    np.subtract(np.arange(out.shape[1]), offset, out=offset)
    divisor = np.repeat(extent[runs.owner], runs.length).reshape(out.shape) if normalize else 1.0
    np.divide(offset, divisor, out=out, casting="same_kind")


def _centre_and_extent(
    runs: _Runs, total: NDArray[Any], low: NDArray[np.int64], high: NDArray[np.int64], rule: PositionRule
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each object's mean coordinate, and what its offsets are divided by, ``[objects]``.

    Args:
        total: The sum of the coordinates of each run's pixels ``[R]``, an integer; their sums are exact in float64.
        low, high: The least and greatest coordinate in each run ``[R]``.
    """
    pixels = np.bincount(runs.owner, weights=runs.length)
    centre = np.bincount(runs.owner, weights=total) / pixels
    largest = np.full(runs.objects, -1, dtype=np.int64)
    np.maximum.at(largest, runs.owner, high)
    if rule == "paper":
        return centre, np.where(largest > centre, largest - centre, 1.0)
    least = np.full(runs.objects, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(least, runs.owner, low)
    return centre, np.maximum(largest - centre, centre - least) + _EPSILON
