"""The pattern index against plain loops and NumPy windows: exact at borders, for any kernel size and token count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segscape import patterns
from segscape.patterns import PatternIndex, pattern_index

KERNEL_SIZES = st.sampled_from([1, 3, 5])


@st.composite
def token_maps(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    """A token map and how many tokens there may be: noise, or the same noise in blocks."""
    batch, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    block, occurring, unused = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    noise = torch.randint(0, occurring, (batch, height, width), generator=generator)
    blocks = noise.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :height, :width]
    return blocks.contiguous(), occurring + unused


def windows(tokens: torch.Tensor, outside: int, side: int) -> np.ndarray:
    """The `side x side` windows of tokens around each pixel, `[N, h, w, side * side]`."""
    margin = side // 2
    padded = np.pad(tokens.numpy(), ((0, 0), (margin, margin), (margin, margin)), constant_values=outside)
    views = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    return views.reshape(*tokens.shape, side * side)


def same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two numberings of the same places call the same places equal."""
    pairs = np.unique(np.stack([one.ravel(), two.ravel()]), axis=1)
    return len(np.unique(one)) == len(np.unique(two)) == pairs.shape[1]


def assert_matches_brute_force(found: PatternIndex, tokens: torch.Tensor, num_tokens: int, kernel_size: int) -> None:
    seen = windows(tokens, num_tokens, 2 * kernel_size - 1)
    distinct, expected = np.unique(seen.reshape(-1, seen.shape[-1]), axis=0, return_inverse=True)
    assert found.num_patterns == len(distinct)
    assert found.index.shape == tokens.shape
    assert same_partition(found.index.numpy(), expected)
    inner = windows(tokens, num_tokens, kernel_size)
    assert len(found.tokens) == len(np.unique(inner.reshape(-1, inner.shape[-1]), axis=0))


@settings(max_examples=150, deadline=None)
@given(token_maps(), KERNEL_SIZES)
def test_numbers_the_distinct_windows(case: tuple[torch.Tensor, int], kernel_size: int) -> None:
    tokens, num_tokens = case
    assert_matches_brute_force(pattern_index(tokens, num_tokens, kernel_size), tokens, num_tokens, kernel_size)


@settings(max_examples=60, deadline=None)
@given(token_maps(), KERNEL_SIZES)
def test_says_what_each_pattern_is_made_of(case: tuple[torch.Tensor, int], kernel_size: int) -> None:
    tokens, num_tokens = case
    found = pattern_index(tokens, num_tokens, kernel_size)
    _, height, width = tokens.shape
    steps = range(-(kernel_size // 2), kernel_size // 2 + 1)
    inner_windows = windows(tokens, num_tokens, kernel_size)
    for image, row, column in np.ndindex(*tokens.shape):
        pattern = found.inner[found.index[image, row, column]]
        places = [(row + down, column + right) for down in steps for right in steps]
        for inner, (y, x) in zip(pattern.tolist(), places, strict=True):
            if 0 <= y < height and 0 <= x < width:
                assert found.tokens[inner].tolist() == inner_windows[image, y, x].tolist()
            else:
                assert inner == len(found.tokens)


@settings(max_examples=100, deadline=None)
@given(token_maps(), KERNEL_SIZES, st.sampled_from([0, 10, 1000]))
def test_renumbering_long_keys_changes_nothing(case: tuple[torch.Tensor, int], kernel_size: int, largest: int) -> None:
    tokens, num_tokens = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "_LARGEST_KEY", largest)
        found = pattern_index(tokens, num_tokens, kernel_size)
    assert_matches_brute_force(found, tokens, num_tokens, kernel_size)


@pytest.mark.parametrize("num_tokens", [5_000, 10**6, 2**62])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_huge_token_counts_do_not_overflow(num_tokens: int, kernel_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = num_tokens - 1 - torch.randint(0, 3, (2, 40, 30), generator=generator)
    tokens[:, 5:35] = num_tokens - 1
    found = pattern_index(tokens, num_tokens, kernel_size)
    assert found.tokens.min() == num_tokens - 3 and found.tokens.max() == num_tokens
    assert_matches_brute_force(found, tokens, num_tokens, kernel_size)


def test_structured_maps_have_few_patterns_and_noise_has_many() -> None:
    one_class = torch.zeros(2, 64, 64, dtype=torch.long)
    assert pattern_index(one_class, 5).num_patterns == 25  # two rows and columns at each border, and the inside
    halves = one_class.clone()
    halves[..., 30:] = 3
    assert (
        pattern_index(halves, 5).num_patterns == 50
    )  # five columns more: two on each side of the boundary, one inside
    assert pattern_index(halves, 5).share == 50 / (2 * 64 * 64)
    noise = torch.randint(0, 150, (1, 32, 32), generator=torch.Generator().manual_seed(0))
    assert pattern_index(noise, 150).share == 1


def test_to_moves_every_tensor() -> None:
    moved = pattern_index(torch.zeros(1, 3, 4, dtype=torch.long), 2).to("meta")
    assert {moved.index.device.type, moved.inner.device.type, moved.tokens.device.type} == {"meta"}
    assert moved.num_tokens == 2


@pytest.mark.parametrize("kernel_size", [0, 2, -3])
def test_refuses_even_kernels(kernel_size: int) -> None:
    with pytest.raises(ValueError, match="odd kernel size"):
        pattern_index(torch.zeros(1, 3, 4, dtype=torch.long), 2, kernel_size)
