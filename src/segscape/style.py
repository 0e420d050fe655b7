"""`Style`: what the result should look like, beside the layout that says what should be where."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segscape.errors import StyleError


@dataclass(frozen=True)
class Style:
    """A global style: one latent vector per image.

    Attributes:
        latent: `[N, D]`, a draw from N(0, 1) or an encoded photo; D is the model's `latent_dim`.
    """

    latent: Tensor

    def __post_init__(self) -> None:
        if self.latent.ndim != 2:
            raise StyleError(f"a style latent must be [N, D], found the shape {tuple(self.latent.shape)}.")

    @classmethod
    def sample(cls, count: int, latent_dim: int, generator: torch.Generator | None = None) -> Style:
        """Draw `count` styles from the prior N(0, 1); pass a seeded CPU generator to repeat them."""
        return cls(torch.randn(count, latent_dim, generator=generator))

    def interpolate(self, other: Style, amount: float) -> Style:
        """The style at `amount` (0 = this one, 1 = the other) on the straight line between two."""
        return Style(torch.lerp(self.latent, other.latent, amount))

    def to(self, device: torch.device | str) -> Style:
        """The same style on another device."""
        return Style(self.latent.to(device))
