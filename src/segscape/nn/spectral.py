"""Spectral normalisation of convolutions, with the vectors `u` and `v` kept as plain buffers.

Source: Miyato et al., "Spectral Normalization for GANs", ICLR 2018, in the form that the SPADE family uses:
one power iteration per training-mode forward (`v` first, then `u`), none in evaluation mode, where the stored
vectors give sigma. PyTorch's current parametrisation iterates in the other order (`u` first), which gives other
numbers in training and cannot continue an official checkpoint; its older hook cannot be deep-copied. Hence this
small class.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.nn.convolution import Conv2d


class SpectralNormConv2d(Conv2d):
    """`nn.Conv2d` whose weight is divided by (an estimate of) its largest singular value.

    Takes the arguments of `nn.Conv2d`. `weight` is the unnormalised weight; the buffers `weight_u`
    `[out_channels]` and `weight_v` `[in_channels * k * k]` are the running singular vectors.

    Attributes:
        iterates: whether a training-mode forward advances the vectors, see `held_power_iteration`.
    """

    weight_u: Tensor
    weight_v: Tensor
    iterates: bool = True

    def __init__(self, *args: int, eps: float = 1e-12, **kwargs: int | bool) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.eps = eps
        rows, columns = self.weight.flatten(1).shape
        self.register_buffer("weight_u", F.normalize(torch.randn(rows), dim=0, eps=eps))
        self.register_buffer("weight_v", F.normalize(torch.randn(columns), dim=0, eps=eps))

    def power_iteration(self) -> tuple[Tensor, Tensor]:
        """Advance the stored vectors by one step and return them (`u [O]`, `v [I*k*k]`)."""
        with torch.no_grad():
            matrix = self.weight.flatten(1)
            v = F.normalize(matrix.t() @ self.weight_u, dim=0, eps=self.eps)
            u = F.normalize(matrix @ v, dim=0, eps=self.eps)
            self.weight_u.copy_(u)
            self.weight_v.copy_(v)
        return u, v

    def normalized_weight(self) -> Tensor:
        """The weight used by the convolution, `[O, I, k, k]`; gradients flow through sigma, not through u and v.

        It is computed in the type of the weight, under autocast, too.
        """
        device = self.weight.device.type
        with torch.autocast("cpu" if device == "meta" else device, enabled=False):  # meta: when costs are counted
            u, v = self.power_iteration() if self.training and self.iterates else (self.weight_u, self.weight_v)
            sigma = torch.dot(u, self.weight.flatten(1) @ v)
            return self.weight / sigma

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.normalized_weight(), self.bias)
        return y


@contextmanager
def held_power_iteration(*networks: nn.Module, held: bool = True) -> Iterator[None]:
    """A block in which training-mode forwards use the stored vectors as they are, unless `held` is false.

    So further forwards of a step, of other micro-batches for example, have the weights of the first.
    """
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, SpectralNormConv2d)]
    held_here = [layer for layer in layers if held and layer.iterates]
    for layer in held_here:
        layer.iterates = False
    try:
        yield
    finally:
        for layer in held_here:
            layer.iterates = True


def conv2d(spectral: bool, in_channels: int, out_channels: int, kernel_size: int, **options: int | bool) -> nn.Conv2d:
    """A convolution with or without spectral normalisation; `options` as in `nn.Conv2d`."""
    kind = SpectralNormConv2d if spectral else Conv2d
    return kind(in_channels, out_channels, kernel_size, **options)  # type: ignore[arg-type]
