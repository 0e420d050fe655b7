"""Training a U-Net that segments photographs, to judge generated images of the same classes with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.data
from torch import Tensor

from segscape.data.sample import Dataset, Sample, image_tensor
from segscape.data.transforms import Preprocess
from segscape.data.view import TrainingOrder
from segscape.errors import ConfigError, DataError, TrainingError
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.evaluation.agreement.segmenters import UNetSegmenter, agreement_on_photographs
from segscape.evaluation.agreement.unet import EncoderName, UNet, UNetConfig
from segscape.files import write_text
from segscape.labels import LabelSet
from segscape.layout import Size
from segscape.training.tracking import Tracker

IGNORED = -1
"""Label of the pixels that the loss leaves out: the unknown class, and what lies outside a small picture."""

WARM_UP = 0.05
"""Share of the run in which the learning rate rises."""


@dataclass(frozen=True)
class Augmentation:
    """What a training picture goes through.

    Attributes:
        size: (height, width) to resize pictures to (the aspect is not kept), and of the window cut out after scaling.
        scales: lowest and highest factor on `size`, drawn evenly on a logarithmic scale.
        jitter: brightness, contrast and saturation change by a factor of up to 1 +- this.
    """

    size: Size
    scales: tuple[float, float] = (0.75, 1.5)
    jitter: float = 0.2

    def __call__(self, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Scale, cut, mirror half of the time, change the colours.

        Returns:
            The image, float32 `[3, H, W]` in [-1, 1], and its labels, int64 `[H, W]`, `IGNORED` outside the picture.
        """
        factor = math.exp(rng.uniform(*np.log(self.scales)))
        height, width = (max(1, round(side * factor)) for side in self.size)
        preprocess = Preprocess(mode="resize_and_crop", load_size=(height, width), crop_size=self.size, flip=True)
        placement = preprocess.draw(sample.size, rng)
        # Cutting fills with zeros, which is a class: let it be 0 for the moment.
        cut = preprocess.apply(replace(sample, label_map=sample.label_map - IGNORED), placement)
        image = self._with_other_colors(image_tensor(cast(Any, cut.image)), rng)
        return image, torch.from_numpy(np.ascontiguousarray(cut.label_map)) + IGNORED

    def _with_other_colors(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        brightness, contrast, saturation = 1 + self.jitter * rng.uniform(-1, 1, size=3)
        mean, grey = image.mean(), image.mean(0, keepdim=True)
        colored = grey + saturation * (image - grey)
        changed: Tensor = mean + contrast * (colored - mean) + (brightness - 1)
        return changed.clamp(-1, 1)


class _AugmentedView(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """A dataset through its augmentation, keyed by (index, draw): draw number k depends on (seed, k) alone."""

    def __init__(self, dataset: Dataset, augment: Augmentation, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, draw = key
        return self.augment(_with_image(self.dataset.sample(index)), np.random.default_rng([self.seed, draw]))


def train_segmenter(
    dataset: Dataset,
    run_dir: str | Path,
    *,
    val: Dataset | None = None,
    encoder: EncoderName = "efficientnet-lite0",
    base_channels: int = 16,
    size: Size = (256, 256),
    scales: tuple[float, float] = (0.75, 1.5),
    images: int = 10_000,
    batch_size: int = 8,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.01,
    balance: float = 0.0,
    seed: int = 0,
    workers: int = 0,
    log_images: int = 200,
    device: str | torch.device = "cpu",
) -> Path:
    """Train a U-Net on photographs and their label maps, and return the folder of the saved one, `RUN/model`.

    Cross entropy, without the unknown class; AdamW, whose rate rises over `WARM_UP` of the run and falls to zero along
    a cosine. The run folder holds `metrics.jsonl`, `model/`, and with `val` the scores in `scores.json`. Ctrl-C saves
    what there is. The same seed gives the same weights (bit for bit on the CPU).

    Args:
        dataset: what to learn from.
        run_dir: where to write.
        val: what to measure on at the end, resized to `size`.
        encoder: `plain`, or `efficientnet-lite0` which starts from its ImageNet weights.
        base_channels: width of the decoder (and of a plain encoder) at full resolution.
        size: (height, width) of training pictures; multiples of 32 waste nothing.
        scales: range of the random scale on `size`.
        images: length of the run.
        batch_size: pictures per step, at least 2 (batch norm).
        learning_rate: the highest one.
        weight_decay: of AdamW.
        balance: 0 weighs all pixels alike, 1 weighs classes by median frequency over frequency (Eigen and Fergus, ICCV
            2015), values between by that to the power of `balance`.
        seed: of weights, order and augmentation.
        workers: processes that read and augment pictures.
        log_images: a line of metrics after so many pictures.
        device: where to train.

    Raises:
        ConfigError: an option is out of range.
        DataError, LabelMapError: the pictures cannot be read or have no photographs.
        CheckpointError: the encoder's weights are not installed.
        TrainingError: the loss is not finite; nothing is saved then.
    """
    _require_options(batch_size, images, scales)
    run = Path(run_dir)
    torch.manual_seed(seed)
    config = UNetConfig.build(labels=dataset.labels, encoder=encoder, base_channels=base_channels, image_size=size)
    model = UNet.with_pretrained_encoder(config).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    weights = None if balance == 0 else class_weights(dataset, balance).to(device)
    run.mkdir(parents=True, exist_ok=True)
    tracker = Tracker(run, min(log_images, images), active=True)
    tracker.start(0, images)

    seen = 0
    try:
        for image, labels in _batches(
            _AugmentedView(dataset, Augmentation(size, scales), seed), batch_size, images, seed, workers
        ):
            rate = learning_rate * _schedule(seen / images)
            for group in optimizer.param_groups:
                group["lr"] = rate
            target = _ignoring(labels.to(device), dataset.labels)
            logits = model(image.to(device, memory_format=torch.channels_last))
            loss = _cross_entropy(logits, target, weights)
            value = _finite(loss, seen)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seen += batch_size
            tracker.update(min(seen, images), batch_size, {"cross_entropy": value, "learning_rate": rate})
    except KeyboardInterrupt:
        tracker.message(f"stopped by Ctrl-C after {seen} images")
    tracker.close()
    _require_finite_weights(model, seen)
    model.eval().save_pretrained(run / "model", card=_card(dataset, seen))
    if val is not None:
        _write_scores(run, val, size, device)
    return run / "model"


def class_weights(dataset: Dataset, balance: float) -> Tensor:
    """Weight of each class in the loss, float32 `[C]`: (median frequency / frequency) ** balance, 0 if it never occurs.

    The mean over the labelled pixels is 1, so that the learning rate keeps its meaning. Reads every label map.

    Raises:
        DataError: no pixel has a known class, or a file cannot be read.
    """
    num_classes = dataset.labels.num_classes
    counts = np.zeros(num_classes)
    for index in range(len(dataset)):
        counts += np.bincount(dataset.sample(index).label_map.ravel(), minlength=num_classes)
    if dataset.labels.unknown is not None:
        counts[dataset.labels.unknown] = 0
    present = counts > 0
    if not present.any():
        raise DataError(
            "no pixel of the label maps has a known class, so there is nothing to learn: check the label set."
        )
    weights = np.zeros(num_classes)
    weights[present] = (np.median(counts[present]) / counts[present]) ** balance
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()


def _cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over the labelled pixels; 0 if there are none."""
    total = F.cross_entropy(logits, target, weights, ignore_index=IGNORED, reduction="sum")
    return total / (target != IGNORED).sum().clamp(min=1)


def _finite(loss: Tensor, images: int) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise TrainingError(
            f"the cross entropy is {value} after {images} images: start again with a lower learning rate."
        )
    return value


def _require_finite_weights(model: UNet, images: int) -> None:
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise TrainingError(f"{name} is not finite after {images} images: start again with a lower learning rate.")


def _card(dataset: Dataset, images: int) -> str:
    return (
        f"# A segmenter for {dataset.labels.name}\n\nA U-Net trained with `segscape segmenter train` on {len(dataset)} "
        f"pairs, {images} pictures in all. Use it with `segscape evaluate --segmenter FOLDER`.\n"
    )


def _schedule(progress: float) -> float:
    """Factor on the learning rate at a progress of 0 to 1: a linear rise, then half a cosine down to 0."""
    if progress < WARM_UP:
        return (progress + 0.01) / (WARM_UP + 0.01)
    return 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))


def _ignoring(labels: Tensor, label_set: LabelSet) -> Tensor:
    """The labels with `IGNORED` in place of the unknown class."""
    return labels if label_set.unknown is None else labels.masked_fill(labels == label_set.unknown, IGNORED)


def _batches(
    view: _AugmentedView, batch_size: int, images: int, seed: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images `[N, 3, H, W]` and labels `[N, H, W]` in the order that the seed gives."""
    order = TrainingOrder(len(view.dataset), batch_size, seed, 0, images)
    loader: Any = torch.utils.data.DataLoader(
        view, batch_sampler=cast(Any, order), num_workers=workers, persistent_workers=workers > 0
    )
    yield from loader


def _with_image(sample: Sample) -> Sample:
    if sample.image is None:
        raise DataError(f"{sample.name!r} has no photograph, and a segmenter learns from photographs: give images too.")
    return sample


def _require_options(batch_size: int, images: int, scales: tuple[float, float]) -> None:
    if batch_size < 2:
        raise ConfigError(f"batch_size is {batch_size}, and batch norm needs at least 2 pictures.")
    if images < 1:
        raise ConfigError(f"images is {images}: a run needs at least 1.")
    if not 0 < scales[0] <= scales[1]:
        raise ConfigError(f"scales are {scales}: give the lowest and the highest factor, both above 0.")


def _write_scores(run: Path, val: Dataset, size: Size, device: str | torch.device) -> None:
    """Measure the saved model on photographs resized to `size`: `scores.json`."""
    segmenter = UNetSegmenter(run / "model", device)
    mapping = ClassMapping.by_name(segmenter.classes, val.labels)
    agreement = agreement_on_photographs(segmenter, mapping, val, size)
    scores = {
        "mean_iou": agreement.mean_iou,
        "accuracy": agreement.accuracy,
        "iou": {name: value for name, value in agreement.by_name(val.labels).items() if not math.isnan(value)},
        "pixels": agreement.pixels,
        "photographs": len(val),
        "size": size,
        "segmenter": segmenter.description,
    }
    write_text(run / "scores.json", json.dumps(scores, indent=1) + "\n")
