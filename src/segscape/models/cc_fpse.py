"""CC-FPSE: a generator of conditional convolutions, whose kernels a feature pyramid predicts from the layout.

Source: Liu et al., "Learning to Predict Layout-to-image Conditional Convolutions for Semantic Image Synthesis",
NeurIPS 2019, arXiv 1910.06809, official code xh-liu/CC-FPSE (nothing of it is used here: written from a specification
and checked against stored outputs). Its discriminator is `segscape.discriminators.FeaturePyramidDiscriminator`, its
image encoder that of SPADE. Differences from the official code: the output of a model without a latent has the size of
the layout (the official one is fixed at construction), and without a style the mean of the prior is taken, not a draw.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.layout import Layout
from segscape.models.config import LatentStyleConfig
from segscape.models.generator import Variant
from segscape.models.latent import LatentGenerator
from segscape.models.spade import DOUBLINGS, doublings
from segscape.nn.conditional_convolution import CCBlock
from segscape.nn.encoder import StyleEncoder
from segscape.nn.initialization import initialize_xavier
from segscape.nn.spectral import SpectralNormConv2d
from segscape.nn.synchronized import SynchronizedBatchNorm2d
from segscape.style import Style


class CCFPSEConfig(LatentStyleConfig):
    """Configuration of CC-FPSE's generator; `image_size` is a multiple of `size_multiple`.

    Attributes:
        base_channels: width of the last block and of the pyramid; the first blocks have 16 times as many.
        upsampling: `normal` or `more` (Cityscapes): 32 or 64 times the start size.
        hidden_channels: of the convolutions that predict kernels, gates and modulation.
    """

    model: str = "cc-fpse"
    base_channels: PositiveInt = 64
    upsampling: Literal["normal", "more"] = "normal"
    hidden_channels: PositiveInt = 128

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this: 32 or 64."""
        return 1 << DOUBLINGS[self.upsampling]

    @property
    def layout_channels(self) -> int:
        """Of the semantic map: one per class, and one for the instance edges."""
        return self.labels.num_classes + int(self.use_instances)


class LabelPyramid(nn.Module):
    """Features of a semantic map at every resolution, each with the context of the coarser ones (figure 2, left).

    Args:
        in_channels: of the semantic map.
        channels: of the features.
        levels: resolutions, each half of the one before.
    """

    def __init__(self, in_channels: int, channels: int, levels: int) -> None:
        super().__init__()
        finest = _unit(in_channels, channels, 3)
        coarser = (_unit(channels, channels, 3, stride=2) for _ in range(levels - 1))
        self.encoders = nn.ModuleList([finest, *coarser])
        self.laterals = nn.ModuleList(_unit(channels, channels, 1) for _ in range(levels - 1))
        self.decoders = nn.ModuleList(_unit(channels, channels, 3) for _ in range(levels - 1))

    def forward(self, semantic: Tensor) -> list[Tensor]:
        """`semantic [N, S, H, W]` -> one `[N, channels, h, w]` per level, from the coarsest to `H x W`."""
        encoded, x = [], semantic
        for encoder in self.encoders:
            x = encoder(x)
            encoded.append(x)
        pyramid = [encoded.pop()]
        for lateral, decoder in zip(self.laterals, self.decoders, strict=True):
            enlarged = F.interpolate(pyramid[-1], scale_factor=2, mode="nearest")
            pyramid.append(decoder(enlarged + lateral(encoded.pop())))
        return pyramid


def _unit(in_channels: int, channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """A convolution with spectral norm, batch norm, LeakyReLU."""
    return nn.Sequential(
        SpectralNormConv2d(in_channels, channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False),
        SynchronizedBatchNorm2d(channels),
        nn.LeakyReLU(0.2),
    )


class CCFPSEGenerator(LatentGenerator):
    """The generator of CC-FPSE, with the style encoder if it has `latent_dim`."""

    config: CCFPSEConfig
    config_class = CCFPSEConfig

    def __init__(self, config: CCFPSEConfig) -> None:
        super().__init__(config)
        base, channels = config.base_channels, config.layout_channels
        widths = [16 * base, 16 * base, 16 * base, 16 * base, 8 * base, 4 * base, 2 * base, base]
        self.pyramid = LabelPyramid(channels, base, config.size_multiple.bit_length())
        self.stem = self._stem(16 * base)
        self.blocks = nn.ModuleList(
            CCBlock(before, after, channels + base, config.hidden_channels) for before, after in pairwise(widths)
        )
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.to_rgb = nn.Conv2d(base, 3, 3, padding=1)
        self.encoder = StyleEncoder(base, config.latent_dim) if config.latent_dim else None
        initialize_xavier(self)
        for layer in self.modules():
            if isinstance(
                layer, SpectralNormConv2d
            ):  # or features of a new model overflow before its first training step
                layer.power_iteration()

    def _stem(self, channels: int) -> nn.Module:
        """The first layer: a convolution over the small semantic map, or a linear layer over the latent."""
        config = self.config
        if config.latent_dim:
            return self._latent_stem(config.latent_dim, channels)
        return nn.Conv2d(config.layout_channels, channels, 3, padding=1)

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """Generate images.

        Args:
            layout: N layouts of height and width divisible by `config.size_multiple`.
            style: the latent of a model with `latent_dim`; None takes the mean of the prior (zeros).

        Raises:
            LayoutError: size or number of classes do not fit, or the instance map is missing.
            StyleError: a style for a model that takes none, or of another dimension.
        """
        self.check(layout, style)
        pyramid = self.pyramid(self._semantic(layout, 0))
        level = len(pyramid) - 1  # doublings that are left
        x = self._start(layout, style)  # [N, 16 base, H / multiple, W / multiple]
        for block, doubled in zip(self.blocks, doublings(self.config.upsampling, len(self.blocks)), strict=True):
            x, level = (self.up(x), level - 1) if doubled else (x, level)
            x = block(x, torch.cat([self._semantic(layout, level), pyramid[-1 - level]], dim=1))
        return torch.tanh(self.to_rgb(F.leaky_relu(x, 0.2)))

    def _start(self, layout: Layout, style: Style | None) -> Tensor:
        config = self.config
        if config.latent_dim:
            return self._latent_start(config.latent_dim, layout, style)
        return cast(Tensor, self.stem(self._semantic(layout, DOUBLINGS[config.upsampling])))

    def _semantic(self, layout: Layout, level: int) -> Tensor:
        """The semantic map halved `level` times, `[N, layout_channels, h, w]`."""
        size = (layout.size[0] >> level, layout.size[1] >> level)
        return layout.semantic_map(size, edges=self.config.use_instances).to(self.to_rgb.weight)


CC_FPSE_VARIANTS = {
    # All published models have a latent; it also decides the published counts.
    "cc-fpse": Variant(CCFPSEGenerator, {"latent_dim": 256}),
}
"""Name -> variant of this system."""
