"""The convolution for training is PyTorch's, with its first and second derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segscape.nn.convolution import Conv2d, _Convolution


def twins(**options: int) -> tuple[nn.Conv2d, nn.Conv2d, Tensor]:
    """Ours and PyTorch's with the same weights, both channels-last, and features."""
    torch.manual_seed(0)
    plain, ours = nn.Conv2d(3, 5, 3, **options), Conv2d(3, 5, 3, **options)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 8, 9).contiguous(memory_format=torch.channels_last)
    return ours.to(memory_format=torch.channels_last), plain.to(memory_format=torch.channels_last), x


@pytest.mark.parametrize("options", [{}, {"padding": 1, "stride": 2}, {"bias": False, "dilation": 2}])
def test_values_gradients_and_their_gradients(options: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, plain, x = twins(**options)
    calls: list[int] = []
    apply = _Convolution.apply
    monkeypatch.setattr(_Convolution, "apply", lambda *arguments: calls.append(1) or apply(*arguments))
    found = []
    for layer in (ours, plain):
        image = x.clone().requires_grad_()
        y = layer(image)
        (gradient,) = torch.autograd.grad(y.square().sum(), image, create_graph=True)
        (y.sum() + gradient.square().sum()).backward()
        found.append([y, gradient, image.grad, *(p.grad for p in layer.parameters())])
    assert calls == [1]
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


def test_only_what_is_asked_for_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Convolution, "apply", lambda *_: pytest.fail("the plain convolution would have done"))
    ours, plain, x = twins()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
    ours.requires_grad_(False)
    ours(x.requires_grad_()).sum().backward()
    assert x.grad is not None
