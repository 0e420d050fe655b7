"""The one interface of conditional normalisation, and its parameter-free half.

A conditional norm computes `y = modulate(normalise(x), layout)`: statistics without parameters, then a scale and
a shift that depend on the layout. `SPADE` and `CLADE` implement it; a generator chooses one per block.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from segscape.layout import Layout, Size
from segscape.nn.instance import InstanceNorm2d
from segscape.nn.modulated_activation import batch_statistics, modulated_activation
from segscape.nn.synchronized import SynchronizedBatchNorm2d, process_sum
from segscape.style import Style

Statistics = Literal["batch", "sync-batch", "instance"]


def parameter_free_norm(statistics: Statistics, channels: int) -> nn.Module:
    """Normalisation without scale and shift, eps 1e-5 (momentum 0.1 and running statistics for the batch kinds).

    `sync-batch` shares its statistics between the processes of a distributed run and is `batch` in a single one.
    """
    kinds = {"batch": nn.BatchNorm2d, "sync-batch": SynchronizedBatchNorm2d, "instance": InstanceNorm2d}
    norm: nn.Module = kinds[statistics](channels, affine=False)
    return norm


class ConditionalNorm(nn.Module):
    """Base of the conditional norms: `norm(x, layout, style=None) -> y`.

    Attributes:
        channels: channels of `x`.
        out_channels: channels of `y`; more than `channels` where the layer appends maps of the layout.
        statistics: the parameter-free normalisation.
    """

    def __init__(self, channels: int, statistics: Statistics) -> None:
        super().__init__()
        self.channels = channels
        self.out_channels = channels
        self.statistics = parameter_free_norm(statistics, channels)

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """Normalise and modulate `x [N, C, h, w]`; the layout is read at the size of `x`, whatever its own is."""
        raise NotImplementedError

    def activated(self, x: Tensor, layout: Layout, style: Style | None, slope: float) -> Tensor:
        """The norm and the LeakyReLU after it; a norm that can do both at once overrides this."""
        return F.leaky_relu(self(x, layout, style), slope)


class LayoutModulatedNorm(ConditionalNorm):
    """A conditional norm whose gamma and beta follow from the layout alone: from neither the features nor a style."""

    def modulation(self, layout: Layout, size: Size, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Gamma and beta as `forward` applies them to features of a size and type: `y = statistics(x) * gamma + beta`.

        Gamma is the whole factor, whatever it is made of: SPADE's `1 +`, or CLADE's table and positional factor. Maps
        that a layer appends to `y` are no part of it.

        Returns:
            Two `[N, channels, h, w]`. Raises LayoutError if instances are used and the layout has none.
        """
        raise NotImplementedError

    @property
    def fuses(self) -> bool:
        """Whether `fused` is worth it: in a training step with batch statistics, which has maps to keep.

        In a compiled step the compiler does it by itself.
        """
        wanted = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        return wanted and isinstance(self.statistics, _BatchNorm) and self.statistics.training

    def fused(
        self,
        x: Tensor,
        index: Tensor,
        gamma: Tensor,
        beta: Tensor,
        slope: float,
        factors: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """`statistics(x)`, modulated by rows of tables, and LeakyReLU, keeping `x` only: see `modulated_activation`."""
        norm = cast(_BatchNorm, self.statistics)
        reduce = process_sum(norm)
        found = batch_statistics(norm, x, reduce)
        return modulated_activation(
            x, index, gamma, beta, found, eps=norm.eps, slope=slope, factors=factors, reduce=reduce
        )
