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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.nn.convolution import Conv2d


class SpectralNorm(nn.Module):
    """A layer whose weight is divided by (an estimate of) its largest singular value: what the kinds below share.

    `weight` is the unnormalised weight. The buffers `weight_u` `[rows]` and `weight_v` `[columns]` are the running
    singular vectors of the weight as a matrix.

    Attributes:
        iterates: whether a training-mode forward advances the vectors, see `held_power_iteration`.
    """

    weight: Tensor
    weight_u: Tensor
    weight_v: Tensor
    iterates: bool = True

    def __init__(self, *args: int, eps: float = 1e-12, **kwargs: int | bool) -> None:
        super().__init__(*args, **kwargs)
        self.eps = eps
        rows, columns = self.matrix().shape
        self.register_buffer("weight_u", F.normalize(torch.randn(rows), dim=0, eps=eps))
        self.register_buffer("weight_v", F.normalize(torch.randn(columns), dim=0, eps=eps))

    def matrix(self) -> Tensor:
        """The weight with one row per output channel, `[rows, columns]`."""
        return self.weight.flatten(1)

    def power_iteration(self) -> tuple[Tensor, Tensor]:
        """Advance the stored vectors by one step and return them (`u [rows]`, `v [columns]`)."""
        with torch.no_grad():
            matrix = self.matrix()
            v = F.normalize(matrix.t() @ self.weight_u, dim=0, eps=self.eps)
            u = F.normalize(matrix @ v, dim=0, eps=self.eps)
            self.weight_u.copy_(u)
            self.weight_v.copy_(v)
        return u, v

    def normalized_weight(self) -> Tensor:
        """The weight that the layer works with; gradients flow through sigma, not through u and v.

        It is computed in the type of the weight, under autocast, too.
        """
        device = self.weight.device.type
        with torch.autocast("cpu" if device == "meta" else device, enabled=False):  # meta: when costs are counted
            u, v = self.power_iteration() if self.training and self.iterates else (self.weight_u, self.weight_v)
            sigma = torch.dot(u, self.matrix() @ v)
            return self.weight / sigma


class SpectralNormConv2d(SpectralNorm, Conv2d):
    """`nn.Conv2d` with spectral normalisation; takes its arguments."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(x, self.normalized_weight(), self.bias)
        return y


class SpectralNormConvTranspose2d(SpectralNorm, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with spectral normalisation; takes its arguments, but has no groups."""

    def matrix(self) -> Tensor:
        """As in the base; a transposed convolution's weight is `[in_channels, out_channels, k, k]`."""
        return self.weight.transpose(0, 1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        weight, padding = self.normalized_weight(), (self.padding, self.output_padding)
        return F.conv_transpose2d(x, weight, self.bias, self.stride, *padding)  # type: ignore[arg-type]

    def plain(self) -> nn.ConvTranspose2d:
        """The transposed convolution that this one stands for, without gradients."""
        geometry: dict[str, Any] = {name: getattr(self, name) for name in ("stride", "padding", "output_padding")}
        channels, bias = (self.in_channels, self.out_channels), self.bias is not None
        plain = nn.ConvTranspose2d(*channels, self.kernel_size, bias=bias, **geometry)  # type: ignore[arg-type]
        plain.weight = nn.Parameter(self.normalized_weight().detach(), requires_grad=False)
        if self.bias is not None:
            plain.bias = nn.Parameter(self.bias.detach().clone(), requires_grad=False)
        return plain.eval()


@contextmanager
def held_power_iteration(*networks: nn.Module, held: bool = True) -> Iterator[None]:
    """A block in which training-mode forwards use the stored vectors as they are, unless `held` is false.

    So further forwards of a step, of other micro-batches for example, have the weights of the first.
    """
    layers = [layer for network in networks for layer in network.modules() if isinstance(layer, SpectralNorm)]
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
