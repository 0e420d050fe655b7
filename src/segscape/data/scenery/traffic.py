"""Cars and persons: the objects that have instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segscape.data.scenery.canvas import Canvas, rgb
from segscape.data.scenery.noise import Floats

Rng = np.random.Generator
Point = tuple[float, float, float]

PAINTS = [
    rgb(0.75, 0.76, 0.78),
    rgb(0.10, 0.11, 0.13),
    rgb(0.62, 0.07, 0.08),
    rgb(0.12, 0.22, 0.48),
    rgb(0.88, 0.88, 0.87),
    rgb(0.35, 0.37, 0.40),
    rgb(0.20, 0.34, 0.26),
    rgb(0.78, 0.62, 0.16),
]
CLOTHES = [
    rgb(0.16, 0.19, 0.32),
    rgb(0.62, 0.16, 0.15),
    rgb(0.78, 0.74, 0.66),
    rgb(0.22, 0.40, 0.58),
    rgb(0.13, 0.13, 0.14),
    rgb(0.74, 0.56, 0.22),
]
SKINS = [rgb(0.80, 0.60, 0.48), rgb(0.55, 0.38, 0.28), rgb(0.38, 0.26, 0.19)]


@dataclass(frozen=True)
class CarShape:
    """Lengths in metres; the cabin is given along the car from its near end: foot to foot, roof to roof."""

    width: float
    length: float
    waist: float
    height: float
    cabin: tuple[float, float, float, float]


SHAPES = [
    CarShape(1.75, 4.2, 0.92, 1.46, (0.15, 0.75, 2.7, 3.4)),  # hatchback
    CarShape(1.80, 4.6, 0.92, 1.44, (0.75, 1.30, 2.9, 3.7)),  # saloon
    CarShape(1.90, 4.7, 1.05, 1.80, (0.05, 0.25, 3.4, 4.0)),  # off-road
    CarShape(2.00, 5.2, 1.10, 2.35, (0.00, 0.05, 4.5, 4.9)),  # van
]


def paint_car(canvas: Canvas, rng: Rng, x: float, z: float, instance: int, oncoming: bool) -> None:
    """A car along z whose near end is at (x, z): shadow, flank with wheels, near end with lights, cabin."""
    shape, paint = SHAPES[rng.integers(len(SHAPES))], PAINTS[rng.integers(len(PAINTS))]
    side = -1.0 if x > 0 else 1.0
    flank = x + side * shape.width / 2
    _shadow(canvas, shape, x, z)
    _body(canvas, shape, paint, x, flank, side, z, instance)
    _cabin(canvas, shape, paint, x, side, z, instance)
    for along in (0.8, shape.length - 0.9):
        _wheel(canvas, flank, z + along, instance)
    _near_end(canvas, rng, shape, paint, x, z, instance, oncoming)


def _shadow(canvas: Canvas, shape: CarShape, x: float, z: float) -> None:
    """Dark below the car, and a paler cast shadow away from the sun."""
    strength = float(canvas.light.sunlight.mean())
    sun_x, sun_y, sun_z = canvas.light.sun
    reach = shape.height / max(sun_y, 0.3)
    dx, dz = -sun_x * reach, -sun_z * reach
    left, right, far = x - shape.width / 2, x + shape.width / 2, z + shape.length
    cast = [(left + dx, 0, z + dz), (right + dx, 0, z + dz), (right + dx, 0, far + dz), (left + dx, 0, far + dz)]
    canvas.ground_shadow(cast, 1.0 - 0.40 * strength)
    canvas.ground_shadow([(left, 0, z - 0.1), (right, 0, z - 0.1), (right, 0, far), (left, 0, far)], 0.35)


def _body(
    canvas: Canvas, shape: CarShape, paint: Floats, x: float, flank: float, side: float, z: float, instance: int
) -> None:
    """The flank that the camera sees, with its highlight, and the bonnet and boot from above."""
    far, low, light = z + shape.length, 0.25, canvas.light
    canvas.polygon(_upright(flank, z, far, low, shape.waist), paint * light.on(side, 0.1, 0), "car", instance)
    canvas.polygon(
        _upright(flank, z, far, shape.waist - 0.16, shape.waist - 0.06), paint * light.on(side, 0.5, 0) * 1.15
    )
    canvas.polygon(_upright(flank, z, far, low, low + 0.12), paint * 0.3)
    other = x - (flank - x)
    top = [(flank, shape.waist, z), (other, shape.waist, z), (other, shape.waist, far), (flank, shape.waist, far)]
    canvas.polygon(top, paint * light.on(0, 1, 0), "car", instance)


def _cabin(canvas: Canvas, shape: CarShape, paint: Floats, x: float, side: float, z: float, instance: int) -> None:
    """Glass all around below a roof that is a little narrower than the waist."""
    foot_near, roof_near, roof_far, foot_far = (z + a for a in shape.cabin)
    waist, roof, light = shape.waist, shape.height, canvas.light
    foot_x, roof_x = x + side * (shape.width / 2 - 0.03), x + side * (shape.width / 2 - 0.20)
    glass = rgb(0.09, 0.11, 0.13) + 0.16 * light.zenith
    flank = [(foot_x, waist, foot_near), (roof_x, roof, roof_near), (roof_x, roof, roof_far), (foot_x, waist, foot_far)]
    canvas.polygon(flank, glass * 0.85, "car", instance)
    for pillar in (0.02, 0.48, 0.96):
        foot, top = foot_near + pillar * (foot_far - foot_near), roof_near + pillar * (roof_far - roof_near)
        post = [(foot_x, waist, foot), (roof_x, roof, top), (roof_x, roof, top + 0.1), (foot_x, waist, foot + 0.1)]
        canvas.polygon(post, paint * light.on(side, 0.2, 0))
    half_foot, half_roof = shape.width / 2 - 0.03, shape.width / 2 - 0.20
    corners = [(x - half_roof, roof), (x + half_roof, roof), (x + half_foot, waist), (x - half_foot, waist)]
    z_of = {roof: roof_near, waist: foot_near}
    canvas.polygon([(a, y, z_of[y]) for a, y in corners], paint * light.on(0, 0.3, -0.9), "car", instance)
    inset = [(x + (a - x) * 0.88, y + (0.07 if y == waist else -0.07), z_of[y]) for a, y in corners]
    canvas.polygon(inset, glass + 0.10 * light.horizon)
    lid = [(x - half_roof, roof, roof_near), (x + half_roof, roof, roof_near)]
    lid += [(x + half_roof, roof + 0.04, roof_far), (x - half_roof, roof + 0.04, roof_far)]
    canvas.polygon(lid, paint * light.on(0, 1, 0) * 1.1, "car", instance)


def _wheel(canvas: Canvas, flank: float, z: float, instance: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 13)[:-1]
    for radius, color in ((0.33, rgb(0.05, 0.05, 0.05)), (0.18, rgb(0.30, 0.31, 0.33))):
        rim = np.stack([0 * angle + flank, 0.33 + radius * np.sin(angle), z + radius * np.cos(angle)], axis=1)
        canvas.polygon(rim.tolist(), color, "car", instance)


def _near_end(
    canvas: Canvas, rng: Rng, shape: CarShape, paint: Floats, x: float, z: float, instance: int, oncoming: bool
) -> None:
    """The end that faces the camera: tyres, panel, bumper, plate, and red or white lights."""
    half, light = shape.width / 2, canvas.light
    for tyre in (x - half + 0.05, x + half - 0.27):
        canvas.polygon(_facing(tyre, tyre + 0.22, 0.0, 0.4, z + 0.3), rgb(0.04, 0.04, 0.04), "car", instance)
    canvas.polygon(_facing(x - half, x + half, 0.25, shape.waist, z), paint * light.on(0, 0.15, -1), "car", instance)
    canvas.polygon(_facing(x - half, x + half, 0.25, 0.45, z), paint * 0.35 * light.skylight)
    canvas.polygon(_facing(x - 0.26, x + 0.26, 0.48, 0.6, z), rgb(0.85, 0.84, 0.74) * light.on(0, 0, -1))
    lamp = rgb(0.97, 0.96, 0.86) if oncoming else rgb(0.72, 0.05, 0.04) * rng.uniform(0.7, 1.3)
    for left in (x - half + 0.04, x + half - 0.36):
        canvas.polygon(_facing(left, left + 0.32, shape.waist - 0.26, shape.waist - 0.1, z), lamp)


def paint_person(canvas: Canvas, rng: Rng, x: float, z: float, instance: int) -> None:
    """A walking person: shadow, legs, arms, coat and head, with the sunlit half brighter."""
    tall = rng.uniform(1.55, 1.9)
    coat, trousers = (CLOTHES[rng.integers(len(CLOTHES))] * rng.uniform(0.7, 1.2) for _ in range(2))
    skin, hair = SKINS[rng.integers(len(SKINS))], rgb(0.14, 0.10, 0.07) * rng.uniform(0.5, 2.5)
    light, stride = canvas.light.on(0, 0.6, -0.8) * 1.1, rng.uniform(0.05, 0.24)
    _person_shadow(canvas, x, z, tall)

    def part(points: list[tuple[float, float]], color: Floats) -> None:
        outline = [(x + a * tall, y * tall, z) for a, y in points]
        canvas.polygon(outline, color * light, "person", instance)

    for foot in (-stride / 2, stride / 2):
        part([(foot - 0.045, 0), (foot + 0.055, 0), (0.05, 0.5), (-0.05, 0.5)], trousers)
    for hand in (-0.15, 0.15):
        part(
            [(hand - 0.02, 0.45), (hand + 0.02, 0.45), (0.72 * hand + 0.035, 0.8), (0.72 * hand - 0.035, 0.8)],
            coat * 0.8,
        )
    part([(-0.10, 0.42), (0.10, 0.42), (0.13, 0.80), (0.05, 0.85), (-0.05, 0.85), (-0.13, 0.80)], coat)
    sunny = float(np.sign(canvas.light.sun[0])) * 0.12
    part([(0, 0.44), (sunny, 0.46), (sunny, 0.78), (0, 0.82)], coat * 1.25)
    part([(-0.025, 0.82), (0.025, 0.82), (0.025, 0.88), (-0.025, 0.88)], skin)
    angle = np.linspace(0, 2 * np.pi, 11)[:-1]
    part([(0.055 * float(np.cos(a)), 0.925 + 0.072 * float(np.sin(a))) for a in angle], skin)
    top = np.linspace(-0.1, np.pi + 0.1, 8)
    part([(0.06 * float(np.cos(a)), 0.935 + 0.068 * float(np.sin(a))) for a in top], hair)


def _person_shadow(canvas: Canvas, x: float, z: float, tall: float) -> None:
    sun_x, sun_y, sun_z = canvas.light.sun
    reach = min(tall / max(sun_y, 0.25), 4.0)
    tip_x, tip_z = x - sun_x * reach, z - sun_z * reach
    outline = [(x - 0.2, 0, z), (x + 0.2, 0, z), (tip_x + 0.15, 0, tip_z), (tip_x - 0.15, 0, tip_z)]
    canvas.ground_shadow(outline, 1.0 - 0.42 * float(canvas.light.sunlight.mean()))


def _upright(x: float, near: float, far: float, low: float, high: float) -> list[Point]:
    """A rectangle in a plane along z."""
    return [(x, low, near), (x, low, far), (x, high, far), (x, high, near)]


def _facing(left: float, right: float, low: float, high: float, z: float) -> list[Point]:
    """A rectangle that faces the camera."""
    return [(left, low, z), (right, low, z), (right, high, z), (left, high, z)]
