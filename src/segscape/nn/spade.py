"""SPADE: spatially-adaptive normalisation.

Source: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019, equation 1 and
figure 3; arXiv 1903.07291. Written from a clean-room specification; checked against outputs of the official code.

Gamma and beta are computed in one of two ways, which agree to rounding: by convolutions over the one-hot map as the
paper has it (`dense`), or once per distinct neighbourhood of labels and then gathered (`patterns`).
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.layout import Layout, Size
from segscape.nn.conditional import LayoutModulatedNorm, Statistics
from segscape.nn.convolution import Conv2d
from segscape.patterns import PatternIndex
from segscape.style import Style

ModulationPath = Literal["dense", "patterns"]

MAX_SHARE: Final = 0.8
"""Patterns per pixel above which the dense way is taken.

Measured on one CPU thread with 151 classes: the two take the same time at a share of 0.8 where the map is small and
wide (1024 channels at 16x16), at 0.9 and more elsewhere. At 256x256 the patterns are 14 to 140 times faster at the
shares of real label maps (0.03 to 0.15) and four times at 0.6; noise (a share of 1) is up to 2.7 times slower.
"""


class SPADE(LayoutModulatedNorm):
    """`y = norm(x) * (1 + gamma) + beta`, gamma and beta by two convolutions over the semantic map.

    Args:
        channels: channels of `x`.
        num_classes: classes of the label set.
        instances: read the instance-edge map as one more channel of the semantic map.
        statistics: the parameter-free normalisation.
        hidden_channels: width between the two convolutions (the official code: 128).
        kernel_size: of all three convolutions (the official code: 3).
        path: how gamma and beta are computed; may be changed at any time, as it is no part of the parameters.
            `patterns` falls back to `dense` on a map with more than `MAX_SHARE` distinct neighbourhoods per pixel.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        instances: bool = False,
        statistics: Statistics = "sync-batch",
        hidden_channels: int = 128,
        kernel_size: int = 3,
        path: ModulationPath = "dense",
    ) -> None:
        super().__init__(channels, statistics)
        self.instances = instances
        self.path: ModulationPath = path
        padding = kernel_size // 2
        self.shared = Conv2d(num_classes + int(instances), hidden_channels, kernel_size, padding=padding)
        self.gamma = Conv2d(hidden_channels, channels, kernel_size, padding=padding)
        self.beta = Conv2d(hidden_channels, channels, kernel_size, padding=padding)

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None, slope: float = 1.0) -> Tensor:
        """`x [N, C, h, w] -> y [N, C, h, w]`, through a LeakyReLU if a slope is given.

        Raises LayoutError if instances are used and the layout has none.
        """
        size = (x.shape[-2], x.shape[-1])
        patterns = self.useful_patterns(layout, size) if self.path == "patterns" and self.fuses else None
        if patterns is not None:
            return self.fused(x, patterns.index, *self.tables(patterns), slope)
        gamma, beta = self.modulation(layout, size, x.dtype)
        y: Tensor = self.statistics(x) * gamma + beta
        return F.leaky_relu(y, slope) if slope != 1 else y

    def activated(self, x: Tensor, layout: Layout, style: Style | None, slope: float) -> Tensor:
        """The norm and the LeakyReLU after it in one."""
        y: Tensor = self(x, layout, style, slope)
        return y

    def modulation(self, layout: Layout, size: Size, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """`1 + conv(hidden)` and `conv(hidden)`, each `[N, C, h, w]`: the `1 +` is a part of the gamma returned."""
        patterns = self.useful_patterns(layout, size) if self.path == "patterns" else None
        if patterns is not None:
            gamma, beta = self.tables(patterns)
            return _gather(gamma, patterns), _gather(beta, patterns)
        semantic = layout.semantic_map(size, edges=self.instances)  # [N, S, h, w]
        hidden = F.relu(self.shared(semantic.to(dtype)))
        return 1 + self.gamma(hidden), self.beta(hidden)

    def useful_patterns(self, layout: Layout, size: Size) -> PatternIndex | None:
        """The patterns that this layer sees, whatever its path; None if there are too many (see `MAX_SHARE`).

        Raises LayoutError if instances are used and the layout has none.
        """
        patterns = layout.patterns(size, kernel_size=self.shared.kernel_size[0], edges=self.instances)
        return patterns if patterns.share <= MAX_SHARE else None

    def tables(self, patterns: PatternIndex) -> tuple[Tensor, Tensor]:
        """Gamma (with its `1 +`) and beta of every pattern, each `[P, C]`, in the parameters' type or autocast's.

        The patterns are those of `Layout.patterns` with this layer's kernel size, and its edges if it has instances.
        """
        gamma, beta = pattern_tables(patterns, *self.look_up_weights())
        return gamma, beta

    def look_up_weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The convolutions' weights in the order in which `pattern_tables` reads them; see there."""
        first = self.shared.weight.flatten(2).permute(2, 1, 0)  # [k * k, S, H]
        if self.instances:
            labels, edge = first[:, :-1], first[:, -1:]
            first = torch.stack([labels, labels + edge], dim=2).flatten(1, 2)  # token 2 * label + edge
        first = F.pad(first, (0, 0, 0, 1))  # the token outside
        second = torch.stack([self.gamma.weight, self.beta.weight]).flatten(3)  # [2, C, H, k * k]
        assert self.shared.bias is not None and self.gamma.bias is not None and self.beta.bias is not None
        bias = torch.stack([1 + self.gamma.bias, self.beta.bias])
        return first, self.shared.bias, second.permute(2, 0, 3, 1).flatten(1), bias


def pattern_tables(patterns: PatternIndex, first: Tensor, first_bias: Tensor, second: Tensor, bias: Tensor) -> Tensor:
    """What SPADE's two layers of convolutions make of every pattern: gamma and beta, `[2, P, C]`.

    Args:
        patterns: P patterns, made of Q inner ones.
        first: the first convolution as a table of what each token adds at each place, `[k * k, tokens + 1, H]`.
        first_bias: `[H]`.
        second: the second convolutions, `[H, 2 * k * k * C]`, gamma's before beta's, place by place.
        bias: `[2, C]`.
    """
    places, num_rows, _ = first.shape
    rows = patterns.tokens + torch.arange(places, device=first.device) * num_rows
    hidden = F.relu(F.embedding_bag(rows, first.flatten(0, 1), mode="sum") + first_bias)  # [Q, H]
    hidden = F.pad(hidden, (0, 0, 0, 1))  # the second convolutions pad with zeros, too
    # One product per inner pattern and place of the window: a third of those per pattern, which then add them up.
    products = hidden @ second  # [Q + 1, 2 * k * k * C]
    rows = patterns.inner * (2 * places) + torch.arange(places, device=first.device)
    sums = F.embedding_bag(torch.cat([rows, rows + places]), products.view(-1, bias.shape[1]), mode="sum")
    tables = sums.view(2, -1, bias.shape[1]) + bias[:, None]
    return tables.to(sums.dtype)


def _gather(table: Tensor, patterns: PatternIndex) -> Tensor:
    """The row of each pixel's pattern: `[P, C] -> [N, C, h, w]`, channels last in memory."""
    return F.embedding(patterns.index, table).permute(0, 3, 1, 2)
