"""Tileable noise with a power-law spectrum: many octaves at once, the stuff of clouds, foliage and asphalt."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

PERIOD = 512  # cells after which a tile repeats, a power of two


@cache
def noise_tile(slope: float) -> Floats:
    """A ``[PERIOD, PERIOD]`` tile of zero mean and unit variance whose amplitude falls as 1 / frequency**slope.

    Slope 0 is white noise, 0.4 grain, 0.8 foliage, 1.2 patchy, 1.7 like clouds.
    """
    white = np.random.default_rng(0).standard_normal((PERIOD, PERIOD))
    frequency = np.hypot(np.fft.fftfreq(PERIOD)[:, None], np.fft.rfftfreq(PERIOD))
    frequency[0, 0] = np.inf
    tile = np.fft.irfft2(np.fft.rfft2(white) / frequency**slope, white.shape)
    standard: Floats = (tile / tile.std()).astype(np.float32)
    return standard


def noise(slope: float, x: Floats | float, y: Floats | float, layer: int = 0) -> Floats:
    """Noise at the points (x, y), in cells of a tile that repeats without seams; broadcasts.

    Layers are far apart on the tile, so that they look independent.
    """
    column = np.floor(x).astype(np.int32) + 181 * layer & PERIOD - 1
    row = np.floor(y).astype(np.int32) + 71 * layer & PERIOD - 1
    values: Floats = noise_tile(slope)[row, column]
    return values


def smoothstep(low: float, high: float, x: Floats) -> Floats:
    """0 below `low`, 1 above `high`, a smooth S between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    smooth: Floats = t * t * (3.0 - 2.0 * t)
    return smooth
