"""Batch norm over the processes of a distributed run, on devices of every kind.

PyTorch's own `SyncBatchNorm` works on GPUs only, so that nothing which uses it can be tried on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from segscape.nn.modulated_activation import Reduce, batch_statistics, modulated_activation


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, in training over the batches of all processes together, which may differ in size.

    The running statistics are the same in all processes. With one process, and in evaluation, this is `nn.BatchNorm2d`
    to the bit. All processes of the default group must take part in each training forward, and in its backward.

    Attributes:
        synchronized: false where one process runs the network by itself: statistics are its own then.
    """

    synchronized: bool = True

    def forward(self, x: Tensor) -> Tensor:
        """`x [N, C, h, w]` -> the same, normalised."""
        reduce = process_sum(self) if self.training else None
        if reduce is None:
            return super().forward(x)
        # not as a decorator, which would load the compiler with this module
        alone = torch.compiler.disable(self._over_processes)  # type: ignore[no-untyped-call]
        y: Tensor = alone(x, reduce)
        return y

    def _over_processes(self, x: Tensor, reduce: Reduce) -> Tensor:
        """A modulation by a table of one row: this norm's own scale and shift."""
        gamma = x.new_ones(1, self.num_features) if self.weight is None else self.weight[None]
        beta = x.new_zeros(1, self.num_features) if self.bias is None else self.bias[None]
        index = torch.zeros(x.shape[0], *x.shape[2:], dtype=torch.int64, device=x.device)
        found = batch_statistics(self, x, reduce)
        return modulated_activation(x, index, gamma, beta, found, eps=self.eps, reduce=reduce)


def process_sum(norm: nn.Module) -> Reduce | None:
    """The sum over the processes that a norm shares its statistics with; None where it has only its own."""
    if not (isinstance(norm, SynchronizedBatchNorm2d) and norm.synchronized and several_processes()):
        return None

    def reduce(sums: Tensor) -> Tensor:
        distributed.all_reduce(sums)
        return sums

    return reduce


def several_processes() -> bool:
    """Whether this process works together with others, in PyTorch's default group."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
