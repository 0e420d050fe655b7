"""SPADE, and the generator that it shares with others: a start tensor, seven residual blocks, up-sampling between them.

Source: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019, arXiv 1903.07291,
official code NVlabs/SPADE (CC BY-NC-SA 4.0; nothing of it is used here: written from a specification and checked
against stored outputs). Every block chooses its norm, so CLADE (models/clade.py), the mixed generators and SPADE-light
of the CLADE paper are configurations of this one network; DAGAN (models/dagan.py) and SEAN (models/sean.py) are its
subclasses. Differences from the official code: the output has the size of the layout (the official one is fixed at
construction), and the encoder works below 256 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, Literal, cast, get_args

import torch
from pydantic import BeforeValidator, Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.layout import Layout
from segscape.models.config import LatentStyleConfig
from segscape.models.generator import Variant
from segscape.models.latent import LatentGenerator
from segscape.nn.clade import CLADE
from segscape.nn.conditional import ConditionalNorm, Statistics
from segscape.nn.encoder import StyleEncoder
from segscape.nn.initialization import initialize_xavier
from segscape.nn.residual import ResidualBlock
from segscape.nn.spade import SPADE
from segscape.nn.spectral import conv2d
from segscape.position import PositionRule
from segscape.style import Style

NormKind = Literal["spade", "clade"]
Upsampling = Literal["normal", "more", "most"]
DOUBLINGS: dict[str, int] = {"normal": 5, "more": 6, "most": 7}


def doublings(upsampling: Upsampling, blocks: int) -> list[bool]:
    """Whether features are doubled before each block: not before the first; before the third not in `normal`."""
    return [False, True, upsampling != "normal", *[True] * (blocks - 3)]


def _one_per_block(norm: NormKind | list[NormKind]) -> list[NormKind] | NormKind:
    kinds = [norm] if isinstance(norm, str) else list(norm)
    for kind in kinds:
        if kind not in get_args(NormKind):
            raise ValueError(f"{kind!r} is no kind of norm; known are {' and '.join(get_args(NormKind))}")
    return norm if isinstance(norm, str) else kinds


class SPADEGeneratorConfig(LatentStyleConfig):
    """Configuration of the SPADE family's generator; `image_size` is a multiple of the `upsampling` factor.

    Attributes:
        base_channels: width of the last block; the first has 16 times as many.
        norm: `spade` or `clade` for all blocks, or a list with one kind per block.
        statistics: parameter-free normalisation inside the norms.
        position: use of the intra-class positional encoding: `input` (dist_i), `feature` (dist_f), `modulation`
            (dist_p, CLADE-ICPE) of the CLADE paper's Table VII; the last two act in CLADE blocks.
        position_rule: how the encoding is computed.
        upsampling: `normal`, `more` or `most`: 32, 64 or 128 times the start size (`most` has an eighth block).
        hidden_channels, kernel_size: of SPADE's convolutions.
        spectral_norm: spectral normalisation in the residual blocks.
    """

    model: str = "spade"
    base_channels: PositiveInt = 64
    norm: Annotated[NormKind | tuple[NormKind, ...], BeforeValidator(_one_per_block)] = "spade"
    statistics: Statistics = "sync-batch"
    position: Literal["input", "feature", "modulation"] | None = None
    position_rule: PositionRule = "official"
    upsampling: Upsampling = "normal"
    hidden_channels: PositiveInt = 128
    kernel_size: Annotated[int, Field(ge=1)] = 3
    spectral_norm: bool = True

    @property
    def block_norms(self) -> tuple[NormKind, ...]:
        """The norm of each residual block, first to last."""
        if isinstance(self.norm, str):
            return (self.norm,) * (8 if self.upsampling == "most" else 7)
        return self.norm

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this: 32, 64 or 128."""
        return 1 << DOUBLINGS[self.upsampling]

    @property
    def encoding_rule(self) -> PositionRule | None:
        """`position_rule` if the encoding is used."""
        return self.position_rule if self.position else None

    @model_validator(mode="after")
    def _consistent(self) -> SPADEGeneratorConfig:
        blocks = 8 if self.upsampling == "most" else 7
        if len(self.block_norms) != blocks:
            raise ValueError(f"norm lists {len(self.block_norms)} blocks, the generator has {blocks}")
        if self.position in ("feature", "modulation") and "clade" not in self.block_norms:
            raise ValueError(f"position {self.position!r} acts in CLADE blocks, and norm has none")
        if self.position == "input" and self.latent_dim:
            raise ValueError("position 'input' joins the layout in the first layer, which latent_dim replaces")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size} is even; SPADE's kernels are odd")
        if self.upsampling == "most" and self.base_channels < 2:
            raise ValueError("upsampling 'most' halves base_channels once more, so it must be at least 2")
        return self


class SPADEGenerator(LatentGenerator):
    """The generator of SPADE, CLADE and their mixtures, with the style encoder if it has `latent_dim`.

    A system with the same course of blocks overrides what differs: `_norm`, `_start` and `_finish`.
    """

    config: SPADEGeneratorConfig
    config_class: ClassVar[type[SPADEGeneratorConfig]] = SPADEGeneratorConfig

    def __init__(self, config: SPADEGeneratorConfig) -> None:
        super().__init__(config)
        base = config.base_channels
        widths = [16 * base, 16 * base, 16 * base, 8 * base, 4 * base, 2 * base, base, base // 2]
        norms = config.block_norms
        inputs = [16 * base, *widths]
        self.stem = self._stem(16 * base)
        self.blocks = nn.ModuleList(
            ResidualBlock(inputs[i], widths[i], self.norm_of_block(i), spectral=config.spectral_norm)
            for i in range(len(norms))
        )
        self.up: nn.Module = nn.Upsample(scale_factor=2, mode="nearest")
        self.to_rgb = nn.Conv2d(widths[len(norms) - 1], 3, 3, padding=1)
        self.encoder = StyleEncoder(base, config.latent_dim) if config.latent_dim else None
        initialize_xavier(self)

    def _stem(self, channels: int) -> nn.Module:
        """The first layer: a convolution over the small semantic map, or a linear layer over the latent."""
        config = self.config
        if config.latent_dim:
            return self._latent_stem(config.latent_dim, channels)
        inputs = config.labels.num_classes + int(config.use_instances) + 2 * int(config.position == "input")
        return conv2d(False, inputs, channels, 3, padding=1)

    def norm_of_block(self, place: int) -> Callable[[int], ConditionalNorm]:
        """What makes the norms of block `place` for a number of channels; a norm of your own overrides it."""
        config = self.config
        if config.block_norms[place] == "spade":
            return partial(
                SPADE,
                num_classes=config.labels.num_classes,
                instances=config.use_instances,
                statistics=config.statistics,
                hidden_channels=config.hidden_channels,
                kernel_size=config.kernel_size,
            )
        return partial(
            CLADE,
            num_classes=config.labels.num_classes,
            instances=config.use_instances,
            statistics=config.statistics,
            position=None if config.position == "input" else config.position,
            position_rule=config.position_rule,
        )

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """Generate images.

        Args:
            layout: N layouts of height and width divisible by `config.size_multiple`.
            style: of `config.style_kind`; None takes a neutral one (of a latent: zeros, the mean of the prior).

        Raises:
            LayoutError: size or number of classes do not fit, or the instance map is missing.
            StyleError: a style for a model that takes none, or of another kind or dimension.
        """
        self.check(layout, style)
        x = before = self._start(layout, style)  # [N, 16 base, H / multiple, W / multiple]
        for block, doubled in zip(self.blocks, doublings(self.config.upsampling, len(self.blocks)), strict=True):
            x, before = block(self.up(x) if doubled else x, layout, style), x
        return torch.tanh(self.to_rgb(F.leaky_relu(self._finish(before, x), 0.2)))

    def _start(self, layout: Layout, style: Style | None) -> Tensor:
        """What the first residual block reads."""
        config = self.config
        if config.latent_dim:
            return self._latent_start(config.latent_dim, layout, style)
        height, width = (side // config.size_multiple for side in layout.size)
        semantic = layout.semantic_map((height, width), edges=config.use_instances)
        if config.position == "input":
            semantic = F.pad(semantic, (0, 0, 0, 0, 0, 2))
            semantic[:, -2:] = layout.position((height, width), config.position_rule)
        return cast(Tensor, self.stem(semantic.to(self.to_rgb.weight)))

    def _finish(self, before: Tensor, x: Tensor) -> Tensor:
        """What happens between the last residual block and the image: nothing.

        Args:
            before: `[N, 2 base, h, w]`, the output of the last block but one, before it is enlarged.
            x: `[N, base, 2h, 2w]`, the output of the last block.
        """
        return x


SPADE_VARIANTS = {
    "spade": Variant(SPADEGenerator, {}),
    # Only the cost is published; a base width of 8 (32 for Cityscapes) reproduces it.
    "spade-light": Variant(SPADEGenerator, {"base_channels": 8}),
}
"""Name -> variant of this system."""
