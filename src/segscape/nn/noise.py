"""Noise that a network adds to its features, from a source that the caller can seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AddedNoise(nn.Module):
    """`x + weight * noise`: one value of N(0, 1) per place, drawn anew each time, with a learned weight per channel.

    Source: the noise of StyleGAN, as SEAN has it before every norm: in evaluation, too, and with weights of 0 at first.

    Args:
        channels: of `x`.

    Attributes:
        source: what the noise is drawn from; None is PyTorch's default on the device of `x`. See `noise_from`.
    """

    source: torch.Generator | None = None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def draw(self, x: Tensor) -> Tensor:
        """Noise for `x [N, C, h, w]`, `[N, 1, h, w]`: what SEAN's official code draws on the CPU from the same seed."""
        batch, _, height, width = x.shape
        device = x.device if self.source is None else self.source.device
        noise = torch.randn(batch, width, height, 1, generator=self.source, device=device)
        return noise.to(x).transpose(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        """`x [N, C, h, w]` -> the same, with noise."""
        return x + self.weight.view(1, -1, 1, 1) * self.draw(x)


def remove_noise(network: nn.Module) -> None:
    """Take all `AddedNoise` out of a network, in place, which leaves the features that are expected of it."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, AddedNoise):
            network.set_submodule(name, nn.Identity())


class NoiseState:
    """Where the sources of a network's noise stand, to draw the same again. (PyTorch's default one is left out.)

    Args:
        network: with `AddedNoise`.
    """

    def __init__(self, network: nn.Module) -> None:
        sources = {layer.source for layer in network.modules() if isinstance(layer, AddedNoise)}
        self.states = {source: source.get_state() for source in sources if source is not None}

    @contextmanager
    def again(self) -> Iterator[None]:
        """A block in which the sources draw what they drew from here on; after it they stand where they stood."""
        now = {source: source.get_state() for source in self.states}
        for source, state in self.states.items():
            source.set_state(state)
        try:
            yield
        finally:
            for source, state in now.items():
                source.set_state(state)


@contextmanager
def noise_from(network: nn.Module, source: torch.Generator | None) -> Iterator[None]:
    """A block in which a network's `AddedNoise` is drawn from `source`; a seeded one gives the same images again."""
    layers = [layer for layer in network.modules() if isinstance(layer, AddedNoise)]
    before = [layer.source for layer in layers]
    for layer in layers:
        layer.source = source
    try:
        yield
    finally:
        for layer, kept in zip(layers, before, strict=True):
            layer.source = kept
