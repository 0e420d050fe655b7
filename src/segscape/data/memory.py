"""A dataset kept in memory: for samples that are small and costly to make."""

from __future__ import annotations

from segscape.data.sample import Dataset, Sample
from segscape.labels import LabelSet


class InMemory:
    """Another dataset, each sample of which is read or drawn once and then kept.

    Args:
        dataset: the dataset to keep; all of it must fit in memory (once per reading process).
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._samples: dict[int, Sample] = {}

    @property
    def labels(self) -> LabelSet:
        """The label set of the samples."""
        return self.dataset.labels

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, index: int) -> Sample:
        """Sample number `index`; the same object at every call."""
        if index not in self._samples:
            self._samples[index] = self.dataset.sample(index)
        return self._samples[index]
