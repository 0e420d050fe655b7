"""The discriminator of CC-FPSE: a feature pyramid that scores patches at three sizes, and how they fit the layout.

Source: Liu et al., "Learning to Predict Layout-to-image Conditional Convolutions for Semantic Image Synthesis",
NeurIPS 2019, arXiv 1910.06809, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.discriminators.judgement import Discriminator, Judgement
from segscape.errors import LayoutError
from segscape.layout import Layout
from segscape.nn.initialization import initialize_xavier
from segscape.nn.instance import InstanceNorm2d
from segscape.nn.spectral import SpectralNormConv2d

STRIDE: Final = 4
"""Of the finest scores."""

SIZE_MULTIPLE: Final = 32
"""Height and width of images are multiples of this."""


class FeaturePyramidDiscriminator(Discriminator):
    """Scores at strides 4, 8 and 16: each the sum of a patch's realness and its agreement with the layout there.

    The network sees the image only; the agreement is the product of its features with an embedding of the layout. The
    embedding is linear, so the layout is averaged over cells of 4x4 pixels first, which the official code does after it
    (equal to rounding, with a sixteenth of the work).

    Args:
        num_classes: classes of the label set.
        instances: the instance-edge map is one more channel of the layout.
        base_channels: width of the first layer; the widest have eight times as many.
    """

    def __init__(self, num_classes: int, *, instances: bool = False, base_channels: int = 64) -> None:
        super().__init__(instances)
        self.num_classes = num_classes
        widths = [base_channels * times for times in (1, 2, 4, 8, 8)]
        middle, narrow = 4 * base_channels, 2 * base_channels
        self.encoders = nn.ModuleList(
            _unit(before, after, 3, stride=2) for before, after in zip([3, *widths], widths, strict=False)
        )
        self.laterals = nn.ModuleList(_unit(width, middle, 1) for width in widths[1:])
        self.finals = nn.ModuleList(_unit(middle, narrow, 3) for _ in range(3))
        self.realness = nn.Conv2d(narrow, 1, 1)
        self.agreement = nn.Conv2d(narrow, narrow, 1)
        self.embedding = nn.Conv2d(num_classes + int(instances), narrow, 1)
        initialize_xavier(self)

    def forward(self, layout: Layout, image: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> Judgement:
        """As `Discriminator.forward`; raises LayoutError for images that are no multiple of 32, or only 32 pixels."""
        if augment is not None:
            return super().forward(layout, image, augment)
        size = (image.shape[-2], image.shape[-1])
        _check_size(size)
        shares = class_shares(layout.at(size), self.num_classes, STRIDE)
        if self.instances:
            shares = torch.cat([shares, F.avg_pool2d(layout.edges(size), STRIDE)], dim=1)
        return self._judge(shares.to(image.dtype), image)

    def judge(self, x: Tensor) -> Judgement:
        """As `forward`, on a semantic map and image already joined, `[N, S + 3, H, W]`."""
        _check_size((x.shape[-2], x.shape[-1]))
        return self._judge(F.avg_pool2d(x[:, :-3], STRIDE), x[:, -3:])

    def _judge(self, shares: Tensor, image: Tensor) -> Judgement:
        """Of images `[k * N, 3, H, W]`, whose semantic maps, averaged, are `[N, S, H / 4, W / 4]`."""
        features = self.features(image)
        embedded = self.embedding(shares).repeat(len(image) // len(shares), 1, 1, 1)
        scores = []
        for final, merged in zip(self.finals, self._merge(features), strict=True):
            found = final(merged)
            scores.append(self.realness(found) + (embedded * self.agreement(found)).sum(1, keepdim=True))
            embedded = F.avg_pool2d(embedded, 2)
        return Judgement(scores, [[feature] for feature in features])

    def features(self, image: Tensor) -> list[Tensor]:
        """The encoder's features at strides 4, 8, 16 and 32, which feature matching compares, too."""
        x, found = image, []
        for encoder in self.encoders:
            x = encoder(x)
            found.append(x)
        return found[1:]

    def _merge(self, features: list[Tensor]) -> list[Tensor]:
        """Features at strides 4, 8 and 16, each joined with the coarser ones."""
        *rest, merged = (lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True))
        found = []
        for lateral in reversed(rest):
            enlarged = F.interpolate(merged, scale_factor=2, mode="bilinear", align_corners=False)
            merged = enlarged + lateral
            found.append(merged)
        return found[::-1]


def class_shares(labels: Tensor, num_classes: int, side: int) -> Tensor:
    """What share of each cell of `side x side` pixels each class has: a one-hot map, averaged, without making it.

    Args:
        labels: int64 `[N, H, W]`; the sides are multiples of `side`.
        num_classes: C.
        side: of a cell.

    Returns:
        float32 `[N, C, H / side, W / side]`.
    """
    cells = F.pixel_unshuffle(labels.unsqueeze(1), side)  # [N, side * side, h, w]
    count, pixels, height, width = cells.shape
    shares = torch.zeros(count, num_classes, height, width, device=labels.device)
    return shares.scatter_add_(1, cells, torch.full((), 1 / pixels, device=labels.device).expand(cells.shape))


def _unit(in_channels: int, channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """A convolution with spectral norm, instance norm, LeakyReLU."""
    conv = SpectralNormConv2d(in_channels, channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, InstanceNorm2d(channels), nn.LeakyReLU(0.2))


def _check_size(size: tuple[int, int]) -> None:
    if any(side % SIZE_MULTIPLE for side in size) or size == (SIZE_MULTIPLE, SIZE_MULTIPLE):
        raise LayoutError(
            f"the images are {size[0]}x{size[1]}, but the feature pyramid discriminator needs multiples of "
            f"{SIZE_MULTIPLE}, and more than {SIZE_MULTIPLE}x{SIZE_MULTIPLE}: train at another size."
        )
