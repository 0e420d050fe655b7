"""The order of training, and augmentation that depends on the image counter only."""

from __future__ import annotations

from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segscape.data import Preprocess, ProceduralScenes, Sample, TrainingOrder, TrainingView, collate
from segscape.data.sample import Locality
from segscape.labels import LabelSet
from segscape.position import PositionRule, intra_class_position


class Drawings:
    """Two label maps without symmetry."""

    labels = LabelSet.numbered(4)

    def __len__(self) -> int:
        return 2

    def sample(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        label_map = np.kron(rng.integers(0, 4, (3, 5)), np.ones((4, 3), np.int64))
        return Sample(rng.integers(0, 256, (12, 15, 3), dtype=np.uint8), label_map, name=str(index))


@given(length=st.integers(1, 20), batch_size=st.integers(1, 7), done=st.integers(0, 60), seed=st.integers(0, 3))
def test_a_resumed_order_is_the_rest_of_the_order(length: int, batch_size: int, done: int, seed: int) -> None:
    full = list(TrainingOrder(length, batch_size, seed, 0, 100))
    batches_done = done // batch_size
    rest = TrainingOrder(length, batch_size, seed, batches_done * batch_size, 100)
    assert list(rest) == full[batches_done:] and len(rest) == len(full) - batches_done


@given(length=st.integers(1, 20), batch_size=st.integers(1, 7))
def test_every_epoch_is_a_permutation_and_every_batch_full(length: int, batch_size: int) -> None:
    batches = list(TrainingOrder(length, batch_size, 0, 0, 3 * length))
    assert {len(batch) for batch in batches} == {batch_size}
    indices, draws = zip(*chain.from_iterable(batches), strict=True)
    assert draws == tuple(range(len(draws)))
    for epoch in range(3):
        assert sorted(indices[epoch * length : (epoch + 1) * length]) == list(range(length))


def test_epochs_and_seeds_differ() -> None:
    def epoch(number: int, seed: int) -> list[tuple[int, int]]:
        return [(i, draw - 50 * number) for i, draw in next(iter(TrainingOrder(50, 50, seed, 50 * number, 999)))]

    assert epoch(0, 0) != epoch(1, 0) and epoch(0, 0) != epoch(0, 1)


def test_nothing_is_left_at_the_end() -> None:
    assert list(TrainingOrder(5, 2, 0, 10, 10)) == []
    assert len(TrainingOrder(5, 2, 0, 12, 10)) == 0


def test_processes_share_every_batch() -> None:
    whole = list(TrainingOrder(7, 4, 3, 8, 24))
    shares = [list(TrainingOrder(7, 4, 3, 8, 24, process, 2)) for process in range(2)]
    assert [sorted(first + second) for first, second in zip(*shares, strict=True)] == [sorted(keys) for keys in whole]
    assert all(len(keys) == 2 for share in shares for keys in share)


def test_a_draw_is_reproduced_whatever_came_before() -> None:
    preprocess = Preprocess(mode="resize_and_crop", load_size=20, crop_size=16, flip=True)
    view, again = (TrainingView(Drawings(), preprocess, seed=3) for _ in range(2))
    first = [view[0, draw] for draw in range(8)]
    for draw in reversed(range(8)):
        np.testing.assert_array_equal(again[0, draw].label_map, first[draw].label_map)
    assert any((first[0].label_map != other.label_map).any() for other in first[1:])


@pytest.mark.parametrize("rule", ["official", "official-all", "paper"])
def test_a_flipped_view_has_the_encoding_of_the_flipped_map(rule: PositionRule) -> None:
    view = TrainingView(Drawings(), Preprocess(mode="crop", crop_size=(12, 15), flip=True), rule)
    flips = 0
    for draw in range(8):
        sample = view[1, draw]
        assert sample.position is not None
        np.testing.assert_allclose(sample.position, intra_class_position(sample.label_map, rule), atol=1e-5)
        flips += int((sample.label_map != Drawings().sample(1).label_map).any())
    assert 0 < flips < 8


def test_position_is_computed_only_when_asked_for() -> None:
    assert TrainingView(Drawings(), Preprocess(mode="crop", crop_size=4))[0, 0].position is None


def test_a_data_loader_reads_it_with_workers() -> None:
    scenes = ProceduralScenes(3, (16, 16))
    view = TrainingView(scenes, Preprocess(mode="crop", crop_size=16), "official")
    order = TrainingOrder(len(view), 2, 0, 0, 4)
    loader = torch.utils.data.DataLoader(
        view, batch_sampler=order, collate_fn=partial(collate, labels=scenes.labels), num_workers=1
    )
    batches = list(loader)
    assert [batch.images.shape for batch in batches] == [(2, 3, 16, 16)] * 2
    assert batches[0].layout.has_instances


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any),
    window=st.integers(1, 40),
    batch_size=st.integers(1, 7),
    done=st.integers(0, 9),
)
def test_an_order_with_locality_is_still_a_permutation_that_resumes(
    sizes: list[int], window: int, batch_size: int, done: int
) -> None:
    length, locality = sum(sizes), Locality(tuple(sizes), window)
    full = list(TrainingOrder(length, batch_size, 1, 0, 3 * length + 10 * batch_size, locality=locality))
    keys = list(chain.from_iterable(full))
    for epoch in range(3):
        assert sorted(index for index, _ in keys[epoch * length : (epoch + 1) * length]) == list(range(length))
    total = 3 * length + 10 * batch_size
    assert list(TrainingOrder(length, batch_size, 1, done * batch_size, total, locality=locality)) == full[done:]


def epoch_of(length: int, number: int, locality: Locality | None) -> np.ndarray:
    order = TrainingOrder(length, length, 5, number * length, (number + 1) * length, locality=locality)
    return np.array([index for index, _ in next(iter(order))])


def test_locality_reads_few_shards_at_a_time_and_shuffles_within_its_window() -> None:
    length, size, window = 1_000_000, 1000, 20_000
    locality = Locality((size,) * (length // size), window)
    first, second = (epoch_of(length, number, locality) for number in range(2))
    assert (first != second).mean() > 0.999
    for epoch in (first, second):
        assert np.array_equal(np.sort(epoch), np.arange(length))
        shards = epoch // size
        for place in (*range(0, length, 97_001), length - 1000):  # how many shards are read from at one time
            assert len(np.unique(shards[place : place + 100])) > 15
            assert len(np.unique(shards[place : place + 1000])) <= window / size + 3
        places = np.sort(np.argsort(epoch).reshape(-1, size), axis=1)  # of the samples of each shard
        gaps = np.diff(places, axis=1, append=places[:, :1] + length)
        span = length - gaps.max(axis=1)  # round the end of the epoch
        assert 0.9 * window < span.min() and span.max() < window + 3 * size
        assert abs(np.corrcoef(np.arange(length // size), np.median(places, axis=1))[0, 1]) < 0.1  # shards: any order


@pytest.mark.parametrize("window", [99_999, 100_000])
def test_a_window_as_long_as_the_epoch_shuffles_it_as_a_whole(window: int) -> None:
    epoch = epoch_of(100_000, 0, Locality((1000,) * 100, window))
    table = np.histogram2d(epoch, np.arange(100_000), bins=10)[0]  # where samples of each tenth come
    assert table.min() > 800 and table.max() < 1200
    assert np.array_equal(epoch, epoch_of(100_000, 0, None)) == (window == 100_000)  # shards are then as good as files


def test_processes_share_batches_with_locality() -> None:
    locality = Locality((30, 0, 50, 20), 25)
    whole = list(TrainingOrder(100, 4, 3, 8, 300, locality=locality))
    shares = [list(TrainingOrder(100, 4, 3, 8, 300, process, 2, locality)) for process in range(2)]
    assert [sorted(first + second) for first, second in zip(*shares, strict=True)] == [sorted(keys) for keys in whole]
