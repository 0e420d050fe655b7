"""Statistics of maps per class, over any number of images: how far the class of a pixel determines its value."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float64]

BINS = 512
FINEST = -30
"""The narrowest bins of a histogram are 2**FINEST wide."""


class ClassMoments:
    """Within-class and total variance of each channel of a map, over all pixels added so far.

    Kept per class and channel, in float64: the number of pixels, their sum, sum of squares, smallest and largest value.
    So nothing depends on the order of the images but the last digits of the sums. Variances are those of the whole
    population (divided by the number of pixels).

    Attributes:
        count: pixels of each class, int64 `[K]`.

    Args:
        num_classes: K.
        channels: C.
    """

    def __init__(self, num_classes: int, channels: int) -> None:
        self.count = np.zeros(num_classes, dtype=np.int64)
        self._sum = np.zeros((num_classes, channels))
        self._squares = np.zeros((num_classes, channels))
        self._low = np.full((num_classes, channels), np.inf)
        self._high = np.full((num_classes, channels), -np.inf)

    def add(self, index: int, values: Floats) -> None:
        """Add the pixels `[C, P]` of class `index`; P may be 0."""
        if not values.shape[1]:
            return
        self.count[index] += values.shape[1]
        self._sum[index] += values.sum(axis=1)
        self._squares[index] += np.square(values).sum(axis=1)
        self._low[index] = np.minimum(self._low[index], values.min(axis=1))
        self._high[index] = np.maximum(self._high[index], values.max(axis=1))

    @property
    def within_variance(self) -> Floats:
        """The mean squared distance of the pixels from the mean of their class, `[C]`; nan without pixels."""
        scatter = self._squares - np.square(self._sum) / self._pixels
        scatter[self._low == self._high] = 0  # one value: what remains of the difference is rounding
        return self._mean(np.maximum(scatter, 0).sum(axis=0))

    @property
    def total_variance(self) -> Floats:
        """The variance over all pixels, `[C]`, by the law of total variance; nan without pixels."""
        mean = self._mean(self._sum.sum(axis=0))
        between = self._mean((self.count[:, None] * np.square(self._sum / self._pixels - mean)).sum(axis=0))
        return np.where(self.constant, 0, self.within_variance + between)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """The channels with one value at all pixels, `[C]`."""
        same: NDArray[np.bool_] = self._low.min(axis=0) == self._high.max(axis=0)
        return same

    @property
    def within_share(self) -> float:
        """Within-class over total variance, in [0, 1]: 0 if the class alone determines every channel.

        The mean over the channels, weighted with their total variance, so that constant channels do not count; nan if
        all are constant or there are no pixels.
        """
        within, total = float(self.within_variance.sum()), float(self.total_variance.sum())
        return within / total if total > 0 else math.nan

    @property
    def _pixels(self) -> Floats:
        """Pixels of each class, at least 1, `[K, 1]`: what sums are divided by."""
        return np.maximum(self.count, 1).astype(np.float64)[:, None]

    def _mean(self, summed: Floats) -> Floats:
        pixels = int(self.count.sum())
        return summed / pixels if pixels else np.full_like(summed, np.nan)


class ClassHistogram:
    """Counts of values per class in bins that all classes share, found in one pass.

    The bins are the narrowest of a width 2**e, with one edge at 0, of which `BINS` cover all values. Adding a value
    outside them joins neighbouring bins exactly, so the result does not depend on the order.

    Attributes:
        counts: int64 `[K, BINS]`.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, BINS), dtype=np.int64)
        self._exponent = FINEST
        self._low, self._high = math.inf, -math.inf

    def add(self, index: int, values: Floats) -> None:
        """Add finite values of class `index`, of any shape and number."""
        if not values.size:
            return
        self._cover(float(values.min()), float(values.max()))
        bins = np.floor(values.ravel() / self.width).astype(np.int64) - self._first
        self.counts[index] += np.bincount(bins, minlength=BINS)

    @property
    def width(self) -> float:
        """Of each bin."""
        return 2.0**self._exponent

    @property
    def edges(self) -> Floats:
        """Where the bins begin, and where the last one ends: `[BINS + 1]`, ascending; zeros without values."""
        if self._low > self._high:
            return np.zeros(BINS + 1)
        return (self._first + np.arange(BINS + 1)).astype(np.float64) * self.width

    @property
    def _first(self) -> int:
        """The number of the first bin; that which begins at 0 is number 0."""
        return math.floor(self._low / self.width)

    def _cover(self, low: float, high: float) -> None:
        """Move and widen the bins until they hold `low` and `high` too."""
        if self._low <= low and high <= self._high:
            return
        filled = np.flatnonzero(self.counts.any(axis=0))
        places = filled + self._first if filled.size else filled  # numbers of the bins that hold something
        before, exponent = self.counts, self._exponent
        self._low, self._high = min(low, self._low), max(high, self._high)
        while math.floor(self._high / self.width) - self._first >= BINS:
            self._exponent += 1
        self.counts = np.zeros_like(before)
        moved = (places >> (self._exponent - exponent)) - self._first
        np.add.at(self.counts.T, moved, before.T[filled])


def region_interior(label_maps: Tensor, reach: int) -> NDArray[np.bool_]:
    """The pixels around which a square of `2 * reach + 1` pixels lies inside the map and holds one class.

    Args:
        label_maps: integer `[N, h, w]`.
        reach: 0 or more.

    Returns:
        `[N, h, w]`.
    """
    interior = np.zeros(tuple(label_maps.shape), dtype=np.bool_)
    side = 2 * reach + 1
    if min(label_maps.shape[1:]) < side:
        return interior
    values = label_maps.cpu().double()
    same = F.max_pool2d(values, side, stride=1) == -F.max_pool2d(-values, side, stride=1)
    height, width = label_maps.shape[1:]
    interior[:, reach : height - reach, reach : width - reach] = same.numpy()
    return interior
