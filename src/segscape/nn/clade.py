"""CLADE and CLADE-ICPE: class-adaptive normalisation, with an intra-class positional encoding.

Source: Tan et al., "Efficient Semantic Image Synthesis via Class-Adaptive Normalization", TPAMI 2021,
arXiv 2012.04644: equations 2 (instances), 6 (the table) and 15 (positional encoding). Written from a clean-room
specification; checked against outputs of the official code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.layout import Layout, Size
from segscape.nn.conditional import LayoutModulatedNorm, Statistics
from segscape.position import PositionRule
from segscape.style import Style

PositionUse = Literal["feature", "modulation"]


class CLADE(LayoutModulatedNorm):
    """`y = norm(x) * gamma[class] + beta[class]`: a table look-up in place of SPADE's convolutions.

    The table itself is the scale: unlike SPADE there is no `1 +`.

    Args:
        channels: channels of `x`.
        num_classes: rows of the tables.
        instances: append one channel, an affine function of the instance-edge map (the official reading of
            equation 2), so that `out_channels` is one more.
        position: how the intra-class positional encoding d is used. `modulation` is CLADE-ICPE (equation 15):
            gamma and beta are multiplied by `1 + conv1x1(d)`, one map for all classes and channels. `feature`
            (`dist_f` of Table VII) appends `conv1x1(d)` as one more channel, after the edge channel.
        position_rule: how d is computed, see `segscape.position`.
        statistics: the parameter-free normalisation.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        instances: bool = False,
        position: PositionUse | None = None,
        position_rule: PositionRule = "official",
        statistics: Statistics = "sync-batch",
    ) -> None:
        super().__init__(channels, statistics)
        self.out_channels = channels + int(instances) + int(position == "feature")
        self.instances = instances
        self.position = position
        self.position_rule = position_rule
        self.gamma = nn.Parameter(torch.rand(num_classes, channels))  # the official initialisation: U(0, 1)
        self.beta = nn.Parameter(torch.zeros(num_classes, channels))
        if instances:
            self.edge = nn.Conv2d(1, 1, 1)
        if position == "feature":
            self.position_feature = nn.Conv2d(2, 1, 1)
        elif position == "modulation":
            self.position_gamma = nn.Conv2d(2, 1, 1)
            self.position_beta = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None, slope: float = 1.0) -> Tensor:
        """`x [N, C, h, w] -> y [N, out_channels, h, w]`, through a LeakyReLU if a slope is given.

        Raises LayoutError if instances are used and the layout has none.
        """
        size = (x.shape[-2], x.shape[-1])
        if self.fuses:
            factors = self.position_factors(layout, size, x.dtype)
            y = self.fused(x, layout.at(size), self.gamma, self.beta, slope, factors)
        else:
            gamma, beta = self.modulation(layout, size, x.dtype)
            y = _activate(self.statistics(x) * gamma + beta, slope)
        maps = self.appended_maps(layout, size, x.dtype)
        return torch.cat([y, *(_activate(m, slope) for m in maps)], dim=1) if maps else y

    def activated(self, x: Tensor, layout: Layout, style: Style | None, slope: float) -> Tensor:
        """The norm and the LeakyReLU after it in one."""
        y: Tensor = self(x, layout, style, slope)
        return y

    def modulation(self, layout: Layout, size: Size, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """The rows of the tables, each `[N, C, h, w]`; times the positional factors if `position` is `modulation`."""
        classes = layout.at(size)  # [N, h, w]
        gamma = F.embedding(classes, self.gamma).permute(0, 3, 1, 2)  # [N, C, h, w]
        beta = F.embedding(classes, self.beta).permute(0, 3, 1, 2)
        factors = self.position_factors(layout, size, dtype)
        return (gamma * factors[0], beta * factors[1]) if factors else (gamma, beta)

    def appended_maps(self, layout: Layout, size: Size, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """What follows the C channels of the output: of edges, then of the encoding, each `[N, 1, h, w]`, or nothing.

        Raises LayoutError if instances are used and the layout has none.
        """
        maps: list[Tensor] = [self.edge(layout.edges(size).to(dtype))] if self.instances else []
        if self.position == "feature":
            maps.append(self.position_feature(layout.position(size, self.position_rule).to(dtype)))
        return maps

    def position_factors(
        self, layout: Layout, size: Size, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor] | None:
        """What gamma and beta are multiplied by, each `[N, 1, h, w]`, if `position` is `modulation`."""
        if self.position != "modulation":
            return None
        offsets = layout.position(size, self.position_rule).to(dtype)
        return 1 + self.position_gamma(offsets), 1 + self.position_beta(offsets)


def _activate(y: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(y, slope) if slope != 1 else y
