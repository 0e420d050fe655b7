"""SPADE: spatially-adaptive normalisation.

Source: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019, equation 1 and
figure 3; arXiv 1903.07291. Written from a clean-room specification; checked against outputs of the official code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.layout import Layout, Size
from segscape.nn.conditional import LayoutModulatedNorm, Statistics
from segscape.style import Style


class SPADE(LayoutModulatedNorm):
    """`y = norm(x) * (1 + gamma) + beta`, gamma and beta by two convolutions over the semantic map.

    Args:
        channels: channels of `x`.
        num_classes: classes of the label set.
        instances: read the instance-edge map as one more channel of the semantic map.
        statistics: the parameter-free normalisation.
        hidden_channels: width between the two convolutions (the official code: 128).
        kernel_size: of all three convolutions (the official code: 3).
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
    ) -> None:
        super().__init__(channels, statistics)
        self.instances = instances
        padding = kernel_size // 2
        self.shared = nn.Conv2d(num_classes + int(instances), hidden_channels, kernel_size, padding=padding)
        self.gamma = nn.Conv2d(hidden_channels, channels, kernel_size, padding=padding)
        self.beta = nn.Conv2d(hidden_channels, channels, kernel_size, padding=padding)

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """`x [N, C, h, w] -> y [N, C, h, w]`. Raises LayoutError if instances are used and the layout has none."""
        gamma, beta = self.modulation(layout, (x.shape[-2], x.shape[-1]), x.dtype)
        y: Tensor = self.statistics(x) * gamma + beta
        return y

    def modulation(self, layout: Layout, size: Size, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """`1 + conv(hidden)` and `conv(hidden)`, each `[N, C, h, w]`: the `1 +` is a part of the gamma returned."""
        semantic = layout.semantic_map(size, edges=self.instances)  # [N, S, h, w]
        hidden = F.relu(self.shared(semantic.to(dtype)))
        return 1 + self.gamma(hidden), self.beta(hidden)
