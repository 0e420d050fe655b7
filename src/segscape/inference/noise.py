"""PyTorch's seeded normal noise without PyTorch, so that an exported model draws the styles that the model draws.

On the CPU `torch.randn` with a seeded generator takes its bits from the Mersenne Twister. Sixteen values or more are
made in blocks of sixteen from 24-bit uniform numbers in single precision, fewer than that in pairs from 53-bit ones,
both by the Box-Muller transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16
_LARGEST_SEED = 2**32  # of the Mersenne Twister; PyTorch drops the higher bits of a seed, too


def seeded_normal(shape: tuple[int, ...], seed: int | None) -> NDArray[np.float32]:
    """Draw from N(0, 1).

    Args:
        shape: of the result.
        seed: the values are those of `torch.randn(shape)` with a CPU generator of this seed, to some 1e-6;
            None draws others each time.

    Returns:
        float32 of this shape.
    """
    if seed is None:
        return np.random.default_rng().standard_normal(shape, dtype=np.float32)
    twister = np.random.MT19937()
    # PyTorch expands a seed as NumPy's legacy class does
    twister.state = np.random.RandomState(seed % _LARGEST_SEED).get_state(legacy=False)  # type: ignore[assignment]
    amount = math.prod(shape)
    values = (_in_blocks if amount >= _BLOCK else _in_pairs)(amount, twister.random_raw)
    return values.astype(np.float32).reshape(shape)


def _in_blocks(amount: int, bits: Callable[[int], NDArray[np.uint64]]) -> NDArray[np.float32]:
    """Blocks of sixteen; a rest is made by drawing the last sixteen values anew."""
    uniform = _single(bits(amount))
    whole = amount // _BLOCK * _BLOCK
    values = np.empty(amount, dtype=np.float32)
    values[:whole] = _box_muller(uniform[:whole].reshape(-1, _BLOCK)).reshape(-1)
    if whole < amount:
        values[-_BLOCK:] = _box_muller(_single(bits(_BLOCK)))
    return values


def _single(bits: NDArray[np.uint64]) -> NDArray[np.float32]:
    return (bits & np.uint64(2**24 - 1)).astype(np.float32) * np.float32(2.0**-24)


def _box_muller(uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[..., 16]`: the first eight numbers give the radius, the others the angle."""
    radius = np.sqrt(-2 * np.log(1 - uniform[..., :8]))
    angle = np.float32(2 * np.pi) * uniform[..., 8:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def _in_pairs(amount: int, bits: Callable[[int], NDArray[np.uint64]]) -> NDArray[np.float64]:
    pairs = -(-amount // 2)
    halves = bits(4 * pairs).reshape(pairs, 2, 2)
    wide = halves[..., 0] << np.uint64(32) | halves[..., 1]
    uniform = (wide & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log1p(-uniform[:, 1])), 2 * np.pi * uniform[:, 0]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:amount]
