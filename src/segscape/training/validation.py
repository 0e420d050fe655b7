"""Measuring the model while it is trained, and keeping the best."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segscape.data.sample import Dataset, Sample
from segscape.data.transforms import resize
from segscape.errors import RecipeError
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.evaluation.agreement.segmenters import default_segmenter, open_segmenter
from segscape.evaluation.evaluate import Judge, evaluate, spread
from segscape.evaluation.fidelity.distances import FeatureStatistics
from segscape.evaluation.fidelity.extractors import lite0_extractor
from segscape.evaluation.fidelity.reference import extract
from segscape.evaluation.processes import Processes
from segscape.evaluation.protocol import find_protocol
from segscape.evaluation.score import Score
from segscape.evaluation.sources import ModelPictures
from segscape.files import write_text
from segscape.inference import Pipeline
from segscape.labels import LabelSet
from segscape.layout import Size
from segscape.models.generator import Generator
from segscape.training.recipe import ValidationSection


class Validation:
    """Scores of the model by the protocol `validation`, every so many images; the best model goes to `RUN/best`.

    The Frechet distance looks through EfficientNet-Lite0 and compares with the photographs of the same layouts; mIoU
    and accuracy need a segmenter. Its state is a part of the checkpoint, so a resumed run measures and keeps what an
    uninterrupted one does. All processes share the work, and must measure together.

    Args:
        section: of the recipe.
        labels: the label set that is trained with.
        size: (height, width) of the pictures.
        every: images between two measurements.
        end: images of the whole run, after which the model is measured too.
        best: the folder for the best model.
        device: where the networks run.
        processes: who shares the work.

    Raises:
        RecipeError: the data have another label set, hold fewer than two samples, or the metric needs a segmenter.
        DataError, LabelMapError, CheckpointError, DependencyError: the data, the features' network or the segmenter
            cannot be opened.
    """

    def __init__(
        self,
        section: ValidationSection,
        labels: LabelSet,
        size: Size,
        every: int,
        end: int,
        best: Path,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.dataset = _Spread(section.data.open(), section.count)
        if self.dataset.labels != labels:
            raise RecipeError(
                f"validation.data has the label set {self.dataset.labels.name!r}, and data has {labels.name!r}: "
                "both must have the same."
            )
        if len(self.dataset) < 2:
            raise RecipeError("validation needs 2 samples or more, as its scores are statistics: raise its count.")
        self.metric, self.size, self.every, self.end, self.folder = section.metric, size, every, end, best
        self.device, self.processes = device, processes
        self.judge = _judge(section, labels, device)
        self.extractor = lite0_extractor(device)
        self.measured = 0
        self.best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """When it was measured last, and the best value so far."""
        return {"measured": self.measured, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them over."""
        self.measured, self.best = int(state_dict["measured"]), state_dict["best"]

    def due(self, images: int) -> bool:
        """Whether a model that was trained with so many images is to be measured, and was not yet."""
        return images > self.measured and (images // self.every > self.measured // self.every or images >= self.end)

    def measure(self, images: int, generator: Generator) -> dict[str, float]:
        """Scores by name, `validation/...`; a model better than all before is saved.

        Args:
            images: how many it was trained with.
            generator: is put in evaluation mode.

        Raises:
            DataError, LabelMapError: a validation sample cannot be read.
            EvaluationError: a picture is not finite.
            OSError: the best model cannot be written.
        """
        protocol = find_protocol("validation")
        source = ModelPictures(Pipeline(generator, self.device), protocol, f"the model after {images} images")
        evaluation = evaluate(
            source,
            self.dataset,
            protocol=protocol,
            size=self.size,
            reference=self._photographs,
            extractor=self.extractor,
            judge=self.judge,
            processes=self.processes,
        )
        scores = self.processes.agree(() if evaluation is None else evaluation.report.scores)
        self.measured = images
        self._keep_best(images, generator, next(score for score in scores if self._is_metric(score)))
        return {f"validation/{score.name}": score.value for score in scores}

    def _is_metric(self, score: Score) -> bool:
        names = {"fd": self.extractor.names.frechet, "miou": "mIoU", "accuracy": "accuracy"}
        return score.name == names[self.metric]

    def _keep_best(self, images: int, generator: Generator, score: Score) -> None:
        sign = -1 if score.better == "lower" else 1
        if self.best is not None and not sign * score.value > sign * self.best:
            return
        self.best = score.value
        if self.processes.first:
            generator.save_pretrained(self.folder)
            content = {"images": images, "metric": score.name, "value": score.value, "protocol": score.protocol}
            write_text(self.folder / "score.json", json.dumps(content, indent=1))

    @cached_property
    def _photographs(self) -> FeatureStatistics:
        """Of the real photographs, at the size of the evaluation."""
        own = []
        for number in self.processes.share(len(self.dataset)):
            image = resize(self.dataset.sample(number), self.size).image
            own += [] if image is None else [(number, extract([image], self.extractor)[0])]
        return FeatureStatistics.from_features(np.stack(self.processes.gather(own)))


class _Spread:
    """At most `count` samples of a dataset, evenly spread over it."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self.dataset = dataset
        self.numbers = spread(len(dataset), count)

    @property
    def labels(self) -> LabelSet:
        return self.dataset.labels

    def __len__(self) -> int:
        return len(self.numbers)

    def sample(self, index: int) -> Sample:
        return self.dataset.sample(self.numbers[index])


def _judge(section: ValidationSection, labels: LabelSet, device: torch.device) -> Judge | None:
    where = section.segmenter or default_segmenter(labels)
    if where is None:
        if section.metric != "fd":
            raise RecipeError(
                f"validation.metric {section.metric} needs a segmenter: name one in validation.segmenter."
            )
        return None
    segmenter = open_segmenter(where, device)
    return Judge(segmenter, ClassMapping.of(segmenter.classes, labels, None))
