"""From what was measured to scores that carry their protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from segscape.evaluation.agreement.confusion import Agreement
from segscape.evaluation.diversity.lpips import PerceptualDistance
from segscape.evaluation.diversity.variety import Diversity, Variety
from segscape.evaluation.fidelity.distances import (
    FeatureStatistics,
    frechet_distance,
    kernel_distance,
    prdc,
    singularity_note,
)
from segscape.evaluation.fidelity.extractors import Extractor
from segscape.evaluation.fidelity.reference import Features, Reference
from segscape.evaluation.report.cases import ClassScore
from segscape.evaluation.score import Score
from segscape.labels import LabelSet

NEIGHBOURS = 5
"""Of precision, recall, density and coverage, as in Naeem et al., ICML 2020."""


def fidelity_scores(
    features: Features,
    real: Features | None,
    reference: Reference | FeatureStatistics,
    extractor: Extractor,
    protocol: str,
    warnings: list[str],
) -> list[Score]:
    """Frechet and kernel distance, precision, recall, density and coverage; only the first from mere statistics.

    Args:
        features: of the generated pictures, `[N, D]`.
        real: of the real images `[M, D]`; None where only their statistics are known.
        reference: the real images or their statistics.
        extractor: the network of the features.
        protocol: text of the protocol so far.
        warnings: sentences for the report are appended here.
    """
    generated = FeatureStatistics.from_features(features)
    if real is None:
        assert isinstance(reference, FeatureStatistics)
        against, target = _describe(reference), reference
        warnings.append("The reference is a file of statistics: only the Frechet distance can be computed from it.")
    else:
        assert isinstance(reference, Reference)
        against = reference.describe()
        target = FeatureStatistics.from_features(real)
    text = f"{protocol}; against {against}; features {extractor.description}"
    name, note = extractor.names, singularity_note(target, generated)
    scores = [Score(name.frechet, frechet_distance(target, generated), "", "lower", "fidelity", text, note)]
    if real is None:
        return scores
    kernel, deviation = kernel_distance(real, features)
    scores.append(
        Score(name.kernel, kernel, "", "lower", "fidelity", text, f"standard deviation over subsets {deviation:.2g}")
    )
    if min(len(real), len(features)) <= NEIGHBOURS:
        warnings.append(f"Precision, recall, density and coverage need more than {NEIGHBOURS} images on both sides.")
        return scores
    shares = prdc(real, features, neighbours=NEIGHBOURS)
    scores += [
        Score(
            name.of(kind), getattr(shares, kind), "", "higher", "fidelity", f"{text}; {NEIGHBOURS} nearest neighbours"
        )
        for kind in ("precision", "recall", "density", "coverage")
    ]
    return scores


def agreement_scores(generated: Agreement, real: Agreement, protocol: str) -> list[Score]:
    """mIoU and accuracy in percent on the generated pictures, and on the real photos: the ceiling."""
    return [
        Score(name, 100 * value, "%", "higher", "agreement", protocol)
        for name, value in (
            ("mIoU", generated.mean_iou),
            ("accuracy", generated.accuracy),
            ("mIoU (real images)", real.mean_iou),
            ("accuracy (real images)", real.accuracy),
        )
    ]


def class_scores(labels: LabelSet, generated: Agreement, real: Agreement) -> tuple[ClassScore, ...]:
    """IoU of every class on the generated pictures, with that on the real photos as its ceiling."""
    pixels = generated.counts.sum(1).tolist()
    ious = zip(generated.iou.tolist(), real.iou.tolist(), strict=True)
    return tuple(
        ClassScore(one.name, one.color, _number(iou), _number(ceiling), count)
        for one, (iou, ceiling), count in zip(labels.classes, ious, pixels, strict=True)
    )


def diversity_scores(
    varieties: Sequence[Variety], distance: PerceptualDistance, pictures: int, base: str, by_class: bool
) -> list[Score]:
    """Mean pairwise distance of the pictures of a layout, and the means of CSD and OCD over classes.

    Args:
        varieties: of the layouts.
        distance: with which they were measured.
        pictures: of each layout.
        base: text of the protocol so far.
        by_class: the style of each class was drawn anew by itself, for CSD and OCD.
    """
    found = Diversity.over(varieties)
    text = f"{base}; {pictures} pictures of each of {found.layouts} layouts; {distance.description}"
    classes = f"{text}; {'each class resampled by itself' if by_class else 'the same pictures for every class'}"
    return [
        Score(f"diversity ({distance.name})", found.overall, "", "higher", "diversity", text),
        Score(f"mCSD ({distance.name})", found.mean_csd, "", "higher", "diversity", classes),
        Score(f"mOCD ({distance.name})", found.mean_ocd, "", "lower", "diversity", classes),
    ]


def _describe(statistics: FeatureStatistics) -> str:
    """Text for protocols of statistics whose images are not at hand."""
    digest = hashlib.sha256(np.concatenate([statistics.mean, statistics.covariance.ravel()]).tobytes()).hexdigest()
    return f"statistics of {statistics.count or 'an unknown number of'} real images (sha256 {digest[:12]})"


def _number(value: float) -> float | None:
    """None for nan."""
    return value if value == value else None
