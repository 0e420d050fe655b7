"""The styles of an exported model are those that PyTorch draws from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segscape.inference.noise import seeded_normal


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1, 2**32 + 5, 2**63 - 1])
@pytest.mark.parametrize(
    ("count", "dimensions"), [(1, 1), (1, 8), (1, 15), (3, 5), (1, 16), (2, 9), (1, 17), (2, 256), (5, 129)]
)
def test_equals_torch(count: int, dimensions: int, seed: int) -> None:
    expected = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed)).numpy()
    found = seeded_normal((count, dimensions), seed)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() < 3e-6


def test_without_a_seed_each_draw_is_another() -> None:
    first, second = (seeded_normal((1, 64), None) for _ in range(2))
    assert np.abs(first - second).max() > 0.1
    assert 0.5 < first.std() < 1.5
