"""Normalise, modulate and activate as one differentiable operation, which keeps its input and nothing else of its size.

    y = leaky_relu((x - mean) / sqrt(variance + eps) * gamma[index] + beta[index], slope)

is CLADE with the activation after it (Tan et al., TPAMI 2021, equation 6), and SPADE over distinct label
neighbourhoods, which are more rows of a table. Spelt out in PyTorch it keeps four maps of the size of `x` until the
backward pass; here the backward pass computes them again, from `x`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final, TypeAlias, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from segscape.nn import modulated_activation_eager
from segscape.nn.modulated_activation_eager import Operands, Sums

Reduce: TypeAlias = Callable[[Tensor], Tensor]
"""Takes the sums of this process and returns those over all processes, which call it in the same order."""

KERNEL_TYPES: Final = (torch.float32, torch.bfloat16, torch.float16)
"""Features that the Triton kernels take."""


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and variance of each channel.

    Attributes:
        mean: `[C]`.
        variance: `[C]`, biased.
        count: how many values per channel they summarise, over all processes. None for statistics from elsewhere, such
            as running ones: constants for the gradient.
    """

    mean: Tensor
    variance: Tensor
    count: int | Tensor | None = None


def modulated_activation(
    x: Tensor,
    index: Tensor,
    gamma: Tensor,
    beta: Tensor,
    statistics: ChannelStatistics,
    *,
    eps: float = 1e-5,
    slope: float = 1.0,
    factors: tuple[Tensor, Tensor] | None = None,
    reduce: Reduce | None = None,
) -> Tensor:
    """Normalise `x`, multiply by the rows of gamma, add those of beta, and activate.

    Differentiable once, by `x`, `gamma`, `beta` and `factors`. Whatever the type of `x`, arithmetic and sums are in
    float32, or float64 if `x` is. On CUDA it runs as Triton kernels if Triton is installed, unless PyTorch is
    told to be deterministic.

    Args:
        x: `[N, C, h, w]`; channels-last in memory spares a copy.
        index: int64 `[N, h, w]` in 0..P-1.
        gamma: `[P, C]`.
        beta: `[P, C]`.
        statistics: `channel_statistics(x)` or `batch_statistics(norm, x)`, through which the gradient of `x` then
            flows, too; or others, without a count.
        eps: added to the variance.
        slope: of the LeakyReLU; 1 for none.
        factors: two `[N, 1, h, w]` that multiply the rows of gamma and of beta (CLADE-ICPE, equation 15).
        reduce: the one that the statistics were found with; the backward pass sums two numbers per channel with it.

    Returns:
        `[N, C, h, w]` in the type of `x`, channels-last in memory.
    """
    reciprocal = (statistics.variance + eps).rsqrt()
    constants = (statistics.mean, reciprocal, statistics.count, slope, reduce)
    y: Tensor = _ModulatedActivation.apply(  # type: ignore[no-untyped-call]
        x, index, gamma, beta, *(factors or (None, None)), *constants
    )
    return y


def channel_statistics(x: Tensor, reduce: Reduce | None = None) -> ChannelStatistics:
    """Mean and variance of `x [N, C, h, w]` over images and places; with `reduce`, of those of all processes together.

    They are float32, or float64 if `x` is, and have no gradient of their own.
    """
    rows = _rows(x.detach())
    mean, variance = _steps(rows).mean_and_variance(rows)
    if reduce is None:
        return ChannelStatistics(mean, variance, len(rows))
    wide = mean.double()  # in which the square of the mean loses nothing of the variance
    totals = reduce(torch.cat([wide, variance.double() + wide.square(), wide.new_ones(1)]) * len(rows))
    average, square = (totals[:-1] / totals[-1]).to(torch.float64).chunk(2)
    spread = (square - average.square()).clamp(min=0)
    return ChannelStatistics(average.to(mean.dtype), spread.to(mean.dtype), totals[-1].to(mean.dtype))


def batch_statistics(norm: _BatchNorm, x: Tensor, reduce: Reduce | None = None) -> ChannelStatistics:
    """The statistics that a batch norm uses: in training those of `x`, which move its running ones; else the latter.

    Raises ValueError for a single value per channel in training, as the batch norm does.
    """
    if not norm.training and norm.running_mean is not None:
        return ChannelStatistics(norm.running_mean, cast(Tensor, norm.running_var))
    statistics = channel_statistics(x, reduce)
    if isinstance(statistics.count, int) and statistics.count < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(x.shape)}")
    if norm.training and norm.running_mean is not None:
        _move_running_statistics(norm, statistics)
    return statistics


@torch.no_grad()
def _move_running_statistics(norm: _BatchNorm, statistics: ChannelStatistics) -> None:
    """As a batch norm in training does; the running variance is the unbiased one."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert statistics.count is not None
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    unbiased = statistics.variance * (statistics.count / (statistics.count - 1))
    norm.running_mean.mul_(1 - momentum).add_(statistics.mean, alpha=momentum)
    norm.running_var.mul_(1 - momentum).add_(unbiased, alpha=momentum)


class _ModulatedActivation(torch.autograd.Function):
    """`modulated_activation`, for statistics that follow from `x` if they have a count."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        index: Tensor,
        gamma: Tensor,
        beta: Tensor,
        gamma_factor: Tensor | None,
        beta_factor: Tensor | None,
        mean: Tensor,
        reciprocal: Tensor,
        count: int | Tensor | None,
        slope: float,
        reduce: Reduce | None,
    ) -> Tensor:
        inputs = (x, index, gamma, beta, gamma_factor, beta_factor, mean, reciprocal)
        ctx.save_for_backward(*inputs)
        ctx.count, ctx.slope, ctx.reduce = count, slope, reduce
        return _maps(_steps(x).value(_operands(*inputs, slope=slope)), x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        steps, operands, rows = _steps(inputs[0]), _operands(*inputs, slope=ctx.slope), _rows(gradient)
        sums = steps.sums(operands, rows)
        through = None if ctx.count is None else _through_statistics(operands, sums, ctx.count, ctx.reduce)
        of_x = _maps(steps.input_gradient(operands, rows, sums, through), inputs[0])
        found = (sums.gamma, sums.beta, *(sums.factors or (None, None)))
        others = (None if g is None else g.view(t.shape).to(t.dtype) for g, t in zip(found, inputs[2:6], strict=True))
        return of_x, None, *others, None, None, None, None, None


def _through_statistics(
    operands: Operands, sums: Sums, count: int | Tensor, reduce: Reduce | None
) -> tuple[Tensor, Tensor]:
    """What `input_gradient` takes: the means of g, and of g times the normalised features, where g is their gradient.

    The second one is known from the gradient of the table, since g has gamma as a factor.
    """
    pair = torch.stack([sums.channels, (operands.gamma * sums.gamma).sum(0)])
    level, trend = (pair if reduce is None else reduce(pair)) / count
    return level, trend


def _steps(x: Tensor) -> ModuleType:
    """The module whose four functions suit the device and type of `x`."""
    kernels = x.is_cuda and x.dtype in KERNEL_TYPES and find_spec("triton") is not None
    if kernels and not torch.are_deterministic_algorithms_enabled():
        from segscape.nn import modulated_activation_triton

        return modulated_activation_triton
    return modulated_activation_eager


def _rows(maps: Tensor) -> Tensor:
    """`[N, C, h, w] -> [N * h * w, C]`, contiguous; without a copy if the maps are channels-last."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).contiguous()


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_rows`."""
    batch, channels, height, width = like.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _operands(
    x: Tensor,
    index: Tensor,
    gamma: Tensor,
    beta: Tensor,
    gamma_factor: Tensor | None,
    beta_factor: Tensor | None,
    mean: Tensor,
    reciprocal: Tensor,
    *,
    slope: float,
) -> Operands:
    kind = torch.promote_types(x.dtype, torch.float32)
    gamma, beta, mean, reciprocal = (t.detach().to(kind).contiguous() for t in (gamma, beta, mean, reciprocal))
    factors = None
    if gamma_factor is not None and beta_factor is not None:
        factors = gamma_factor.to(kind).flatten(), beta_factor.to(kind).flatten()
    return Operands(_rows(x), index.reshape(-1), gamma, beta, mean, reciprocal, slope, factors)
