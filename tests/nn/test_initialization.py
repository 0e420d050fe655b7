from __future__ import annotations

import math

import torch
from torch import nn

from segscape.models import create_model
from segscape.nn import SpectralNormConv2d
from segscape.nn.initialization import initialize_normal


def test_xavier_where_the_official_code_reaches() -> None:
    torch.manual_seed(0)
    model = create_model("clade", labels=40, base_channels=8, use_instances=True)
    fan_in, fan_out = 41 * 9, 128 * 9
    expected = 0.02 * math.sqrt(2 / (fan_in + fan_out))
    assert abs(model.stem.weight.std().item() / expected - 1) < 0.05
    assert not model.stem.bias.any()


def test_spectral_convolutions_keep_the_default_scale() -> None:
    torch.manual_seed(0)
    model = create_model("spade", labels=4, base_channels=8)
    layer = model.blocks[0].conv_0
    assert isinstance(layer, SpectralNormConv2d)
    bound = 1 / math.sqrt(128 * 9)
    assert 0.99 * bound < layer.weight.abs().max() <= bound
    assert not layer.bias.any()


def test_clade_tables_are_not_touched() -> None:
    gamma = create_model("clade", labels=40, base_channels=8).blocks[0].norm_0.gamma
    assert gamma.min() >= 0 and 0.9 < gamma.max() <= 1


def test_positional_modulation_starts_small() -> None:
    model = create_model("clade-icpe", labels=4, base_channels=2)
    weights = [block.norm_0.position_gamma.weight.flatten() for block in model.blocks]
    assert 0 < torch.cat(weights).abs().max() < 0.1


def test_normal_weights_and_scales_around_one() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(20, 30, 5), nn.ConvTranspose2d(30, 20, 5), nn.BatchNorm2d(2000))
    bias = network[0].bias.detach().clone()
    nn.init.ones_(network[2].bias)
    initialize_normal(network)
    for layer, mean in ((network[0], 0.0), (network[1], 0.0), (network[2], 1.0)):
        assert abs(layer.weight.mean().item() - mean) < 2e-3
        assert abs(layer.weight.std().item() / 0.02 - 1) < 0.05
    assert torch.equal(network[0].bias, bias) and not network[2].bias.any()
