"""Augmentation: image, label map and instance map stay in step, and every draw follows from its number."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segscape.data import Preprocess, Sample, TrainingView
from segscape.data.augmentation import Augmentation, ClassDrop, ColorJitter, merge
from segscape.data.sample import Array
from segscape.data.transforms import resize
from segscape.errors import DataError, LabelMapError
from segscape.labels import LabelSet
from segscape.position import intra_class_position

UNKNOWN = 4
LABELS = LabelSet.numbered(5, unknown=UNKNOWN)
CROP = Preprocess(mode="resize_and_crop", load_size=(20, 26), crop_size=(16, 20), flip=True)
EVERYTHING = Augmentation(
    color=ColorJitter(brightness=(0.5, 1.5), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.1, 0.1)),
    scale=(0.7, 1.6),
    drop=ClassDrop(probability=0.3),
    merge=0.5,
)


def coded(seed: int, size: tuple[int, int] = (12, 15)) -> Sample:
    """The image's channels tell label, instance id and, of each sample another, its source."""
    rng = np.random.default_rng(seed)
    height, width = size
    cells = rng.integers(0, 5, (-(-height // 3), -(-width // 3)))
    label_map = np.kron(cells, np.ones((3, 3), np.int64))[:height, :width]
    instances = np.kron(rng.integers(0, 20, cells.shape), np.ones((3, 3), np.int64))[:height, :width]
    image = np.stack([label_map, instances, np.full(size, seed % 200 + 1)], axis=-1).astype(np.uint8)
    return Sample(image, label_map, instances, name=str(seed))


class Coded:
    """Coded samples of different sizes."""

    labels = LABELS

    def __len__(self) -> int:
        return 6

    def sample(self, index: int) -> Sample:
        return coded(index, (12 + index, 18 - index))


def maps(sample: Sample) -> list[Array]:
    kept = [sample.image, sample.label_map, sample.instance_map, sample.position]
    return [array for array in kept if array is not None]


def same(first: Sample, second: Sample) -> bool:
    pairs = zip(maps(first), maps(second), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), height=st.integers(1, 20), width=st.integers(1, 20))
def test_merging_takes_whole_classes_of_all_maps(seed: int, height: int, width: int) -> None:
    first, second = coded(0), coded(1, (height, width))
    merged = merge(first, second, LABELS, np.random.default_rng(seed))
    assert merged.image is not None and merged.instance_map is not None and first.instance_map is not None
    label, _, source = np.moveaxis(merged.image.astype(int), -1, 0)
    resized = resize(second, first.size)
    pasted = merged.label_map != first.label_map
    pasted |= merged.instance_map != first.instance_map
    for value in range(5):
        inside = resized.label_map == value
        assert pasted[inside].all() or not pasted[inside].any()
        assert value != UNKNOWN or not pasted[inside].any()
    np.testing.assert_array_equal(merged.label_map, np.where(pasted, resized.label_map, first.label_map))
    assert resized.image is not None  # bicubic, so that its colours are compared with the resized image's
    np.testing.assert_array_equal(merged.image, np.where(pasted[..., None], resized.image, first.image))
    np.testing.assert_array_equal(label[~pasted], merged.label_map[~pasted])
    assert not set(merged.instance_map[pasted]) & set(first.instance_map.ravel())
    shift = (merged.instance_map - resized.instance_map)[pasted]
    assert len(set(shift)) <= 1
    assert (source[~pasted] == 1).all()


def test_merging_pastes_about_half_of_the_classes() -> None:
    first, second = coded(0), coded(1)
    shares = [
        len(set(merged.label_map[merged.image[..., 2] == 2])) / 4
        for seed in range(200)
        if (merged := merge(first, second, LABELS, np.random.default_rng(seed))).image is not None
    ]
    assert 0.4 < np.mean(shares) < 0.6 and min(shares) == 0 and max(shares) == 1


def test_merging_drops_maps_that_only_one_sample_has() -> None:
    first, second = coded(0), replace(coded(1), instance_map=None)
    rng = np.random.default_rng(0)
    merged = [merge(first, second, LABELS, rng) for _ in range(9)]
    assert all(one is first or (one.instance_map is None and one.image is not None) for one in merged)
    assert any(one is not first for one in merged)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), probability=st.floats(0, 1), chosen=st.sets(st.integers(0, 4)) | st.none())
def test_dropping_makes_whole_classes_unknown(seed: int, probability: float, chosen: set[int] | None) -> None:
    classes = None if chosen is None else tuple(LABELS.names[value] for value in sorted(chosen))
    before = coded(seed)
    after = ClassDrop(probability=probability, classes=classes).apply(before, LABELS, np.random.default_rng(seed))
    assert after.image is before.image and after.instance_map is not None and before.instance_map is not None
    dropped = after.label_map != before.label_map
    assert (after.label_map[dropped] == UNKNOWN).all()
    for value in range(5):
        inside = before.label_map == value
        assert dropped[inside].all() or not dropped[inside].any()
        assert not dropped[inside].any() or chosen is None or value in chosen
    np.testing.assert_array_equal(after.instance_map[~dropped], before.instance_map[~dropped])
    assert len(set(after.instance_map[dropped])) <= 1
    if dropped.any() and not (before.label_map == UNKNOWN).any():
        assert after.instance_map[dropped][0] not in before.instance_map


def test_dropping_happens_as_often_as_asked() -> None:
    drop, rng = ClassDrop(probability=0.25), np.random.default_rng(0)
    sample = Sample(None, np.arange(5)[None])
    dropped = np.stack([drop.apply(sample, LABELS, rng).label_map[0] == UNKNOWN for _ in range(400)])
    np.testing.assert_allclose(dropped.mean(axis=0), [0.25] * 4 + [1], atol=0.06)
    assert len(np.unique(dropped, axis=0)) > 8  # classes are dropped independently


def test_dropped_objects_leave_no_edge_to_what_was_unknown() -> None:
    label_map = np.array([[0, 1, UNKNOWN, 2]])
    after = ClassDrop(probability=1).apply(Sample(None, label_map, label_map + 10), LABELS, np.random.default_rng(0))
    assert after.instance_map is not None and set(after.instance_map.ravel()) == {UNKNOWN + 10}


images = st.integers(0, 999).map(lambda seed: np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8))


@settings(max_examples=40, deadline=None)
@given(images, st.floats(0.2, 3), st.integers(0, 9))
def test_colour_factors_are_distances_from_black_grey_and_mean(image: Array, factor: float, seed: int) -> None:
    def jittered(**options: Any) -> Array:
        return ColorJitter(**options).apply(image, np.random.default_rng(seed))

    pixels = image.astype(float)
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    for name, centre in {"brightness": 0.0, "contrast": round(grey.mean()), "saturation": grey[..., None]}.items():
        expected = np.clip(centre + factor * (pixels - centre), 0, 255)
        rounding = 1 + max(factor, abs(1 - factor))  # of the result, and of the pixels or the centre before
        np.testing.assert_allclose(jittered(**{name: (factor, factor)}), expected, atol=rounding, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(images, st.floats(-0.5, 0.5))
def test_hue_turns_and_leaves_value_and_grey(image: Array, turns: float) -> None:
    turned = ColorJitter(hue=(turns, turns)).apply(image, np.random.default_rng(0))
    for before, after in zip(image.reshape(-1, 3) / 255, turned.reshape(-1, 3) / 255, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        np.testing.assert_allclose(after, colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value), atol=0.06)
    grey = np.repeat(image[..., :1], 3, axis=2)
    np.testing.assert_array_equal(ColorJitter(hue=(turns, turns)).apply(grey, np.random.default_rng(0)), grey)


@given(images)
def test_neutral_colours_change_nothing(image: Array) -> None:
    np.testing.assert_array_equal(ColorJitter().apply(image, np.random.default_rng(0)), image)


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(0.1, 4),
    mode=st.sampled_from(["resize_and_crop", "scale_width_and_crop", "scale_shortside_and_crop"]),
    height=st.integers(8, 60),
    width=st.integers(8, 60),
    seed=st.integers(0, 99),
)
def test_scaling_keeps_maps_in_step_and_the_window_full(
    scale: float, mode: Any, height: int, width: int, seed: int
) -> None:
    preprocess = Preprocess(mode=mode, load_size=24, crop_size=16, flip=True)
    numbers = np.arange(height * width).reshape(height, width)
    raw = Sample(None, numbers, numbers + 1, np.stack([numbers, numbers]).astype(np.float32))
    placement = preprocess.draw(raw.size, np.random.default_rng(seed), scale)
    result = preprocess.apply(raw, placement)
    unscaled, scaled = preprocess.resized(raw.size), preprocess.resized(raw.size, scale)
    assert result.size == (16, 16) and result.instance_map is not None and result.position is not None
    if min(unscaled) >= 16:
        assert result.instance_map.all()  # zero only outside the picture
    inside = result.instance_map > 0
    np.testing.assert_array_equal(result.instance_map[inside], result.label_map[inside] + 1)
    np.testing.assert_array_equal(result.position[0], result.label_map)
    if scale > 1:
        assert scaled == tuple(round(side * scale) for side in unscaled)
    else:
        assert all(after <= before for before, after in zip(unscaled, scaled, strict=True))
        assert all(after >= min(before, 16) for before, after in zip(unscaled, scaled, strict=True))


def test_scales_enlarge_as_often_as_they_shrink() -> None:
    rng = np.random.default_rng(0)
    scales = [Augmentation(scale=(0.5, 2)).draw_scale(rng) for _ in range(400)]
    assert 0.5 <= min(scales) < 0.52 and 1.95 < max(scales) <= 2
    assert 0.43 < np.mean(np.array(scales) > 1) < 0.57
    assert math.isclose(np.mean(np.log(scales)), 0, abs_tol=0.06)


@given(index=st.integers(0, 5), draw=st.integers(0, 500), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_without_augmentation_only_crop_and_flip_are_drawn(index: int, draw: int, seed: int) -> None:
    sample = TrainingView(Coded(), CROP, seed=seed)[index, draw]
    rng = np.random.default_rng([seed, draw])
    y, x = rng.integers(20 - 16 + 1), rng.integers(26 - 20 + 1)
    columns = slice(None, None, -1) if rng.random() < 0.5 else slice(None)
    expected = resize(Coded().sample(index), (20, 26))
    for found, whole in zip(maps(sample), maps(expected), strict=True):
        np.testing.assert_array_equal(found, whole[y : y + 16, x : x + 20][:, columns])


def test_changes_of_colours_and_labels_leave_crop_and_flip_alone() -> None:
    plain = TrainingView(Coded(), CROP)
    colored = TrainingView(Coded(), CROP, augmentation=EVERYTHING.model_copy(update={"scale": (1, 1), "merge": 0.0}))
    for draw in range(12):
        before, after = plain[draw % 6, draw], colored[draw % 6, draw]
        kept = after.label_map == before.label_map
        assert (after.label_map[~kept] == UNKNOWN).all()
        assert not np.array_equal(before.image, after.image)  # type: ignore[arg-type]


def test_everything_at_once_is_reproduced_whatever_came_before() -> None:
    first, again = (TrainingView(Coded(), CROP, "paper", 3, EVERYTHING) for _ in range(2))
    samples = [first[draw % 6, draw] for draw in range(24)]
    assert all(sample.size == (16, 20) for sample in samples)
    for draw in reversed(range(24)):
        assert same(again[draw % 6, draw], samples[draw])
    assert not same(first[0, 0], first[0, 6])
    assert not same(TrainingView(Coded(), CROP, "paper", 4, EVERYTHING)[0, 0], samples[0])


@pytest.mark.parametrize("rule", ["official", "official-all", "paper"])
def test_positions_are_those_of_the_changed_layout(rule: Any) -> None:
    class OneSize(Coded):
        def sample(self, index: int) -> Sample:
            return coded(index, (16, 20))

    whole = Preprocess(mode="crop", crop_size=(16, 20), flip=True)
    view = TrainingView(OneSize(), whole, rule, augmentation=Augmentation(drop=ClassDrop(probability=0.4), merge=0.6))
    changed = 0
    for draw in range(12):
        sample = view[draw % 6, draw]
        assert sample.position is not None
        np.testing.assert_allclose(sample.position, intra_class_position(sample.label_map, rule), atol=1e-6)
        raw = OneSize().sample(draw % 6).label_map
        changed += not np.array_equal(sample.label_map, raw) and not np.array_equal(sample.label_map, raw[:, ::-1])
    assert changed > 6


def test_what_does_not_fit_is_said_before_training() -> None:
    class Bare(Coded):
        labels = LabelSet.numbered(5)

    with pytest.raises(DataError, match="has none: add one to it"):
        TrainingView(Bare(), CROP, augmentation=Augmentation(drop=ClassDrop(probability=0.1)))
    with pytest.raises(LabelMapError, match="no class 'hippo'"):
        TrainingView(Coded(), CROP, augmentation=Augmentation(drop=ClassDrop(probability=0.1, classes=("hippo",))))
    with pytest.raises(DataError, match=r"needs a crop after it, but preprocess\.mode is 'fixed'"):
        TrainingView(Coded(), Preprocess(mode="fixed", crop_size=8), augmentation=Augmentation(scale=(0.5, 2)))
    TrainingView(Bare(), CROP, augmentation=Augmentation(merge=0.5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": (2, 1)}, "2.0 is more than 1.0"),
        ({"scale": (0, 1)}, "greater than 0"),
        ({"merge": 1.5}, "less than or equal to 1"),
        ({"drop": {}}, "probability"),
        ({"color": {"hue": (0, 30)}}, "less than or equal to 0.5"),
        ({"color": {"gamma": (1, 2)}}, "gamma"),
    ],
)
def test_wrong_options_say_what_is_wrong(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Augmentation(**options)
