"""Drawing on layouts: strokes, rectangles and filled regions, as in the editor that SEAN was published with.

Each function returns a new layout and leaves the given one as it is, so that undoing is going back to the one before.

Source: Zhu et al., "SEAN: Image Synthesis with Semantic Region-Adaptive Normalization", CVPR 2020, arXiv 1911.12861,
section 5; the pixels that an operation covers are those of its published editor (OpenCV's drawing), tested against
stored maps. There, a point on the rim of a region fills nothing; here it fills the region as any other point does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from segscape.errors import LayoutError
from segscape.extras import require
from segscape.layout import Layout

Point = tuple[int, int]
"""`(x, y)`: the column and the row of a pixel, counted from the upper left from 0."""

FARTHEST = 32767
"""Largest thickness, and largest coordinate in either direction: beyond, OpenCV draws nothing or fails."""


def draw_stroke(layout: Layout, points: Sequence[Point], label: str, thickness: int = 6) -> Layout:
    """Draw a line through points; its ends and bends are round.

    Args:
        layout: one label map or several; the same is drawn on each.
        points: at least two, in or outside the map; what lies outside is cut off. A dot is a point twice.
        label: name of the class.
        thickness: of the line, in pixels, 1 to `FARTHEST`.

    Returns:
        The layout with the stroke; if there is an instance map, the stroke is one new object in it.

    Raises:
        LabelMapError: no class is called `label`.
        LayoutError: fewer than two points, or a number out of range.
        DependencyError: OpenCV, the extra `drawing`, is missing.
    """
    if len(points) < 2:
        raise LayoutError(f"a stroke needs at least two points, and {len(points)} came; give that of a dot twice.")
    if not 1 <= thickness <= FARTHEST:
        raise LayoutError(f"the thickness of a stroke is {thickness}; give 1 to {FARTHEST} pixels.")
    _check_points(points)
    cv2 = require("cv2", "drawing")
    covered = np.zeros(layout.size, np.uint8)
    for start, end in pairwise(points):
        cv2.line(covered, start, end, 1, thickness)
    return _painted(layout, covered[None] > 0, label)


def draw_rectangle(layout: Layout, start: Point, end: Point, label: str) -> Layout:
    """Fill the rectangle between two opposite corners, both included; what lies outside the map is cut off.

    Args and errors are those of `draw_stroke`; OpenCV is not needed.
    """
    _check_points([start, end])
    (left, right), (top, bottom) = (sorted(pair) for pair in zip(start, end, strict=True))
    covered = np.zeros(layout.size, bool)
    covered[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = True
    return _painted(layout, covered[None], label)


def fill_region(layout: Layout, at: Point, label: str) -> Layout:
    """Give a class to the connected region of one class around a point, and to whatever lies in its holes.

    Pixels that touch at a corner are connected. Of several label maps, each one's own region is filled.

    Args:
        layout: one label map or several.
        at: a point of the region, in the map.
        label: name of the class.

    Returns:
        The layout with the region filled; if there is an instance map, it is one new object in it.

    Raises:
        LabelMapError: no class is called `label`.
        LayoutError: the point is outside the map.
    """
    _check_points([at])
    (x, y), (height, width) = at, layout.size
    if not (0 <= x < width and 0 <= y < height):
        raise LayoutError(f"no region is at (x, y) = {at}: the map is {width} wide and {height} high, counted from 0.")
    regions = []
    for label_map in layout.label_map.cpu().numpy():
        parts, _ = ndimage.label(label_map == label_map[y, x], structure=np.ones((3, 3)))
        regions.append(ndimage.binary_fill_holes(parts == parts[y, x]))
    return _painted(layout, np.stack(regions), label)


def _painted(layout: Layout, covered: NDArray[np.bool_], label: str) -> Layout:
    """The layout with a class, and a new object, where `covered` [N or 1, H, W] is true."""
    index, where = layout.labels.index(label), torch.from_numpy(covered).to(layout.device)
    label_map = torch.where(where, index, layout.label_map)
    return Layout(label_map, layout.labels, _with_object(layout.instance_map, where), check=False)


def _with_object(instance_map: Tensor | None, where: Tensor) -> Tensor | None:
    if instance_map is None:
        return None
    unused = instance_map.amax((1, 2), keepdim=True) + 1
    return torch.where(where, unused, instance_map)


def _check_points(points: Sequence[Point]) -> None:
    for point in points:
        if any(not isinstance(coordinate, Integral) or abs(coordinate) > FARTHEST for coordinate in point):
            raise LayoutError(
                f"the point (x, y) = {point} is not that of a pixel; give whole numbers from -{FARTHEST} to {FARTHEST}."
            )
