"""What a dataset tells a finished model about styles: SEAN's mean codes, the clusters of pix2pixHD."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from segscape.data.sample import Batch, Dataset, collate
from segscape.data.transforms import Preprocess
from segscape.data.view import TrainingView
from segscape.layout import Layout
from segscape.models.config import GeneratorConfig
from segscape.training.reading import extra_batches

MOST_PHOTOS = 256
"""Photos that are looked at in training, at each snapshot; `segscape fit-styles` looks at all."""


def training_photos(view: TrainingView, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Layout]]:
    """At most `MOST_PHOTOS` photos `[N, 3, H, W]` in [-1, 1] with their layouts, spread over the data of a run."""
    size = min(batch_size, len(view))
    for batch in extra_batches(view, max(1, min(len(view), MOST_PHOTOS) // size), size, device):
        yield batch.images, batch.layout


def dataset_photos(
    dataset: Dataset, config: GeneratorConfig, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Layout]]:
    """All photos of a dataset with their layouts, in its order, resized to the size of a model's training.

    Args:
        dataset: with photos.
        config: the model's.
        batch_size: photos at a time.
        device: where they go.

    Raises what reading a sample raises.
    """
    view = TrainingView(dataset, Preprocess(mode="fixed", crop_size=config.image_size))
    for start in range(0, len(view), batch_size):
        numbers = range(start, min(start + batch_size, len(view)))
        batch: Batch = collate([view[number, 0] for number in numbers], dataset.labels).to(device)
        yield batch.images, batch.layout
