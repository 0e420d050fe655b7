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
