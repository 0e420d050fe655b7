"""Initial weights: of the SPADE family, and of pix2pixHD."""

from __future__ import annotations

from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from segscape.nn.spectral import SpectralNorm

SCALE: Final = 0.02
"""Of new weights: the gain of the one, the standard deviation of the other."""


def initialize_xavier(network: nn.Module) -> None:
    """Xavier-normal weights (gain 0.02) and zero biases, in place, for the layers that the official code reaches.

    Spectrally normalised convolutions keep PyTorch's default weights, with zero bias: that is what the published models
    were trained with (on a GPU the official initialiser writes into a stale copy of those weights). The forward
    pass does not see the difference, Adam's effective learning rate does: 0.006 against 0.0002 of standard
    deviation at 9216 inputs. The tables of CLADE are not touched.
    """
    for layer in network.modules():
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            continue
        if not isinstance(layer, SpectralNorm):
            nn.init.xavier_normal_(layer.weight, gain=SCALE)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def initialize_normal(network: nn.Module) -> None:
    """Weights of convolutions from N(0, 0.02^2), scales of batch norm from N(1, 0.02^2), shifts 0, in place.

    Biases of convolutions keep PyTorch's own. So does the official code of pix2pixHD (and of pix2pix before it).
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, SCALE)
        elif isinstance(layer, _BatchNorm) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, SCALE)
            nn.init.zeros_(layer.bias)
