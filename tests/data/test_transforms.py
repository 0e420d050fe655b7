"""Preprocessing keeps image, label map, instances and position in step, in every mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from segscape.data import Placement, Preprocess, Sample
from segscape.data.transforms import crop, mirror, resize

MODES: list[dict[str, Any]] = [
    {"mode": "resize_and_crop", "load_size": 20, "crop_size": 16},
    {"mode": "resize_and_crop", "load_size": (18, 30), "crop_size": (16, 24)},
    {"mode": "scale_width", "load_size": 24},
    {"mode": "scale_width_and_crop", "load_size": 40, "crop_size": (8, 32)},
    {"mode": "scale_shortside", "load_size": 20},
    {"mode": "scale_shortside_and_crop", "load_size": 20, "crop_size": 16},
    {"mode": "crop", "crop_size": (9, 11)},
    {"mode": "crop", "crop_size": 64},
    {"mode": "fixed", "crop_size": (24, 48)},
    {"mode": "none"},
]
SIDES = st.integers(8, 60)


def coded_sample(height: int, width: int) -> Sample:
    """Every map holds the same number at a pixel: label, instance = label + 1 and position = the label, signed.

    Two labels only, in halves, so that bicubic resizing leaves the image readable away from the boundary.
    """
    label_map = np.zeros((height, width), np.int64)
    label_map[:, width // 2 :] = 1
    image = np.repeat((label_map * 200).astype(np.uint8)[..., None], 3, axis=2)
    position = np.stack([label_map, label_map]).astype(np.float32)
    return Sample(image, label_map, label_map + 1, position)


@settings(max_examples=60, deadline=None)
@given(options=st.sampled_from(MODES), height=SIDES, width=SIDES, flip=st.booleans(), seed=st.integers(0, 99))
def test_all_maps_stay_in_step(options: dict[str, Any], height: int, width: int, flip: bool, seed: int) -> None:
    preprocess = Preprocess(**options, flip=flip)
    raw = coded_sample(height, width)
    placement = preprocess.draw(raw.size, np.random.default_rng(seed))
    result = preprocess.apply(raw, placement)
    assert result.size == preprocess.output_size(raw.size)
    assert result.image is not None and result.instance_map is not None and result.position is not None
    assert result.image.shape == (*result.size, 3) and result.image.dtype == np.uint8
    inside = result.instance_map > 0  # 0 only outside the raw image
    np.testing.assert_array_equal(result.instance_map[inside], result.label_map[inside] + 1)
    sign = -1 if placement.flip else 1
    np.testing.assert_array_equal(result.position, np.stack([result.label_map, sign * result.label_map]))
    assert not result.image[~inside].any()
    agree = (result.image[..., 0] > 100) == (result.label_map == 1)
    columns_that_disagree = np.flatnonzero(~agree.all(axis=0))
    assert len(columns_that_disagree) <= 2  # bicubic and nearest place the one boundary within a pixel or two


@given(height=SIDES, width=SIDES, x=st.integers(0, 30), y=st.integers(0, 30), flip=st.booleans())
def test_crop_and_flip_move_every_pixel_alike(height: int, width: int, x: int, y: int, flip: bool) -> None:
    numbers = np.arange(height * width).reshape(height, width)
    image = np.stack([numbers % 256, numbers // 256, numbers * 0 + 7], axis=-1).astype(np.uint8)
    raw = Sample(image, numbers, numbers + 1)
    result = Preprocess(mode="crop", crop_size=16).apply(raw, Placement((x, y), flip))
    assert result.image is not None and result.instance_map is not None
    inside = result.instance_map > 0
    red, green = (result.image[..., channel].astype(int) for channel in (0, 1))
    np.testing.assert_array_equal((red + 256 * green)[inside], result.label_map[inside])
    corner = (0, 15) if flip else (0, 0)
    if y < height and x < width:
        assert result.label_map[corner] == y * width + x


@given(have=st.integers(1, 200), want=st.integers(1, 200))
def test_maps_are_resized_by_pillows_nearest_rule(have: int, want: int) -> None:
    numbers = np.arange(have)[None]
    expected = np.asarray(Image.fromarray(numbers.astype(np.int32)).resize((want, 1), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize(Sample(None, numbers), (1, want)).label_map, expected)


def test_mirror_negates_the_horizontal_offset_only() -> None:
    position = np.array([[[0.1, 0.2]], [[-0.5, 0.5]]], np.float32)
    mirrored = mirror(Sample(None, np.array([[0, 1]]), position=position))
    np.testing.assert_array_equal(mirrored.label_map, [[1, 0]])
    assert mirrored.position is not None
    np.testing.assert_allclose(mirrored.position, [[[0.2, 0.1]], [[-0.5, 0.5]]])


@pytest.mark.parametrize(
    ("options", "raw", "resized", "output"),
    [
        (MODES[0], (50, 70), (20, 20), (16, 16)),
        (MODES[1], (50, 70), (18, 30), (16, 24)),
        (MODES[2], (50, 70), (17, 24), (17, 24)),
        (MODES[4], (50, 70), (20, 28), (20, 28)),
        (MODES[4], (70, 50), (28, 20), (28, 20)),
        (MODES[4] | {"official_shortside": True}, (50, 70), (50, 28), (50, 28)),
        (MODES[8], (50, 70), (24, 48), (24, 48)),
        (MODES[9], (50, 5), (64, 32), (64, 32)),
    ],
)
def test_sizes(options: dict[str, Any], raw: Any, resized: Any, output: Any) -> None:
    preprocess = Preprocess(**options)
    assert preprocess.resized(raw) == resized
    assert preprocess.output_size(raw) == output


def test_draw_reaches_every_window_and_flips_half() -> None:
    preprocess = Preprocess(mode="resize_and_crop", load_size=4, crop_size=2, flip=True)
    rng = np.random.default_rng(0)
    drawn = [preprocess.draw((9, 9), rng) for _ in range(400)]
    assert {placement.crop for placement in drawn} == {(x, y) for x in range(3) for y in range(3)}
    assert 150 < sum(placement.flip for placement in drawn) < 250
    assert not any(Preprocess(mode="none").draw((9, 9), rng).flip for _ in range(20))


def test_outside_the_image_is_zero() -> None:
    raw = Sample(np.full((4, 4, 3), 9, np.uint8), np.ones((4, 4), np.int64))
    result = crop(raw, (2, 3), (3, 3))
    np.testing.assert_array_equal(result.label_map, [[1, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert result.image is not None and result.image.sum() == 2 * 3 * 9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "crop"}, "needs crop_size"),
        ({"mode": "scale_width"}, "needs load_size"),
        ({"mode": "scale_shortside", "load_size": (4, 5)}, "one number"),
        ({"mode": "crop", "crop_size": 0}, "greater than or equal to 1"),
        ({"mode": "crop", "crop_size": 4, "rotate": 3}, "rotate"),
    ],
)
def test_wrong_options_say_what_is_wrong(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Preprocess(**options)
