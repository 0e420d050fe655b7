"""Samples kept in memory."""

from __future__ import annotations

import numpy as np

from segscape.data.memory import InMemory
from segscape.data.sample import Sample
from segscape.labels import LabelSet


class Counting:
    labels = LabelSet.numbered(3)

    def __init__(self) -> None:
        self.reads: list[int] = []

    def __len__(self) -> int:
        return 4

    def sample(self, index: int) -> Sample:
        self.reads.append(index)
        return Sample(None, np.full((2, 2), index), name=str(index))


def test_each_sample_is_read_once() -> None:
    source = Counting()
    kept = InMemory(source)
    names = [kept.sample(index).name for index in (0, 2, 0, 2, 1)]
    assert names == ["0", "2", "0", "2", "1"]
    assert source.reads == [0, 2, 1]
    assert len(kept) == 4 and kept.labels is Counting.labels
