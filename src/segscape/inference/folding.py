"""The blocks of the SPADE family for inference: a norm and the activation after it as one pass over the features.

A conditional norm in evaluation mode is `x * scale[index] + shift[index]`, with the running statistics in the tables.
The index is the class of each pixel (CLADE) or its neighbourhood of labels (SPADE, see `patterns.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segscape.inference.strips import PointwiseConvolution, StripConvolution, WinogradConvolution
from segscape.layout import Layout, Size
from segscape.nn.clade import CLADE
from segscape.nn.conditional import ConditionalNorm
from segscape.nn.modulated_activation import ChannelStatistics, modulated_activation
from segscape.nn.residual import ResidualBlock
from segscape.nn.spade import MAX_SHARE, SPADE, pattern_tables
from segscape.nn.spectral import SpectralNorm, SpectralNormConv2d, SpectralNormConvTranspose2d
from segscape.style import Style

SLOPE: Final = 0.2
"""Of the LeakyReLU after each norm of a residual block."""

CHUNK_BYTES: Final = 1 << 19
"""Features that one step of a pass touches on the CPU: small enough to stay in the cache between its operations."""

NARROW: Final = 48
"""Channels below which a direct 3x3 convolution is faster."""

FEW_PATTERNS: Final = 1024
"""Up to so many, SPADE's tables cost less than bringing its weights into the order of a convolution."""

SMALL_KERNEL: Final = 1 << 18
"""Weights up to which a convolution is kept in its direct form, too."""

FEW_PRODUCTS: Final = 1 << 25
"""Multiplications of one call up to which a direct convolution is faster than strips, which cost many short steps."""

LARGE_KERNEL: Final = 1 << 22
"""Weights from which the smaller of the two Winograd kernels is taken, as it needs 16 / 9 of their memory and not 4."""


class Modulation(Protocol):
    """What a folded norm and the activation do to features `[N, C, h, w]`, for the whole tensor or for some rows."""

    def apply(self, x: Tensor, reuse: bool) -> Tensor:
        """`[N, C, h, w]`, channels-last in memory; with `reuse` it may be written into `x`."""
        ...

    def rows(self, x: Tensor, first: int, last: int, image: int, out: Tensor) -> None:
        """Write rows first..last - 1 of one image into `out`.

        Args:
            x: those rows `[r, w, C]`, or anything that `out` can be written from by broadcasting.
            first, last, image: which rows, of the layout's size.
            out: `[r, w, C]`, or the same rows in the shape `[r, w / 2, 2, C]`.
        """
        ...


@dataclass(frozen=True)
class GatheredModulation:
    """`leaky_relu(x * scale[index] + shift[index])`.

    With `factors` `(f, g)` it is `leaky_relu((x - mean) * scale[index] * f + shift[index] * g)`, which is CLADE-ICPE.

    Attributes:
        index: int64 `[N, h, w]` in 0..P-1.
        scale, shift: `[P, C]`.
        slope: of the LeakyReLU; 1 for none.
        mean: `[C]`; only with factors.
        factors: each `[N, 1, h, w]`.
    """

    index: Tensor
    scale: Tensor
    shift: Tensor
    slope: float
    mean: Tensor | None = None
    factors: tuple[Tensor, Tensor] | None = None

    def apply(self, x: Tensor, reuse: bool) -> Tensor:
        """As `Modulation`."""
        if x.is_cuda:
            return self._one_kernel(x)
        batch, channels, height, width = x.shape
        pixels = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(-1, channels)
        places, out = self.index.reshape(-1), pixels if reuse else torch.empty_like(pixels)
        step = max(1, CHUNK_BYTES // (channels * x.element_size()))
        for start in range(0, len(places), step):
            part = slice(start, start + step)
            spread = None if self.factors is None else [factor.reshape(-1, 1)[part] for factor in self.factors]
            self._pass(pixels[part], places[part], spread, out[part])
        return out.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def rows(self, x: Tensor, first: int, last: int, image: int, out: Tensor) -> None:
        """As `Modulation`."""
        step = max(1, CHUNK_BYTES // (out[0].numel() * out.element_size()))
        for start in range(first, last, step):
            stop = min(last, start + step)
            part = slice(start - first, stop - first)
            places, shape = self.index[image, start:stop].reshape(-1), (stop - start, *out.shape[1:-1], 1)
            spread = None if self.factors is None else [f[image, 0, start:stop].reshape(shape) for f in self.factors]
            self._pass(x[part], places, spread, out[part])

    def _pass(self, x: Tensor, places: Tensor, spread: list[Tensor] | None, out: Tensor) -> None:
        shift, scale = (table.index_select(0, places).view(out.shape) for table in (self.shift, self.scale))
        if self.mean is None or spread is None:
            torch.addcmul(shift, x, scale, out=out)
        else:
            torch.mul(x - self.mean, scale.mul_(spread[0]), out=out)
            out.addcmul_(shift, spread[1])
        if self.slope != 1:
            F.leaky_relu_(out, self.slope)

    def _one_kernel(self, x: Tensor) -> Tensor:
        ones = torch.ones(x.shape[1], device=x.device)
        mean = torch.zeros_like(ones) if self.mean is None else self.mean.float()
        return modulated_activation(
            x,
            self.index,
            self.scale,
            self.shift,
            ChannelStatistics(mean, ones),
            eps=0.0,
            slope=self.slope,
            factors=self.factors,
        )


@dataclass(frozen=True)
class DenseModulation:
    """`leaky_relu(x * scale + shift)` with a value of its own at each pixel.

    Attributes:
        scale, shift: `[N, C, h, w]`.
        slope: of the LeakyReLU; 1 for none.
    """

    scale: Tensor
    shift: Tensor
    slope: float

    def apply(self, x: Tensor, reuse: bool) -> Tensor:
        """As `Modulation`."""
        y = torch.addcmul(self.shift, x, self.scale)
        return F.leaky_relu_(y, self.slope) if self.slope != 1 else y

    def rows(self, x: Tensor, first: int, last: int, image: int, out: Tensor) -> None:
        """As `Modulation`."""
        shift, scale = (m[image, :, first:last].permute(1, 2, 0).reshape(out.shape) for m in (self.shift, self.scale))
        torch.addcmul(shift, x, scale, out=out)
        if self.slope != 1:
            F.leaky_relu_(out, self.slope)


class FoldedCLADE(nn.Module):
    """CLADE with the running statistics in its tables.

    Args:
        norm: the layer; with `instance` statistics these are computed and only the rest is folded.
    """

    norm: CLADE
    scale: Tensor
    shift: Tensor
    mean: Tensor | None

    def __init__(self, norm: CLADE) -> None:
        super().__init__()
        self.norm = norm
        statistics = running_statistics(norm)
        self.fixed = statistics is not None
        mean, factor = statistics or (torch.zeros(norm.channels), torch.ones(norm.channels))
        scale, shift = norm.gamma * factor.to(norm.gamma), norm.beta.clone()
        by_position = norm.position == "modulation"
        if not by_position:
            shift = shift - scale * mean.to(scale)
        self.register_buffer("scale", scale.detach(), persistent=False)
        self.register_buffer("shift", shift.detach(), persistent=False)
        self.register_buffer("mean", mean.to(scale) if by_position else None, persistent=False)

    def normalize(self, x: Tensor) -> Tensor:
        """What is left to do to `x [N, C, h, w]` before `modulation`."""
        return x if self.fixed else cast(Tensor, self.norm.statistics(x))

    def modulation(self, layout: Layout, size: Size, slope: float) -> Modulation:
        """The norm and a LeakyReLU at one size."""
        factors = self.norm.position_factors(layout, size, self.scale.dtype)
        return GatheredModulation(layout.at(size), self.scale, self.shift, slope, self.mean, factors)

    def appended_maps(self, layout: Layout, size: Size) -> Tensor:
        """The maps that CLADE appends to its output, `[N, 1 or 2, h, w]`."""
        return torch.cat(self.norm.appended_maps(layout, size, self.scale.dtype), dim=1)


class FoldedSPADE(nn.Module):
    """SPADE over the distinct neighbourhoods of labels, with the running statistics in its convolutions.

    Args:
        norm: the layer; with `instance` statistics these are computed and only the rest is folded.
    """

    first: Tensor
    first_bias: Tensor
    second: Tensor
    bias: Tensor

    def __init__(self, norm: SPADE) -> None:
        super().__init__()
        self.norm_kind = (norm.instances, norm.shared.kernel_size[0])
        self.statistics = norm.statistics
        self.shared = _convolution(*_weights(norm.shared), norm.shared)
        first, first_bias, second, bias = (tensor.detach() for tensor in norm.look_up_weights())
        statistics = running_statistics(norm)
        self.fixed = statistics is not None
        if statistics is not None:
            second, bias = _fold(second, bias, *statistics)
        for name, tensor in (("first", first), ("first_bias", first_bias), ("second", second), ("bias", bias)):
            self.register_buffer(name, tensor.clone(), persistent=False)

    def normalize(self, x: Tensor) -> Tensor:
        """What is left to do to `x [N, C, h, w]` before `modulation`."""
        return x if self.fixed else cast(Tensor, self.statistics(x))

    def modulation(self, layout: Layout, size: Size, slope: float) -> Modulation:
        """The norm and a LeakyReLU at one size; the dense way where neighbourhoods seldom repeat."""
        instances, kernel_size = self.norm_kind
        patterns = layout.patterns(size, kernel_size=kernel_size, edges=instances)
        if patterns.share <= MAX_SHARE or patterns.num_patterns <= FEW_PATTERNS:
            scale, shift = pattern_tables(patterns, self.first, self.first_bias, self.second, self.bias)
            return GatheredModulation(patterns.index, scale, shift, slope)
        semantic = layout.semantic_map(size, edges=instances).to(self.second.dtype)
        hidden = F.relu_(self.shared(semantic.contiguous(memory_format=torch.channels_last)))
        places, channels = kernel_size * kernel_size, self.bias.shape[1]
        weight = self.second.view(-1, 2, places, channels).permute(1, 3, 0, 2).flatten(0, 1)  # [2 * C, H, k * k]
        weight = weight.view(*weight.shape[:2], kernel_size, kernel_size)
        both = F.conv2d(hidden, weight, self.bias.flatten(), padding=kernel_size // 2)
        return DenseModulation(both[:, :channels], both[:, channels:], slope)


def _fold(second: Tensor, bias: Tensor, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """SPADE's `look_up_weights` such that they give gamma * factor and beta - gamma * factor * mean."""
    weight = second.view(second.shape[0], 2, -1, len(mean))
    gamma, gamma_bias = weight[:, 0] * factor, bias[0] * factor
    beta, beta_bias = weight[:, 1] - gamma * mean, bias[1] - gamma_bias * mean
    return torch.stack([gamma, beta], dim=1).flatten(1), torch.stack([gamma_bias, beta_bias])


class FoldedStep(nn.Module):
    """A conditional norm, LeakyReLU, and the convolution after them.

    Args:
        norm: SPADE or CLADE of any kind; another conditional norm is called as it is.
        convolution: reads the norm's channels, and those of the maps that it appends.
        slope: of the activation; 1 for none.
        strips: whether the convolution may work strip by strip.
    """

    def __init__(self, norm: ConditionalNorm, convolution: nn.Conv2d, slope: float, strips: bool) -> None:
        super().__init__()
        self.slope = slope
        weight, bias = _weights(convolution)
        split = norm.channels if isinstance(norm, CLADE) else norm.out_channels
        self.norm = (
            FoldedCLADE(norm) if isinstance(norm, CLADE) else FoldedSPADE(norm) if isinstance(norm, SPADE) else norm
        )
        self.convolution = fast_convolution(weight[:, :split], bias, convolution, strips)
        small = isinstance(self.convolution, StripConvolution) and weight[:, :split].numel() <= SMALL_KERNEL
        self.direct = _convolution(weight[:, :split], bias, convolution) if small else None
        self.appended = _convolution(weight[:, split:], None, convolution) if weight.shape[1] > split else None

    def forward(self, x: Tensor, layout: Layout, style: Style | None, doubled: bool, reuse: bool) -> Tensor:
        """`x [N, C, h, w]`, channels-last, is first enlarged to twice its size if `doubled`.

        Returns:
            `[N, out_channels, h or 2h, w or 2w]`; with `reuse` `x` may be overwritten.
        """
        if not isinstance(self.norm, (FoldedCLADE, FoldedSPADE)):
            x = F.interpolate(x, scale_factor=2, mode="nearest") if doubled else x
            return cast(Tensor, self.convolution(F.leaky_relu(self.norm(x, layout, style), self.slope)))
        size = (x.shape[-2] << doubled, x.shape[-1] << doubled)
        modulation = self.norm.modulation(layout, size, self.slope)
        y = self._convolve(self.norm.normalize(x), modulation, doubled, reuse)
        if self.appended is None:
            return y
        maps = F.leaky_relu(cast(FoldedCLADE, self.norm).appended_maps(layout, size), self.slope)
        return y.add_(self.appended(maps))

    def _convolve(self, x: Tensor, modulation: Modulation, doubled: bool, reuse: bool) -> Tensor:
        pixel_count = x.shape[0] * x.shape[2] * x.shape[3] << 2 * doubled
        few = self.direct is not None and self.direct.weight.numel() * pixel_count <= FEW_PRODUCTS
        if few or not isinstance(self.convolution, StripConvolution):
            x = F.interpolate(x, scale_factor=2, mode="nearest") if doubled else x
            convolution = self.direct if few and self.direct is not None else self.convolution
            return cast(Tensor, convolution(modulation.apply(x, reuse or doubled)))
        pixels = x.permute(0, 2, 3, 1)

        def fill(image: int, first: int, last: int, out: Tensor) -> None:
            if not doubled:
                modulation.rows(pixels[image, first:last], first, last, image, out)
                return
            source = torch.arange(first, last, device=x.device) // 2
            columns = pixels[image].index_select(0, source).unsqueeze(2)  # [r, w / 2, 1, C]
            modulation.rows(columns, first, last, image, out.view(out.shape[0], -1, 2, out.shape[2]))

        return self.convolution.convolve(fill, (x.shape[0], x.shape[2] << doubled, x.shape[3] << doubled))


class FastResidualBlock(nn.Module):
    """`ResidualBlock` for inference: each norm and the activation after it in one pass.

    Args:
        block: the block to fold, in evaluation mode.
        doubled: whether the features are first enlarged to twice their size.
        strips: whether the convolutions may work strip by strip.
    """

    def __init__(self, block: ResidualBlock, doubled: bool, strips: bool) -> None:
        super().__init__()
        self.doubled = doubled
        self.step_0 = FoldedStep(block.norm_0, block.conv_0, SLOPE, strips)
        self.step_1 = FoldedStep(block.norm_1, block.conv_1, SLOPE, strips)
        self.shortcut = FoldedStep(block.norm_s, block.conv_s, 1.0, strips) if block.learned_shortcut else None

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """`x [N, C, h, w] -> [N, out_channels, h, w]`, twice as large if `doubled`; `x` may be overwritten."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self.shortcut is not None:
            shortcut = self.shortcut(x, layout, style, self.doubled, reuse=False)
        else:
            shortcut = F.interpolate(x, scale_factor=2, mode="nearest") if self.doubled else x
        y = self.step_0(x, layout, style, self.doubled, reuse=self.shortcut is not None)
        return self.step_1(y, layout, style, False, reuse=True).add_(shortcut)  # type: ignore[no-any-return]


def fast_convolution(weight: Tensor, bias: Tensor | None, like: nn.Conv2d, strips: bool) -> nn.Module:
    """A convolution with these weights and the geometry of another one, in strips where that is faster."""
    geometry = (like.stride, like.dilation, like.groups, like.padding)
    same_size = geometry == ((1, 1), (1, 1), 1, (like.kernel_size[0] // 2, like.kernel_size[1] // 2))
    if strips and same_size and like.kernel_size == (1, 1):
        return PointwiseConvolution(weight, bias)
    if strips and same_size and like.kernel_size == (3, 3) and min(weight.shape[:2]) >= NARROW:
        return WinogradConvolution(weight, bias, 2 if weight.numel() >= LARGE_KERNEL else 4)
    return _convolution(weight, bias, like)


def plain_convolution(convolution: SpectralNorm) -> nn.Module:
    """The convolution, or transposed one, that spectral normalisation stands for."""
    if isinstance(convolution, SpectralNormConv2d):
        return _convolution(*_weights(convolution), convolution)
    plain: nn.Module = cast(SpectralNormConvTranspose2d, convolution).plain()
    return plain


def fold_batch_norms(layers: nn.Sequential) -> None:
    """In place: put each batch norm in evaluation mode into the plain convolution before it."""
    for place, (layer, following) in enumerate(pairwise(layers)):
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.modules.batchnorm._BatchNorm):
            layers[place], layers[place + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()


def running_statistics(norm: ConditionalNorm) -> tuple[Tensor, Tensor] | None:
    """Running mean and reciprocal deviation, `[C]` each; None where statistics are computed from the features."""
    statistics = norm.statistics
    if not isinstance(statistics, nn.modules.batchnorm._BatchNorm) or statistics.running_var is None:
        return None
    mean = cast(Tensor, statistics.running_mean)
    return mean.clone(), (statistics.running_var + statistics.eps).rsqrt()


def _weights(convolution: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    folded = isinstance(convolution, SpectralNormConv2d)
    weight = cast(SpectralNormConv2d, convolution).normalized_weight() if folded else convolution.weight
    return weight.detach(), None if convolution.bias is None else convolution.bias.detach()


def _convolution(weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with these weights and the geometry of another one."""
    outputs, inputs = weight.shape[:2]
    geometry = {"stride": like.stride, "padding": like.padding, "dilation": like.dilation, "bias": bias is not None}
    with torch.device("meta"):
        plain = nn.Conv2d(inputs * like.groups, outputs, like.kernel_size, groups=like.groups, **geometry)  # type: ignore[arg-type]
    plain.weight = nn.Parameter(weight.clone(), requires_grad=False)
    plain.bias = None if bias is None else nn.Parameter(bias.clone(), requires_grad=False)
    return plain.eval()
