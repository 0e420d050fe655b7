from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segscape.evaluation.modulation.class_moments import BINS, ClassHistogram, ClassMoments, region_interior

CLASSES = 5


def random_pixels(seed: int, pixels: int = 70, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Values `[C, P]` and classes `[P]`, of which class 4 does not occur."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, CLASSES - 1, pixels)
    return generator.normal(size=(channels, pixels)) * [[1], [5], [0.1]] + classes + 100, classes


def filled(parts: list[tuple[np.ndarray, np.ndarray]]) -> ClassMoments:
    moments = ClassMoments(CLASSES, parts[0][0].shape[0])
    for values, classes in parts:
        for index in range(CLASSES):
            moments.add(index, values[:, classes == index])
    return moments


def test_moments_are_those_of_the_pooled_pixels() -> None:
    parts = [random_pixels(seed, pixels=30 + 20 * seed) for seed in range(4)]
    values, classes = (np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))
    moments = filled(parts)
    within = sum(values[:, classes == k].var(axis=1) * (classes == k).mean() for k in range(CLASSES - 1))
    np.testing.assert_allclose(moments.within_variance, within, rtol=1e-9)
    np.testing.assert_allclose(moments.total_variance, values.var(axis=1), rtol=1e-9)
    assert moments.within_share == pytest.approx(within.sum() / values.var(axis=1).sum(), rel=1e-9)
    assert moments.count.tolist() == np.bincount(classes, minlength=CLASSES).tolist()


def test_moments_do_not_depend_on_the_order() -> None:
    parts = [random_pixels(seed) for seed in range(5)]
    np.testing.assert_allclose(filled(parts).within_variance, filled(parts[::-1]).within_variance, rtol=1e-9)


def test_a_function_of_the_class_has_no_share_at_all() -> None:
    classes = np.arange(1000) % CLASSES
    values = np.stack([np.array([1.1, 2.7, 1e4, -3.3, 0.1])[classes], classes / 7])
    moments = filled([(values, classes)] * 3)
    assert moments.within_share == 0 and moments.total_variance.min() > 0


def test_independence_of_the_class_has_the_whole_share() -> None:
    values = np.tile([[-1.0, 1.0]], CLASSES)
    assert filled([(values, np.arange(2 * CLASSES) // 2)]).within_share == pytest.approx(1)


def test_constant_channels_do_not_count() -> None:
    values, classes = random_pixels(0, channels=3)
    values[1] = 0.1
    moments = filled([(values, classes)])
    assert moments.constant.tolist() == [False, True, False] and moments.total_variance[1] == 0
    assert moments.within_share == pytest.approx(filled([(values[[0, 2]], classes)]).within_share)
    assert math.isnan(filled([(np.full((2, 9), 0.1), np.arange(9) % 3)]).within_share)


def test_no_pixels_no_share() -> None:
    assert math.isnan(ClassMoments(CLASSES, 2).within_share)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e5])
def test_histogram_counts_what_numpy_counts(scale: float) -> None:
    generator = np.random.default_rng(0)
    parts = [(int(k), generator.normal(size=50) * scale * (1 + k) + scale) for k in generator.integers(0, 3, 30)]
    histogram = ClassHistogram(3)
    for index, values in parts:
        histogram.add(index, values)
    everything = np.concatenate([values for _, values in parts])
    assert histogram.edges[0] <= everything.min() and everything.max() < histogram.edges[-1]
    assert np.ptp(everything) / histogram.width > BINS / 2 - 2  # no wider than needed
    for k in range(3):
        own = np.concatenate([values for index, values in parts if index == k])
        # our bins are [a, b) throughout; numpy closes the last, which no value reaches
        np.testing.assert_array_equal(histogram.counts[k], np.histogram(own, histogram.edges)[0])


def test_histogram_does_not_depend_on_the_order() -> None:
    generator = np.random.default_rng(1)
    parts = [(i % 2, generator.normal(size=20) * 10.0 ** (i - 3)) for i in range(6)]
    forward, backward = ClassHistogram(2), ClassHistogram(2)
    for (index, values), (last_index, last_values) in zip(parts, parts[::-1], strict=True):
        forward.add(index, values)
        backward.add(last_index, last_values)
    np.testing.assert_array_equal(forward.edges, backward.edges)
    np.testing.assert_array_equal(forward.counts, backward.counts)


def test_histogram_of_one_value_or_none() -> None:
    histogram = ClassHistogram(2)
    histogram.add(0, np.empty((3, 0)))
    assert not histogram.counts.any() and not histogram.edges.any()
    histogram.add(1, np.full((2, 3), 0.3))
    assert histogram.counts[1, 0] == 6 and histogram.edges[0] <= 0.3 < histogram.edges[1]


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_interior_is_one_class_all_around(reach: int) -> None:
    generator = torch.Generator().manual_seed(reach)
    label_maps = torch.randint(0, 3, (2, 4, 5), generator=generator)
    label_maps = label_maps.repeat_interleave(4, 1).repeat_interleave(4, 2)
    interior = region_interior(label_maps, reach)
    _, height, width = label_maps.shape
    for (n, i, j), inside in np.ndenumerate(interior):
        fits = reach <= i < height - reach and reach <= j < width - reach
        square = label_maps[n, max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
        assert inside == (fits and len(square.unique()) == 1)
    assert interior.any()


def test_a_map_smaller_than_the_square_has_no_interior() -> None:
    assert not region_interior(torch.zeros(1, 4, 9, dtype=torch.long), 2).any()
