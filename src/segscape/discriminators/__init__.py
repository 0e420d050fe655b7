"""Discriminators: they judge an image given its layout."""

from segscape.discriminators.label_mix import label_mix, mix
from segscape.discriminators.multiscale import MultiScaleDiscriminator, PatchDiscriminator

__all__ = ["MultiScaleDiscriminator", "PatchDiscriminator", "label_mix", "mix"]
