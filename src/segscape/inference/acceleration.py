"""`accelerate`: the same generator for inference only, with everything folded that does not depend on the input.

What changes: spectral normalisation becomes the weight it stands for; batch-norm statistics go into the scale and shift
of each class (CLADE) or each distinct neighbourhood of labels (SPADE, see `patterns.py`), so that a norm and the
activation after it are one pass over the features; maps that a norm appends are convolved by themselves, without being
concatenated; features are channels-last. Where a style has its say, too, as in SEAN, the layout's part comes from such
tables all the same. Batch norm right after a convolution goes into its weights. In float32 on the CPU the convolutions
go strip by strip and by Winograd's method (`strips.py`), and enlarging, norm and activation happen while a strip is
made (`folding.py`).

In float32 pictures agree with the plain model to `TOLERANCE`.
"""

from __future__ import annotations

import copy
from typing import Literal, NoReturn, cast, get_args

import torch
from torch import Tensor, nn

from segscape.errors import ConfigError
from segscape.inference.folding import FastResidualBlock, fold_batch_norms, plain_convolution
from segscape.layout import Layout
from segscape.models.generator import Generator
from segscape.models.spade import SPADEGenerator, doublings
from segscape.nn.normed_convolution import NormedConvolution
from segscape.nn.residual import ResidualBlock
from segscape.nn.spade import SPADE
from segscape.nn.spectral import SpectralNorm
from segscape.style import Style, StyleDistribution

Precision = Literal["float32", "bfloat16", "float16"]

TOLERANCE: dict[str, float] = {"float32": 3e-5, "bfloat16": 0.1, "float16": 0.02}
"""Largest difference of a pixel in [-1, 1] from the plain model, as tested on random weights and layouts."""


class AcceleratedGenerator(Generator):
    """A generator for inference only; made by `accelerate`, called like any other.

    It has no gradients, cannot be trained and cannot be saved.
    """

    def __init__(self, network: Generator) -> None:
        super().__init__(network.config)
        self.network = network
        self.train(False)

    @torch.no_grad()
    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """As the plain generator; float32 `[N, 3, H, W]` whatever the precision inside."""
        return cast(Tensor, self.network(layout, style)).float()

    @torch.no_grad()
    def encode(self, image: Tensor, layout: Layout) -> StyleDistribution:
        """As the plain generator; the encoder works in float32."""
        return self.network.encode(image, layout)

    def sample_style(self, layout: Layout, generator: torch.Generator | None = None) -> Style | None:
        """As the plain generator."""
        return self.network.sample_style(layout, generator)

    def neutral_style(self, count: int) -> Style:
        """As the plain generator."""
        return self.network.neutral_style(count)

    @property
    def random_styles(self) -> bool:
        """As the plain generator."""
        return self.network.random_styles

    def train(self, mode: bool = True) -> AcceleratedGenerator:
        """Raises ConfigError for training."""
        if mode:
            raise ConfigError("an accelerated model cannot be trained: train the model that it was made from.")
        super().train(False)
        return self

    def save_pretrained(self, *_: object, **__: object) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError("an accelerated model cannot be saved: save the model that it was made from.")


def require_plain(model: Generator, precision: str) -> None:
    """Raise ConfigError unless the model was not accelerated and the precision is known."""
    if precision not in get_args(Precision):
        raise ConfigError(f"the precision {precision!r} is unknown: use {', '.join(get_args(Precision))}.")
    if isinstance(model, AcceleratedGenerator):
        raise ConfigError("this model is accelerated already.")


def accelerate(model: Generator, precision: Precision = "float32") -> AcceleratedGenerator:
    """Make a fast copy of a generator for inference; the model itself stays as it is.

    Args:
        model: any generator, on the device where it will run. Residual blocks of the SPADE family are rearranged; other
            modules keep their arithmetic, with spectral normalisation folded. Noise stays and is drawn as before (see
            `segscape.nn.noise.noise_from`).
        precision: of features and weights. bfloat16 and float16 pay only on hardware that multiplies them.

    Raises:
        ConfigError: an unknown precision, or a model that is accelerated already.
    """
    require_plain(model, precision)
    network = copy.deepcopy(model).eval().requires_grad_(False)
    strips = precision == "float32" and next(network.parameters()).device.type == "cpu"
    if isinstance(network, SPADEGenerator):  # its up-sampling moves into the blocks
        for place, doubled in enumerate(doublings(network.config.upsampling, len(network.blocks))):
            network.blocks[place] = FastResidualBlock(cast(ResidualBlock, network.blocks[place]), doubled, strips)
        network.up = nn.Identity()
    for name, module in list(network.named_modules()):
        if isinstance(module, ResidualBlock):
            _replace(network, name, FastResidualBlock(module, doubled=False, strips=strips))
        elif isinstance(module, SpectralNorm):
            _replace(network, name, plain_convolution(module))
    for module in network.modules():
        if isinstance(module, NormedConvolution):
            module.fold()
        elif isinstance(module, nn.Sequential):
            fold_batch_norms(module)
        elif isinstance(module, SPADE):  # inside SEAN's norm, whose features are not the layout's alone
            module.path = "patterns"
    kind: torch.dtype = getattr(torch, precision)
    for child in network.children():
        if child is not network.style_network:
            child.to(kind)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return AcceleratedGenerator(network)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
