from __future__ import annotations

import torch
from torch import nn

from segscape.nn.noise import AddedNoise, NoiseState, noise_from, remove_noise


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_fresh_noise_has_no_effect() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(AddedNoise(3)(x), x)


def test_one_value_per_place_times_the_weight_of_each_channel() -> None:
    layer, x = AddedNoise(3), torch.randn(2, 3, 4, 5)
    nn.init.normal_(layer.weight)
    with noise_from(layer, seeded(1)):
        y = layer(x)
    drawn = torch.randn(2, 5, 4, 1, generator=seeded(1)).permute(0, 3, 2, 1)  # as the official code orders it
    torch.testing.assert_close(y - x, torch.einsum("c,nohw->nchw", layer.weight, drawn))


def test_a_seeded_source_repeats_itself_and_is_put_back() -> None:
    network, x = nn.Sequential(AddedNoise(2), AddedNoise(2)), torch.zeros(1, 2, 3, 3)
    for layer in network:
        nn.init.ones_(layer.weight)
    images = []
    for _ in range(2):
        with noise_from(network, seeded(3)):
            images.append(network(x))
    assert torch.equal(*images)
    assert network[0].source is None and network[1].source is None
    assert not torch.equal(network(x), network(x))


def test_state_draws_the_same_again_and_goes_on_where_it_was() -> None:
    layer, x = AddedNoise(1), torch.zeros(1, 1, 4, 4)
    nn.init.ones_(layer.weight)
    with noise_from(layer, seeded(5)):
        state = NoiseState(layer)
        first, second = layer(x), layer(x)
        with state.again():
            assert torch.equal(layer(x), first)
        third = layer(x)
    with noise_from(layer, seeded(5)):
        assert all(torch.equal(layer(x), expected) for expected in (first, second, third))


def test_noise_can_be_taken_out() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(AddedNoise(2)))
    nn.init.ones_(network[1][0].weight)
    x = torch.randn(1, 1, 4, 4)
    expected = network[0](x)
    remove_noise(network)
    assert torch.equal(network(x), expected)
