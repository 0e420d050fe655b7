"""Dual attention of DAGAN: a gate for each channel and a gate for each place.

Source: Tang et al., "Dual Attention GANs for Semantic Image Synthesis", ACM Multimedia 2020, arXiv 2008.13024, in the
form of the official code: the paper's abstract speaks of correlating pixels, the code has one convolution. (That code
catches every error in the gate of places and goes on without it; here errors are errors.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ScaleAttention(nn.Module):
    """Scale-wise channel attention: `gate * x + earlier`, the gate from the means of both.

    Args:
        channels: of `x` and of `earlier`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(2 * channels, channels, 1)
        self.conv_1 = nn.Conv2d(channels, channels, 1)

    def forward(self, earlier: Tensor, x: Tensor) -> Tensor:
        """Two `[N, C, h, w]` -> the same."""
        means = torch.cat([earlier, x], dim=1).mean(dim=(2, 3), keepdim=True)
        gate = torch.sigmoid(self.conv_1(F.relu(self.conv_0(means))))  # [N, C, 1, 1]
        return gate * x + earlier


class PositionAttention(nn.Module):
    """Position-wise spatial attention: `gate * x`, the gate from the mean and the maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, h, w]` -> the same."""
        # max over one dimension, not amax: the gradient goes to one channel, also where several are the largest
        largest = x.max(dim=1, keepdim=True).values
        return x * torch.sigmoid(self.conv(torch.cat([x.mean(dim=1, keepdim=True), largest], dim=1)))


class DualAttention(nn.Module):
    """The sum of both, `ScaleAttention` with a projection of the features before as the earlier ones.

    Args:
        earlier_channels: of the features before.
        channels: of `x`.
    """

    def __init__(self, earlier_channels: int, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(earlier_channels, channels, 3, padding=1)
        self.scale = ScaleAttention(channels)
        self.position = PositionAttention()

    def forward(self, before: Tensor, x: Tensor) -> Tensor:
        """`before [N, B, h, w]` and `x [N, C, h, w]` -> `[N, C, h, w]`."""
        y: Tensor = self.scale(self.projection(before), x) + self.position(x)
        return y
