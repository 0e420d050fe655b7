"""Strip convolutions are convolutions, whatever the size, the tile and the strip."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from segscape.inference import strips
from segscape.inference.strips import PointwiseConvolution, Tile, WinogradConvolution


@settings(max_examples=40, deadline=None)
@given(
    tile=st.sampled_from([2, 4]),
    size=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    batch=st.integers(1, 3),
    bias=st.booleans(),
    strip=st.sampled_from([1, 2000, 1 << 21]),
)
def test_any_size(
    tile: Tile, size: tuple[int, int], channels: tuple[int, int], batch: int, bias: bool, strip: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, channels[0], *size)
    weight, offset = torch.randn(channels[1], channels[0], 3, 3), torch.randn(channels[1]) if bias else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "STRIP_BYTES", strip)
        found = WinogradConvolution(weight, offset, tile)(x)
        pointwise = PointwiseConvolution(weight[:, :, 1:2, 1:2], offset)(x)
    assert torch.allclose(found, F.conv2d(x, weight, offset, padding=1), atol=1e-3, rtol=1e-4)
    assert torch.allclose(pointwise, F.conv2d(x, weight[:, :, 1:2, 1:2], offset), atol=1e-4)


@pytest.mark.parametrize(("tile", "limit"), [(2, 2e-6), (4, 4e-5)])
def test_rounding_stays_small(tile: Tile, limit: float) -> None:
    """Against float64, relative to the largest output: the direct float32 convolution errs by about 3e-6."""
    torch.manual_seed(0)
    x, weight = torch.randn(1, 512, 16, 16), torch.randn(64, 512, 3, 3) / 68
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    error = (WinogradConvolution(weight, None, tile)(x) - exact).abs().max() / exact.abs().max()
    assert error < limit


def test_rows_are_asked_for_once_or_twice_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "STRIP_BYTES", 4 * 4 * 8 * 3)  # one row of tiles
    asked: list[tuple[int, int, int]] = []
    x = torch.randn(2, 3, 10, 8)

    def fill(image: int, first: int, last: int, out: torch.Tensor) -> None:
        asked.append((image, first, last))
        out.copy_(x.permute(0, 2, 3, 1)[image, first:last])

    weight = torch.randn(5, 3, 3, 3)
    found = WinogradConvolution(weight, None, 4).convolve(fill, (2, 10, 8))
    assert asked == [(image, *rows) for image in (0, 1) for rows in ((0, 5), (3, 9), (7, 10))]
    assert torch.allclose(found, F.conv2d(x, weight, padding=1), atol=1e-4)
