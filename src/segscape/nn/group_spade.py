"""GroupSPADE: SPADE whose convolutions have groups, so that channels of the features listen to classes of their own.

Source: Zhu et al., "Semantically Multi-modal Image Synthesis", CVPR 2020, section 3.2 and figure 4; arXiv 2003.12697.
Written from a clean-room specification; checked against outputs of the official code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.layout import Layout, Size
from segscape.nn.conditional import LayoutModulatedNorm, Statistics
from segscape.nn.convolution import Conv2d
from segscape.style import Style


class GroupSPADE(LayoutModulatedNorm):
    """`y = norm(x) * (1 + gamma) + beta`, gamma and beta by two 3x3 convolutions with groups over the semantic map.

    Groups are of consecutive channels: with `shared_groups` = `num_classes`, hidden channels see one class each (and
    the edges); with `groups` = `num_classes` too, so does each block of channels of `x`.

    Args:
        channels: channels of `x`; a multiple of `groups`.
        num_classes: classes of the label set; a multiple of `shared_groups`.
        hidden_channels: width between the two convolutions; a multiple of `shared_groups` and of `groups`.
        shared_groups: of the first convolution.
        groups: of the second ones.
        instances: read the instance-edge map, too: as one more channel after that of each class.
        statistics: the parameter-free normalisation.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        hidden_channels: int,
        shared_groups: int,
        groups: int,
        instances: bool = False,
        statistics: Statistics = "sync-batch",
    ) -> None:
        super().__init__(channels, statistics)
        self.instances = instances
        inputs = num_classes * (1 + instances)
        self.shared = Conv2d(inputs, hidden_channels, 3, padding=1, groups=shared_groups)
        self.gamma = Conv2d(hidden_channels, channels, 3, padding=1, groups=groups)
        self.beta = Conv2d(hidden_channels, channels, 3, padding=1, groups=groups)

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """`x [N, C, h, w] -> y [N, C, h, w]`; raises LayoutError if instances are used and the layout has none."""
        gamma, beta = self.modulation(layout, (x.shape[-2], x.shape[-1]), x.dtype)
        y: Tensor = self.statistics(x) * gamma + beta
        return y

    def modulation(self, layout: Layout, size: Size, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """`1 + conv(hidden)` and `conv(hidden)`, each `[N, C, h, w]`: the `1 +` is a part of the gamma returned."""
        hidden = F.relu(self.shared(self._semantic_map(layout, size).to(dtype)))
        return 1 + self.gamma(hidden), self.beta(hidden)

    def _semantic_map(self, layout: Layout, size: Size) -> Tensor:
        """The one-hot map, `[N, S, h, w]`; with instances `[N, 2S, h, w]`: class 0, edges, class 1, edges, ..."""
        one_hot = layout.one_hot(size)
        if not self.instances:
            return one_hot
        return torch.stack([one_hot, layout.edges(size).expand_as(one_hot)], dim=2).flatten(1, 2)
