"""Roads with marks and pavements, rows of buildings, houses, and lamp posts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segscape.data.scenery.canvas import Canvas, Integers, Mask, rgb
from segscape.data.scenery.noise import Floats, noise, smoothstep

Rng = np.random.Generator

PLASTERS = np.array(
    [
        (0.72, 0.62, 0.50),
        (0.62, 0.36, 0.28),
        (0.80, 0.75, 0.66),
        (0.54, 0.47, 0.42),
        (0.70, 0.52, 0.38),
        (0.50, 0.29, 0.23),
        (0.62, 0.64, 0.66),
        (0.78, 0.68, 0.45),
    ],
    np.float32,
)
ROOFS = [rgb(0.42, 0.20, 0.15), rgb(0.30, 0.26, 0.26), rgb(0.46, 0.28, 0.20)]
STOREY = 3.1  # metres


@dataclass(frozen=True)
class Road:
    """A road in the ground plane.

    Attributes:
        center: x of its middle at the camera, in metres.
        half_width: metres.
        bend: its middle lies at center + bend * z**2.
        pavement: width of the pavement on either side; 0 for a country road.
    """

    center: float
    half_width: float
    bend: float = 0.0
    pavement: float = 0.0

    def middle(self, z: float) -> float:
        """x of the middle of the road at distance z."""
        return self.center + self.bend * z * z


@dataclass(frozen=True)
class Row:
    """The buildings on one side of a street, from near to far.

    Attributes:
        front: x of the facades in metres, signed.
        start, end, height: of each building, ``[n]`` metres.
        color: ``[n, 3]``.
        pitch: distance of the windows of each, ``[n]`` metres.
    """

    front: float
    start: Floats
    end: Floats
    height: Floats
    color: Floats
    pitch: Floats


def paint_road(canvas: Canvas, rng: Rng, road: Road) -> None:
    """Pavements with kerb and slabs, asphalt with wear, and the lane marks."""
    z = canvas.ground_z
    across = canvas.ground_x - road.center - road.bend * z * z
    aside = np.abs(across) - road.half_width
    if road.pavement:
        _paint_pavement(canvas, rng, road, aside)
    asphalt = canvas.below & (aside < 0)
    grain = noise(0.4, across * 45, z * 45, 20) * np.clip(9.0 / z, 0, 1)
    wear = noise(1.2, across * 9 + rng.uniform(0, 512), z * 1.2, 21)
    tracks = np.cos(2 * np.pi * across / (0.5 * road.half_width))
    tone = rng.uniform(0.34, 0.48) * (1 + 0.05 * grain + 0.05 * wear + 0.03 * tracks)
    color = tone[..., None] * rgb(0.98, 1.0, 1.04) * canvas.light.on(0, 1, 0)
    canvas.paint(asphalt, color, "road", z)
    _paint_marks(canvas, asphalt, across, aside, wear)


def _paint_pavement(canvas: Canvas, rng: Rng, road: Road, aside: Floats) -> None:
    z = canvas.ground_z
    walk = canvas.below & (aside >= 0) & (aside < road.pavement)
    joints = (np.mod(z, 0.8) < 0.05) | (np.mod(aside, 0.8) < 0.05)
    slabs = noise(0.0, np.floor(aside / 0.8), np.floor(z / 0.8), 22)
    tone = 0.56 * (1 + 0.05 * slabs + 0.06 * noise(0.8, aside * 20, z * 20, 23))
    tone = tone * np.where(joints & (z < 14), 0.82, 1.0) * np.where(aside < 0.22, 1.16, 1.0)
    tint = rgb(1.0, 0.96, 0.90) * rng.uniform(0.9, 1.1)
    canvas.paint(walk, tone[..., None] * tint * canvas.light.on(0, 1, 0), "pavement", z)


def _paint_marks(canvas: Canvas, asphalt: Mask, across: Floats, aside: Floats, wear: Floats) -> None:
    """A dashed middle line and two edge lines, at least a pixel wide for a while, worn in places."""
    z = canvas.ground_z
    width = np.maximum(0.07, 0.5 * z / canvas.size[0] * (z < 40))
    middle = (np.abs(across) < width) & (np.mod(z, 6.0) < 3.0)
    edges = np.abs(aside + 0.25) < width
    marks = asphalt & (middle | edges) & (wear < 1.6)
    canvas.paint(marks, rgb(0.84, 0.84, 0.80) * canvas.light.on(0, 1, 0) * 0.95)


def plan_row(rng: Rng, front: float, far: float, openness: float) -> Row:
    """Buildings side by side until `far`; after each a gap with probability `openness`."""
    starts, ends = [], []
    z = rng.uniform(-4.0, 3.0)
    while z < far:
        starts.append(z)
        ends.append(z + rng.uniform(8.0, 17.0))
        z = ends[-1] + (rng.uniform(4.0, 12.0) if rng.random() < openness else 0.0)
    count = len(starts)
    floors = rng.integers(2, 6, count) + int(rng.integers(0, 2))
    color = PLASTERS[rng.integers(len(PLASTERS), size=count)] * rng.uniform(0.85, 1.1, (count, 1))
    return Row(
        front,
        np.array(starts, np.float32),
        np.array(ends, np.float32),
        (floors * STOREY + 0.9).astype(np.float32),
        color.astype(np.float32),
        rng.uniform(1.7, 2.8, count).astype(np.float32),
    )


def paint_row_shadow(canvas: Canvas, row: Row) -> None:
    """Shade the ground where the ray to the sun meets a building of the row."""
    sun_x, sun_y, sun_z = canvas.light.sun
    if sun_x * row.front <= 0.05 * abs(row.front):
        return
    travel = (row.front - canvas.ground_x) / sun_x
    building, beside = _building_at(row, canvas.ground_z + travel * sun_z)
    dark = canvas.below & (travel > 0) & beside & (travel * sun_y < row.height[building])
    canvas.shade(dark, 1.0 - 0.52 * float(canvas.light.sunlight.mean()))


def paint_row(canvas: Canvas, row: Row) -> None:
    """The walls that face the camera at the gaps, then the facades along the street."""
    side = float(np.sign(row.front))
    for k in range(len(row.start) - 1, -1, -1):
        if row.start[k] > 2.0:
            depth = np.full(canvas.size, row.start[k], np.float32)
            x = canvas.u * depth
            wall = (side * x > abs(row.front)) & (side * x < abs(row.front) + 9.0)
            _paint_wall(canvas, row, wall, side * x - abs(row.front), depth, np.full(canvas.size, k), (0, 0, -1))
    slanted = side * canvas.u > 1e-3
    depth = np.broadcast_to(row.front / np.where(slanted, canvas.u, side), canvas.size)
    building, along = _building_at(row, depth)
    wall = np.broadcast_to(slanted, canvas.size) & along & (depth > 0.5)
    _paint_wall(canvas, row, wall, depth - row.start[building], depth, building, (-side, 0, 0))


def _building_at(row: Row, z: Floats) -> tuple[Integers, Mask]:
    """Which building of the row stands at z, and whether one does."""
    building = np.clip(np.searchsorted(row.start, z, side="right") - 1, 0, None).astype(np.int64)
    return building, (z >= row.start[building]) & (z < row.end[building])


def _paint_wall(
    canvas: Canvas,
    row: Row,
    wall: Mask,
    along: Floats,
    depth: Floats,
    building: Integers,
    normal: tuple[float, float, float],
) -> None:
    """Plaster, windows, a ground floor and a cornice on the part of `wall` below the roof.

    Args:
        canvas, row: what to paint on, and the buildings.
        wall: bool ``[H, W]``, where the plane of the wall is seen.
        along, depth, building: ``[H, W]`` position along the wall, distance, and number of the building.
        normal: of the wall.
    """
    up = canvas.eye - canvas.v * depth
    wall = wall & (up > 0) & (up < row.height[building])
    if not wall.any():
        return
    a, y, k = along[wall], up[wall], building[wall]
    light = canvas.light.on(*normal)
    dirt = noise(1.2, a * 12 + 37 * k, y * 12, 24) * 0.05 + noise(0.4, a * 40, y * 40, 25) * 0.03
    color = row.color[k] * light * (1 + dirt - 0.10 * np.exp(-y / 1.2))[:, None]
    cornice = (row.height[k] - y < 0.45) | (np.abs(y - STOREY) < 0.14)
    color = np.where(cornice[:, None], color * 0.78, color)
    glass, frame = _windows(a, y, row.height[k], row.pitch[k])
    color = np.where(frame[:, None], np.minimum(color * 1.22, 1), color)
    color = np.where(glass[:, None], _glass(canvas, a, y, row.pitch[k], k), color)
    canvas.paint(wall, color, "building", np.where(wall, depth, 1.0))
    canvas.instances[wall] = 0


def _windows(a: Floats, y: Floats, height: Floats, pitch: Floats) -> tuple[Mask, Mask]:
    """Glass and frames of the windows: upright ones above, wide shop windows on the ground floor."""
    shop = y < STOREY - 0.2
    pitch = np.where(shop, pitch * 2, pitch)
    column, storey = np.abs(np.mod(a / pitch, 1.0) - 0.5), np.mod(y / STOREY, 1.0)
    half, low, high = np.where(shop, 0.38, 0.24), np.where(shop, 0.15, 0.30), np.where(shop, 0.80, 0.82)
    below_roof = y < height - 1.0
    glass = (column < half) & (storey > low) & (storey < high) & below_roof
    frame = (column < half + 0.06) & (storey > low - 0.05) & (storey < high + 0.05) & below_roof & ~glass
    return glass, frame


def _glass(canvas: Canvas, a: Floats, y: Floats, pitch: Floats, k: Integers) -> Floats:
    """Dark rooms behind a reflection of the sky that differs from pane to pane."""
    pane = noise(0.0, np.floor(a / pitch) + 31 * k, np.floor(y / STOREY) + 7 * k, 26)
    shine = smoothstep(-1.5, 2.5, pane) * (0.6 + 0.4 * np.mod(y / STOREY, 1.0))
    dark = rgb(0.10, 0.12, 0.15)
    bright = 0.35 * canvas.light.zenith + 0.45 * canvas.light.horizon
    color: Floats = dark + 0.8 * (bright - dark) * shine[:, None]
    return color


def paint_house(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A house alone: two walls with windows and a door, and a gable roof along z."""
    wide, deep, tall = rng.uniform(6, 9), rng.uniform(7, 11), rng.uniform(3.0, 5.5)
    ridge = tall + rng.uniform(1.8, 3.0)
    plaster, roof = PLASTERS[rng.integers(len(PLASTERS))], ROOFS[rng.integers(len(ROOFS))]
    left, right, side = x - wide / 2, x + wide / 2, -float(np.sign(x) or 1.0)
    inner = x + side * wide / 2
    front, flank = plaster * canvas.light.on(0, 0, -1), plaster * canvas.light.on(side, 0, 0)
    canvas.polygon([(inner, 0, z), (inner, 0, z + deep), (inner, tall, z + deep), (inner, tall, z)], flank, "building")
    gable = [(left, 0, z), (right, 0, z), (right, tall, z), (x, ridge, z), (left, tall, z)]
    canvas.polygon(gable, front, "building")
    eave, drop = x + side * (wide / 2 + 0.4), tall - 0.3
    slope = [(eave, drop, z - 0.3), (x, ridge, z - 0.3), (x, ridge, z + deep), (eave, drop, z + deep)]
    canvas.polygon(slope, roof * canvas.light.on(side * 0.6, 0.8, 0), "building")
    pane = rgb(0.16, 0.19, 0.23) + 0.25 * canvas.light.zenith
    for a in np.arange(left + 1.2, right - 1.4, 2.3):
        for low in np.arange(0.9, tall - 1.3, 2.6):
            canvas.polygon([(a, low, z), (a + 1, low, z), (a + 1, low + 1.3, z), (a, low + 1.3, z)], pane)
    for b in np.arange(z + 1.2, z + deep - 1.4, 2.6):
        canvas.polygon([(inner, 1, b), (inner, 1, b + 1.1), (inner, 2.3, b + 1.1), (inner, 2.3, b)], pane * 0.9)


def paint_pole(canvas: Canvas, rng: Rng, x: float, z: float, reach: float) -> None:
    """A lamp post whose arm reaches `reach` metres (signed) over the road."""
    tall, half = rng.uniform(5.5, 7.5), 0.07
    color = rgb(0.34, 0.36, 0.37) * canvas.light.on(-np.sign(reach), 0.2, -0.6) * 0.9
    canvas.polygon([(x - half, 0, z), (x + half, 0, z), (x + half, tall, z), (x - half, tall, z)], color, "pole")
    arm = [(x, tall, z), (x + reach, tall + 0.35, z), (x + reach, tall + 0.5, z), (x, tall + 0.15, z)]
    canvas.polygon(arm, color, "pole")
    head = x + reach * 0.7
    lamp = [(head, tall + 0.2, z), (x + reach * 1.2, tall + 0.3, z), (x + reach, tall + 0.55, z)]
    canvas.polygon(lamp, color * 1.5, "pole")
