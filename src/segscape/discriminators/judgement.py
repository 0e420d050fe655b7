"""What discriminators take and what they say: the interface that training uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segscape.layout import Layout


class Judgement(NamedTuple):
    """Scores of images, and the features that led to them.

    Attributes:
        scores: one map per scale, `[N, 1, h, w]`.
        features: for feature matching, in groups: the loss is the mean over groups of the sums over their features.
            A multi-scale discriminator has one group per scale.
    """

    scores: list[Tensor]
    features: list[list[Tensor]]

    def part(self, first: int, count: int) -> Judgement:
        """The judgement of `count` images from number `first` on."""
        chosen = slice(first, first + count)
        return Judgement(
            [score[chosen] for score in self.scores], [[f[chosen] for f in group] for group in self.features]
        )


class Discriminator(nn.Module):
    """Base of the discriminators: `discriminator(layout, image) -> Judgement`.

    Args:
        instances: the instance-edge map is one more channel of the semantic map.
    """

    def __init__(self, instances: bool) -> None:
        super().__init__()
        self.instances = instances

    def forward(self, layout: Layout, image: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> Judgement:
        """Judge images of layouts.

        Args:
            layout: N layouts.
            image: `[k * N, 3, H, W]` in [-1, 1], k blocks of N images, for example generated then real ones: judging
                both in one pass is what the official codes do (one power iteration for both).
            augment: changes the input of `judge` before it is judged.
        """
        joined = self.join(layout, image)
        return self.judge(joined if augment is None else augment(joined))

    def join(self, layout: Layout, image: Tensor) -> Tensor:
        """The semantic map beside the images, `[k * N, S + 3, H, W]`; arguments as in `forward`."""
        semantic = layout.semantic_map((image.shape[-2], image.shape[-1]), edges=self.instances)
        semantic = semantic.to(image.dtype).repeat(image.shape[0] // layout.batch_size, 1, 1, 1)
        return torch.cat([semantic, image], dim=1)

    def judge(self, x: Tensor) -> Judgement:
        """As `forward`, on a semantic map and image already joined, `[N, S + 3, H, W]`."""
        raise NotImplementedError
