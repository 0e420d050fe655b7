"""Building blocks: conditional norms (usable on their own), the residual block, spectral normalisation."""

from segscape.nn.clade import CLADE
from segscape.nn.conditional import ConditionalNorm, LayoutModulatedNorm, parameter_free_norm
from segscape.nn.residual import ResidualBlock
from segscape.nn.spade import SPADE
from segscape.nn.spectral import SpectralNormConv2d

__all__ = [
    "CLADE",
    "SPADE",
    "ConditionalNorm",
    "LayoutModulatedNorm",
    "ResidualBlock",
    "SpectralNormConv2d",
    "parameter_free_norm",
]
