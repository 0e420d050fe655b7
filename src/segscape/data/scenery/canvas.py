"""A pinhole camera over flat ground, the light, and a canvas that is painted from far to near.

World coordinates are metres: x to the right, y up from the ground, z ahead; the camera stands at (0, eye, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from segscape.data.scenery.noise import Floats
from segscape.labels import LABEL_SETS

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Point = tuple[float, float, float]  # x, y, z

CLASS = {name: index for index, name in enumerate(LABEL_SETS["scenes"].names)}
NEAR = 0.6  # metres; corners closer than this are moved there


def rgb(*color: float) -> Floats:
    """A colour in [0, 1]."""
    return np.array(color, np.float32)


@dataclass(frozen=True)
class Light:
    """Sun, sky and haze.

    Attributes:
        sun: unit vector towards the sun.
        sunlight, skylight: colours of the direct and of the ambient light.
        zenith, horizon: colours of the sky above and at the horizon; the latter is the haze as well.
        visibility: metres after which haze hides 63 % of a colour.
        cloudiness: 0 clear to 1 overcast.
    """

    sun: Floats
    sunlight: Floats
    skylight: Floats
    zenith: Floats
    horizon: Floats
    visibility: float
    cloudiness: float

    def on(self, *normal: float) -> Floats:
        """Colour of the light that falls on a surface with this normal."""
        return self.skylight + self.sunlight * max(0.0, float(np.dot(self.sun, normal)))


class Window(NamedTuple):
    """A rectangle of the canvas with the coordinates of its pixels on an upright plane facing the camera."""

    rows: slice
    columns: slice
    right: Floats  # [h, w] metres from the foot of the plane
    up: Floats  # [h, w] metres above the ground


class Canvas:
    """Colour, label, instance and depth of every pixel.

    Args:
        size: (height, width) in pixels.
        light: what falls on the surfaces.
        eye: height of the camera in metres.
        horizon: where the horizon lies, as a fraction of the height.
        yaw: how far the camera looks to the right, as the tangent of the angle.
        focal: focal length in image heights.
    """

    def __init__(
        self, size: tuple[int, int], light: Light, eye: float, horizon: float, yaw: float, focal: float
    ) -> None:
        self.size, self.light, self.eye = size, light, eye
        height, width = size
        self._scale = focal * height
        self._origin = (width / 2 - yaw * self._scale, horizon * height)
        self.u = ((np.arange(width, dtype=np.float32) + 0.5 - self._origin[0]) / self._scale)[None, :]
        self.v = ((np.arange(height, dtype=np.float32) + 0.5 - self._origin[1]) / self._scale)[:, None]
        self.rgb = np.zeros((height, width, 3), np.float32)
        self.labels = np.zeros(size, np.int64)
        self.instances = np.zeros(size, np.int64)
        self.depth = np.full(size, np.inf, np.float32)
        self.below = np.broadcast_to(self.v > 0, size)
        self.ground_z = np.broadcast_to(eye / np.maximum(self.v, 1e-4), size)
        self.ground_x = self.u * self.ground_z

    def paint(self, mask: Mask, color: Floats, kind: str | None = None, depth: Floats | float = np.inf) -> None:
        """Colour the masked pixels; with a class name they also become that class at that depth.

        Args:
            mask: bool ``[H, W]``.
            color: ``[3]``, ``[H, W, 3]``, or ``[n, 3]`` for the n masked pixels.
            kind: class of the pixels; None keeps class and depth (a detail on a surface).
            depth: metres, a number or ``[H, W]``.
        """
        self.rgb[mask] = color[mask] if color.ndim == 3 else color
        if kind is not None:
            self.labels[mask] = CLASS[kind]
            self.depth[mask] = np.broadcast_to(np.asarray(depth, np.float32), self.size)[mask]

    def shade(self, mask: Mask, factor: float) -> None:
        """Darken the masked pixels, as a shadow does; it is blue where only the sky lights it."""
        self.rgb[mask] *= factor * (0.9 + 0.1 * self.light.zenith / self.light.zenith.mean())

    def polygon(self, points: Sequence[Point], color: Floats, kind: str | None = None, instance: int = 0) -> None:
        """Fill a flat polygon in space.

        Args:
            points: its corners in metres.
            color: ``[3]``, already lit.
            kind: its class; None for a detail that keeps the class below it.
            instance: id of the object, with `kind`.
        """
        found = self._fill(points)
        if found is None:
            return
        window, mask = found
        self.rgb[window][mask] = color
        if kind is not None:
            self.labels[window][mask] = CLASS[kind]
            self.instances[window][mask] = instance
            self.depth[window][mask] = sum(z for _, _, z in points) / len(points)

    def ground_shadow(self, points: Sequence[Point], factor: float) -> None:
        """Darken a polygon on the ground, where the ground is still visible."""
        found = self._fill(points)
        if found is not None:
            window, mask = found
            self.rgb[window][mask] *= factor

    def window(self, x: float, z: float, half_width: float, height: float) -> Window | None:
        """The pixels of an upright rectangle with its foot at (x, z); None if it is out of sight."""
        (left, top), (right, bottom) = map(self._project, ((x - half_width, height, z), (x + half_width, 0.0, z)))
        rows = slice(max(0, int(top)), min(self.size[0], ceil(bottom)))
        columns = slice(max(0, int(left)), min(self.size[1], ceil(right)))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        across, up = self.u[:, columns] * z - x, self.eye - self.v[rows] * z
        return Window(rows, columns, *np.broadcast_arrays(across, up))

    def paint_window(self, window: Window, mask: Mask, color: Floats, kind: str, depth: float) -> None:
        """Colour the masked pixels of a window and give them a class; `color` is ``[h, w, 3]`` or ``[3]``."""
        place = window.rows, window.columns
        self.rgb[place][mask] = color[mask] if color.ndim == 3 else color
        self.labels[place][mask] = CLASS[kind]
        self.instances[place][mask] = 0
        self.depth[place][mask] = depth

    def _project(self, point: Point) -> tuple[float, float]:
        """Pixel coordinates (x, y) of a point; one behind the camera counts as just before it."""
        x, y, z = point
        scale = self._scale / max(z, NEAR)
        return self._origin[0] + scale * x, self._origin[1] + scale * (self.eye - y)

    def _fill(self, points: Sequence[Point]) -> tuple[tuple[slice, slice], Mask] | None:
        """The rectangle around a polygon, and which of its pixels are inside; None if it is out of sight."""
        xs, ys = zip(*map(self._project, points), strict=True)
        left, right = max(0, int(min(xs))), min(self.size[1], ceil(max(xs)) + 1)
        top, bottom = max(0, int(min(ys))), min(self.size[0], ceil(max(ys)) + 1)
        if left >= right or top >= bottom or max(z for _, _, z in points) < NEAR:
            return None
        stencil = Image.new("L", (right - left, bottom - top))
        outline = [(x - left - 0.5, y - top - 0.5) for x, y in zip(xs, ys, strict=True)]
        ImageDraw.Draw(stencil).polygon(outline, fill=1)
        return (slice(top, bottom), slice(left, right)), np.asarray(stencil).view(bool)
