"""The image encoder of the variational variants: a photo in, the mean and log-variance of its style out.

Source: Park et al., CVPR 2019, figure 14 (appendix); the official code hard-codes 256 latent dimensions.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from segscape.nn.instance import instance_norm
from segscape.nn.spectral import SpectralNormConv2d

ENCODER_SIZE = 256
"""Photos are resized to this square before encoding."""


class StyleEncoder(nn.Module):
    """Six spectrally normalised 3x3 convolutions of stride 2 with instance norm, then two linear heads.

    (The official code drops a layer when it trains below 256 pixels although it still resizes to 256, and then
    crashes; here the six layers always fit.)

    Args:
        base_channels: width of the first layer; the last has eight times as many.
        latent_dim: dimensions of the style.
    """

    def __init__(self, base_channels: int = 64, latent_dim: int = 256) -> None:
        super().__init__()
        widths = [3] + [base_channels * multiple for multiple in (1, 2, 4, 8, 8, 8)]
        self.layers = nn.ModuleList(
            SpectralNormConv2d(before, after, 3, stride=2, padding=1, bias=False) for before, after in pairwise(widths)
        )
        features = widths[-1] * (ENCODER_SIZE // 64) ** 2
        self.mean = nn.Linear(features, latent_dim)
        self.log_variance = nn.Linear(features, latent_dim)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """`image [N, 3, H, W]` in [-1, 1] -> `(mean [N, D], log_variance [N, D])`."""
        x = image
        if x.shape[-2:] != (ENCODER_SIZE, ENCODER_SIZE):
            x = F.interpolate(x, size=(ENCODER_SIZE, ENCODER_SIZE), mode="bilinear", align_corners=False)
        for layer in self.layers:
            x = F.leaky_relu(instance_norm(layer(x)), 0.2)
        x = x.flatten(1)
        return self.mean(x), self.log_variance(x)
