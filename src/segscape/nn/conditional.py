"""The one interface of conditional normalisation, and its parameter-free half.

A conditional norm computes `y = modulate(normalise(x), layout)`: statistics without parameters, then a scale and
a shift that depend on the layout. `SPADE` and `CLADE` implement it; a generator chooses one per block.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from segscape.layout import Layout, Size
from segscape.style import Style

Statistics = Literal["batch", "sync-batch", "instance"]


def parameter_free_norm(statistics: Statistics, channels: int) -> nn.Module:
    """Normalisation without scale and shift, eps 1e-5 (momentum 0.1 and running statistics for the batch kinds).

    `sync-batch` shares its statistics between the processes of a distributed run and is `batch` in a single one.
    """
    kinds = {"batch": nn.BatchNorm2d, "sync-batch": nn.SyncBatchNorm, "instance": nn.InstanceNorm2d}
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
