"""The distinct label neighbourhoods of a layout: what SPADE's gamma and beta are a function of.

Two convolutions of kernel size k over a label map see, at each pixel, the ``(2k-1) x (2k-1)`` labels around it. A
real label map has few distinct ones, so a network can compute once per *pattern* and look the result up per pixel.

A pattern is kept in two steps, as the convolutions read it: an *inner* pattern is the ``k x k`` window of tokens that
one output of the first convolution sees, and a pattern is the ``k x k`` window of inner patterns that one output of
the second sees. Both convolutions pad with zeros, so a place outside the image is a token (and an inner pattern) of
its own. Everything is exact: windows are numbered by packing numbers into one integer by position, never hashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

_LARGEST_KEY: Final = 2**63 - 1


@dataclass(frozen=True, eq=False)
class PatternIndex:
    """Which pattern lies at each pixel of a batch of label maps, and what each pattern is made of.

    Attributes:
        index: The pattern of each pixel, int64 ``[N, h, w]`` in 0..P-1; every pattern occurs.
        inner: The inner pattern at each place of a pattern's window, row by row, int64 ``[P, k * k]`` in 0..Q;
            Q is a place outside the image.
        tokens: The token at each place of an inner pattern's window, row by row, int64 ``[Q, k * k]`` in 0..K;
            K is a place outside the image.
        num_tokens: K.
    """

    index: Tensor
    inner: Tensor
    tokens: Tensor
    num_tokens: int

    @property
    def num_patterns(self) -> int:
        """P: how many distinct neighbourhoods the batch has."""
        return self.inner.shape[0]

    @property
    def share(self) -> float:
        """Patterns per pixel, in (0, 1]: low for structured maps, 1 where every neighbourhood is another."""
        return self.num_patterns / self.index.numel()

    def to(self, device: torch.device | str) -> PatternIndex:
        """The same index on another device."""
        return PatternIndex(self.index.to(device), self.inner.to(device), self.tokens.to(device), self.num_tokens)


def pattern_index(tokens: Tensor, num_tokens: int, kernel_size: int = 3) -> PatternIndex:
    """Find the patterns of a batch of token maps, exactly.

    Args:
        tokens: int64 ``[N, h, w]`` with values in 0..num_tokens-1.
        num_tokens: K; tokens may be labels, or labels combined with another map.
        kernel_size: k of both convolutions; odd.

    Raises:
        ValueError: When the kernel size is even or not positive.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"patterns belong to an odd kernel size, not {kernel_size}")
    inner, at_inner = _number_windows(tokens, num_tokens, kernel_size)
    index, at_pattern = _number_windows(inner, len(at_inner), kernel_size)
    return PatternIndex(
        index=index,
        inner=_windows_at(inner, at_pattern, len(at_inner), kernel_size),
        tokens=_windows_at(tokens, at_inner, num_tokens, kernel_size),
        num_tokens=num_tokens,
    )


def _number_windows(values: Tensor, outside: int, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Number the distinct ``k x k`` windows around the places of ``values [N, h, w]``, padded with ``outside``.

    Returns:
        The number of each place's window, int64 ``[N, h, w]``, and for each number one flat place that has it.
    """
    height, width = values.shape[-2:]
    if (outside + 1) ** kernel_size > _LARGEST_KEY:
        values, occurring = _number(values)
        outside = len(occurring)
    columns = _pad(values, outside, kernel_size // 2, 0)
    rows, occurring = _number_tuples([columns[:, :, i : i + width] for i in range(kernel_size)], outside + 1)
    lines = _pad(rows, len(occurring), 0, kernel_size // 2)
    return _number_tuples([lines[:, i : i + height] for i in range(kernel_size)], len(occurring) + 1)


def _number_tuples(parts: Sequence[Tensor], base: int) -> tuple[Tensor, Tensor]:
    """Number the distinct tuples of ``parts``, all in 0..base-1 and of one shape; as :func:`_number`.

    The tuple is packed into one key in base ``base``. Where the next digit might not fit, the key is renumbered, which
    brings it below the count of places.
    """
    keys, size = parts[0], base
    for part in parts[1:]:
        if size * base > _LARGEST_KEY:
            keys, occurring = _number(keys)
            size = len(occurring)
        keys = keys * base + part
        size *= base
    return _number(keys)


def _number(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Number the distinct values of ``keys [N, h, w]``.

    Only the first of each run of equal keys is sorted: a third of the time of sorting them all, on real label maps.

    Returns:
        The number of each key, int64 ``[N, h, w]``, and for each number one flat place that has it.
    """
    flat = keys.flatten()
    starts_run = torch.ones_like(flat, dtype=torch.bool)
    torch.ne(flat[1:], flat[:-1], out=starts_run[1:])
    starts = starts_run.nonzero().squeeze(1)
    values, numbers = torch.unique(flat[starts], return_inverse=True)
    occurring = torch.empty_like(values).scatter_(0, numbers, starts)
    return numbers[starts_run.cumsum(0) - 1].view(keys.shape), occurring


def _windows_at(values: Tensor, places: Tensor, outside: int, kernel_size: int) -> Tensor:
    """The ``k x k`` windows of ``values [N, h, w]`` around flat places ``[P]``, int64 ``[P, k * k]``, row by row."""
    height, width = values.shape[-2:]
    margin = kernel_size // 2
    padded = _pad(values, outside, margin, margin)
    stride = width + 2 * margin
    image, row, column = places // (height * width), places // width % height, places % width
    corner = (image * (height + 2 * margin) + row) * stride + column
    steps = torch.arange(kernel_size, device=values.device)
    window = (steps[:, None] * stride + steps).flatten()
    return padded.flatten()[corner[:, None] + window]


def _pad(values: Tensor, outside: int, columns: int, rows: int) -> Tensor:
    return F.pad(values, (columns, columns, rows, rows), value=outside)
