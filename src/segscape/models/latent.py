"""Generators whose style, if they have one, is a latent for the whole image: SPADE's way, which others took over."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from segscape.layout import Layout
from segscape.models.config import LatentStyleConfig
from segscape.models.generator import Generator
from segscape.nn.encoder import StyleEncoder
from segscape.style import Style, StyleDistribution


class LatentGenerator(Generator):
    """A generator in which a latent takes the place of the small semantic map, through a linear layer as its stem.

    Attributes:
        stem: the first layer.
        to_rgb: the last one.
        encoder: from photos to latents; None for a model without.
    """

    config: LatentStyleConfig
    stem: nn.Module
    to_rgb: nn.Conv2d
    encoder: StyleEncoder | None

    def encode(self, image: Tensor, layout: Layout) -> StyleDistribution:
        """As `Generator.encode`; photos of any size."""
        if self.encoder is None:
            return super().encode(image, layout)
        mean, log_variance = self.encoder(image)
        return StyleDistribution(Style(mean), log_variance)

    def _latent_stem(self, latent_dim: int, channels: int) -> nn.Linear:
        """A first layer that makes the whole start tensor of a latent."""
        height, width = (side // self.config.size_multiple for side in self.config.image_size)
        return nn.Linear(latent_dim, channels * height * width)

    def _latent_start(self, latent_dim: int, layout: Layout, style: Style | None) -> Tensor:
        """What the first block reads, `[N, channels, h, w]`; of zeros, the mean of the prior, without a style."""
        zeros = self.to_rgb.weight.new_zeros(layout.batch_size, latent_dim)
        latent = zeros if style is None else style.values.to(zeros)
        height, width = (side // self.config.size_multiple for side in layout.size)
        return cast(Tensor, self.stem(latent)).view(layout.batch_size, -1, height, width)
