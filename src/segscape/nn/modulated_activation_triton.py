# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,no-untyped-call,untyped-decorator"
"""The steps of `modulated_activation` as Triton kernels, for features on CUDA.

Each reads a map once and keeps none: two passes forward (statistics, result) and two backward (sums, gradient), which
is what memory allows, since the second of each needs the sums of the first. A program works on a tile of rows and
channels.

The sums per class are the hard part: a class may cover nearly all pixels, or each pixel be of another. So a program
first adds up its tile's rows of one class after the other, which on real label maps are one or two per tile, and then
adds each sum to the table atomically: once per tile and class rather than once per pixel. Programs take turns over
several copies of the table, which are added up at the end, so that few of them wait for the same entry where one class
covers all. Nothing is sorted. Only where each pixel is of another class does it come to one addition per pixel, and
then to entries all over the table. The order of the additions varies, and so do the last bits of the tables' gradients;
`torch.use_deterministic_algorithms` selects the eager steps.

These kernels have run in Triton's interpreter only. They compile for GPUs (no registers spilt on sm_90), but none has
run one yet; tile sizes are first guesses.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from segscape.nn.modulated_activation_eager import Operands, Sums

TILE: Final = 2048
"""Entries of a tile: sixteen per thread and map."""

MOST_CHANNELS: Final = 128
"""Channels of a tile."""

STRIPES: Final = 512
"""Most programs per channel block that share the rows when statistics are found."""

COPIES: Final = 16
"""Most copies of the tables of sums."""

SHARERS: Final = 64
"""Programs per channel block from which another copy is worth it."""

COPIED_BYTES: Final = 1 << 25
"""Most bytes that the copies of one table take."""


def mean_and_variance(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the columns of `rows [M, C]`, in float32."""
    count, channels = rows.shape
    block_rows, block_channels = _tile(channels)
    stripe = triton.cdiv(triton.cdiv(count, block_rows), STRIPES)
    stripes = triton.cdiv(count, stripe * block_rows)
    counts, means, squares = (rows.new_empty(stripes, channels, dtype=torch.float32) for _ in range(3))
    with torch.cuda.device_of(rows):
        _statistics[(stripes, triton.cdiv(channels, block_channels))](
            rows, counts, means, squares, count, channels, stripe, block_rows, block_channels
        )
    mean = (means * counts).sum(0) / count
    variance = (squares + counts * (means - mean).square()).sum(0) / count
    return mean, variance


def value(operands: Operands) -> Tensor:
    """The result, `[M, C]` in the type of the rows."""
    out = torch.empty_like(operands.rows)
    with torch.cuda.device_of(out):
        _value[_grid(out)](*_arguments(operands), out, *_settings(operands))
    return out


def sums(operands: Operands, gradient: Tensor) -> Sums:
    """The first pass over the gradient of the result, `[M, C]`."""
    rows, (num_rows, channels) = operands.rows, operands.gamma.shape
    tiles, blocks = _grid(rows)
    copies = max(1, min(COPIES, tiles // SHARERS, COPIED_BYTES // (4 * num_rows * channels)))
    of_gamma, of_beta = rows.new_zeros(2, copies, num_rows, channels, dtype=torch.float32)
    of_channels = rows.new_empty(tiles, channels, dtype=torch.float32)
    of_factors = rows.new_empty(2, blocks, len(rows) if operands.factors else 0, dtype=torch.float32)
    with torch.cuda.device_of(rows):
        _sums[tiles, blocks](
            *_arguments(operands),
            gradient,
            of_gamma,
            of_beta,
            of_channels,
            of_factors,
            num_rows,
            copies,
            *_settings(operands),
        )
    gamma_factor, beta_factor = of_factors.sum(1)
    factors = (gamma_factor, beta_factor) if operands.factors else None
    return Sums(of_gamma.sum(0), of_beta.sum(0), factors, of_channels.sum(0), None)


def input_gradient(operands: Operands, gradient: Tensor, sums: Sums, through: tuple[Tensor, Tensor] | None) -> Tensor:
    """The second pass: as that of `modulated_activation_eager`."""
    out = torch.empty_like(operands.rows)
    level, trend = through or (torch.zeros_like(operands.mean),) * 2
    with torch.cuda.device_of(out):
        _input_gradient[_grid(out)](
            *_arguments(operands), gradient, level.contiguous(), trend.contiguous(), out, *_settings(operands)
        )
    return out


def _tile(channels: int) -> tuple[int, int]:
    block_channels = min(MOST_CHANNELS, triton.next_power_of_2(channels))
    return TILE // block_channels, block_channels


def _grid(rows: Tensor) -> tuple[int, int]:
    count, channels = rows.shape
    block_rows, block_channels = _tile(channels)
    return triton.cdiv(count, block_rows), triton.cdiv(channels, block_channels)


def _arguments(operands: Operands) -> tuple[Tensor, ...]:
    factors = operands.factors or (operands.mean, operands.mean)  # not read if there are none
    return (operands.rows, operands.index, operands.gamma, operands.beta, operands.mean, operands.reciprocal, *factors)


def _settings(operands: Operands) -> tuple[Any, ...]:
    return (*operands.rows.shape, operands.slope, operands.factors is not None, *_tile(operands.rows.shape[1]))


@triton.jit
def _places(count, channels, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr):
    """The rows and channels of a program's tile, and which of them exist."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    return row, channel, row < count, channel < channels


@triton.jit
def _load(rows, row, channel, inside, channels):
    """A tile of `[M, C]` in float32."""
    return tl.load(rows + row[:, None] * channels + channel[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _statistics(
    rows, counts, means, squares, count, channels, stripe, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr
):
    """Count, mean, and sum of squared distances from it, over a stripe of tiles, for each channel."""
    channel = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    number = tl.zeros((BLOCK_CHANNELS,), tl.float32)
    mean = tl.zeros((BLOCK_CHANNELS,), tl.float32)
    square = tl.zeros((BLOCK_CHANNELS,), tl.float32)
    first = tl.program_id(0).to(tl.int64) * stripe * BLOCK_ROWS
    for tile in range(stripe):
        row = first + tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        inside = (row < count)[:, None] & (channel < channels)[None, :]
        x = _load(rows, row, channel, inside, channels)
        more = tl.sum(inside.to(tl.float32), axis=0)
        tile_mean = tl.sum(x, axis=0) / tl.maximum(more, 1.0)
        distance = tl.where(inside, x - tile_mean[None, :], 0.0)
        total = tl.maximum(number + more, 1.0)
        step = tile_mean - mean
        square += tl.sum(distance * distance, axis=0) + step * step * (number * more / total)
        mean += step * (more / total)
        number += more
    place = tl.program_id(0) * channels + channel
    tl.store(counts + place, number, mask=channel < channels)
    tl.store(means + place, mean, mask=channel < channels)
    tl.store(squares + place, square, mask=channel < channels)


@triton.jit
def _forward(
    rows, index, gamma, beta, mean, reciprocal, gamma_factor, beta_factor,
    row, channel, row_exists, channel_exists, channels, HAS_FACTORS: tl.constexpr,
):  # fmt: skip
    """A tile of the normalised features, of both tables' rows, of both factors, and of the value before activation."""
    inside = row_exists[:, None] & channel_exists[None, :]
    x = _load(rows, row, channel, inside, channels)
    m = tl.load(mean + channel, mask=channel_exists, other=0.0)
    r = tl.load(reciprocal + channel, mask=channel_exists, other=0.0)
    normalised = (x - m[None, :]) * r[None, :]
    classes = tl.load(index + row, mask=row_exists, other=0)
    scale = _load(gamma, classes, channel, inside, channels)
    shift = _load(beta, classes, channel, inside, channels)
    if HAS_FACTORS:
        scale_factor = tl.load(gamma_factor + row, mask=row_exists, other=0.0)[:, None]
        shift_factor = tl.load(beta_factor + row, mask=row_exists, other=0.0)[:, None]
        y = normalised * scale * scale_factor + shift * shift_factor
    else:
        scale_factor = tl.full((1, 1), 1.0, tl.float32)
        shift_factor = tl.full((1, 1), 1.0, tl.float32)
        y = normalised * scale + shift
    return normalised, scale, shift, scale_factor, shift_factor, y, classes.to(tl.int32), r


@triton.jit
def _value(
    rows, index, gamma, beta, mean, reciprocal, gamma_factor, beta_factor, out,
    count, channels, slope, HAS_FACTORS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
):  # fmt: skip
    row, channel, row_exists, channel_exists = _places(count, channels, BLOCK_ROWS, BLOCK_CHANNELS)
    _, _, _, _, _, y, _, _ = _forward(
        rows, index, gamma, beta, mean, reciprocal, gamma_factor, beta_factor,
        row, channel, row_exists, channel_exists, channels, HAS_FACTORS,
    )  # fmt: skip
    y = tl.where(y > 0, y, y * slope)
    place = row[:, None] * channels + channel[None, :]
    tl.store(out + place, y.to(out.dtype.element_ty), mask=row_exists[:, None] & channel_exists[None, :])


@triton.jit
def _sums(
    rows, index, gamma, beta, mean, reciprocal, gamma_factor, beta_factor, 
    gradient, of_gamma, of_beta, of_channels, of_factors, num_rows, copies,
    count, channels, slope, HAS_FACTORS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
):  # fmt: skip
    row, channel, row_exists, channel_exists = _places(count, channels, BLOCK_ROWS, BLOCK_CHANNELS)
    inside = row_exists[:, None] & channel_exists[None, :]
    normalised, scale, shift, scale_factor, shift_factor, y, classes, _ = _forward(
        rows, index, gamma, beta, mean, reciprocal, gamma_factor, beta_factor,
        row, channel, row_exists, channel_exists, channels, HAS_FACTORS,
    )  # fmt: skip
    delta = _load(gradient, row, channel, inside, channels)
    delta = tl.where(y > 0, delta, delta * slope)
    of_scale = delta * normalised * scale_factor
    of_shift = delta * shift_factor

    tile_sum = tl.sum(delta * scale_factor * scale, axis=0)
    tl.store(of_channels + tl.program_id(0).to(tl.int64) * channels + channel, tile_sum, mask=channel_exists)
    if HAS_FACTORS:
        block = tl.program_id(1).to(tl.int64)
        place = block * count + row
        tl.store(of_factors + place, tl.sum(delta * normalised * scale, axis=1), mask=row_exists)
        place += tl.num_programs(1).to(tl.int64) * count
        tl.store(of_factors + place, tl.sum(delta * shift, axis=1), mask=row_exists)

    copy = (tl.program_id(0) % copies).to(tl.int64) * num_rows
    classes = tl.where(row_exists, classes, num_rows)
    current = tl.min(classes, axis=0)
    while current < num_rows:  # the tile's classes, one after the other
        chosen = (classes == current)[:, None]
        entry = (copy + current) * channels + channel
        tl.atomic_add(of_gamma + entry, tl.sum(tl.where(chosen, of_scale, 0.0), axis=0), mask=channel_exists)
        tl.atomic_add(of_beta + entry, tl.sum(tl.where(chosen, of_shift, 0.0), axis=0), mask=channel_exists)
        current = tl.min(tl.where(classes > current, classes, num_rows), axis=0)


@triton.jit
def _input_gradient(
    rows, index, gamma, beta, mean, reciprocal, gamma_factor, beta_factor, gradient, level, trend, out,
    count, channels, slope, HAS_FACTORS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
):  # fmt: skip
    row, channel, row_exists, channel_exists = _places(count, channels, BLOCK_ROWS, BLOCK_CHANNELS)
    inside = row_exists[:, None] & channel_exists[None, :]
    normalised, scale, _, scale_factor, _, y, _, r = _forward(
        rows, index, gamma, beta, mean, reciprocal, gamma_factor, beta_factor,
        row, channel, row_exists, channel_exists, channels, HAS_FACTORS,
    )  # fmt: skip
    delta = _load(gradient, row, channel, inside, channels)
    delta = tl.where(y > 0, delta, delta * slope)
    all_level = tl.load(level + channel, mask=channel_exists, other=0.0)[None, :]
    all_trend = tl.load(trend + channel, mask=channel_exists, other=0.0)[None, :]
    of_x = (delta * scale * scale_factor - all_level - normalised * all_trend) * r[None, :]
    place = row[:, None] * channels + channel[None, :]
    tl.store(out + place, of_x.to(out.dtype.element_ty), mask=inside)
