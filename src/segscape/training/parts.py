"""A step's batch in parts: one for each process and micro-batch, and the sums over all of them.

The recipe's batch is the whole one. Micro-batch number k of a step is its k-th stretch of images, whatever the number
of processes, and process number p of P takes each P-th image of it, from image p on. Each part's losses are weighted
by its share of the images and gradients are summed, so that any split gives the gradient of the whole batch. What the
networks compute across images is the one exception: synchronised batch norm sees a micro-batch as a whole, over all
processes, but not the whole batch; unsynchronised batch norm sees a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, distributed, nn

from segscape.data.sample import Batch
from segscape.nn.synchronized import several_processes

BUCKET_BYTES: Final = 1 << 25
"""Gradients are exchanged in pieces of about this size, which is the additional memory that it takes."""


@dataclass(frozen=True)
class Part:
    """What one process does at a time: its images of a micro-batch.

    Attributes:
        batch: n images.
        noise: of their styles, `[n, *style_shape]`; None for models that are not variational.
        share: n divided by the images of the whole batch.
        numbers: of its images in the run.
    """

    batch: Batch
    noise: Tensor | None
    share: float
    numbers: Sequence[int]

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of this part as addends of those of the whole batch."""
        return {name: loss * self.share for name, loss in losses.items()}


def part_numbers(first: int, batch_size: int, accumulate: int, process: int, processes: int) -> list[range]:
    """The numbers of the images in each part of a process, in a step that begins at image number `first`."""
    size = batch_size // accumulate
    return [range(start + process, start + size, processes) for start in range(first, first + batch_size, size)]


def style_noise(seed: int, numbers: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Noise of images by their numbers, `[n, *shape]` from N(0, 1): a function of seed and number alone."""
    seeds = [int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) for number in numbers]
    return torch.stack([torch.randn(*shape, generator=torch.Generator().manual_seed(s)) for s in seeds])


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum of the losses, a scalar to differentiate."""
    return torch.stack(list(losses.values())).sum()


def add_up(parts: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """The losses of the whole batch, from the weighed ones of this process's parts; the same in all processes."""
    sums = torch.stack([torch.stack(list(losses.values())).detach().float() for losses in parts]).sum(0)
    if several_processes():
        distributed.all_reduce(sums)
    return dict(zip(parts[0], sums.tolist(), strict=True))


def sum_gradients(network: nn.Module) -> None:
    """Replace each gradient of a network by its sum over the processes, which all have gradients of the same ones."""
    if not several_processes():
        return
    gradients = (parameter.grad for parameter in network.parameters() if parameter.grad is not None)
    for bucket in _buckets(map(_row, gradients)):
        sums = torch.cat(bucket) if len(bucket) > 1 else bucket[0]
        distributed.all_reduce(sums)
        if len(bucket) > 1:
            torch._foreach_copy_(bucket, torch.split(sums, [len(row) for row in bucket]))


def _row(gradient: Tensor) -> Tensor:
    """The numbers of a gradient as they lie in memory, where autograd leaves no gaps: a view."""
    strides = gradient.stride()
    return gradient.permute(sorted(range(len(strides)), key=lambda axis: -strides[axis])).view(-1)


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process; all of them must ask."""
    if not several_processes():
        return flag
    count = torch.tensor(float(flag), device=device)
    distributed.all_reduce(count)
    return count.item() > 0


def _buckets(rows: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The rows in order, in groups of one type and about `BUCKET_BYTES`; long rows alone."""
    bucket: list[Tensor] = []
    size = 0
    for row in rows:
        size += row.nbytes
        if bucket and (size > BUCKET_BYTES or row.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], row.nbytes
        bucket.append(row)
    if bucket:
        yield bucket
