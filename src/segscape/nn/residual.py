"""The residual block of the SPADE family, with any conditional norm."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from segscape.layout import Layout
from segscape.nn.conditional import ConditionalNorm
from segscape.nn.spectral import conv2d
from segscape.style import Style


class ResidualBlock(nn.Module):
    """Two times norm, LeakyReLU 0.2, 3x3 convolution, beside an identity or a learned 1x1 shortcut.

    The shortcut is learned if and only if the channels change; it has a norm but neither activation nor bias.
    (The CLADE paper, section 3.5, says ReLU; the official code uses LeakyReLU 0.2, and so do we.)

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        norm: makes a conditional norm for a number of channels.
        spectral: spectral normalisation on the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: Callable[[int], ConditionalNorm],
        *,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        middle_channels = min(in_channels, out_channels)
        self.norm_0 = norm(in_channels)
        self.conv_0 = conv2d(spectral, self.norm_0.out_channels, middle_channels, 3, padding=1)
        self.norm_1 = norm(middle_channels)
        self.conv_1 = conv2d(spectral, self.norm_1.out_channels, out_channels, 3, padding=1)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.norm_s = norm(in_channels)
            self.conv_s = conv2d(spectral, self.norm_s.out_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """`x [N, in_channels, h, w] -> [N, out_channels, h, w]`."""
        shortcut = self.conv_s(self.norm_s(x, layout, style)) if self.learned_shortcut else x
        x = self.conv_0(self.norm_0.activated(x, layout, style, 0.2))
        x = self.conv_1(self.norm_1.activated(x, layout, style, 0.2))
        return shortcut + x
