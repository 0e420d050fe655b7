"""Sharing an evaluation between the processes that `torchrun` (or `accelerate launch`) starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's place among `count` that work together; one process is the usual case.

    Attributes:
        rank: number of this process, 0 to count - 1. Process 0 computes the scores and writes.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that computes the scores and writes."""
        return self.rank == 0

    def share(self, length: int) -> range:
        """The numbers below `length` that this process works on."""
        return range(self.rank, length, self.count)

    def gather(self, values: Sequence[tuple[int, T]]) -> list[T]:
        """What all processes made of their shares, in the order of the numbers; the same list in every process."""
        if self.count == 1:
            return [value for _, value in sorted(values, key=lambda numbered: numbered[0])]
        parts: list[Sequence[tuple[int, T]] | None] = [None] * self.count
        torch.distributed.all_gather_object(parts, values)
        together = [numbered for part in parts for numbered in part or []]
        return [value for _, value in sorted(together, key=lambda numbered: numbered[0])]

    def agree(self, value: T) -> T:
        """The value that the first process has."""
        if self.count == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that a launcher has started together; without a launcher, one process alone.

    Only Python objects are exchanged, over gloo on the CPU, so devices of any kind may take part.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.distributed.init_process_group("gloo")
    yield Processes(torch.distributed.get_rank(), count)
    torch.distributed.barrier()  # the group is left to the end of the process: destroying it can abort the interpreter
