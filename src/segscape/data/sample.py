"""One training pair as arrays (`Sample`), what a dataset is (`Dataset`), and a batch as tensors (`Batch`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segscape.errors import DataError
from segscape.labels import LabelSet
from segscape.layout import Layout

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """A photograph and what is where in it, all maps at one resolution.

    Attributes:
        image: uint8 ``[H, W, 3]``, or None where only the layout is known.
        label_map: int64 ``[H, W]``, indices of the dataset's label set.
        instance_map: int64 ``[H, W]``, an id per object, or None.
        position: float32 ``[2, H, W]``, intra-class positional encoding, or None where it is not wanted.
        name: what to call the sample in messages and file names.
    """

    image: Array | None
    label_map: Array
    instance_map: Array | None = None
    position: Array | None = None
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the maps."""
        height, width = self.label_map.shape
        return height, width


class Dataset(Protocol):
    """A numbered collection of samples that share one label set."""

    @property
    def labels(self) -> LabelSet:
        """The vocabulary of the label maps."""
        ...

    def __len__(self) -> int: ...

    def sample(self, index: int) -> Sample:
        """Sample number `index`, at its full resolution and unaugmented."""
        ...


@dataclass(frozen=True, eq=False)
class Locality:
    """Which samples lie together, told by a dataset (as `locality`) that is slow to read in any other order.

    Attributes:
        sizes: how many samples each shard holds, in the order of the samples.
        window: how many samples are shuffled among each other while the shards are read one after another.
    """

    sizes: tuple[int, ...]
    window: int


@dataclass(frozen=True)
class Batch:
    """Samples of one size, stacked.

    Attributes:
        images: float32 ``[N, 3, H, W]`` in [-1, 1].
        layout: the N layouts that go with them.
        names: N sample names.
    """

    images: Tensor
    layout: Layout
    names: tuple[str, ...]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`; from pinned memory the copy runs beside the computation."""
        images = self.images.to(device, non_blocking=True)
        return replace(self, images=images, layout=self.layout.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; data loaders call this."""
        return replace(self, images=self.images.pin_memory(), layout=self.layout.pin_memory())


def image_tensor(image: Array) -> Tensor:
    """Turn uint8 ``[..., H, W, 3]`` into float32 ``[..., 3, H, W]`` in [-1, 1]: (x / 255 - 0.5) / 0.5."""
    channels_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, -3)))
    return channels_first.float().div_(255).sub_(0.5).div_(0.5)


def image_array(images: Tensor) -> npt.NDArray[np.uint8]:
    """Turn ``[..., 3, H, W]`` in [-1, 1] into uint8 ``[..., H, W, 3]``: (x + 1) / 2 * 255, clipped and rounded.

    (The official code of the SPADE family truncates, which darkens pictures by half a grey level on average.)
    """
    pixels = images.detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    array: npt.NDArray[np.uint8] = pixels.movedim(-3, -1).cpu().numpy()
    return array


def collate(samples: Sequence[Sample], labels: LabelSet) -> Batch:
    """Stack samples of one size into a batch.

    Args:
        samples: at least one sample; all with an image, and all or none with instances and position.
        labels: the label set of their label maps, which are checked against it.

    Raises:
        DataError: if sizes differ, an image is missing, or only some samples have instances or positions.
        LabelMapError: if a label map holds an index that `labels` does not have.
    """
    _require_one_size(samples)
    images = _stack(samples, "image")
    if images is None:
        raise DataError(f"{samples[0].name!r} has no image, but a batch needs one: give an image folder")
    instance_maps, positions = _stack(samples, "instance_map"), _stack(samples, "position")
    layout = Layout(
        torch.from_numpy(np.stack([sample.label_map for sample in samples])),
        labels,
        None if instance_maps is None else torch.from_numpy(instance_maps),
        position=None if positions is None else torch.from_numpy(positions),
    )
    return Batch(image_tensor(images), layout, tuple(sample.name for sample in samples))


def _stack(samples: Sequence[Sample], field: str) -> Array | None:
    """Stack one optional field over the samples; None if no sample has it."""
    values = [getattr(sample, field) for sample in samples]
    missing = [sample.name for sample, value in zip(samples, values, strict=True) if value is None]
    if len(missing) == len(samples):
        return None
    if missing:
        raise DataError(f"{missing[0]!r} has no {field} but others in its batch do: give it to all or none")
    return np.stack(values)


def _require_one_size(samples: Sequence[Sample]) -> None:
    if not samples:
        raise DataError("A batch needs at least one sample, but none was given")
    first = samples[0]
    for other in samples:
        if other.size != first.size:
            raise DataError(
                f"{other.name!r} is {other.size} and {first.name!r} is {first.size} (height, width), but a "
                "batch has one size: use a preprocess mode that crops or fixes the size"
            )
