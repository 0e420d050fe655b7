"""A generator of two blocks that is in no registry, so that what is said about generators is tried on another one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from segscape.labels import LABEL_SETS
from segscape.layout import Layout
from segscape.models.config import LatentStyleConfig
from segscape.models.generator import Generator
from segscape.nn import CLADE, SPADE, ResidualBlock
from segscape.nn.conditional import ConditionalNorm, Statistics
from segscape.nn.sean import ACE
from segscape.position import PositionRule
from segscape.style import Style
from segscape.style_shapes import StyleKind
from tests.zoo import settled

CAMVID = LABEL_SETS["camvid"]
WIDTHS = (6, 6, 4)


NormKind = Literal["spade", "clade", "sean"]
CODE = 3  # length of a code of SEAN's norm


class TinyConfig(LatentStyleConfig):
    model: str = "tiny"
    norms: tuple[NormKind, NormKind] = ("clade", "clade")
    position: Literal["feature", "modulation"] | None = None
    statistics: Statistics = "batch"
    fixed: bool = False

    @property
    def style_kind(self) -> StyleKind | None:
        return "codes" if "sean" in self.norms else super().style_kind

    @property
    def style_shape(self) -> tuple[int, ...] | None:
        return (self.labels.num_classes, CODE) if "sean" in self.norms else super().style_shape

    @property
    def fixed_size(self) -> bool:
        return self.fixed

    @property
    def size_multiple(self) -> int:
        return 4

    @property
    def encoding_rule(self) -> PositionRule | None:
        return None if self.position is None else "official"


class Tiny(Generator):
    """Doubles twice; the latent is added to the first features, so that it leaves the size open."""

    config: TinyConfig
    config_class = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.stem = nn.Conv2d(config.labels.num_classes + config.use_instances, WIDTHS[0], 3, padding=1)
        self.style = nn.Linear(config.latent_dim, WIDTHS[0]) if config.latent_dim else None
        self.blocks = nn.ModuleList(
            ResidualBlock(WIDTHS[i], WIDTHS[i + 1], self._norm(kind)) for i, kind in enumerate(config.norms)
        )
        self.up = nn.Upsample(scale_factor=2)
        self.to_rgb = nn.Conv2d(WIDTHS[-1], 3, 3, padding=1)

    def _norm(self, kind: str) -> Callable[[int], ConditionalNorm]:
        config = self.config
        if kind == "sean":
            return lambda channels: ACE(SPADE(channels, config.labels.num_classes), config.labels.num_classes, CODE)
        options = {"instances": config.use_instances, "statistics": config.statistics}
        if kind == "spade":
            return partial(SPADE, num_classes=config.labels.num_classes, hidden_channels=5, **options)
        return partial(CLADE, num_classes=config.labels.num_classes, position=config.position, **options)

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        self.check(layout, style)
        height, width = layout.size
        semantic = layout.semantic_map((height // 4, width // 4), edges=self.config.use_instances)
        x = self.stem(semantic.to(self.stem.weight.dtype))
        if self.style is not None and style is not None:
            x = x + self.style(style.values)[:, :, None, None]
        for block in self.blocks:
            x = block(self.up(x), layout, style)
        return torch.tanh(self.to_rgb(x))


def tiny(**options: object) -> Tiny:
    """A settled one of the CamVid classes."""
    return settled(Tiny(TinyConfig.build(labels="camvid", **options)))
