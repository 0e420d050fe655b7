"""The disk cache gives what the computation gives, whatever happens to its files."""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segscape.data import Preprocess, ProceduralScenes, TrainingView, position_cache
from segscape.data.augmentation import Augmentation, ClassDrop
from segscape.data.position_cache import PositionCache
from segscape.data.sample import Array
from segscape.errors import DataError, LayoutError
from segscape.position import PositionRule, intra_class_position

MAP = np.random.default_rng(0).integers(0, 4, (13, 17))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@settings(max_examples=30, deadline=None)
@given(
    label_map=hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(-3, 300)),
    rule=st.sampled_from(["official", "official-all", "paper"]),
)
def test_first_and_later_answers_are_the_computed_one(label_map: Array, rule: PositionRule) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            encoding = PositionCache(folder).encode(label_map, rule)
            np.testing.assert_array_equal(encoding, intra_class_position(label_map, rule))
            assert encoding.dtype == np.float32 and encoding.flags.writeable


def test_the_second_time_nothing_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = PositionCache(tmp_path).encode(MAP)
    monkeypatch.setattr(position_cache, "intra_class_position", None)
    np.testing.assert_array_equal(PositionCache(tmp_path).encode(MAP), expected)
    np.testing.assert_array_equal(PositionCache(tmp_path).encode(MAP.astype(np.uint8)), expected)
    np.testing.assert_array_equal(PositionCache(tmp_path).encode(np.asfortranarray(MAP)), expected)


def test_content_shape_rule_and_version_each_have_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PositionCache(tmp_path)
    other = MAP.copy()
    other[3, 3] += 1
    for label_map in (MAP, other, MAP.reshape(17, 13), MAP.T, MAP - 1):
        np.testing.assert_array_equal(cache.encode(label_map), intra_class_position(label_map))
    cache.encode(MAP, "paper")
    monkeypatch.setattr(position_cache, "VERSION", position_cache.VERSION + 1)
    cache.encode(MAP)
    assert len(files(tmp_path)) == 7


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "flipped", "zeroed", "text"])
def test_a_broken_file_is_computed_and_written_anew(tmp_path: Path, damage: str) -> None:
    cache = PositionCache(tmp_path)
    expected = cache.encode(MAP)
    [path] = files(tmp_path)
    content = path.read_bytes()
    flipped = bytes([content[100] ^ 4])
    path.write_bytes(
        {
            "cut": content[:-7],
            "empty": b"",
            "longer": content + b"1234",
            "flipped": content[:100] + flipped + content[101:],
            "zeroed": bytes(len(content)),
            "text": b"<html>",
        }[damage]
    )
    np.testing.assert_array_equal(cache.encode(MAP), expected)
    assert path.read_bytes() == content and files(tmp_path) == [path]


def _encode_all(folder: str) -> int:
    maps = [np.random.default_rng(number).integers(0, 3, (40, 40)) for number in range(20)]
    return sum(
        int(np.array_equal(PositionCache(folder).encode(label_map), intra_class_position(label_map)))
        for label_map in maps
    )


def test_processes_share_a_folder(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as processes:
        assert list(processes.map(_encode_all, [str(tmp_path)] * 3)) == [20] * 3
    assert len(files(tmp_path)) == 20


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be kept in .*file.*give position_cache a folder"):
        PositionCache(tmp_path / "file").encode(MAP)


def test_what_cannot_be_encoded_is_refused_as_without_a_cache(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="integer label map"):
        PositionCache(tmp_path).encode(MAP.astype(float))
    assert not files(tmp_path)


def test_a_view_gives_the_same_samples_with_and_without(tmp_path: Path) -> None:
    preprocess = Preprocess(mode="resize_and_crop", load_size=20, crop_size=16, flip=True)
    scenes = ProceduralScenes(2, (24, 24))
    plain = TrainingView(scenes, preprocess, "paper", seed=1)
    cached = TrainingView(scenes, preprocess, "paper", seed=1, position_cache=tmp_path)
    for draw in range(8):
        np.testing.assert_array_equal(plain[draw % 2, draw].position, cached[draw % 2, draw].position)
    assert len(files(tmp_path)) == 4  # two samples, mirrored or not


def test_layouts_that_augmentation_makes_up_are_not_kept(tmp_path: Path) -> None:
    augmentation = Augmentation(drop=ClassDrop(probability=1))
    preprocess = Preprocess(mode="crop", crop_size=16)
    view = TrainingView(ProceduralScenes(2, (24, 24)), preprocess, "official", 0, augmentation, tmp_path)
    assert view[0, 0].position is not None and not files(tmp_path)
