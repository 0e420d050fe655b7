"""Discriminators: they judge an image given its layout."""

from segscape.discriminators.multiscale import MultiScaleDiscriminator, PatchDiscriminator

__all__ = ["MultiScaleDiscriminator", "PatchDiscriminator"]
