"""The steps of `modulated_activation` in PyTorch's own operations, on rows of channels.

On the CPU they work through the rows in pieces that stay in the cache between operations: each map is read from memory
once per step, and none is made but the result. `modulated_activation_triton` has the same four functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES: Final = 1 << 20
"""Features that a piece holds on the CPU. Smaller ones would fit a closer cache, but cost more calls."""


@dataclass(frozen=True)
class Operands:
    """What the steps read, with places as rows.

    Attributes:
        rows: features `[M, C]`, M = N * h * w, contiguous.
        index: int64 `[M]` in 0..P-1, contiguous.
        gamma: `[P, C]`, contiguous, in the type to calculate in, as all that follow.
        beta: `[P, C]`, contiguous.
        mean: `[C]`.
        reciprocal: of the standard deviation, `[C]`.
        slope: of the LeakyReLU; 1 for none.
        factors: of gamma and of beta, `[M]` each, contiguous; or None.
    """

    rows: Tensor
    index: Tensor
    gamma: Tensor
    beta: Tensor
    mean: Tensor
    reciprocal: Tensor
    slope: float
    factors: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Sums:
    """What the backward pass adds up before it can find the gradient of the features.

    Attributes:
        gamma: gradient of the table, `[P, C]`.
        beta: likewise.
        factors: gradients of the factors, `[M]` each; or None.
        channels: the gradient of the normalised features, summed over the rows: `[C]`.
        normalised: that gradient itself, `[M, C]`; None where `input_gradient` computes it again.
    """

    gamma: Tensor
    beta: Tensor
    factors: tuple[Tensor, Tensor] | None
    channels: Tensor
    normalised: Tensor | None


def mean_and_variance(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the columns of `rows [M, C]`, in float32 or wider."""
    kind = torch.promote_types(rows.dtype, torch.float32)
    if rows.device.type != "cpu":
        variance, mean = torch.var_mean(rows.to(kind), 0, correction=0)
        return mean, variance
    running = rows.new_zeros(2, rows.shape[1], dtype=kind)  # whose type is that of the result
    mean, variance = torch.batch_norm_update_stats(rows.T[None, :, :, None], running[0], running[1], 0.0)
    return mean, variance


def value(operands: Operands) -> Tensor:
    """The result, `[M, C]` in the type of the rows."""
    out = torch.empty_like(operands.rows)
    for piece in _pieces(operands, out):
        if operands.slope != 1:
            F.leaky_relu_(piece.value, operands.slope)
        piece.store()
    return out


def sums(operands: Operands, gradient: Tensor) -> Sums:
    """The first pass over the gradient of the result, `[M, C]`."""
    of_rows = torch.empty_like(operands.rows)
    of_gamma, of_beta, of_channels = (torch.zeros_like(t) for t in (operands.gamma, operands.beta, operands.mean))
    of_factors = operands.factors and (torch.empty_like(operands.factors[0]), torch.empty_like(operands.factors[1]))
    for piece in _pieces(operands, of_rows):
        delta = gradient[piece.part].to(of_gamma.dtype)
        if operands.slope != 1:
            delta = torch.ops.aten.leaky_relu_backward(delta, piece.value, operands.slope, False)
        product, added = piece.normalised.mul_(delta), delta
        if operands.factors and of_factors:
            gamma_factor, beta_factor = (factor[piece.part, None] for factor in operands.factors)
            of_factors[0][piece.part] = torch.linalg.vecdot(product, piece.gamma)
            of_factors[1][piece.part] = torch.linalg.vecdot(delta, operands.beta.index_select(0, piece.index))
            product, added, delta = product.mul_(gamma_factor), delta * beta_factor, delta * gamma_factor
        of_gamma.index_add_(0, piece.index, product)
        of_beta.index_add_(0, piece.index, added)
        of_channels += torch.mul(delta, piece.gamma, out=piece.value).sum(0)
        piece.store()
    return Sums(of_gamma, of_beta, of_factors, of_channels, of_rows)


def input_gradient(operands: Operands, gradient: Tensor, sums: Sums, through: tuple[Tensor, Tensor] | None) -> Tensor:
    """The second pass over the gradient of the result: the gradient of the features, `[M, C]`.

    Args:
        operands: those of the first pass.
        gradient: that of the first pass.
        sums: what it returned; overwritten.
        through: what the gradient of the normalised features loses through the statistics, `[C]` each: a level, and a
            trend times the normalised features. None where the statistics are constants.
    """
    of_rows, reciprocal = cast(Tensor, sums.normalised), operands.reciprocal
    if through is None:
        return of_rows.mul_(reciprocal)
    level, trend = through
    tilt = -trend * reciprocal.square()
    constant = -operands.mean * tilt - level * reciprocal
    step = _step(operands)
    for start in range(0, len(of_rows), step):
        x, of_x = operands.rows[start : start + step], of_rows[start : start + step]
        torch.addcmul(torch.addcmul(constant, x, tilt), of_x, reciprocal, out=of_x)
    return of_rows


@dataclass(frozen=True)
class _Piece:
    """Some rows of the forward pass, in buffers that the next piece overwrites.

    Attributes:
        part: which rows.
        index: theirs.
        normalised: the features.
        gamma: their rows of the table.
        value: the result before the activation.
        out: where `store` puts what `value` holds by then, in another type; or `value` itself.
    """

    part: slice
    index: Tensor
    normalised: Tensor
    gamma: Tensor
    value: Tensor
    out: Tensor

    def store(self) -> None:
        """Write `value` into `out`."""
        if self.value is not self.out:
            self.out.copy_(self.value)


def _pieces(operands: Operands, out: Tensor) -> Iterator[_Piece]:
    """Work through the rows; `out` is `[M, C]`, and overwritten with the values if it is of their type."""
    kind, step = operands.gamma.dtype, _step(operands)
    buffers = [out.new_empty(min(step, len(out)), out.shape[1], dtype=kind) for _ in range(2 + (out.dtype != kind))]
    constant = -operands.mean * operands.reciprocal
    for start in range(0, len(out), step):
        part = slice(start, min(start + step, len(out)))
        normalised, gamma, *other = (buffer[: part.stop - start] for buffer in buffers)
        index, target = operands.index[part], out[part]
        value = other[0] if other else target
        torch.addcmul(constant, operands.rows[part], operands.reciprocal, out=normalised)
        torch.index_select(operands.gamma, 0, index, out=gamma)
        torch.index_select(operands.beta, 0, index, out=value)
        if operands.factors is None:
            value.addcmul_(normalised, gamma)
        else:
            value.mul_(operands.factors[1][part, None])
            value.addcmul_(normalised, gamma * operands.factors[0][part, None])
        yield _Piece(part, index, normalised, gamma, value, target)


def _step(operands: Operands) -> int:
    """How many rows make a piece."""
    on_cpu, mean = operands.rows.device.type == "cpu", operands.mean
    return max(1, CHUNK_BYTES // (mean.numel() * mean.element_size())) if on_cpu else len(operands.rows)
