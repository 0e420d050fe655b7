"""The intra-class positional encoding against a plain implementation and its invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from segscape.errors import LayoutError
from segscape.position import intra_class_position

RULES = ["official", "official-all", "paper"]
label_maps = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=10), elements=st.sampled_from([0, 1, 2, 255])
)


def _objects(label_map):
    """The 8-connected components by flood fill: lists of (row, column)."""
    height, width = label_map.shape
    seen = set()
    for start in np.ndindex(height, width):
        if start in seen:
            continue
        pixels, todo = [], [start]
        seen.add(start)
        while todo:
            row, column = todo.pop()
            pixels.append((row, column))
            for near in np.ndindex(3, 3):
                place = (row + near[0] - 1, column + near[1] - 1)
                inside = 0 <= place[0] < height and 0 <= place[1] < width
                if inside and place not in seen and label_map[place] == label_map[start]:
                    seen.add(place)
                    todo.append(place)
        yield pixels


def _naive(label_map, rule, normalize):
    encoding = np.zeros((2, *label_map.shape))
    for pixels in _objects(label_map):
        if rule == "official" and label_map[pixels[0]] == 0:
            continue
        places = np.array(pixels)
        offsets = places - places.mean(axis=0)
        if normalize and rule == "paper":
            largest = offsets.max(axis=0)
            offsets = offsets / np.where(largest > 0, largest, 1)
        elif normalize:
            offsets = offsets / (np.abs(offsets).max(axis=0) + 1e-5)
        if rule == "paper":
            offsets = offsets[:, ::-1]
        encoding[:, places[:, 0], places[:, 1]] = offsets.T
    return encoding


@settings(max_examples=60, deadline=None)
@given(label_maps, st.sampled_from(RULES), st.booleans())
def test_equals_the_plain_implementation(label_map, rule, normalize):
    encoding = intra_class_position(label_map, rule, normalize)
    assert encoding.dtype == np.float32
    np.testing.assert_allclose(encoding, _naive(label_map, rule, normalize), atol=1e-6)


def _by_scipy(label_map, rule):
    """Class by class with SciPy's labelling, object by object."""
    encoding = np.zeros((2, *label_map.shape))
    rows, columns = np.indices(label_map.shape)
    for value in np.unique(label_map[label_map > 0] if rule == "official" else label_map):
        numbers, count = ndimage.label(label_map == value, structure=np.ones((3, 3)))
        for number in range(1, count + 1):
            mask = numbers == number
            for channel, coordinate in enumerate((columns, rows) if rule == "paper" else (rows, columns)):
                offset = coordinate[mask] - coordinate[mask].mean()
                largest = offset.max() if rule == "paper" else np.abs(offset).max() + 1e-5
                encoding[channel, mask] = offset / (largest or 1)
    return encoding


@settings(max_examples=25, deadline=None)
@given(
    smoothness=st.sampled_from([0, 1, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    rule=st.sampled_from(RULES),
    seed=st.integers(0, 999),
)
def test_equals_scipys_labelling_on_larger_maps(smoothness, height, width, rule, seed):
    noise = np.random.default_rng(seed).normal(size=(height, width))
    smooth = ndimage.gaussian_filter(noise, smoothness) if smoothness else noise
    label_map = np.digitize(smooth, np.quantile(smooth, (0.3, 0.6)))
    np.testing.assert_allclose(intra_class_position(label_map, rule), _by_scipy(label_map, rule), atol=1e-6)


def test_two_spirals_and_a_checkerboard_are_few_objects():
    spiral = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]])
    checkerboard = np.indices((16, 16)).sum(axis=0) % 2
    for label_map in (spiral, checkerboard):  # both labels are one object each: diagonals count, and they cross
        for value in (0, 1):
            rows, columns = np.nonzero(label_map == value)
            offsets = intra_class_position(label_map, "official-all", normalize=False)[:, rows, columns]
            np.testing.assert_allclose(offsets, [rows - rows.mean(), columns - columns.mean()], atol=1e-6)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int16, np.uint16, np.int64])
def test_any_integer_type_and_memory_order(kind):
    label_map = np.random.default_rng(0).integers(0, 2, (9, 14))
    expected = intra_class_position(label_map)
    np.testing.assert_array_equal(intra_class_position(label_map.astype(kind)), expected)
    np.testing.assert_array_equal(intra_class_position(np.asfortranarray(label_map.astype(kind))), expected)


def test_a_map_without_pixels_has_an_encoding_without_values():
    assert intra_class_position(np.zeros((0, 3), dtype=np.uint8)).shape == (2, 0, 3)


@settings(max_examples=60, deadline=None)
@given(label_maps)
def test_invariants(label_map):
    encoding = intra_class_position(label_map, "official-all")
    assert np.abs(encoding).max() < 1
    offsets = intra_class_position(label_map, "official-all", normalize=False)
    for pixels in _objects(label_map):
        rows, columns = np.array(pixels).T
        np.testing.assert_allclose(offsets[:, rows, columns].sum(axis=1), 0, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(label_maps, st.sampled_from(["official", "official-all"]))
def test_mirroring_negates_the_mirrored_channel(label_map, rule):
    mirrored = intra_class_position(label_map[:, ::-1], rule)[:, :, ::-1]
    expected = intra_class_position(label_map, rule) * np.array([1, -1], dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(mirrored, expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(label_maps)
def test_only_equality_of_labels_matters(label_map):
    renamed = label_map.astype(np.int64) * 1000 - 7
    np.testing.assert_array_equal(
        intra_class_position(renamed, "official-all"), intra_class_position(label_map, "official-all")
    )


def test_official_leaves_label_zero_out():
    label_map = np.zeros((4, 6), dtype=np.uint8)
    label_map[1:3, 1:4] = 3
    assert not intra_class_position(label_map)[:, label_map == 0].any()
    assert intra_class_position(label_map, "official-all")[:, label_map == 0].any()


def test_paper_divides_by_the_signed_maximum():
    label_map = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], dtype=np.uint8)  # the centre lies left of the middle
    x = intra_class_position(label_map, "paper")[0]
    assert x[0, 3] == 1 and x[0, 0] == pytest.approx(-1.2 / 1.8)
    assert intra_class_position(label_map[:, ::-1], "paper")[0].min() == pytest.approx(-1.5)


@pytest.mark.parametrize("rule", RULES)
def test_a_single_pixel_is_its_own_centre(rule):
    assert not intra_class_position(np.array([[5]]), rule).any()


@pytest.mark.parametrize(
    ("label_map", "rule", "message"),
    [
        (np.zeros((2, 2, 2), dtype=int), "official", r"integer label map \[H, W\]"),
        (np.zeros((2, 2)), "official", "float64"),
        (np.zeros((2, 2), dtype=int), "offical", "known are official, official-all, paper"),
    ],
)
def test_bad_arguments(label_map, rule, message):
    with pytest.raises(LayoutError, match=message):
        intra_class_position(label_map, rule)
