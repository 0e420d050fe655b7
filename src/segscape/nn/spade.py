"""SPADE: spatially-adaptive normalisation.

Source: Park et al., "Semantic Image Synthesis with Spatially-Adaptive Normalization", CVPR 2019, equation 1 and
figure 3; arXiv 1903.07291. Written from a clean-room specification; checked against outputs of the official code.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from segscape.layout import Layout
from segscape.nn.conditional import ConditionalNorm, Statistics
from segscape.style import Style


class SPADE(ConditionalNorm):
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
        height, width = x.shape[-2:]
        semantic = layout.semantic_map((height, width), edges=self.instances)  # [N, S, h, w]
        hidden = F.relu(self.shared(semantic.to(x.dtype)))
        y: Tensor = self.statistics(x) * (1 + self.gamma(hidden)) + self.beta(hidden)
        return y
