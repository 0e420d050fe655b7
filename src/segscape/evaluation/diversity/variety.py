"""How much the pictures of one layout differ: overall, inside a class's region, and outside it.

A multi-modal model should give different pictures of one layout. A model that is multi-modal class by class should
also be able to change one class alone: the class-specific diversity (CSD, inside the class) is then high and the
other-class diversity (OCD, everywhere else) low. Source: Zhu et al., "Semantically multi-modal image synthesis"
(GroupDNet), CVPR 2020. For a model with one global latent the same pictures serve every class, as for that paper's
baselines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import fsum

import torch
from torch import Tensor

from segscape.errors import EvaluationError
from segscape.evaluation.diversity.lpips import PerceptualDistance
from segscape.labels import LabelSet


@dataclass(frozen=True)
class Variety:
    """How much the pictures of one layout differ.

    Attributes:
        overall: mean distance of a pair of pictures.
        inside: by class index: the same inside the class's region (CSD).
        outside: by class index: the same outside it (OCD); without classes that fill the layout.
    """

    overall: float
    inside: Mapping[int, float] = field(default_factory=dict)
    outside: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Diversity:
    """The mean over layouts.

    Attributes:
        overall: mean distance of a pair of pictures of one layout.
        inside: CSD by class index, averaged over the layouts that the class is in.
        outside: OCD by class index, likewise.
        layouts: how many.
    """

    overall: float
    inside: Mapping[int, float]
    outside: Mapping[int, float]
    layouts: int

    @classmethod
    def over(cls, varieties: Iterable[Variety]) -> Diversity:
        """Average over layouts, in any order: sums are exact. Raises EvaluationError if there are none."""
        found = list(varieties)
        if not found:
            raise EvaluationError("the diversity of no layout at all was asked for: give one or more.")
        return cls(
            _mean([one.overall for one in found]),
            _by_class([one.inside for one in found]),
            _by_class([one.outside for one in found]),
            len(found),
        )

    @property
    def mean_csd(self) -> float:
        """mCSD: the mean of `inside` over classes; not a number without classes."""
        return _mean(list(self.inside.values()))

    @property
    def mean_ocd(self) -> float:
        """mOCD: the mean of `outside` over classes; not a number without classes."""
        return _mean(list(self.outside.values()))


def pairwise_diversity(images: Tensor, distance: PerceptualDistance, mask: Tensor | None = None) -> float:
    """The mean distance over all K (K - 1) / 2 pairs of images.

    Args:
        images: `[K, 3, H, W]`, uint8 or in [-1, 1].
        distance: between two images.
        mask: bool `[H, W]`, where to look; everywhere by default.

    Raises:
        EvaluationError: fewer than 2 images.
    """
    count = len(images)
    if count < 2:
        raise EvaluationError(f"{count} picture(s) of a layout have no diversity: generate 2 or more.")
    embedded = distance.embed(images, None if mask is None else mask[None, None])
    total = 0.0
    for first in range(count - 1):
        one = [features[first : first + 1] for features in embedded]
        others = [features[first + 1 :] for features in embedded]
        total += float(distance.compare(others, one).double().sum())
    return total / (count * (count - 1) / 2)


def variety(
    pictures: Tensor,
    label_map: Tensor,
    labels: LabelSet,
    distance: PerceptualDistance,
    resampled: Mapping[int, Tensor] | None = None,
) -> Variety:
    """How much the pictures of one layout differ, overall and for every class in it but the unknown one.

    Args:
        pictures: `[K, 3, H, W]`, with random styles.
        label_map: the layout, int64 `[H, W]`.
        labels: its label set.
        distance: between two images.
        resampled: for models with a style per class: by class index, `[K, 3, H, W]` in which the style of that class
            alone differs. Classes that are left out are not measured. None measures all on `pictures`.

    Raises:
        EvaluationError: fewer than 2 pictures, or pictures of another size than the layout.
    """
    inside, outside = {}, {}
    for index in _classes(label_map, labels):
        samples = pictures if resampled is None else resampled.get(index)
        if samples is None:
            continue
        _require_size(samples, label_map)
        region = label_map == index
        inside[index] = pairwise_diversity(samples, distance, region)
        if not region.all():
            outside[index] = pairwise_diversity(samples, distance, ~region)
    return Variety(pairwise_diversity(pictures, distance), inside, outside)


def _classes(label_map: Tensor, labels: LabelSet) -> list[int]:
    return [index for index in torch.unique(label_map).tolist() if index != labels.unknown]


def _require_size(pictures: Tensor, label_map: Tensor) -> None:
    if pictures.shape[-2:] != label_map.shape:
        sizes = f"{list(pictures.shape[-2:])} and their layout {list(label_map.shape)}"
        raise EvaluationError(f"pictures are {sizes}, but the regions of classes need one size for both.")


def _by_class(values: list[Mapping[int, float]]) -> dict[int, float]:
    classes = sorted({index for one in values for index in one})
    return {index: _mean([one[index] for one in values if index in one]) for index in classes}


def _mean(values: list[float]) -> float:
    return fsum(values) / len(values) if values else float("nan")
