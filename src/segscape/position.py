"""The intra-class positional encoding: where a pixel lies within its own object.

Source: "Efficient Semantic Image Synthesis via Class-Adaptive Normalization" (CLADE), the section on
intra-class positional encoding (ICPE), and its official code, which differs from the printed equations.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segscape.errors import LayoutError

PositionRule = Literal["official", "official-all", "paper"]
"""``official``: the published code (label 0 has no encoding); ``official-all``: the same for every label;
``paper``: equations 12 to 14 as printed."""

_EPSILON = 1e-5
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


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
        float32 ``[2, H, W]``, within (-1, 1) for the normalised official rules.

    Raises:
        LayoutError: When the map is not a matrix of integers or the rule is unknown.
    """
    if rule not in get_args(PositionRule):
        raise LayoutError(f"unknown position rule {rule!r}; known are {', '.join(get_args(PositionRule))}")
    if label_map.ndim != 2 or label_map.dtype.kind not in "bui":
        found = f"{label_map.dtype} {list(label_map.shape)}"
        raise LayoutError(f"the positional encoding needs an integer label map [H, W], not {found}")
    objects, count = _objects(label_map, skip_zero=rule == "official")
    axes = (1, 0) if rule == "paper" else (0, 1)
    encoding = np.empty((2, *label_map.shape), dtype=np.float32)
    for channel, axis in enumerate(axes):
        encoding[channel] = _offsets(objects, count, axis, rule, normalize)
    return encoding


def _objects(label_map: NDArray[Any], skip_zero: bool) -> tuple[NDArray[np.int64], int]:
    """Number the 8-connected components 1..count; 0 marks pixels that belong to none."""
    values, inverse = np.unique(label_map, return_inverse=True)
    inverse = inverse.reshape(label_map.shape)
    objects = np.zeros(label_map.shape, dtype=np.int64)
    count = 0
    for place, box in enumerate(ndimage.find_objects(inverse + 1)):
        if skip_zero and values[place] == 0:
            continue
        mask = inverse[box] == place
        found, number = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
        objects[box][mask] = found[mask] + count
        count += number
    return objects, count


def _offsets(
    objects: NDArray[np.int64], count: int, axis: int, rule: PositionRule, normalize: bool
) -> NDArray[np.float64]:
    """Offsets ``[H, W]`` along one axis from each object's centre; 0 outside objects."""
    owner = objects.ravel()
    coordinate = np.indices(objects.shape, dtype=np.float64)[axis].ravel()
    pixels = np.maximum(np.bincount(owner, minlength=count + 1), 1)
    centre = np.bincount(owner, weights=coordinate, minlength=count + 1) / pixels
    offset = np.where(owner == 0, 0.0, coordinate - centre[owner])
    if normalize:
        offset = offset / _extent(owner, offset, count, rule)[owner]
    return offset.reshape(objects.shape)


def _extent(
    owner: NDArray[np.int64], offset: NDArray[np.float64], count: int, rule: PositionRule
) -> NDArray[np.float64]:
    """What each object's offsets are divided by, ``[count + 1]``."""
    largest = np.zeros(count + 1)
    np.maximum.at(largest, owner, offset if rule == "paper" else np.abs(offset))
    if rule == "paper":
        return np.where(largest > 0, largest, 1.0)
    return largest + _EPSILON
