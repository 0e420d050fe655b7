"""`evaluate`: all scores of one set of pictures, by one protocol."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from segscape.data.sample import Batch, Dataset, collate, image_array
from segscape.data.transforms import Preprocess
from segscape.data.view import TrainingView
from segscape.errors import EvaluationError
from segscape.evaluation.agreement.confusion import Agreement
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.evaluation.agreement.segmenters import Segmenter
from segscape.evaluation.diversity.lpips import PerceptualDistance
from segscape.evaluation.diversity.variety import Variety, variety
from segscape.evaluation.fidelity.distances import FeatureStatistics
from segscape.evaluation.fidelity.extractors import Extractor
from segscape.evaluation.fidelity.reference import Reference, extract, reference_features
from segscape.evaluation.processes import Processes
from segscape.evaluation.protocol import Protocol
from segscape.evaluation.report.cases import Case, ClassScore
from segscape.evaluation.report.report import Report
from segscape.evaluation.score import Score
from segscape.evaluation.scoring import agreement_scores, class_scores, diversity_scores, fidelity_scores
from segscape.evaluation.sources import FolderPictures, Pictures, PictureSource
from segscape.files import write_png
from segscape.labels import LabelSet
from segscape.layout import Size

Picture = npt.NDArray[np.uint8]

SHOWN = 6
"""Rows of the sample grid, and at most this many of the worst and the best cases."""


class Judge(NamedTuple):
    """A segmenter, and how its classes correspond to the label set's."""

    segmenter: Segmenter
    mapping: ClassMapping

    def predict(self, pictures: Pictures) -> Tensor:
        """Label-set indices `[N, H, W]` of pictures uint8 `[N, H, W, 3]`; -1 where there is no counterpart."""
        return self.mapping.apply(self.segmenter(_channels_first(pictures)))

    def describe(self) -> str:
        """Text for protocols."""
        mapping = self.mapping
        names = ", ".join(mapping.labels.names[index] for index in sorted(mapping.excluded)) or "no class"
        return (
            f"segmenter {self.segmenter.description}; {mapping.describe()}; pixels of {names} left out; "
            "IoU averaged over the classes that occur"
        )


class DiversityPlan(NamedTuple):
    """How to measure the diversity of a multi-modal model: the distance, how many layouts, pictures of each."""

    distance: PerceptualDistance
    layouts: int = 20
    pictures: int = 5


@dataclass(frozen=True)
class Evaluation:
    """Scores, and the pictures to look at.

    Attributes:
        report: the scores.
        grid: cases evenly spread over the data.
        worst, best: the cases with the lowest and the highest agreement; empty without a segmenter.
        samples: of a multi-modal model: coloured layouts, each with several pictures.
    """

    report: Report
    grid: tuple[Case, ...]
    worst: tuple[Case, ...]
    best: tuple[Case, ...]
    samples: tuple[tuple[Picture, list[Picture]], ...]


@dataclass
class _Measured:
    """What one process has found about its share of the data; lists hold (number, value)."""

    digests: list[tuple[int, bytes]]
    features: list[tuple[int, npt.NDArray[np.float32]]]
    accuracies: list[tuple[int, float]]
    generated: Agreement | None
    real: Agreement | None


class _View:
    """The data as the protocol shows them to the network."""

    def __init__(self, dataset: Dataset, size: Size, source: PictureSource) -> None:
        preprocess = Preprocess(mode="fixed", crop_size=size)
        self.samples = TrainingView(dataset, preprocess, source.position_rule)
        self.labels = dataset.labels

    def batch(self, numbers: Sequence[int]) -> Batch:
        return collate([self.samples[number, 0] for number in numbers], self.labels)


def evaluate(
    source: PictureSource,
    dataset: Dataset,
    *,
    protocol: Protocol,
    size: Size,
    reference: Reference | FeatureStatistics | None = None,
    extractor: Extractor | None = None,
    judge: Judge | None = None,
    diversity: DiversityPlan | None = None,
    further: Sequence[Score] = (),
    machine: dict[str, str | int] | None = None,
    batch_size: int = 4,
    processes: Processes | None = None,
    cache: Path | None = None,
    keep: Path | None = None,
) -> Evaluation | None:
    """Measure pictures of all layouts of a dataset.

    What is given decides what is measured: fidelity needs `reference` and `extractor`, agreement needs `judge`, and
    diversity a multi-modal source and `diversity`. Neither the batch size nor the number of processes changes a score
    (beyond the rounding of float32 networks): features are gathered in the order of the data, counts are integers.

    Args:
        source: gives the pictures.
        dataset: photos and label maps.
        protocol: how.
        size: (height, width) of the evaluation.
        reference: the real images of the fidelity scores, or their statistics (then only the Frechet distance).
        extractor: the feature network of the fidelity scores.
        judge: the segmenter of the agreement scores.
        diversity: how to measure the diversity of multi-modal sources.
        further: scores measured elsewhere (cost) that belong into the report.
        machine: what it ran on.
        batch_size: pictures at a time in each process.
        processes: who shares the work.
        cache: see `reference_features`.
        keep: folder for the generated pictures; not kept by default.

    Returns:
        The evaluation in the first process, None in the others.

    Raises:
        EvaluationError: fewer than two layouts, or fewer real images.
        DataError, LabelMapError, LayoutError: from the data and the model.
    """
    processes = processes or Processes()
    if len(dataset) < 2:
        raise EvaluationError(f"the data hold {len(dataset)} pair: statistics need two or more.")
    _require_statistics(reference, extractor)
    _require_readable(source, dataset, processes)
    view = _View(dataset, size, source)
    real = None
    if isinstance(reference, Reference) and extractor is not None:
        real = reference_features(reference, size, extractor, batch_size=batch_size, processes=processes, cache=cache)
    measured = _measure(source, view, extractor, judge, batch_size, processes, keep)
    varied = _vary(source, view, diversity, processes)

    digests = processes.gather(measured.digests)
    base = f"{protocol.describe(size)}; {len(dataset)} layouts (sha256 {_together(digests)})"
    scores: list[Score] = []
    warnings = [judge.mapping.remark()] if judge is not None and judge.mapping.unmatched else []
    if extractor is not None and reference is not None:
        features = np.stack(processes.gather(measured.features))
        if processes.first:
            scores += fidelity_scores(features, real, reference, extractor, base, warnings)
    classes: tuple[ClassScore, ...] = ()
    accuracies = processes.gather(measured.accuracies)
    if judge is not None and measured.generated is not None and measured.real is not None:
        generated = _total(measured.generated, processes)
        ceiling = _total(measured.real, processes)
        scores += agreement_scores(generated, ceiling, f"{base}; {judge.describe()}")
        classes = class_scores(dataset.labels, generated, ceiling)
    if diversity is not None and source.multimodal:
        varieties = processes.gather(varied)
        scores += diversity_scores(varieties, diversity.distance, diversity.pictures, base, source.by_class)
    if not processes.first:
        return None

    report = Report(
        title=source.title,
        scores=(*scores, *further),
        classes=classes,
        machine=machine or {},
        protocol=protocol.model_dump() | {"size": list(size), "text": base},
        created=datetime.date.today().isoformat(),
        images=len(dataset),
        warnings=tuple(warnings),
    )
    ranked = sorted(range(len(accuracies)), key=lambda number: (accuracies[number], number))
    ranked = [number for number in ranked if not np.isnan(accuracies[number])]
    half = min(SHOWN, len(ranked) // 2)
    case = partial(_case, source, view, judge)
    return Evaluation(
        report,
        grid=tuple(case(number) for number in spread(len(dataset), SHOWN)),
        worst=tuple(case(number) for number in ranked[:half]),
        best=tuple(case(number) for number in ranked[::-1][:half]),
        samples=tuple(_samples(source, view, diversity)),
    )


def _require_statistics(reference: Reference | FeatureStatistics | None, extractor: Extractor | None) -> None:
    """Find out before the pictures are made whether the reference can be used."""
    if isinstance(reference, Reference) and len(reference.files) < 2:
        raise EvaluationError(f"the reference {reference.name!r} holds one image: statistics need two or more.")
    if isinstance(reference, FeatureStatistics) and extractor is not None:
        dimensions = len(reference.mean)
        if dimensions != extractor.dimensions:
            raise EvaluationError(
                f"the statistics have {dimensions} dimensions, the features {extractor.dimensions}: "
                "they come from another network (--features)."
            )


def _require_readable(source: PictureSource, dataset: Dataset, processes: Processes) -> None:
    """Read every file once, so that a damaged one is found now and not after the work on those before it."""
    share = processes.share(len(dataset))
    for number in tqdm(share, desc="checking", leave=False, disable=None if processes.first else True):
        dataset.sample(number)
        if isinstance(source, FolderPictures):
            source.check(number)


def _measure(
    source: PictureSource,
    view: _View,
    extractor: Extractor | None,
    judge: Judge | None,
    batch_size: int,
    processes: Processes,
    keep: Path | None,
) -> _Measured:
    """Generate the pictures of this process's share, and take from each what the scores need."""
    none = None if judge is None else Agreement.zero(view.labels.num_classes, judge.mapping.excluded)
    measured = _Measured([], [], [], none, none)
    share = processes.share(len(view.samples))
    with tqdm(total=len(share), desc="pictures", unit="img", disable=None if processes.first else True) as bar:
        for start in range(0, len(share), batch_size):
            numbers = share[start : start + batch_size]
            batch = view.batch(numbers)
            pictures = source(batch, numbers)
            measured.digests += zip(numbers, map(_digest, batch.layout.label_map), strict=True)
            if extractor is not None:
                measured.features += zip(numbers, extract(list(pictures), extractor), strict=True)
            if judge is not None:
                _judge(measured, judge, batch, numbers, pictures)
            if keep is not None:
                _keep(keep, batch.names, pictures)
            bar.update(len(numbers))
    return measured


def _judge(measured: _Measured, judge: Judge, batch: Batch, numbers: Sequence[int], pictures: Pictures) -> None:
    """Segment pictures and the real photos of the same layouts, and count."""
    assert measured.generated is not None and measured.real is not None
    truth = batch.layout.label_map
    classes, excluded = batch.layout.num_classes, measured.generated.excluded
    for number, true, found in zip(numbers, truth, judge.predict(pictures), strict=True):
        one = Agreement.of(true[None], found[None], classes, excluded)
        measured.accuracies.append((number, one.accuracy))
        measured.generated += one
    found = judge.predict(image_array(batch.images))
    measured.real += Agreement.of(truth, found, classes, excluded)


def _total(agreement: Agreement, processes: Processes) -> Agreement:
    """The sum over all processes."""
    parts = processes.gather([(processes.rank, agreement)])
    return sum(parts[1:], start=parts[0])


def _vary(
    source: PictureSource, view: _View, plan: DiversityPlan | None, processes: Processes
) -> list[tuple[int, Variety]]:
    """The variety of this process's share of the plan's layouts, which are evenly spread over the data."""
    if plan is None or not source.multimodal:
        return []
    numbers = spread(len(view.samples), plan.layouts)
    found = []
    for place in tqdm(processes.share(len(numbers)), desc="diversity", disable=None if processes.first else True):
        number = numbers[place]
        batch = view.batch([number])
        label_map = batch.layout.label_map[0]
        pictures = _draws(source, batch, number, plan)
        resampled = None
        if source.by_class:
            present = [index for index in torch.unique(label_map).tolist() if index != view.labels.unknown]
            resampled = {index: _draws(source, batch, number, plan, index) for index in present}
        found.append((place, variety(pictures, label_map, view.labels, plan.distance, resampled)))
    return found


def _draws(
    source: PictureSource, batch: Batch, number: int, plan: DiversityPlan, only_class: int | None = None
) -> Tensor:
    """The pictures of one layout, uint8 `[K, 3, H, W]`; only one class's style differs, if that is wanted."""
    images = [source(batch, [number], draw, only_class)[0] for draw in range(plan.pictures)]
    return _channels_first(np.stack(images))


def _samples(source: PictureSource, view: _View, plan: DiversityPlan | None) -> Iterator[tuple[Picture, list[Picture]]]:
    """Coloured layouts with several pictures of each."""
    if plan is None or not source.multimodal:
        return
    for number in spread(len(view.samples), SHOWN // 2):
        batch = view.batch([number])
        colors = view.labels.colorize(batch.layout.label_map[0].numpy())
        yield colors, [source(batch, [number], draw)[0] for draw in range(min(plan.pictures, SHOWN))]


def _case(source: PictureSource, view: _View, judge: Judge | None, number: int) -> Case:
    """What a reader looks at for one layout; its picture is generated again, and is the same."""
    batch = view.batch([number])
    picture = source(batch, [number])
    label_map = batch.layout.label_map
    predicted, accuracy = None, float("nan")
    if judge is not None:
        found = judge.predict(picture)
        accuracy = Agreement.of(label_map, found, view.labels.num_classes, judge.mapping.excluded).accuracy
        predicted = _colorize(view.labels, found[0])
    return Case(
        name=batch.names[0],
        accuracy=accuracy,
        layout=view.labels.colorize(label_map[0].numpy()),
        real=image_array(batch.images)[0],
        generated=picture[0],
        predicted=predicted,
    )


def _colorize(labels: LabelSet, found: Tensor) -> Picture:
    """A prediction in the classes' colours, black where it has no counterpart."""
    colors = labels.colorize(found.clamp_min(0).numpy())
    colors[found.numpy() < 0] = 0
    return colors


def _channels_first(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def _digest(label_map: Tensor) -> bytes:
    return hashlib.sha256(label_map.to(torch.int32).numpy().tobytes()).digest()


def _together(digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()[:12]


def spread(length: int, count: int) -> list[int]:
    """At most `count` numbers below `length`, evenly spread from the first to the last."""
    count = min(count, length)
    return [round(place * (length - 1) / max(1, count - 1)) for place in range(count)]


def _keep(folder: Path, names: Sequence[str], pictures: Pictures) -> None:
    for name, picture in zip(names, pictures, strict=True):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, Image.fromarray(picture))
