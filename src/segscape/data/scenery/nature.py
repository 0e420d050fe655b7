"""Sky, mountains, meadows, water and trees."""

from __future__ import annotations

import numpy as np

from segscape.data.scenery.canvas import Canvas, Integers, Mask, rgb
from segscape.data.scenery.noise import Floats, noise, smoothstep

Rng = np.random.Generator

FOLIAGE = [rgb(0.20, 0.36, 0.10), rgb(0.27, 0.40, 0.12), rgb(0.16, 0.30, 0.11), rgb(0.42, 0.36, 0.10)]
NEEDLES = [rgb(0.10, 0.23, 0.13), rgb(0.13, 0.27, 0.12)]
ROCKS = [rgb(0.42, 0.40, 0.40), rgb(0.40, 0.36, 0.30), rgb(0.26, 0.33, 0.22)]
MEADOWS = [rgb(0.36, 0.52, 0.16), rgb(0.44, 0.54, 0.20), rgb(0.30, 0.46, 0.14), rgb(0.56, 0.53, 0.27)]


def paint_sky(canvas: Canvas, rng: Rng) -> None:
    """A gradient from horizon to zenith, clouds in perspective, and a glow around the sun."""
    light, height = canvas.light, np.maximum(-canvas.v, 0.0)
    climb = smoothstep(-0.02, 0.65, height)[..., None]
    sky = np.broadcast_to(light.horizon + (light.zenith - light.horizon) * climb, canvas.rgb.shape).copy()
    cover, thickness = _clouds(canvas, rng, height)
    cloud = (0.55 * light.sunlight + light.skylight) * (1.02 - 0.32 * thickness[..., None])
    cover = (cover * (1.0 - 0.55 * light.cloudiness * (height < 0.03)))[..., None]
    sky += (np.minimum(cloud, 1.0) - sky) * cover
    sky += _glow(canvas)[..., None] * light.sunlight * 0.5
    canvas.paint(np.ones(canvas.size, bool), sky, "sky", np.inf)


def _clouds(canvas: Canvas, rng: Rng, height: Floats) -> tuple[Floats, Floats]:
    """Cover and thickness of the clouds, both in [0, 1], seen on a plane high above."""
    distance = 1.0 / (height + 0.13)
    x, y = canvas.u * distance * 34 + rng.uniform(0, 512), distance * 46 + rng.uniform(0, 512)
    puffs = noise(1.7, x, y, 1) + 0.25 * noise(1.2, 2 * x, 2 * y, 2)
    threshold = 1.15 - 2.3 * canvas.light.cloudiness
    return smoothstep(threshold, threshold + 1.0, puffs), smoothstep(threshold + 0.3, threshold + 2.6, puffs)


def _glow(canvas: Canvas) -> Floats:
    """Brightness around the sun, if it stands ahead."""
    x, y, z = canvas.light.sun
    if z < 0.05:
        return np.zeros(canvas.size, np.float32)
    distance = np.hypot(canvas.u - x / z, canvas.v + y / z)
    glow: Floats = np.exp(-((distance / 0.10) ** 2)) + 0.5 * np.exp(-distance / 0.35)
    return glow


def paint_mountains(canvas: Canvas, rng: Rng, layers: int) -> None:
    """Ridges behind each other, the far ones paler; some with snow."""
    rock, peak = ROCKS[rng.integers(len(ROCKS))], rng.uniform(0.14, 0.46)
    snow = bool(rng.random() < 0.4)
    for layer in range(layers):
        nearness = (layer + 1) / layers
        ridge = _ridge(canvas, rng, peak * (1.15 - 0.75 * nearness))
        inside = (canvas.v > -ridge) & ~canvas.below
        color = _slopes(canvas, rng, rock, ridge, snow and layer < 2)
        canvas.paint(inside, color, "mountain", canvas.light.visibility * (1.1 - 0.75 * nearness))


def _ridge(canvas: Canvas, rng: Rng, height: float) -> Floats:
    """Height of a ridge above the horizon per column, ``[1, W]``: folded noise has the sharp crests."""
    x, y = canvas.u * 110 + rng.uniform(0, 512), float(rng.integers(512))
    coarse, fine = noise(1.7, x, y, 3), noise(1.2, 3 * x, y + 9, 4)
    crest = 0.85 - 0.4 * np.abs(coarse) + 0.06 * fine
    crest = (crest + np.roll(crest, 1) + np.roll(crest, -1)) / 3
    ridge: Floats = height * np.clip(crest, 0.12, None)
    return ridge


def _slopes(canvas: Canvas, rng: Rng, rock: Floats, ridge: Floats, snow: bool) -> Floats:
    """Rock lit from the sun's side by the slope of a noise relief, with snow towards the crest."""
    x, y = canvas.u * 90 + rng.uniform(0, 512), canvas.v * 150
    relief = noise(1.7, x, y, 5) - noise(1.7, x + np.sign(canvas.light.sun[0]) * 3, y + 2, 5)
    up = -canvas.v / ridge
    base = np.broadcast_to(rock, canvas.rgb.shape)
    if snow:
        cap = smoothstep(0.55, 0.75, up + 0.12 * noise(1.2, x, y, 6))[..., None]
        base = base + (rgb(0.92, 0.94, 0.97) - base) * cap
    lit = np.clip(0.80 - 1.1 * relief + 0.06 * noise(0.8, x * 2, y * 2, 7), 0.25, 1.35)
    shade: Floats = base * lit[..., None] * canvas.light.on(0.0, 0.6, -0.8)
    return shade


def paint_meadow(canvas: Canvas, rng: Rng) -> None:
    """Grass on all the ground: patches far and near, blades in front."""
    x, z = canvas.ground_x, canvas.ground_z
    color = MEADOWS[rng.integers(len(MEADOWS))] * rng.uniform(0.85, 1.1)
    patches = noise(1.2, x * 4 + rng.uniform(0, 512), z * 2, 8)
    blades = noise(0.4, x * 60, z * 16, 9) * np.clip(7.0 / z, 0.0, 1.0)
    dry = smoothstep(0.3, 2.2, noise(1.2, x * 2, z * 1.2 + rng.uniform(0, 512), 10))[..., None]
    lit = np.clip(1.0 + 0.09 * patches + 0.14 * blades, 0.4, 1.6)[..., None]
    grass = (color + (rgb(0.58, 0.53, 0.30) - color) * 0.5 * dry) * lit * canvas.light.on(0, 1, 0)
    canvas.paint(canvas.below, grass, "grass", z)


def paint_water(canvas: Canvas, rng: Rng, near: float, far: float, side: int) -> None:
    """A lake between two distances (metres), on one side (-1, 1) or everywhere (0), mirroring what is above."""
    x, z = canvas.ground_x, canvas.ground_z
    shore = 1.0 + 0.10 * noise(1.7, x * 1.5 + rng.uniform(0, 512), z * 0.5, 11)
    lake = canvas.below & (z * shore > near) & (z * shore < far)
    if side:
        lake &= side * x > 5.0 + 2.0 * noise(1.7, z * 2, float(rng.integers(512)), 12)
    waves = noise(1.2, x * 14, z * 5 + rng.uniform(0, 512), 13)
    ripple = waves * np.clip(canvas.v, 0.0, 0.15) * 0.22
    mirror = canvas.rgb[_row_of(canvas, -canvas.v * 1.05 + ripple), np.arange(canvas.size[1])]
    fresnel = (0.82 - 0.9 * np.clip(canvas.v, 0, 0.5))[..., None]
    deep = rgb(0.09, 0.20, 0.24) * canvas.light.on(0, 1, 0)
    water = (deep * (1 - fresnel) + mirror * fresnel * rgb(0.84, 0.93, 0.98)) * (1 + 0.07 * waves[..., None])
    canvas.paint(lake, water, "water", z)


def _row_of(canvas: Canvas, v: Floats) -> Integers:
    """Index of the row whose height tangent is nearest to `v`."""
    step = canvas.v[1, 0] - canvas.v[0, 0]
    row: Integers = np.clip((v - canvas.v[0, 0]) / step, 0, canvas.size[0] - 1).astype(np.int64)
    return row


def paint_forest(canvas: Canvas, rng: Rng, z: float, height: float, openness: float) -> None:
    """A belt of trees across the view at distance `z`; `openness` in [0, 1] is how much of it is clearing."""
    x = canvas.u * z
    tops = 0.75 + 0.18 * noise(1.2, x * 1.6 + rng.uniform(0, 512), float(rng.integers(512)), 14)
    stand = smoothstep(-0.3, 0.6, noise(1.7, x * 0.35, float(rng.integers(512)), 15) + 2.4 * (0.5 - openness))
    up = canvas.eye - canvas.v * z
    ragged = 0.10 * height * noise(0.8, x * 6, up * 6, 16)
    inside = (up < height * tops * stand + ragged) & (up > 0) & (stand > 0.05)
    leaves = noise(0.8, x * 9, up * 9 + rng.uniform(0, 512), 17)
    lit = np.clip(0.55 + 0.6 * up / height + 0.28 * leaves, 0.2, 1.5)[..., None]
    color = FOLIAGE[rng.integers(3)] * canvas.light.on(0.2, 0.8, -0.5) * lit
    canvas.paint(inside, color, "tree", z)


def paint_tree(canvas: Canvas, rng: Rng, x: float, z: float, height: float) -> None:
    """One tree with its shadow: broad-leaved with a crown of several balls, or a conifer."""
    _tree_shadow(canvas, x, z, height)
    window = canvas.window(x, z, 0.55 * height, 1.1 * height)
    if window is None:
        return
    right, up = window.right / height, window.up / height
    conifer = bool(rng.random() < 0.25)
    x_leaf, y_leaf = right * 48 + rng.uniform(0, 512), up * 48 + rng.uniform(0, 512)
    ragged = 0.75 * noise(0.8, x_leaf, y_leaf, 18) + 0.55 * noise(0.4, x_leaf * 4, y_leaf * 4, 19)
    crown, bulge = _conifer(right, up, ragged) if conifer else _crown(right, up, ragged, rng)
    bark = rgb(0.26, 0.20, 0.15) * canvas.light.on(0, 0.3, -0.9) * rng.uniform(0.7, 1.2)
    trunk = (np.abs(right) < 0.028) & (up > 0) & (up < 0.6)
    canvas.paint_window(window, trunk, bark, "tree", z)
    sunny = np.clip(0.62 + 0.55 * bulge + 0.24 * ragged, 0.18, 1.6)[..., None]
    palette = NEEDLES if conifer else FOLIAGE
    leaf = palette[rng.integers(len(palette))] * rng.uniform(0.85, 1.25) * canvas.light.on(0.1, 0.8, -0.6)
    canvas.paint_window(window, crown, leaf * sunny, "tree", z)


def _crown(right: Floats, up: Floats, ragged: Floats, rng: Rng) -> tuple[Mask, Floats]:
    """Union of balls: mask, and how much of the light from above each point gets (about -0.5 to 0.6)."""
    field, bulge = np.full(right.shape, -1.0, np.float32), np.zeros(right.shape, np.float32)
    for _ in range(int(rng.integers(5, 9))):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.22)
        dx, dy = right - reach * np.cos(angle), up - 0.66 - 0.85 * reach * np.sin(angle)
        radius = rng.uniform(0.13, 0.21)
        ball = 1.0 - (dx * dx + dy * dy) / radius**2
        higher = ball > field
        field, bulge = np.where(higher, ball, field), np.where(higher, dy / radius * 0.6, bulge)
    return field + 0.22 * ragged > 0.0, bulge + 0.6 * (up - 0.66)


def _conifer(right: Floats, up: Floats, ragged: Floats) -> tuple[Mask, Floats]:
    """A cone of drooping tiers: mask, and brightness."""
    tier = np.mod(up * 7.0, 1.0)
    half_width = 0.24 * (1.0 - up) * (1.1 - 0.35 * tier) + 0.02 * ragged
    return (np.abs(right) < half_width) & (up > 0.10) & (up < 1.0), 0.5 - 0.9 * tier - 0.5 * np.abs(right)


def _tree_shadow(canvas: Canvas, x: float, z: float, height: float) -> None:
    """An ellipse on the ground where the sun's ray through the crown meets it."""
    sun_x, sun_y, sun_z = canvas.light.sun
    reach = min(0.66 * height / max(sun_y, 0.2), 12.0)
    angle = np.linspace(0, 2 * np.pi, 14)
    across, along = 0.28 * height * np.cos(angle), 0.36 * height * np.sin(angle)
    ellipse = np.stack([x - sun_x * reach + across, 0 * angle, z - sun_z * reach + along], axis=1)
    canvas.ground_shadow(ellipse.tolist(), 1.0 - 0.42 * float(canvas.light.sunlight.mean()))
