from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from segscape.nn.dual_attention import DualAttention, PositionAttention, ScaleAttention


def test_sum_of_both_gates() -> None:
    """The formula of the fusion, `(v + s) * x + t`, worked out by hand."""
    torch.manual_seed(0)
    attention, before, x = DualAttention(4, 3), torch.randn(2, 4, 5, 6), torch.randn(2, 3, 5, 6)
    earlier = F.conv2d(before, attention.projection.weight, attention.projection.bias, padding=1)
    means = torch.stack([*earlier.mean((2, 3)).unbind(1), *x.mean((2, 3)).unbind(1)], dim=1)
    layers = (attention.scale.conv_0, attention.scale.conv_1)
    hidden = F.relu(F.linear(means, layers[0].weight[:, :, 0, 0], layers[0].bias))
    channel_gate = torch.sigmoid(F.linear(hidden, layers[1].weight[:, :, 0, 0], layers[1].bias))[:, :, None, None]
    maps = torch.stack([x.sum(1) / 3, x.amax(1)], dim=1)
    place_gate = torch.sigmoid(F.conv2d(maps, attention.position.conv.weight, padding=1))
    torch.testing.assert_close(attention(before, x), (channel_gate + place_gate) * x + earlier)


def test_the_earlier_features_are_added_ungated() -> None:
    scale = ScaleAttention(3)
    nn.init.constant_(scale.conv_1.bias, -100.0)  # shuts the gate
    earlier = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(scale(earlier, torch.randn(2, 3, 4, 4)), earlier)


def test_of_equal_channels_one_gets_the_gradient_of_the_maximum() -> None:
    attention = PositionAttention()
    nn.init.zeros_(attention.conv.weight)
    nn.init.ones_(attention.conv.weight[0, 1, 1, 1].data)  # of the maximum at the place itself
    x = torch.zeros(1, 4, 1, 1, requires_grad=True)
    maximum = []
    attention.conv.register_forward_hook(lambda _, inputs, __: maximum.append(inputs[0][:, 1].sum()))
    attention(x)
    (gradient,) = torch.autograd.grad(maximum[0], x)
    assert sorted(gradient.flatten().tolist()) == [0, 0, 0, 1]
