from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segscape.nn.normed_convolution import ConvolutionNorm, NormedConvolution, Scaling

NORMS: list[ConvolutionNorm] = ["instance", "batch", "spectral-instance", "spectral-batch", "spectral"]


@pytest.mark.parametrize(("scaling", "size"), [("same", (8, 12)), ("half", (4, 6)), ("double", (16, 24))])
def test_size(scaling: Scaling, size: tuple[int, int]) -> None:
    assert NormedConvolution("instance", 2, 3, scaling=scaling)(torch.randn(1, 2, 8, 12)).shape == (1, 3, *size)


def test_borders_are_reflected() -> None:
    layer = NormedConvolution("instance", 2, 3, 7)
    reference = nn.Conv2d(2, 3, 7, padding=3, padding_mode="reflect")
    reference.load_state_dict(layer.convolution.state_dict())
    x = torch.randn(2, 2, 9, 11)
    torch.testing.assert_close(layer(x), F.instance_norm(reference(x)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_bias(norm: ConvolutionNorm) -> None:
    """As in the official weights: none where there are both spectral normalisation and a norm."""
    has_bias = NormedConvolution(norm, 2, 3).convolution.bias is not None
    assert has_bias is (norm not in ("spectral-instance", "spectral-batch"))


@pytest.mark.parametrize("scaling", ["same", "half", "double"])
def test_batch_norm_is_folded(scaling: Scaling) -> None:
    torch.manual_seed(0)
    layer = NormedConvolution("batch", 2, 3, scaling=scaling).eval()
    for value in layer.norm.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    x = torch.randn(2, 2, 8, 8)
    expected = layer(x)
    layer.fold()
    assert isinstance(layer.norm, nn.Identity)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


def test_instance_norm_is_not_folded() -> None:
    layer = NormedConvolution("instance", 2, 3).eval()
    layer.fold()
    assert not isinstance(layer.norm, nn.Identity)
