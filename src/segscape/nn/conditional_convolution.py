"""Convolutions whose kernels are predicted from the layout, another one at every place: what CC-FPSE is made of.

Source: Liu et al., "Learning to Predict Layout-to-image Conditional Convolutions for Semantic Image Synthesis",
NeurIPS 2019, arXiv 1910.06809, section 3.1. Written from a specification; checked against outputs of the official code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from segscape.nn.conditional import parameter_free_norm
from segscape.nn.convolution import Conv2d
from segscape.nn.spectral import SpectralNormConv2d
from segscape.nn.synchronized import SynchronizedBatchNorm2d

TAPS: Final = 9
"""Weights of a 3x3 kernel."""

PARTS: Final = 4
"""Without gradients, the kernels of this share of the channels exist at a time."""


def conditional_convolution(x: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each channel with a 3x3 kernel of its own at every place; zeros beyond the border.

    The sum of nine shifted products, added up one after the other. The official code makes nine shifted copies of `x`
    (as large as the kernels) and multiplies them at once; here nothing larger than `x` is made beside the arguments
    and their gradients, and only the arguments are kept for these.

    Args:
        x: `[N, C, h, w]`.
        kernels: `[N, 9 * C, h, w]`; channel `9 * c + 3 * row + column` is that weight of the kernel of channel c, for
            the output at the same place.

    Returns:
        `[N, C, h, w]`, in the type of the kernels. Differentiable once.
    """
    x = x.to(kernels.dtype)
    if torch.is_grad_enabled() and (x.requires_grad or kernels.requires_grad):
        y: Tensor = _ConditionalConvolution.apply(x, kernels)  # type: ignore[no-untyped-call]
        return y
    return _sum_of_products(x, kernels)


class _ConditionalConvolution(torch.autograd.Function):
    """Keeps `x` and the kernels; each gradient is made in one pass over the nine weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernels)
        return _sum_of_products(x, kernels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernels = ctx.saved_tensors
        of_x, of_kernels = None, None
        if ctx.needs_input_grad[0]:
            padded = torch.zeros_like(_padded(x))
            for window, weight in zip(_windows(padded), _weights(kernels), strict=True):
                window.addcmul_(gradient, weight)
            of_x = padded[..., 1:-1, 1:-1]
        if ctx.needs_input_grad[1]:
            of_kernels = torch.empty_like(kernels)
            for window, weight in zip(_windows(_padded(x)), _weights(of_kernels), strict=True):
                torch.mul(gradient, window, out=weight)
        return of_x, of_kernels


def _sum_of_products(x: Tensor, kernels: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    for window, weight in zip(_windows(_padded(x)), _weights(kernels), strict=True):
        y.addcmul_(window, weight)
    return y


def _padded(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1))


def _windows(padded: Tensor) -> Iterator[Tensor]:
    """What each of the nine weights is multiplied with: views `[N, C, h, w]` of `padded [N, C, h + 2, w + 2]`."""
    height, width = padded.shape[-2] - 2, padded.shape[-1] - 2
    for row in range(3):
        for column in range(3):
            yield padded[..., row : row + height, column : column + width]


def _weights(kernels: Tensor) -> tuple[Tensor, ...]:
    """The same weight of all kernels, nine views `[N, C, h, w]`."""
    count, channels, height, width = kernels.shape
    return kernels.view(count, channels // TAPS, TAPS, height, width).unbind(2)


def predictor(in_channels: int, hidden_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions with a ReLU between them."""
    return nn.Sequential(
        Conv2d(in_channels, hidden_channels, 3, padding=1),
        nn.ReLU(),
        Conv2d(hidden_channels, out_channels, 3, padding=1),
    )


class ConditionalConvolution(nn.Module):
    """A depthwise convolution with kernels that two convolutions predict at every place.

    Args:
        channels: of the input and the output.
        condition_channels: of the map that the kernels are predicted from.
        hidden_channels: width between the two convolutions.
    """

    def __init__(self, channels: int, condition_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.predictor = predictor(condition_channels, hidden_channels, TAPS * channels)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """`x [N, C, h, w]`, `conditions [N, S, h, w]` -> `[N, C, h, w]`."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():  # a trace would get four times as long
            return conditional_convolution(x, self.predictor(conditions))
        hidden, last = self.predictor[:2](conditions), cast(nn.Conv2d, self.predictor[2])
        size = -(-x.shape[1] // PARTS)
        weights, biases = (torch.split(values, TAPS * size) for values in (last.weight, cast(Tensor, last.bias)))
        kernels = (F.conv2d(hidden, *part, padding=1) for part in zip(weights, biases, strict=True))
        return torch.cat(list(map(conditional_convolution, torch.split(x, size, 1), kernels)), dim=1)


class MapSPADE(nn.Module):
    """SPADE whose gamma and beta are predicted from a given map: `y = norm(x) * (1 + gamma) + beta`.

    `segscape.nn.spade.SPADE` reads a layout, whose distinct neighbourhoods it makes use of; a map of learned features
    has none.

    Args:
        channels: of the input and the output.
        condition_channels: of the map.
        hidden_channels: width between the two layers of convolutions.
    """

    def __init__(self, channels: int, condition_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.statistics = parameter_free_norm("sync-batch", channels)
        self.shared = Conv2d(condition_channels, hidden_channels, 3, padding=1)
        self.gamma = Conv2d(hidden_channels, channels, 3, padding=1)
        self.beta = Conv2d(hidden_channels, channels, 3, padding=1)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """`x [N, C, h, w]`, `conditions [N, S, h, w]` -> `[N, C, h, w]`."""
        hidden = F.relu(self.shared(conditions))
        y: Tensor = self.statistics(x) * (1 + self.gamma(hidden)) + self.beta(hidden)
        return y


class CCBlock(nn.Module):
    """The conditional convolution block: twice norm, conditional convolution, 1x1 convolution, gate, LeakyReLU 0.2.

    The gates (one for each channel and place) and the kernels are predicted from the same map. Beside them goes an
    identity, or, where the channels change, a SPADE and a 1x1 convolution with spectral normalisation.

    Args:
        in_channels: of the input.
        out_channels: of the output; at most `in_channels`.
        condition_channels: of the map that everything is predicted from.
        hidden_channels: width of each predictor (the official code: 128).

    Attributes:
        unused: three batch norms that the official code creates and never applies. They are kept because the published
            counts and checkpoints have them; they do not learn.
    """

    def __init__(
        self, in_channels: int, out_channels: int, condition_channels: int, hidden_channels: int = 128
    ) -> None:
        super().__init__()
        if out_channels > in_channels:
            raise ValueError(f"a CCBlock cannot widen: {in_channels} channels in, {out_channels} out")
        conditions = (condition_channels, hidden_channels)
        self.norm_1 = SynchronizedBatchNorm2d(in_channels)
        self.depthwise_1 = ConditionalConvolution(in_channels, *conditions)
        self.pointwise_1 = Conv2d(in_channels, out_channels, 1)
        self.gate_1 = predictor(*conditions, out_channels)
        self.norm_2 = SynchronizedBatchNorm2d(out_channels)
        self.depthwise_2 = ConditionalConvolution(out_channels, *conditions)
        self.pointwise_2 = Conv2d(out_channels, out_channels, 1)
        self.gate_2 = predictor(*conditions, out_channels)
        self.learned_shortcut = in_channels != out_channels
        if self.learned_shortcut:
            self.norm_s = MapSPADE(in_channels, *conditions)
            self.conv_s = SpectralNormConv2d(in_channels, out_channels, 1, bias=False)
        unused = (nn.BatchNorm2d(channels) for channels in (out_channels, in_channels, out_channels))
        self.unused = nn.ModuleList(unused).requires_grad_(False)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """`x [N, in_channels, h, w]`, `conditions [N, S, h, w]` -> `[N, out_channels, h, w]`."""
        shortcut = self.conv_s(self.norm_s(x, conditions)) if self.learned_shortcut else x
        y = self.pointwise_1(self.depthwise_1(self.norm_1(x), conditions))
        y = F.leaky_relu(y * self.gate_1(conditions).sigmoid(), 0.2)
        y = self.pointwise_2(self.depthwise_2(self.norm_2(y), conditions))
        y = F.leaky_relu(y * self.gate_2(conditions).sigmoid(), 0.2)
        return shortcut + y
