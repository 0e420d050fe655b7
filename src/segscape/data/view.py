"""What a data loader reads in training: augmented samples, in an order that only the image counter decides.

Sample and augmentation number k of a run are functions of (seed, k), so a run resumed at image k goes on
exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch.utils.data

from segscape.data.augmentation import Augmentation
from segscape.data.position_cache import PositionCache
from segscape.data.sample import Array, Dataset, Locality, Sample
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
        augmentation: what else happens to samples; nothing by default.
        position_cache: folder to keep the encodings of the dataset's own label maps in; None computes them each time.

    Raises:
        DataError, LabelMapError: the augmentation does not fit the label set or the preprocessing.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: Preprocess,
        position_rule: PositionRule | None = None,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        position_cache: Path | None = None,
    ) -> None:
        self.dataset = dataset
        self.preprocess = preprocess
        self.position_rule: PositionRule | None = position_rule
        self.seed = seed
        self.augmentation = augmentation or Augmentation()
        self.augmentation.check(dataset.labels, preprocess)
        self._encode = intra_class_position if position_cache is None else PositionCache(position_cache).encode

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Sample `index` with augmentation `draw`, at its final size."""
        index, draw = key
        raw, rng = self.dataset.sample(index), np.random.default_rng([self.seed, draw])
        placement = self.preprocess.draw(raw.size, rng, self.augmentation.draw_scale(rng))
        sample = self.augmentation.change_layout(raw, self.dataset, rng)
        if self.position_rule is not None:
            encode = self._encode if sample is raw else intra_class_position  # a made-up layout does not come again
            sample = _with_position(sample, self.position_rule, placement.flip, encode)
        return self.augmentation.change_colors(self.preprocess.apply(sample, placement), rng)

    def prepare(self, keys: Sequence[tuple[int, int]]) -> None:
        """Tell a dataset that reads from afar which samples are asked for next."""
        fetch = getattr(self.dataset, "fetch", None)
        if fetch is not None:
            fetch([index for index, _ in keys])


def _with_position(sample: Sample, rule: PositionRule, flip: bool, encode: Callable[..., Array]) -> Sample:
    """Add the encoding; if a flip follows, such that the flipped one is right under every rule.

    The rule "paper" divides by the largest signed offset, so mirroring its encoding is not encoding the
    mirrored map.
    """
    if not flip:
        return replace(sample, position=encode(sample.label_map, rule))
    mirrored = mirror(sample)
    return mirror(replace(mirrored, position=encode(mirrored.label_map, rule)))


class TrainingOrder(torch.utils.data.Sampler[list[tuple[int, int]]]):
    """Batches of (index, draw) keys for a `TrainingView`: every epoch a new permutation, every batch full.

    `draw` is the global image counter. Epoch e (images e * length to (e + 1) * length) is the permutation
    seeded with [seed, e]; a batch at the end of an epoch is filled from the next one. So every epoch shows every sample
    exactly once, over any number of processes and of a data loader's workers.

    Args:
        length: number of samples in the dataset, at least 1.
        batch_size: samples per batch.
        seed: of the permutations.
        start_images: images already seen; the order goes on from there.
        total_images: where to stop; the last batch is full even if it passes this number.
        process, processes: yield this process's share of every batch only: each `processes`-th key from key `process`.
        locality: read shard by shard, shuffled within a window; None, or a window as long as an epoch, shuffles each
            epoch as a whole.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        start_images: int,
        total_images: int,
        process: int = 0,
        processes: int = 1,
        locality: Locality | None = None,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.start_images = start_images
        self.total_images = total_images
        self.process = process
        self.processes = processes
        self.locality = locality

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
        return int(_permutation(self.seed, epoch, self.length, self.locality)[place])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int, locality: Locality | None) -> Array:
    rng = np.random.default_rng([seed, epoch])
    if locality is None or locality.window >= length:
        return rng.permutation(length)
    return _local_permutation(rng, length, locality)


def _local_permutation(rng: np.random.Generator, length: int, locality: Locality) -> Array:
    """Shards in random order, each sample put back by up to `window` places, at the end on to the beginning.

    So a batch is drawn evenly from the last `window` samples of a reading shard by shard.
    """
    sizes = np.array(locality.sizes, dtype=np.int64)
    shards = rng.permutation(len(sizes))
    first_sample, first_place = (np.cumsum(counts) - counts for counts in (sizes, sizes[shards]))
    by_shard = np.arange(length) + np.repeat(first_sample[shards] - first_place, sizes[shards])
    place = np.arange(length) + rng.random(length) * locality.window
    order: Array = by_shard[np.argsort(place % length, kind="stable")]
    return order
