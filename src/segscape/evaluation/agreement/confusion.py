"""Segmentation agreement: does a segmenter find in the generated image what the layout asked for?

Counts are kept as integers until the very end, so that they add up exactly over batches and processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from segscape.errors import EvaluationError
from segscape.labels import LabelSet

NO_CLASS = -1
"""A predicted class that the label set does not have."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """How often each class was segmented as which; agreements of several batches are added with `+`.

    Do not write into its tensor.

    Attributes:
        counts: pixels, int64 `[C, C + 1]` on the CPU: rows are the truth, columns the prediction, and the last column
            is a prediction without counterpart in the label set. The rows of excluded classes are zero.
        excluded: classes whose pixels are left out of the truth: the unknown class, and those that the segmenter does
            not know. To predict one of them is wrong like any other mistake.
    """

    counts: Tensor
    excluded: frozenset[int] = frozenset()

    @classmethod
    def zero(cls, num_classes: int, excluded: Iterable[int] = ()) -> Agreement:
        """The agreement of no pixels, to start a sum with."""
        return cls(torch.zeros(num_classes, num_classes + 1, dtype=torch.int64), frozenset(excluded))

    @classmethod
    def of(cls, truth: Tensor, predicted: Tensor, num_classes: int, excluded: Iterable[int] = ()) -> Agreement:
        """Count the pixels of a batch.

        Args:
            truth: integer `[N, H, W]` in 0..C-1.
            predicted: integer `[N, H, W]` in 0..C-1, or -1 for a class that the label set does not have.
            num_classes: C, with the unknown class.
            excluded: indices of the classes that are left out of the truth.

        Raises:
            EvaluationError: the shapes differ, or a value is out of range.
        """
        if truth.shape != predicted.shape:
            raise EvaluationError(
                f"the truth is {list(truth.shape)} and the prediction {list(predicted.shape)}: both must be [N, H, W]."
            )
        true, found = (labels.detach().long().cpu().flatten() for labels in (truth, predicted))
        _require_range("truth", true, 0, num_classes)
        _require_range("prediction", found, NO_CLASS, num_classes)
        columns = num_classes + 1
        pairs = true * columns + torch.where(found == NO_CLASS, num_classes, found)
        counts = torch.bincount(pairs, minlength=num_classes * columns).view(num_classes, columns)
        left_out = frozenset(excluded)
        counts[sorted(left_out)] = 0
        return cls(counts, left_out)

    def __add__(self, other: Agreement) -> Agreement:
        """The agreement of both together; raises EvaluationError if they exclude other classes."""
        if self.counts.shape != other.counts.shape or self.excluded != other.excluded:
            raise EvaluationError("agreements of different label sets or excluded classes cannot be added.")
        return Agreement(self.counts + other.counts, self.excluded)

    @property
    def pixels(self) -> int:
        """How many pixels were compared."""
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        """Share of the compared pixels that were segmented as their class; nan of none."""
        return float(self.counts.diagonal().sum()) / self.pixels if self.pixels else float("nan")

    @property
    def iou(self) -> Tensor:
        """Intersection over union of each class, float64 `[C]`.

        It is nan for excluded classes, and for those that occur neither in the truth nor in the prediction.
        """
        hits = self.counts.diagonal()
        union = self.counts.sum(1) + self.counts[:, :-1].sum(0) - hits
        iou = hits.double() / union  # 0 / 0 is nan
        iou[sorted(self.excluded)] = torch.nan
        return iou

    def by_name(self, labels: LabelSet) -> dict[str, float]:
        """`iou` by class name, in the order of the label set."""
        return dict(zip(labels.names, self.iou.tolist(), strict=True))

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that have one; nan if none has."""
        return float(self.iou.nanmean())


def _require_range(what: str, labels: Tensor, first: int, end: int) -> None:
    if labels.numel() and (int(labels.min()) < first or int(labels.max()) >= end):
        raise EvaluationError(
            f"the {what} holds classes {int(labels.min())} to {int(labels.max())}, the label set allows {first} to "
            f"{end - 1}: map them to the label set's indices first."
        )
