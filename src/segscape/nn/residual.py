"""The residual block of the SPADE family, with any conditional norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from segscape.layout import Layout
from segscape.nn.conditional import ConditionalNorm
from segscape.nn.noise import AddedNoise, NoiseState
from segscape.nn.spectral import conv2d, held_power_iteration
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
        groups: of all convolutions; each reads and writes its own consecutive channels only.

    Attributes:
        recomputed: keep only the input until the backward pass, which computes the rest again.
    """

    recomputed: bool = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: Callable[[int], ConditionalNorm],
        *,
        spectral: bool = True,
        groups: int = 1,
    ) -> None:
        super().__init__()
        middle_channels = min(in_channels, out_channels)
        self.norm_0 = norm(in_channels)
        self.conv_0 = conv2d(spectral, self.norm_0.out_channels, middle_channels, 3, padding=1, groups=groups)
        self.norm_1 = norm(middle_channels)
        self.conv_1 = conv2d(spectral, self.norm_1.out_channels, out_channels, 3, padding=1, groups=groups)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.norm_s = norm(in_channels)
            self.conv_s = conv2d(spectral, self.norm_s.out_channels, out_channels, 1, bias=False, groups=groups)

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """`x [N, in_channels, h, w] -> [N, out_channels, h, w]`."""
        if not (self.recomputed and torch.is_grad_enabled()):
            return self._compute(x, layout, style)
        y: Tensor = checkpoint(
            self._compute,
            x,
            layout,
            style,
            use_reentrant=False,
            preserve_rng_state=any(isinstance(layer, AddedNoise) for layer in self.modules()),
            context_fn=lambda: (nullcontext(), _once_more(self, NoiseState(self))),
        )
        return y

    def _compute(self, x: Tensor, layout: Layout, style: Style | None) -> Tensor:
        shortcut = self.conv_s(self.norm_s(x, layout, style)) if self.learned_shortcut else x
        x = self.conv_0(self.norm_0.activated(x, layout, style, 0.2))
        x = self.conv_1(self.norm_1.activated(x, layout, style, 0.2))
        return shortcut + x


@contextmanager
def _once_more(block: nn.Module, noise: NoiseState) -> Iterator[None]:
    """A block in which a training-mode forward is as it was the first time.

    It moves neither running statistics nor the vectors of spectral norm, and draws the noise that it drew then.
    """
    norms = [layer for layer in block.modules() if isinstance(layer, _BatchNorm)]
    kept = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: None if found is None else found.clone() for name, found in norm._buffers.items()})
    try:
        with held_power_iteration(block), noise.again():
            yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
