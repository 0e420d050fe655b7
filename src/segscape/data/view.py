"""What a data loader reads in training: augmented samples, in an order that only the image counter decides.

Sample and augmentation number k of a run are functions of (seed, k), so a run resumed at image k goes on
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch.utils.data

from segscape.data.sample import Array, Dataset, Sample
from segscape.data.transforms import Preprocess, mirror
from segscape.position import PositionRule, intra_class_position


class TrainingView(torch.utils.data.Dataset[Sample]):
    """A dataset seen through its preprocessing, keyed by (index, draw).

    Args:
        dataset: the raw samples.
        preprocess: resize, crop and flip.
        position_rule: add the intra-class positional encoding of the raw label map by this rule; None for
            none.
        seed: of the augmentation; draw number `draw` uses the generator seeded with [seed, draw].
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: Preprocess,
        position_rule: PositionRule | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.preprocess = preprocess
        self.position_rule: PositionRule | None = position_rule
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Sample `index` with augmentation `draw`, at its final size."""
        index, draw = key
        sample = self.dataset.sample(index)
        placement = self.preprocess.draw(sample.size, np.random.default_rng([self.seed, draw]))
        if self.position_rule is not None:
            sample = _with_position(sample, self.position_rule, placement.flip)
        return self.preprocess.apply(sample, placement)


def _with_position(sample: Sample, rule: PositionRule, flip: bool) -> Sample:
    """Add the encoding; if a flip follows, such that the flipped one is right under every rule.

    The rule "paper" divides by the largest signed offset, so mirroring its encoding is not encoding the
    mirrored map.
    """
    if not flip:
        return replace(sample, position=intra_class_position(sample.label_map, rule))
    mirrored = mirror(sample)
    return mirror(replace(mirrored, position=intra_class_position(mirrored.label_map, rule)))


class TrainingOrder(torch.utils.data.Sampler[list[tuple[int, int]]]):
    """Batches of (index, draw) keys for a `TrainingView`: every epoch a new permutation, every batch full.

    `draw` is the global image counter. Epoch e (images e * length to (e + 1) * length) is the permutation
    seeded with [seed, e]; a batch at the end of an epoch is filled from the next one.

    Args:
        length: number of samples in the dataset, at least 1.
        batch_size: samples per batch.
        seed: of the permutations.
        start_images: images already seen; the order goes on from there.
        total_images: where to stop; the last batch is full even if it passes this number.
        process, processes: yield this process's share of every batch only: each `processes`-th key from key `process`.
    """

    drop_last = True  # there is no partial batch; read by data loaders that shard batches over processes

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        start_images: int,
        total_images: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.start_images = start_images
        self.total_images = total_images
        self.process = process
        self.processes = processes

    def __len__(self) -> int:
        return max(0, -(-(self.total_images - self.start_images) // self.batch_size))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in range(len(self)):
            first = self.start_images + batch * self.batch_size
            share = range(first + self.process, first + self.batch_size, self.processes)
            yield [(self._index(count), count) for count in share]

    def _index(self, count: int) -> int:
        """Which sample is image number `count` of the run."""
        epoch, place = divmod(count, self.length)
        return int(_permutation(self.seed, epoch, self.length)[place])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> Array:
    return np.random.default_rng([seed, epoch]).permutation(length)
