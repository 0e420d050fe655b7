"""Discriminators: they judge an image given its layout."""

from segscape.discriminators.feature_pyramid import FeaturePyramidDiscriminator
from segscape.discriminators.judgement import Discriminator, Judgement
from segscape.discriminators.label_mix import label_mix
from segscape.discriminators.multiscale import MultiScaleDiscriminator, PatchDiscriminator

__all__ = [
    "Discriminator",
    "FeaturePyramidDiscriminator",
    "Judgement",
    "MultiScaleDiscriminator",
    "PatchDiscriminator",
    "label_mix",
]
