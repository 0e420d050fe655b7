"""Convolutions on the CPU whose input is made strip by strip, so that it is read from the cache and never stored whole.

3x3 convolutions also take fewer multiplications, by Winograd's minimal filtering: an output tile of m x m pixels needs
(m + 2)^2 products per pair of channels in place of 9 m^2, 2.25 times fewer for m = 2 and 4 times fewer for m = 4. The
products of all tiles of a strip are one batched matrix product, which runs at the processor's full rate.

Source: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv 1509.09308, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn

Tile = Literal[2, 4]

FillRows = Callable[[int, int, int, Tensor], None]
"""`fill(image, first, last, out)` writes rows first..last - 1 of one image of the input into `out [rows, w, C]`."""

STRIP_BYTES: Final = 1 << 21
"""Input of one strip."""

KERNEL_TRANSFORMS: Final[dict[Tile, list[list[float]]]] = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}
"""G of the paper: `[m + 2, 3]`."""


class StripConvolution(nn.Module):
    """A float32 convolution of stride 1 on the CPU that keeps the size of its input."""

    def convolve(self, fill: FillRows, shape: tuple[int, int, int]) -> Tensor:
        """Convolve an input of `shape` (N, h, w) that is made strip by strip, each row once or twice.

        Returns:
            `[N, out_channels, h, w]`, channels-last.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """`[N, in_channels, h, w] -> [N, out_channels, h, w]`, channels-last."""
        pixels = x.permute(0, 2, 3, 1)

        def copy(image: int, first: int, last: int, out: Tensor) -> None:
            out.copy_(pixels[image, first:last])

        return self.convolve(copy, (x.shape[0], x.shape[2], x.shape[3]))


class PointwiseConvolution(StripConvolution):
    """A 1x1 convolution: one matrix product per strip.

    Args:
        weight: `[out_channels, in_channels, 1, 1]`.
        bias: `[out_channels]` or None.
    """

    matrix: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("matrix", weight.detach().flatten(1).t().contiguous(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().clone(), persistent=False)

    def convolve(self, fill: FillRows, shape: tuple[int, int, int]) -> Tensor:
        """As `StripConvolution`."""
        batch, height, width = shape
        in_channels, out_channels = self.matrix.shape
        step = max(1, min(height, STRIP_BYTES // (4 * width * in_channels)))
        rows = self.matrix.new_empty(step, width, in_channels)
        y = self.matrix.new_empty(batch, height, width, out_channels)
        for image in range(batch):
            for first in range(0, height, step):
                last = min(height, first + step)
                fill(image, first, last, rows[: last - first])
                torch.mm(rows[: last - first].flatten(0, 1), self.matrix, out=y[image, first:last].flatten(0, 1))
        y = y if self.bias is None else y.add_(self.bias)
        return y.permute(0, 3, 1, 2)


class WinogradConvolution(StripConvolution):
    """A 3x3 convolution of stride 1 and padding 1 in float32.

    In float32 it is as close to the exact result as the direct convolution: the sums over channels are shorter.

    Args:
        weight: `[out_channels, in_channels, 3, 3]`.
        bias: `[out_channels]` or None.
        tile: m, the side of an output tile. The stored kernel has (m + 2)^2 / 9 times as many numbers as the weight.
    """

    kernel: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, tile: Tile) -> None:
        super().__init__()
        self.tile: Tile = tile
        transform = torch.tensor(KERNEL_TRANSFORMS[tile], dtype=torch.float64, device=weight.device)
        kernel = torch.einsum("ai,ocij,bj->baco", transform, weight.detach().double(), transform)
        self.register_buffer("kernel", kernel.flatten(0, 1).float().contiguous(), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().clone(), persistent=False)

    def convolve(self, fill: FillRows, shape: tuple[int, int, int]) -> Tensor:
        """As `StripConvolution`."""
        tile, (batch, height, width) = self.tile, shape
        places, in_channels, out_channels = self.kernel.shape
        tiles_down, tiles_across = -(-height // tile), -(-width // tile)
        strip_tiles = max(1, min(tiles_down, STRIP_BYTES // (4 * tile * width * in_channels)))
        rows = self.kernel.new_zeros(tile * strip_tiles + 2, tile * tiles_across + 2, in_channels)
        y = self.kernel.new_empty(batch, height, width, out_channels)
        for image in range(batch):
            for top in range(0, height, tile * strip_tiles):
                count = min(strip_tiles, -(-(height - top) // tile))
                self._read(fill, image, top, height, width, rows)
                features = rows[: tile * count + 2]
                transformed = _transform_input(features, tile).reshape(places, count * tiles_across, in_channels)
                products = torch.bmm(transformed, self.kernel)
                found = _transform_output(products.view(places, count, tiles_across, out_channels), tile)
                part = y[image, top : top + tile * count]
                part.copy_(found[: part.shape[0], :width])
        y = y if self.bias is None else y.add_(self.bias)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    def _read(fill: FillRows, image: int, top: int, height: int, width: int, rows: Tensor) -> None:
        """Fill a strip with the input's rows from `top - 1` on, zeros outside the image."""
        first, last = max(0, top - 1), min(height, top - 1 + rows.shape[0])
        before, filled = first - (top - 1), last - first
        fill(image, first, last, rows[before : before + filled, 1 : width + 1])
        rows[:before].zero_()
        rows[before + filled :].zero_()


def _transform_input(x: Tensor, tile: Tile) -> Tensor:
    """B^T d B of every tile: `[tile * R + 2, tile * T + 2, C] -> [m + 2, m + 2, R, T, C]`, columns first."""
    combine = _combine_4 if tile == 2 else _combine_6
    side = tile + 2
    down, across = (x.shape[0] - 2) // tile, (x.shape[1] - 2) // tile
    of_rows = x.new_empty(side, down, *x.shape[1:])
    combine([x[i : i + tile * (down - 1) + 1 : tile] for i in range(side)], of_rows)
    of_tiles = x.new_empty(side, side, down, across, x.shape[2])
    combine([of_rows[:, :, j : j + tile * (across - 1) + 1 : tile] for j in range(side)], of_tiles)
    return of_tiles


def _transform_output(products: Tensor, tile: Tile) -> Tensor:
    """A^T m A of every tile: `[(m + 2)^2, R, T, O] -> [tile * R, tile * T, O]`."""
    side, (_, down, across, channels) = tile + 2, products.shape
    join = _join_4 if tile == 2 else _join_6
    of_rows = products.new_empty(tile, side, down, across, channels)
    join(products.view(side, side, down, across, channels).unbind(1), of_rows.unbind(0))
    y = products.new_empty(down, tile, across, tile, channels)
    for row in range(tile):
        join(of_rows[row].unbind(0), [y[:, row, :, column] for column in range(tile)])
    return y.view(tile * down, tile * across, channels)


def _combine_4(d: Sequence[Tensor], out: Tensor) -> None:
    """B^T for m = 2."""
    torch.sub(d[0], d[2], out=out[0])
    torch.add(d[1], d[2], out=out[1])
    torch.sub(d[2], d[1], out=out[2])
    torch.sub(d[1], d[3], out=out[3])


def _combine_6(d: Sequence[Tensor], out: Tensor) -> None:
    """B^T for m = 4."""
    even, odd = torch.add(d[4], d[2], alpha=-4), torch.add(d[3], d[1], alpha=-4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(d[4], d[2], out=even)
    torch.sub(d[3], d[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.add(even, odd, alpha=-2, out=out[4])
    torch.add(d[4], d[2], alpha=-5, out=out[0]).add_(d[0], alpha=4)
    torch.add(d[5], d[3], alpha=-5, out=out[5]).add_(d[1], alpha=4)


def _join_4(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """A^T for m = 2."""
    torch.add(m[0], m[1], out=out[0]).add_(m[2])
    torch.sub(m[1], m[2], out=out[1]).sub_(m[3])


def _join_6(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """A^T for m = 4."""
    sum_1, difference_1 = m[1] + m[2], m[1] - m[2]
    sum_2, difference_2 = m[3] + m[4], m[3] - m[4]
    torch.add(m[0], sum_1, out=out[0]).add_(sum_2)
    torch.add(difference_1, difference_2, alpha=2, out=out[1])
    torch.add(sum_1, sum_2, alpha=4, out=out[2])
    torch.add(difference_1, difference_2, alpha=8, out=out[3]).add_(m[5])
