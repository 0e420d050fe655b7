"""GroupDNet: every class has a latent code of its own, and convolutions with fewer and fewer groups draw the image.

Source: Zhu, Xu, You and Bai, "Semantically Multi-modal Image Synthesis", CVPR 2020, arXiv 2003.12697, official code
Seanseattle/SMIS (CC BY-NC-SA 4.0; nothing of it is used here: written from a specification and checked against stored
outputs). GroupDNet-CLADE is a row of Table VIII of Tan et al., TPAMI 2021, arXiv 2012.04644, without published code:
the figures there belong to a GroupDNet in which CLADE replaces each GroupSPADE and nothing else changes.

Differences from the official code: groups and widths are options; the block of the ADE20K network that never runs does
not exist; the encoder has as many layers as the generator doublings, so that their grids always agree; the caller draws
the codes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, Final, Literal

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import LayoutError
from segscape.labels import as_label_set
from segscape.layout import Layout
from segscape.models.config import GeneratorConfig
from segscape.models.generator import Generator, Variant
from segscape.models.spade import DOUBLINGS, doublings
from segscape.nn.clade import CLADE
from segscape.nn.class_images import class_images
from segscape.nn.conditional import ConditionalNorm, Statistics
from segscape.nn.convolution import Conv2d
from segscape.nn.group_spade import GroupSPADE
from segscape.nn.initialization import initialize_xavier
from segscape.nn.instance import instance_norm
from segscape.nn.residual import ResidualBlock
from segscape.nn.spectral import SpectralNormConv2d
from segscape.style import Style, StyleDistribution
from segscape.style_shapes import StyleKind

Modulation = Literal["by-class", "by-group", "class-to-group"]

CODE_CHANNELS: Final = 8
"""Channels of a class's code."""

BLOCKS: Final = 7
"""Residual blocks of a generator."""

MULTIPLES: Final = (16, 16, 16, 16, 8, 4, 2, 1)
"""Widths of the start tensor and after each block, in multiples of the last."""

PUBLISHED: Final[dict[str, dict[str, Any]]] = {
    "deepfashion": {
        "base_channels": 160,
        "groups": (8, 8, 4, 4, 2, 2, 1),
        "modulation": "by-group",
        "encoder_channels": 32,
    },
    "cityscapes": {
        "base_channels": 280,
        "groups": (35, 35, 20, 14, 10, 4, 1),
        "modulation": "by-class",
        "encoder_channels": 10,
    },
    "ade20k": {
        "base_channels": 128,
        "widths": (2416, 2416, 2048, 1024, 1024, 512, 256, 128),
        "groups": (151, 16, 16, 8, 4, 2, 1),
        "modulation": "class-to-group",
        "encoder_channels": 4,
    },
    # Of this one only the counts were published (Table VIII of the CLADE paper); no other one meets them. The encoder's
    # width is unknown; this is a guess.
    "celebamask-hq": {
        "base_channels": 304,
        "groups": (19, 19, 8, 8, 4, 4, 2),
        "modulation": "by-class",
        "encoder_channels": 16,
    },
}
"""The published networks: dataset -> options. (What is 128 here for ADE20K is twice the official `ngf`.)"""


class GroupDNetConfig(GeneratorConfig):
    """Configuration of GroupDNet; `PUBLISHED` has that of the published networks.

    Attributes:
        use_instances: GroupSPADE (with the modulation `by-class`) reads instance edges. With CLADE, the discriminator
            alone does.
        norm: `group-spade` or `clade` in all blocks.
        modulation: how the convolutions of GroupSPADE are grouped. `by-class`: each class modulates its share of the
            channels (Cityscapes); `by-group`: with the groups of the block (DeepFashion); `class-to-group`: the first
            convolution by class, the second ones with the groups of the block (ADE20K).
        base_channels: width of the last block. By default the even multiple of the number of classes that is next to
            304, which gives the published widths for CelebAMask-HQ and Cityscapes.
        widths: of the start tensor and after each of the 7 blocks; by default `MULTIPLES` of base_channels.
        groups: of the convolutions of each block; by default the number of classes twice, then 8, 8, 4, 4, 2.
        stem_groups: of the first convolution, over the codes; by default the number of classes.
        hidden_channels: of GroupSPADE with the modulation `by-group`; otherwise classes and groups decide.
        encoder_channels: width of the encoder's first layer for each class; the last has eight times as many.
        statistics: parameter-free normalisation inside the norms.
        upsampling: `normal` or `more`: 32 or 64 times the size of the codes' grid.
    """

    model: str = "groupdnet"
    norm: Literal["group-spade", "clade"] = "group-spade"
    modulation: Modulation = "by-class"
    base_channels: PositiveInt
    widths: tuple[PositiveInt, ...]
    groups: tuple[PositiveInt, ...]
    stem_groups: PositiveInt
    hidden_channels: PositiveInt = 128
    encoder_channels: PositiveInt = 16
    statistics: Statistics = "sync-batch"
    upsampling: Literal["normal", "more"] = "more"

    @property
    def size_multiple(self) -> int:
        """Height and width are multiples of this: 32 or 64."""
        return 1 << DOUBLINGS[self.upsampling]

    @property
    def fixed_size(self) -> bool:
        """True: a code has values for each place of a grid."""
        return True

    @property
    def reads_instances(self) -> bool:
        """With GroupSPADE only: with CLADE, instance edges go to the discriminator alone."""
        return self.use_instances and self.norm == "group-spade"

    @property
    def grid(self) -> tuple[int, int]:
        """(height, width) of the codes' grid."""
        return self.image_size[0] // self.size_multiple, self.image_size[1] // self.size_multiple

    @property
    def style_kind(self) -> StyleKind:
        """`codes`."""
        return "codes"

    @property
    def style_shape(self) -> tuple[int, ...]:
        """`(classes, 8 h w)`: a code is 8 channels over the grid."""
        return self.labels.num_classes, CODE_CHANNELS * self.grid[0] * self.grid[1]

    @property
    def variational(self) -> bool:
        """True."""
        return True

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, options: Any) -> Any:
        if not isinstance(options, dict) or "labels" not in options:
            return options
        classes = as_label_set(options["labels"]).num_classes
        base = options.get("base_channels", 2 * max(1, round(152 / classes)) * classes)
        defaults = {
            "base_channels": base,
            "groups": (classes, classes, 8, 8, 4, 4, 2),
            "stem_groups": classes,
        }
        if isinstance(base, int):
            defaults["widths"] = tuple(multiple * base for multiple in MULTIPLES)
        return {**defaults, **options}

    @model_validator(mode="after")
    def _consistent(self) -> GroupDNetConfig:
        if len(self.widths) != BLOCKS + 1 or len(self.groups) != BLOCKS:
            raise ValueError(
                f"widths and groups have {len(self.widths)} and {len(self.groups)} numbers; for the start and "
                f"{BLOCKS} blocks they need {BLOCKS + 1} and {BLOCKS}"
            )
        if self.widths[-1] != self.base_channels:
            raise ValueError(f"widths ends in {self.widths[-1]} where base_channels is {self.base_channels}")
        if self.grid == (1, 1):
            raise ValueError(
                f"image_size {self.image_size} leaves the codes a grid of 1x1, of which instance norm, in the encoder, "
                "makes nothing; double a side, or both"
            )
        classes = self.labels.num_classes
        _require_divisible(CODE_CHANNELS * classes, self.stem_groups, "the channels of all codes", "stem_groups")
        _require_divisible(self.widths[0], self.stem_groups, "widths[0]", "stem_groups")
        for place, groups in enumerate(self.groups):
            for width in self.widths[place : place + 2]:
                _require_divisible(width, groups, f"the width {width}", f"groups[{place}]")
        if self.norm == "group-spade":
            self._check_modulation()
        return self

    def _check_modulation(self) -> None:
        classes = self.labels.num_classes
        if self.use_instances and self.modulation != "by-class":
            raise ValueError(f"instance edges are read with modulation 'by-class' only, not with {self.modulation!r}")
        for place, groups in enumerate(self.groups):
            if self.modulation == "by-group":
                _require_divisible(classes, groups, "the number of classes", f"groups[{place}] (modulation 'by-group')")
                _require_divisible(self.hidden_channels, groups, "hidden_channels", f"groups[{place}]")
        for width in self.widths if self.modulation == "by-class" else ():
            _require_divisible(width, classes, f"the width {width}", "the number of classes (modulation 'by-class')")


def _require_divisible(number: int, divisor: int, what: str, by: str) -> None:
    if number % divisor:
        raise ValueError(f"{what} ({number}) is not divisible by {by} ({divisor})")


def spade_options(modulation: Modulation, num_classes: int, groups: int, hidden_channels: int = 128) -> dict[str, int]:
    """The options of `GroupSPADE` in a block with so many groups; arguments as in `GroupDNetConfig`."""
    if modulation == "by-group":
        return {"hidden_channels": hidden_channels, "shared_groups": groups, "groups": groups}
    if modulation == "by-class":
        return {"hidden_channels": num_classes * groups, "shared_groups": num_classes, "groups": num_classes}
    hidden_channels = num_classes * (2 if num_classes % groups == 0 else groups)
    return {"hidden_channels": hidden_channels, "shared_groups": num_classes, "groups": groups}


class ClassEncoder(nn.Module):
    """Codes of the images of all classes at once: convolutions with one group per class, so that no class sees another.

    Args:
        num_classes: classes of the label set.
        channels: width of the first layer for each class.
        num_layers: layers of stride 2; the code's grid is `2 ** num_layers` times smaller than the images.
    """

    def __init__(self, num_classes: int, channels: int, num_layers: int) -> None:
        super().__init__()
        widths = [3, *(min(channels << layer, 8 * channels) for layer in range(num_layers))]
        self.layers = nn.ModuleList(
            SpectralNormConv2d(
                num_classes * before, num_classes * after, 3, stride=2, padding=1, groups=num_classes, bias=False
            )
            for before, after in pairwise(widths)
        )
        features, outputs = num_classes * widths[-1], num_classes * CODE_CHANNELS
        self.mean = Conv2d(features, outputs, 3, padding=1, groups=num_classes)
        self.log_variance = Conv2d(features, outputs, 3, padding=1, groups=num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`images [N, 3 C, H, W]`, see `class_images` -> mean and log-variance, each `[N, 8 C, h, w]`."""
        x = images
        for layer in self.layers:
            x = F.leaky_relu(instance_norm(layer(x)), 0.2)
        return self.mean(x), self.log_variance(x)


class GroupDNet(Generator):
    """The generator of GroupDNet and GroupDNet-CLADE with its encoder.

    Its style are codes, `[N, C, 8 h w]`: a row is the look of a class, whatever image it came from.
    """

    config: GroupDNetConfig
    config_class = GroupDNetConfig

    def __init__(self, config: GroupDNetConfig) -> None:
        super().__init__(config)
        classes, widths = config.labels.num_classes, config.widths
        self.stem = Conv2d(CODE_CHANNELS * classes, widths[0], 3, padding=1, groups=config.stem_groups)
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after, self._norm(groups), groups=groups)
            for (before, after), groups in zip(pairwise(widths), config.groups, strict=True)
        )
        self.up: nn.Module = nn.Upsample(scale_factor=2, mode="nearest")
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.encoder = ClassEncoder(classes, config.encoder_channels, DOUBLINGS[config.upsampling])
        initialize_xavier(self)

    def _norm(self, groups: int) -> Callable[[int], ConditionalNorm]:
        """What makes the norms of a residual block with so many groups, for a number of channels."""
        config, classes = self.config, self.config.labels.num_classes
        if config.norm == "clade":
            return partial(CLADE, num_classes=classes, statistics=config.statistics)
        return partial(
            GroupSPADE,
            num_classes=classes,
            instances=config.use_instances,
            statistics=config.statistics,
            **spade_options(config.modulation, classes, groups, config.hidden_channels),
        )

    def encode(self, image: Tensor, layout: Layout) -> StyleDistribution:
        """The codes of photos `[N, 3, H, W]` of any size; those of classes that a photo lacks are not `present`.

        Raises:
            LayoutError: the layout has another size than the photos, or another number of classes than the model.
        """
        self._check_classes(layout)
        if layout.size != tuple(image.shape[-2:]):
            raise LayoutError(
                f"the layout of a reference photo is {layout.size[0]}x{layout.size[1]}, the photo "
                f"{image.shape[-2]}x{image.shape[-1]}: resize one to the size of the other."
            )
        mean, log_variance = self.encoder(class_images(image, layout, self.config.image_size))
        present = layout.present_classes()
        shape = (layout.batch_size, *self.config.style_shape)
        return StyleDistribution(Style(mean.reshape(shape), present), log_variance.reshape(shape))

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """Generate images.

        Args:
            layout: N layouts of `config.image_size`.
            style: codes `[N, C, 8 h w]`; None takes the mean of the prior (zeros).

        Raises:
            LayoutError: size or number of classes do not fit, or the instance map is missing.
            StyleError: a style of another kind or shape.
        """
        self.check(layout, style)
        x = self.stem(self._codes(layout, style))
        for block, doubled in zip(self.blocks, doublings(self.config.upsampling, BLOCKS), strict=True):
            x = block(self.up(x) if doubled else x, layout, style)
        return torch.tanh(self.to_rgb(F.leaky_relu(x, 0.2)))

    def _codes(self, layout: Layout, style: Style | None) -> Tensor:
        """The codes of all classes one after another, `[N, 8 C, h, w]`."""
        shape = (layout.batch_size, CODE_CHANNELS * self.config.labels.num_classes, *self.config.grid)
        weight = self.stem.weight
        return weight.new_zeros(shape) if style is None else style.values.to(weight).reshape(shape)


GROUPDNET_VARIANTS = {
    "groupdnet": Variant(GroupDNet, {}),
    "groupdnet-clade": Variant(GroupDNet, {"norm": "clade"}),
}
"""Name -> variant of this system."""
