"""`accelerate`: the same generator for inference only, with everything folded that does not depend on the input.

What changes: spectral normalisation becomes the weight it stands for; batch-norm statistics go into the scale and shift
of each class (CLADE) or each distinct neighbourhood of labels (SPADE, see `patterns.py`), so that a norm and the
activation after it are one pass over the features, in place where nothing else reads them; maps that a norm appends are
convolved by themselves instead of being concatenated; features are channels-last, and large kernels are packed once.

In float32 pictures agree with the plain model to `TOLERANCE`.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, NoReturn, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import ConfigError
from segscape.layout import Layout
from segscape.models.generator import Generator
from segscape.nn.clade import CLADE
from segscape.nn.conditional import ConditionalNorm
from segscape.nn.residual import ResidualBlock
from segscape.nn.spade import SPADE
from segscape.nn.spectral import SpectralNormConv2d
from segscape.style import Style

Precision = Literal["float32", "bfloat16", "float16"]

TOLERANCE: dict[str, float] = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference of a pixel in [-1, 1] from the plain model, as tested on random weights and layouts."""

SLOPE = 0.2
"""Of the LeakyReLU after each norm of a residual block."""

CHUNK_BYTES = 1 << 19
"""Features that one step of a pass touches on the CPU: small enough to stay in the cache between its operations."""

LARGE_KERNEL = 1 << 22
"""Weights of a convolution from which packing pays: smaller ones run as fast without."""


class AcceleratedGenerator(Generator):
    """A generator for inference only; made by `accelerate`, called like any other.

    It has no gradients, cannot be trained and cannot be saved.
    """

    def __init__(self, network: Generator) -> None:
        super().__init__(network.config)
        self.network = network
        self.train(False)

    @torch.no_grad()
    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """As the plain generator; float32 `[N, 3, H, W]` whatever the precision inside."""
        return cast(Tensor, self.network(layout, style)).float()

    @torch.no_grad()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As the plain generator; the encoder works in float32."""
        return self.network.encode(image)

    def train(self, mode: bool = True) -> AcceleratedGenerator:
        """Raises ConfigError for training."""
        if mode:
            raise ConfigError("an accelerated model cannot be trained: train the model that it was made from.")
        super().train(False)
        return self

    def save_pretrained(self, *_: object, **__: object) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError("an accelerated model cannot be saved: save the model that it was made from.")


def accelerate(model: Generator, precision: Precision = "float32") -> AcceleratedGenerator:
    """Make a fast copy of a generator for inference; the model itself stays as it is.

    Args:
        model: any generator, on the device where it will run. Residual blocks of the SPADE family are rearranged; other
            modules keep their arithmetic, with spectral normalisation folded.
        precision: of features and weights. bfloat16 and float16 pay only on hardware that multiplies them.

    Raises:
        ConfigError: an unknown precision, or a model that is accelerated already.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"the precision {precision!r} is unknown: use {', '.join(get_args(Precision))}.")
    if isinstance(model, AcceleratedGenerator):
        raise ConfigError("this model is accelerated already.")
    network = copy.deepcopy(model).eval().requires_grad_(False)
    for name, module in list(network.named_modules()):
        if isinstance(module, ResidualBlock):
            _replace(network, name, FastResidualBlock(module))
    for name, module in list(network.named_modules()):
        if isinstance(module, SpectralNormConv2d):
            _replace(network, name, _plain_convolution(module))
    kind: torch.dtype = getattr(torch, precision)
    for name, child in network.named_children():
        if name != "encoder":
            child.to(kind)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision == "float32":
        _pack_large_kernels(network)
    return AcceleratedGenerator(network)


class FastResidualBlock(nn.Module):
    """`ResidualBlock` for inference: each norm and the activation after it in one pass.

    Args:
        block: the block to fold, in evaluation mode.
    """

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.step_0 = NormedConvolution(block.norm_0, block.conv_0, SLOPE)
        self.step_1 = NormedConvolution(block.norm_1, block.conv_1, SLOPE)
        self.shortcut = NormedConvolution(block.norm_s, block.conv_s, 1.0) if block.learned_shortcut else None

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """`x [N, in_channels, h, w] -> [N, out_channels, h, w]`; `x` may be overwritten."""
        x = x.contiguous(memory_format=torch.channels_last)
        shortcut = x if self.shortcut is None else self.shortcut(x, layout)
        y = self.step_0(x, layout, reuse=self.shortcut is not None)
        return self.step_1(y, layout, reuse=True).add_(shortcut)  # type: ignore[no-any-return]


class NormedConvolution(nn.Module):
    """A conditional norm, LeakyReLU, and the convolution after them.

    Args:
        norm: SPADE or CLADE of any kind; another conditional norm is called as it is.
        convolution: reads the norm's channels, and those of the maps that it appends.
        slope: of the activation; 1 for none.
    """

    def __init__(self, norm: ConditionalNorm, convolution: nn.Conv2d, slope: float) -> None:
        super().__init__()
        self.slope = slope
        weight, bias = _weights(convolution)
        split = norm.channels if isinstance(norm, CLADE) else norm.out_channels
        self.norm = (
            FoldedCLADE(norm) if isinstance(norm, CLADE) else FoldedSPADE(norm) if isinstance(norm, SPADE) else norm
        )
        self.convolution = _convolution(weight[:, :split], bias, convolution)
        self.appended = _convolution(weight[:, split:], None, convolution) if weight.shape[1] > split else None

    def forward(self, x: Tensor, layout: Layout, reuse: bool = False) -> Tensor:
        """`x [N, C, h, w]`, channels-last, -> `[N, out_channels, h, w]`; with `reuse` `x` may be overwritten."""
        if isinstance(self.norm, (FoldedCLADE, FoldedSPADE)):
            y = self.norm(x, layout, self.slope, reuse)
        else:
            y = F.leaky_relu(self.norm(x, layout), self.slope)
        y = self.convolution(y)
        if self.appended is None:
            return cast(Tensor, y)
        maps = F.leaky_relu(cast(FoldedCLADE, self.norm).appended_maps(layout, y), self.slope)
        return cast(Tensor, y.add_(self.appended(maps)))


class FoldedCLADE(nn.Module):
    """CLADE with the running statistics in its tables.

    Args:
        norm: the layer; with `instance` statistics these are computed and only the rest is folded.
    """

    norm: CLADE
    scale: Tensor
    shift: Tensor
    beta: Tensor | None

    def __init__(self, norm: CLADE) -> None:
        super().__init__()
        self.norm = norm
        mean, factor = _statistics(norm)
        self.fixed = factor is not None
        gamma = norm.gamma if factor is None else norm.gamma * factor
        shift = torch.zeros_like(norm.beta) if factor is None or mean is None else -gamma * mean
        by_position = norm.position == "modulation"
        self.register_buffer("scale", gamma.detach().clone(), persistent=False)
        self.register_buffer("shift", (shift if by_position else shift + norm.beta).detach().clone(), persistent=False)
        self.register_buffer("beta", norm.beta.detach().clone() if by_position else None, persistent=False)

    def forward(self, x: Tensor, layout: Layout, slope: float, reuse: bool) -> Tensor:
        """Normalise, modulate and activate `x [N, C, h, w]`."""
        size = (x.shape[-2], x.shape[-1])
        x = x if self.fixed else self.norm.statistics(x)
        if self.beta is None:
            return gather_affine(x, layout.at(size), self.scale, self.shift, slope, reuse=reuse)
        offsets = layout.position(size, self.norm.position_rule).to(x.dtype)
        factors = (1 + self.norm.position_gamma(offsets), 1 + self.norm.position_beta(offsets))
        return gather_affine(x, layout.at(size), self.scale, self.shift, slope, self.beta, factors, reuse=reuse)

    def appended_maps(self, layout: Layout, like: Tensor) -> Tensor:
        """The maps that CLADE appends to its output, `[N, 1 or 2, h, w]`, at the size and type of `like`."""
        size, norm = (like.shape[-2], like.shape[-1]), self.norm
        maps: list[Tensor] = [norm.edge(layout.edges(size).to(like.dtype))] if norm.instances else []
        if norm.position == "feature":
            maps.append(norm.position_feature(layout.position(size, norm.position_rule).to(like.dtype)))
        return torch.cat(maps, dim=1)


class FoldedSPADE(nn.Module):
    """SPADE over the distinct neighbourhoods of labels, with the running statistics in their tables.

    Args:
        norm: the layer; its convolutions are read when it is called.
    """

    def __init__(self, norm: SPADE) -> None:
        super().__init__()
        self.norm: SPADE = norm
        mean, factor = _statistics(norm)
        self.fixed = factor is not None
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("factor", factor, persistent=False)

    def forward(self, x: Tensor, layout: Layout, slope: float, reuse: bool) -> Tensor:
        """Normalise, modulate and activate `x [N, C, h, w]`; the dense way where neighbourhoods seldom repeat."""
        norm, size = self.norm, (x.shape[-2], x.shape[-1])
        patterns = norm.useful_patterns(layout, size)
        if patterns is None:
            return F.leaky_relu_(norm(x, layout), slope) if slope != 1 else cast(Tensor, norm(x, layout))
        gamma, beta = norm.tables(patterns)
        if self.fixed:
            gamma = gamma * cast(Tensor, self.factor)
            beta = torch.addcmul(beta, gamma, cast(Tensor, self.mean), value=-1)
        else:
            x = norm.statistics(x)
        return gather_affine(x, patterns.index, gamma.to(x.dtype), beta.to(x.dtype), slope, reuse=reuse)


def gather_affine(
    x: Tensor,
    index: Tensor,
    scale: Tensor,
    shift: Tensor,
    slope: float,
    beta: Tensor | None = None,
    factors: tuple[Tensor, Tensor] | None = None,
    *,
    reuse: bool = False,
) -> Tensor:
    """`leaky_relu(x * scale[index] + shift[index])` in one pass over `x`.

    With `beta` and `factors` `(f, g)`, each `[N, 1, h, w]`: `leaky_relu((x * scale[index] + shift[index]) * f +
    beta[index] * g)`, which is CLADE-ICPE.

    Args:
        x: `[N, C, h, w]`, channels-last in memory.
        index: int64 `[N, h, w]` in 0..P-1.
        scale, shift, beta: `[P, C]`.
        slope: of the LeakyReLU; 1 for none.
        factors: see above.
        reuse: write the result into `x`.

    Returns:
        `[N, C, h, w]`, channels-last.
    """
    batch, channels, height, width = x.shape
    rows = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(-1, channels)
    flat, out = index.reshape(-1), rows if reuse else torch.empty_like(rows)
    spread = None if factors is None else tuple(factor.reshape(-1, 1) for factor in factors)
    step = len(flat) if x.device.type != "cpu" else max(1, CHUNK_BYTES // (channels * x.element_size()))
    for start in range(0, len(flat), step):
        part = slice(start, start + step)
        classes, y = flat[part], out[part]
        torch.addcmul(shift.index_select(0, classes), rows[part], scale.index_select(0, classes), out=y)
        if beta is not None and spread is not None:
            y.mul_(spread[0][part]).addcmul_(beta.index_select(0, classes), spread[1][part])
        if slope != 1:
            F.leaky_relu_(y, slope)
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)


class PackedConvolution(nn.Module):
    """A float32 convolution on the CPU whose kernel is kept in the order in which oneDNN reads it."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.bias = convolution.bias
        self.geometry = ([*convolution.padding], [*convolution.stride], [*convolution.dilation], convolution.groups)
        reorder = cast(Any, torch._C._nn.mkldnn_reorder_conv2d_weight)
        example = [1, convolution.in_channels, 16, 16]  # a size to plan for; others work as well
        self.kernel = reorder(convolution.weight.detach().contiguous().to_mkldnn(), *self.geometry, example)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, h, w] -> [N, out_channels, h, w]`."""
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self.kernel, self.bias, *self.geometry, "none", [], "")
        return y


def _pack_large_kernels(network: nn.Module) -> None:
    for name, module in list(network.named_modules()):
        if type(module) is nn.Conv2d and module.weight.numel() >= LARGE_KERNEL and _can_pack(module.weight):
            _replace(network, name, PackedConvolution(module))


def _can_pack(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _statistics(norm: ConditionalNorm) -> tuple[Tensor | None, Tensor | None]:
    """Running mean and reciprocal deviation, `[C]` each; None where statistics are computed from the features."""
    statistics = norm.statistics
    if not isinstance(statistics, nn.modules.batchnorm._BatchNorm) or statistics.running_var is None:
        return None, None
    mean = cast(Tensor, statistics.running_mean)
    return mean.clone(), (statistics.running_var + statistics.eps).rsqrt()


def _weights(convolution: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    folded = isinstance(convolution, SpectralNormConv2d)
    weight = cast(SpectralNormConv2d, convolution).normalized_weight() if folded else convolution.weight
    return weight.detach(), None if convolution.bias is None else convolution.bias.detach()


def _plain_convolution(convolution: SpectralNormConv2d) -> nn.Conv2d:
    return _convolution(*_weights(convolution), convolution)


def _convolution(weight: Tensor, bias: Tensor | None, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with these weights and the geometry of another one."""
    outputs, inputs = weight.shape[:2]
    geometry = {"stride": like.stride, "padding": like.padding, "dilation": like.dilation, "bias": bias is not None}
    with torch.device("meta"):
        plain = nn.Conv2d(inputs, outputs, like.kernel_size, **geometry)  # type: ignore[arg-type]
    plain.weight = nn.Parameter(weight.clone(), requires_grad=False)
    plain.bias = None if bias is None else nn.Parameter(bias.clone(), requires_grad=False)
    return plain.eval()


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
