"""Draws the street layouts in ``examples/layouts/``: label maps of invented streets, in the CamVid label set.

Every street is a list of things with a place in metres, seen through one pinhole camera behind the windscreen
of a car, so sizes and overlaps follow from the perspective. Run it to draw the files again::

    python examples/draw_layouts.py [FOLDER]

Coordinates: ``x`` to the right, ``y`` up from the road, ``z`` ahead of the camera, all in metres.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS

WIDTH, HEIGHT = 480, 360
FOCAL_LENGTH = 540.0  # pixels
CAMERA_HEIGHT = 1.35
FARTHEST = 400.0

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST, UNLABELLED = range(12)

Point = tuple[float, float, float]
Thing = tuple[Callable[["Street", float, float], None], float, float]


class Street:
    """A label map under construction, and the camera that looks at it.

    Args:
        seed: of everything irregular (rooflines, tree crowns).
        horizon: image row of the horizon.
        centre: image column of the vanishing point.
        bend: the road's curvature; ``x`` is shifted by ``bend * z**2``.
    """

    def __init__(self, seed: int, *, horizon: float = 182.0, centre: float = 250.0, bend: float = 0.0) -> None:
        self.random = np.random.default_rng(seed)
        self.horizon, self.centre, self.bend = horizon, centre, bend
        self.image = Image.new("L", (WIDTH, HEIGHT), SKY)
        self.canvas = ImageDraw.Draw(self.image)

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """The pixel ``(column, row)`` at which a point in the world is seen."""
        scale = FOCAL_LENGTH / z
        return (
            self.centre + scale * (x + self.bend * z * z),
            self.horizon + scale * (CAMERA_HEIGHT - y),
        )

    def face(self, label: int, points: Iterable[Point]) -> None:
        """Fills a polygon given in world coordinates."""
        self.canvas.polygon([self.project(*point) for point in points], fill=label)

    def disc(self, label: int, x: float, y: float, z: float, width: float, height: float) -> None:
        """Fills an upright ellipse around a point; ``width`` and ``height`` are its half axes in metres."""
        (left, top), (right, bottom) = (
            self.project(x - width, y + height, z),
            self.project(x + width, y - height, z),
        )
        self.canvas.ellipse([left, top, right, bottom], fill=label)

    def post(self, label: int, x: float, z: float, top: float, *, bottom: float = 0.0, width: float = 0.14) -> None:
        """Fills a thin upright bar that stays at least two pixels wide."""
        (column, row), (_, foot) = self.project(x, top, z), self.project(x, bottom, z)
        half = max(width * FOCAL_LENGTH / z, 2.0) / 2
        self.canvas.rectangle([column - half, row, column + half - 1, foot], fill=label)

    def box(self, label: int, low: Point, high: Point, inset: float = 0.0) -> None:
        """Fills the outline of a box; ``inset`` pulls its top in along ``z``, as a windscreen does."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        for x in (x0, x1):
            self.face(label, [(x, y0, z0), (x, y0, z1), (x, y1, z1 - inset), (x, y1, z0 + inset)])
        for foot, head in ((z0, z0 + inset), (z1, z1 - inset)):
            self.face(label, [(x0, y0, foot), (x1, y0, foot), (x1, y1, head), (x0, y1, head)])
        self.face(label, [(x0, y1, z0 + inset), (x1, y1, z0 + inset), (x1, y1, z1 - inset), (x0, y1, z1 - inset)])

    def place(self, *things: Thing) -> None:
        """Draws things from the farthest to the nearest."""
        for draw, x, z in sorted(things, key=lambda thing: -thing[2]):
            draw(self, x, z)


# The ground, from the kerb outwards, and what stands along the road


def ground(street: Street, label: int, left: float, right: float, near: float = 0.8, far: float = FARTHEST) -> None:
    """A strip of ground along the road between two offsets."""
    depths = np.geomspace(near, far, 48)
    edge = [(left, 0.0, z) for z in depths] + [(right, 0.0, z) for z in depths[::-1]]
    street.face(label, edge)


def terrace(
    street: Street, x: float, near: float, far: float, height: float, *, house: float = 7.0, vary: float = 1.2
) -> None:
    """A row of houses along the road, its front at ``x``, each with its own height, roof and chimney."""
    side = np.sign(x)
    starts = np.arange(near, far, house)
    for z in starts[::-1]:
        end = min(z + house, far)
        eaves = height + street.random.uniform(-vary, vary)
        ridge = eaves + street.random.uniform(0.8, 2.6)
        street.face(BUILDING, [(x, 0, z), (x, 0, end), (x, eaves, end), (x, eaves, z)])
        street.face(BUILDING, [(x, eaves, z), (x, eaves, end), (x + side * 4, ridge, end), (x + side * 4, ridge, z)])
        street.face(BUILDING, [(x, 0, z), (x + side * 9, 0, z), (x + side * 9, eaves, z), (x, eaves, z)])
        street.face(BUILDING, [(x, eaves, z), (x + side * 4, ridge, z), (x + side * 9, eaves, z)])
        low, high = (x + side * 3, ridge - 0.5, z + 0.5), (x + side * 4, ridge + 1.3, z + 1.8)
        street.box(BUILDING, low, high)


def frontage(street: Street, left: float, right: float, z: float, height: float, *, bay: float = 9.0) -> None:
    """Buildings that face the camera across the end of the road."""
    for x in np.arange(left, right, bay):
        end, roof = min(x + bay, right), height + street.random.uniform(-1.5, 1.5)
        street.face(BUILDING, [(x, 0, z), (x, roof, z), (end, roof, z), (end, 0, z)])
        if street.random.random() < 0.6:
            street.face(BUILDING, [(x, roof, z), ((x + end) / 2, roof + 2.2, z), (end, roof, z)])


def barrier(street: Street, label: int, x: float, near: float, far: float, height: float) -> None:
    """A fence, wall or hedge along the road at ``x``."""
    depths = np.geomspace(near, far, 40)
    tops = height + (street.random.uniform(-0.15, 0.15, 40) if label == TREE else np.zeros(40))
    foot = [(x, 0.0, z) for z in depths[::-1]]
    street.face(label, [(x, top, z) for top, z in zip(tops, depths, strict=True)] + foot)


def shop_signs(street: Street, x: float, depths: Iterable[float], height: float = 3.2) -> None:
    """Boards flat on the fronts at ``x``."""
    for z in depths:
        street.face(SIGN, [(x, height, z), (x, height, z + 2.2), (x, height + 0.8, z + 2.2), (x, height + 0.8, z)])


def villa(street: Street, x: float, z: float, *, width: float) -> None:
    """A detached house with a pitched roof."""
    left, right = x - width / 2, x + width / 2
    street.box(BUILDING, (left, 0, z), (right, 4.6, z + 8))
    street.face(BUILDING, [(left - 0.4, 4.6, z), (x, 7.4, z), (right + 0.4, 4.6, z)])
    street.box(BUILDING, (x + 1.5, 5, z), (x + 2.3, 8.2, z + 1))


# Single things: each is drawn with its foot at (x, z)


def car(street: Street, x: float, z: float, *, length: float = 4.2, width: float = 1.75, height: float = 1.45) -> None:
    """A car that stands along the road, with its nearer end at ``z``."""
    left, right = x - width / 2, x + width / 2
    for depth in (z + length - 0.9, z + 0.5):
        for wheel in (left + 0.12, right - 0.12):
            street.disc(CAR, wheel, 0.32, depth, 0.14, 0.32)
    street.box(CAR, (left, 0.28, z), (right, 0.62 * height, z + length), inset=0.08)
    cabin = (right - 0.15, height, z + 0.8 * length)
    street.box(CAR, (left + 0.15, 0.6 * height, z + 0.1), cabin, inset=0.14 * length)


def van(street: Street, x: float, z: float, *, height: float = 2.5) -> None:
    """A van or lorry that stands along the road."""
    for wheel in (x - 0.8, x + 0.8):
        street.disc(CAR, wheel, 0.38, z + 0.8, 0.18, 0.38)
    street.box(CAR, (x - 0.98, 0.35, z), (x + 0.98, height, z + 5.2), inset=0.12)


def crossing_car(street: Street, x: float, z: float, *, length: float = 4.2, height: float = 1.45) -> None:
    """A car seen from its side, as at a junction; ``x`` is its middle."""
    shape = [
        (-0.5, 0.2),
        (-0.5, 0.55),
        (-0.3, 0.62),
        (-0.17, 1),
        (0.2, 1),
        (0.37, 0.64),
        (0.5, 0.55),
        (0.5, 0.2),
    ]
    street.face(CAR, [(x + length * u, height * v, z) for u, v in shape])
    for wheel in (-0.3, 0.3):
        street.disc(CAR, x + wheel * length, 0.33, z, 0.34, 0.33)


def pedestrian(street: Street, x: float, z: float, *, height: float = 1.72, stride: float = 0.16) -> None:
    """A person on foot."""
    hip = 0.5 * height
    for foot in (-stride, stride):
        leg = [(-0.16, hip), (0.16, hip), (foot + 0.08, 0), (foot - 0.08, 0)]
        street.face(PEDESTRIAN, [(x + dx, y, z) for dx, y in leg])
    half = [(0.16, hip), (0.25, hip), (0.22, 0.8 * height), (0.09, 0.87 * height)]
    torso = half + [(-dx, y) for dx, y in reversed(half)]
    street.face(PEDESTRIAN, [(x + dx, y, z) for dx, y in torso])
    street.disc(PEDESTRIAN, x, 0.92 * height, z, 0.12, 0.15)


def bicyclist(street: Street, x: float, z: float) -> None:
    """A person on a bicycle, seen from behind, with the bicycle."""
    street.post(BICYCLIST, x, z, 0.75, width=0.1)
    street.disc(BICYCLIST, x, 0.34, z, 0.06, 0.34)
    outline = [(-0.17, 0.85), (-0.3, 1.35), (-0.2, 1.5), (0.2, 1.5), (0.3, 1.35), (0.17, 0.85)]
    street.face(BICYCLIST, [(x + dx, y, z) for dx, y in outline])
    for leg, pedal in ((-0.12, 0.25), (0.12, 0.45)):
        corners = [(leg - 0.09, 0.95), (leg + 0.09, 0.95), (leg + 0.06, pedal), (leg - 0.06, pedal)]
        street.face(BICYCLIST, [(x + dx, y, z) for dx, y in corners])
    street.disc(BICYCLIST, x, 1.64, z, 0.12, 0.16)


def tree(street: Street, x: float, z: float, *, height: float = 9.0, crown: float = 3.0) -> None:
    """A tree with a ragged crown of overlapping blobs; its trunk has the same class."""
    middle = height - crown
    street.post(TREE, x, z, middle, width=0.4)
    street.disc(TREE, x, middle, z, 0.8 * crown, 0.8 * crown)
    for angle in np.linspace(0, 2 * np.pi, 26, endpoint=False):
        reach, size = crown * street.random.uniform(0.62, 0.84), crown * street.random.uniform(0.12, 0.3)
        street.disc(TREE, x + reach * np.cos(angle), middle + reach * np.sin(angle), z, size, size)


def lamp(street: Street, x: float, z: float, *, height: float = 8.0) -> None:
    """A lamp post whose arm reaches over the road."""
    street.post(POLE, x, z, height)
    reach = -np.sign(x) * 1.6
    (left, row), (right, _) = sorted([street.project(x, height, z), street.project(x + reach, height, z)])
    street.canvas.rectangle([left, row, right, row + max(0.12 * FOCAL_LENGTH / z, 1)], fill=POLE)


def bollard(street: Street, x: float, z: float) -> None:
    """A short post at the kerb."""
    street.post(POLE, x, z, 1.0, width=0.16)


def road_sign(street: Street, x: float, z: float, *, height: float = 2.8, size: float = 0.38) -> None:
    """A round traffic sign on its post."""
    street.post(POLE, x, z, height, width=0.1)
    street.disc(SIGN, x, height, z, size, size)


def traffic_light(street: Street, x: float, z: float) -> None:
    """A traffic light: the signal head counts as a sign."""
    street.post(POLE, x, z, 3.4, width=0.14)
    street.box(SIGN, (x - 0.24, 2.4, z), (x + 0.24, 3.5, z + 0.1))


def clutter(street: Street, x: float, z: float, *, width: float = 1.0, height: float = 1.1) -> None:
    """Something that has no class of its own, such as a bin or a motorcycle."""
    street.box(UNLABELLED, (x - width / 2, 0, z), (x + width / 2, height, z + 0.5), inset=0.1)


# The five streets


def terraced_street() -> Street:
    """Two rows of houses, cars parked on the right, a cyclist ahead."""
    street = Street(seed=1, centre=232)
    ground(street, ROAD, -2.4, 6.2)
    ground(street, PAVEMENT, -5.2, -2.4)
    ground(street, PAVEMENT, 6.2, 8.6)
    frontage(street, -14, 18, 120, 9)
    street.place((partial(tree, height=12, crown=5), -2.0, 105), (partial(tree, height=11, crown=4.5), 7.0, 95))
    terrace(street, -5.2, 4, 100, 8.5)
    terrace(street, 8.6, 6, 90, 8.0)
    shop_signs(street, -5.2, (11, 19, 33))
    shop_signs(street, 8.6, (24, 41))
    parked = [(car, 5.1, z) for z in (12.5, 18, 24, 30, 36, 43, 51, 60)]
    street.place(
        *parked,
        (bicyclist, -1.0, 12.5),
        (car, -0.2, 24),
        (car, 2.9, 52),
        (clutter, 0.8, 90),
        *[(pedestrian, x, z) for x, z in ((-3.9, 15), (-3.3, 15.6), (-4.2, 28), (7.4, 21), (7.2, 34))],
        (lamp, -2.9, 19),
        (lamp, 6.5, 27),
        (lamp, -2.9, 46),
        (road_sign, 6.6, 15),
        (clutter, -4.7, 22),
    )
    return street


def tree_lined_road() -> Street:
    """Houses on the left, a fence with tall trees on the right, one oncoming car."""
    street = Street(seed=2, horizon=184, centre=222)
    ground(street, ROAD, -2.7, 5.0)
    ground(street, PAVEMENT, -5.6, -2.7)
    ground(street, PAVEMENT, 5.0, 7.6)
    frontage(street, -20, 14, 130, 8)
    terrace(street, 19, 22, 90, 5.5)
    terrace(street, -5.6, 5, 90, 9.5, vary=1.6)
    shop_signs(street, -5.6, (10, 16, 25))
    barrier(street, FENCE, 7.6, 4, 75, 1.9)
    crowns = [(partial(tree, height=11 + z % 3, crown=4.6), 10.5, z) for z in (17, 24, 32, 41, 52, 66)]
    street.place(
        *crowns,
        (partial(tree, height=9, crown=3.4), -4.6, 84),
        (partial(tree, height=10, crown=4), 3.0, 118),
    )
    barrier(street, FENCE, 7.6, 4, 75, 1.9)
    street.place(
        (car, 2.9, 15),
        (car, 3.0, 36),
        (car, -0.7, 38),
        *[(bicyclist, x, z) for x, z in ((-1.5, 14.5), (-0.7, 16.5))],
        *[(pedestrian, x, z) for x, z in ((6.2, 13), (-4.0, 24), (-3.5, 24.5), (6.5, 30))],
        (road_sign, -3.0, 17),
        (lamp, 5.4, 22),
        (lamp, -3.0, 40),
        (road_sign, 5.5, 36),
        (clutter, 6.9, 19),
        (partial(clutter, width=2), 0.0, 110),
    )
    return street


def town_junction() -> Street:
    """A wide junction before a row of shops, with traffic lights and a car that crosses."""
    street = Street(seed=3, horizon=180, centre=250)
    ground(street, PAVEMENT, -90, 90, near=30, far=37)
    ground(street, ROAD, -90, 90, far=31)
    frontage(street, -48, 46, 36, 9.5)
    for x in (-20, -9, 8, 21):
        street.face(SIGN, [(x, 3.2, 35.9), (x + 3, 3.2, 35.9), (x + 3, 4.1, 35.9), (x, 4.1, 35.9)])
    for x in (-15.5, 3.0, 16.0):
        street.face(UNLABELLED, [(x, 0, 35.9), (x + 2.4, 0, 35.9), (x + 2.4, 2.4, 35.9), (x, 2.4, 35.9)])
    street.face(PAVEMENT, [(-9, 0, 8), (-5.2, 0, 9), (-6.5, 0, 17), (-40, 0, 21), (-40, 0, 8)])
    street.face(PAVEMENT, [(4.2, 0, 10), (30, 0, 9), (30, 0, 19), (6.5, 0, 17)])
    street.place(
        (partial(tree, height=8, crown=2.8), -12.5, 33),
        (partial(tree, height=7.5, crown=2.6), 13.0, 32.5),
        (crossing_car, -5.0, 20),
        (crossing_car, 10.0, 28),
        (car, 2.2, 21),
        (partial(van, height=2.6), -14.0, 27),
        *[(pedestrian, x, z) for x, z in ((-3.5, 32), (1.2, 31.5), (6.6, 32), (-7.6, 18.5), (5.6, 15.5), (6.3, 15.7))],
        *[(bollard, x, 31) for x in (-9, -6, 4.5, 8, 11)],
        (traffic_light, -6.0, 15.5),
        (traffic_light, 5.0, 15.0),
        (traffic_light, 0.8, 31),
        (lamp, -9.5, 20),
        (lamp, 9.8, 29),
        (bicyclist, -2.2, 15),
    )
    return street


def city_traffic() -> Street:
    """A queue of cars and a van between tall fronts."""
    street = Street(seed=4, horizon=180, centre=268)
    ground(street, ROAD, -3.4, 5.6)
    ground(street, PAVEMENT, -6.6, -3.4)
    ground(street, PAVEMENT, 5.6, 8.4)
    frontage(street, -16, 18, 110, 12)
    terrace(street, -6.6, 3, 95, 12.5, house=10, vary=2.5)
    terrace(street, 8.4, 5, 90, 10.5, house=9, vary=2.0)
    shop_signs(street, -6.6, (8, 13.5, 22, 31))
    shop_signs(street, 8.4, (12, 17, 28, 36))
    street.place(
        (partial(tree, height=10, crown=3.6), 1.5, 100),
        (car, 0.1, 9.5),
        (partial(van, height=2.7), -0.4, 17),
        (car, -0.3, 27),
        (car, -0.4, 35),
        (car, 3.5, 16),
        (car, 3.4, 31),
        (partial(van, height=3.0), 3.4, 44),
        (car, -0.5, 48),
        (bicyclist, -2.5, 14),
        *[(pedestrian, x, z) for x, z in ((-4.6, 13), (-5.3, 19), (-4.4, 26), (6.6, 17), (7.2, 17.4), (6.4, 29))],
        (lamp, -3.8, 16),
        (lamp, 6.0, 24),
        (lamp, -3.8, 34),
        (traffic_light, 6.0, 15),
        (traffic_light, -3.8, 28),
        (partial(clutter, width=1.2), 7.8, 14),
    )
    return street


def quiet_suburb() -> Street:
    """A bending road under a wide sky, with hedges, lawns, low houses and single trees."""
    street = Street(seed=5, horizon=178, centre=246, bend=0.0012)
    ground(street, TREE, -120, 120, near=3, far=250)
    ground(street, ROAD, -2.9, 4.6, far=120)
    ground(street, PAVEMENT, -5.4, -2.9, far=120)
    ground(street, PAVEMENT, 4.6, 6.8, far=120)
    street.place(*[(partial(tree, height=10 + x % 3, crown=5), float(x), 118) for x in range(-80, 90, 9)])
    street.place(
        *[(partial(villa, width=9), x, z) for x, z in ((-19, 26), (-21, 42), (-20, 60), (19, 34), (18, 52), (17, 72))],
    )
    barrier(street, TREE, -5.6, 5, 60, 1.1)
    barrier(street, TREE, 6.9, 9, 60, 1.2)
    street.place(
        (partial(tree, height=7.5, crown=2.6), -8.2, 19),
        (partial(tree, height=8.5, crown=3.0), 10.5, 25),
        (partial(tree, height=8, crown=2.8), -8.0, 40),
        (partial(tree, height=9, crown=3.4), 10.0, 46),
        (car, -1.9, 24),
        (car, 3.2, 14),
        (car, 2.2, 42),
        *[(pedestrian, x, z) for x, z in ((-4.2, 12.5), (5.8, 20), (5.4, 33))],
        (lamp, -3.2, 15),
        (lamp, 5.0, 26),
        (lamp, -3.2, 38),
        (road_sign, 5.0, 14),
    )
    return street


STREETS = (terraced_street, tree_lined_road, town_junction, city_traffic, quiet_suburb)


def main(folder: Path) -> None:
    """Draws every street into ``folder`` as a palette PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in STREETS:
        path = folder / f"{draw.__name__.replace('_', '-')}.png"
        write_label_map(path, np.asarray(draw().image), LABEL_SETS["camvid"])
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "layouts")
