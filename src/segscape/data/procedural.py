"""Procedural scenes: streets, country roads and lakes without end, rendered like photographs, for no download.

A scene is a plan (what stands where, in metres) painted through a pinhole camera from far to near, with its
label and instance maps. Scene i depends on (seed, i) only. The classes are ``LABEL_SETS["scenes"]``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from segscape.data.sample import Array, Sample
from segscape.data.scenery.canvas import Canvas, Light, rgb
from segscape.data.scenery.nature import (
    paint_forest,
    paint_meadow,
    paint_mountains,
    paint_sky,
    paint_tree,
    paint_water,
)
from segscape.data.scenery.noise import Floats
from segscape.data.scenery.town import (
    Road,
    paint_house,
    paint_pole,
    paint_road,
    paint_row,
    paint_row_shadow,
    plan_row,
)
from segscape.data.scenery.traffic import paint_car, paint_person
from segscape.errors import DataError
from segscape.labels import LABEL_SETS, LabelSet

Rng = np.random.Generator

SMALLEST = 16  # pixels; a shorter side shows nothing

# Weather: sunlight, skylight, zenith, horizon, (least, most) height of the sun, visibility, cloudiness.
WEATHERS = [
    (rgb(0.62, 0.58, 0.50), rgb(0.44, 0.48, 0.54), rgb(0.22, 0.44, 0.80), rgb(0.72, 0.83, 0.93), (0.6, 0.9), 380, 0.3),
    (rgb(0.60, 0.54, 0.44), rgb(0.42, 0.46, 0.53), rgb(0.32, 0.53, 0.84), rgb(0.82, 0.86, 0.90), (0.4, 0.7), 240, 0.5),
    (rgb(0.72, 0.50, 0.28), rgb(0.34, 0.36, 0.44), rgb(0.32, 0.44, 0.68), rgb(0.97, 0.76, 0.54), (0.2, 0.4), 170, 0.4),
    (rgb(0.14, 0.14, 0.14), rgb(0.72, 0.74, 0.76), rgb(0.62, 0.66, 0.71), rgb(0.82, 0.83, 0.84), (0.5, 0.9), 150, 0.9),
]


class Item(NamedTuple):
    """Something that stands on the ground.

    Attributes:
        kind: what it is: tree, house, lamp, car or person.
        x, z: where, in metres to the right and ahead.
        detail: height of a tree, reach of a lamp's arm (signed, metres), 1 for an oncoming car.
    """

    kind: str
    x: float
    z: float
    detail: float = 0.0


class ProceduralScenes:
    """A dataset of `count` rendered scenes with label and instance maps.

    Args:
        count: number of scenes, at least 1.
        size: (height, width) in pixels, each at least 16.
        seed: another seed, other scenes.

    Raises:
        DataError: if `count` or `size` is too small.
    """

    labels: LabelSet = LABEL_SETS["scenes"]

    def __init__(self, count: int, size: tuple[int, int] = (256, 256), seed: int = 0) -> None:
        if count < 1 or min(size) < SMALLEST:
            raise DataError(
                f"{count} scenes of {size[0]} x {size[1]} pixels cannot be rendered: "
                f"ask for at least 1 scene and {SMALLEST} x {SMALLEST} pixels"
            )
        self.count, self.size, self.seed = count, size, seed

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> Sample:
        """Render scene number `index`.

        Raises:
            IndexError: if there is no such scene.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return render_scene(np.random.default_rng([self.seed, index]), self.size, f"scene-{self.seed}-{index:06d}")


def render_scene(rng: Rng, size: tuple[int, int], name: str = "scene") -> Sample:
    """Render one scene.

    Args:
        rng: source of all chance.
        size: (height, width) in pixels.
        name: of the sample.
    """
    light = draw_light(rng)
    eye, horizon = rng.uniform(1.45, 1.9), rng.uniform(0.42, 0.54)
    canvas = Canvas(size, light, eye, horizon, yaw=rng.uniform(-0.10, 0.10), focal=rng.uniform(0.85, 1.1))
    paint_sky(canvas, rng)
    paint = (_paint_street, _paint_country, _paint_lake)[rng.choice(3, p=(0.45, 0.3, 0.25))]
    paint(canvas, rng)
    return Sample(develop(canvas, rng), canvas.labels, canvas.instances, name=name)


def draw_light(rng: Rng) -> Light:
    """A weather, and a sun somewhere in its range of heights."""
    sunlight, skylight, zenith, horizon, heights, visibility, cloudiness = WEATHERS[
        rng.choice(4, p=(0.4, 0.2, 0.2, 0.2))
    ]
    y, azimuth = rng.uniform(*heights), rng.uniform(0, 2 * np.pi)
    level = np.sqrt(1 - y * y)
    sun = rgb(level * np.sin(azimuth), y, level * np.cos(azimuth))
    tint = 1 + rng.normal(0, 0.03, 3).astype(np.float32)
    clouds = float(np.clip(cloudiness + rng.uniform(-0.25, 0.25), 0, 1))
    return Light(sun, sunlight * tint, skylight, zenith * tint, horizon, visibility * rng.uniform(0.7, 1.4), clouds)


def develop(canvas: Canvas, rng: Rng) -> Array:
    """From painted colours to a photograph: haze, lens blur, exposure, vignette and sensor noise; uint8."""
    haze = 1 - np.exp(-canvas.depth / canvas.light.visibility)
    haze[np.isinf(canvas.depth)] = 0
    picture = canvas.rgb + (canvas.light.horizon - canvas.rgb) * haze[..., None]
    picture = ndimage.gaussian_filter(picture, (0.45, 0.45, 0))
    picture *= rng.uniform(0.98, 1.18) * _vignette(canvas)[..., None]
    picture = np.clip(picture, 0, 1)
    picture = picture * picture * (3 - 2 * picture) * 0.35 + picture * 0.65  # a film's soft S curve
    picture += rng.normal(0, rng.uniform(0.004, 0.014), picture.shape)
    developed: Array = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return developed


def _vignette(canvas: Canvas) -> Floats:
    middle_v, middle_u = canvas.v.mean(), canvas.u.mean()
    brightness: Floats = 1 - 0.25 * ((canvas.u - middle_u) ** 2 + (canvas.v - middle_v) ** 2)
    return brightness


def _paint_street(canvas: Canvas, rng: Rng) -> None:
    """A town street between two rows of buildings, with parked and moving cars, trees, lamps and people."""
    half_width, pavement = rng.uniform(3.0, 5.0), rng.uniform(2.0, 4.2)
    on_pavement = rng.random() < 0.3  # where the photographer stands; else in the right lane
    center = rng.choice([-1, 1]) * (half_width + 0.4 * pavement) if on_pavement else rng.uniform(-1.8, 0.4)
    road = Road(float(center), half_width, pavement=pavement)
    openness, far = rng.choice([0.0, 0.25, 0.7]), rng.uniform(70, 140)
    _paint_background(canvas, rng, far)
    paint_meadow(canvas, rng)
    paint_road(canvas, rng, road)
    edge = road.half_width + road.pavement
    rows = [plan_row(rng, road.center + side * (edge + rng.uniform(0, 1.5)), far, openness) for side in (-1, 1)]
    for row in rows:
        paint_row_shadow(canvas, row)
        paint_row(canvas, row)
    items = _street_trees(rng, road) + _lamps(rng, road) + _traffic(rng, road, parked=0.45)
    _paint_far_to_near(canvas, rng, items + _people(rng, road, most=12))


def _paint_country(canvas: Canvas, rng: Rng) -> None:
    """A road through meadows, with trees and houses, perhaps mountains, perhaps a lake on one side."""
    road = Road(rng.uniform(-1.6, 0.4), rng.uniform(2.8, 3.8), bend=rng.normal(0, 0.0022))
    _paint_background(canvas, rng, 160.0)
    paint_meadow(canvas, rng)
    items = _scattered_trees(rng, road, int(rng.integers(4, 16))) + _houses(rng, road, int(rng.integers(0, 4)))
    if rng.random() < 0.35:
        side = int(rng.choice([-1, 1]))
        paint_water(canvas, rng, 9.0, 80.0, side)
        items = [item for item in items if side * item.x < 4]
    paint_road(canvas, rng, road)
    if rng.random() < 0.5:
        items += _lamps(rng, road)
    _paint_far_to_near(canvas, rng, items + _traffic(rng, road, parked=0.0))


def _paint_lake(canvas: Canvas, rng: Rng) -> None:
    """A lake below mountains or a forest, a meadow in front with trees and people."""
    _paint_background(canvas, rng, 220.0)
    paint_meadow(canvas, rng)
    shore = rng.uniform(7.0, 20.0)
    paint_water(canvas, rng, shore, rng.uniform(90, 260), side=0)
    path = Road(0.0, 0.5, pavement=4.0)  # not painted; people and trees stand beside it
    trees = _scattered_trees(rng, path, int(rng.integers(1, 5)), far=0.75 * shore)
    _paint_far_to_near(canvas, rng, trees + _people(rng, path, most=3, far=0.75 * shore))


def _paint_background(canvas: Canvas, rng: Rng, z: float) -> None:
    """Mountains or not, and a belt of trees before them."""
    if rng.random() < 0.75:
        paint_mountains(canvas, rng, layers=int(rng.integers(1, 4)))
    paint_forest(canvas, rng, z, height=rng.uniform(7, 15), openness=rng.uniform(0.1, 0.7))


def _street_trees(rng: Rng, road: Road) -> list[Item]:
    """Trees along the kerb on one side, both, or none."""
    sides = [side for side in (-1, 1) if rng.random() < 0.45]
    spacing, start = rng.uniform(8, 14), rng.uniform(6, 12)
    away = road.half_width + 0.75 * road.pavement
    distances = np.arange(start, 70, spacing)
    return [
        Item("tree", road.middle(z) + side * away, z, rng.uniform(4.5, 7.5))
        for side in sides
        for z in distances.tolist()
    ]


def _scattered_trees(rng: Rng, road: Road, count: int, far: float = 90.0) -> list[Item]:
    """Trees anywhere but on the road; more of them far away, where there is more ground."""
    items = []
    for _ in range(count):
        z, side = 7 + (far - 7) * rng.random() ** 0.8, int(rng.choice([-1, 1]))
        away = road.half_width + 2.5 + rng.random() * (2 + 0.6 * z)
        items.append(Item("tree", road.middle(z) + side * away, z, rng.uniform(4, 10)))
    return items


def _houses(rng: Rng, road: Road, count: int) -> list[Item]:
    """Houses on alternate sides, each further than the one before."""
    items, z = [], rng.uniform(12, 20)
    for number in range(count):
        side = 1 if (number + int(rng.integers(2))) % 2 else -1
        items.append(Item("house", road.middle(z) + side * (road.half_width + rng.uniform(7, 14)), z))
        z += rng.uniform(13, 24)
    return items


def _lamps(rng: Rng, road: Road) -> list[Item]:
    """Lamp posts at equal distances on one side."""
    side, spacing = int(rng.choice([-1, 1])), rng.uniform(14, 24)
    distances = np.arange(rng.uniform(6, 14), 90, spacing)
    away = side * (road.half_width + 0.5)
    return [Item("lamp", road.middle(z) + away, z, -side * 1.4) for z in distances.tolist()]


def _traffic(rng: Rng, road: Road, parked: float) -> list[Item]:
    """Moving cars in the two lanes; in streets also cars at the kerb with probability `parked` per place."""
    items = []
    for lane, density in ((0.5, 0.3), (-0.5, 0.4)):
        z = rng.uniform(5, 16)
        while z < 80:
            if rng.random() < density:
                items.append(Item("car", road.middle(z) + lane * road.half_width, z, float(lane < 0)))
            z += rng.uniform(9, 20)
    for side in (-1, 1):
        if road.half_width > 4.0 and rng.random() < 2 * parked:
            places = np.arange(rng.uniform(3.5, 7), 75, 6.4)
            kerb = side * (road.half_width - 0.95)
            items += [
                Item("car", road.middle(z) + kerb, z, float(side < 0)) for z in places.tolist() if rng.random() < parked
            ]
    return _without_overlap(items)


def _without_overlap(cars: list[Item]) -> list[Item]:
    """Leave out every car that would stand in one before it in the list."""
    kept: list[Item] = []
    for car in cars:
        if all(abs(car.x - other.x) > 2.2 or abs(car.z - other.z) > 6.2 for other in kept):
            kept.append(car)
    return kept


def _people(rng: Rng, road: Road, most: int, far: float = 32.0) -> list[Item]:
    """People on the pavements up to a distance, now and then one who crosses the road."""
    items = []
    for _ in range(int(rng.integers(1, most + 1))):
        z, side = 4.5 + (far - 4.5) * rng.random() ** 1.3, int(rng.choice([-1, 1]))
        away = road.half_width + rng.uniform(0.3, 0.85) * road.pavement
        crossing = rng.random() < 0.12 and z > 9
        items.append(Item("person", road.middle(z) + side * away * (0.3 if crossing else 1.0), z))
    return items


def _paint_far_to_near(canvas: Canvas, rng: Rng, items: list[Item]) -> None:
    """Paint the items so that near ones hide far ones; each has its own instance id, from 1."""
    for instance, item in enumerate(sorted(items, key=lambda item: -item.z), start=1):
        match item.kind:
            case "tree":
                paint_tree(canvas, rng, item.x, item.z, item.detail)
            case "house":
                paint_house(canvas, rng, item.x, item.z)
            case "lamp":
                paint_pole(canvas, rng, item.x, item.z, item.detail)
            case "car":
                paint_car(canvas, rng, item.x, item.z, instance, oncoming=item.detail > 0)
            case "person":
                paint_person(canvas, rng, item.x, item.z, instance)
