"""LabelMix: images that are real in some classes and generated in the others.

Source: Schönfeld et al., "You Only Need Adversarial Supervision for Semantic Image Synthesis" (OASIS), ICLR 2021.
Its consistency loss is :func:`segscape.losses.label_mix_loss`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segscape.layout import Layout


def label_mix(
    real: Tensor, fake: Tensor, layout: Layout, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Mix two images of one layout along the borders of its classes.

    Each class of each layout is taken from the real or from the generated image by a fair coin, so that a discriminator
    that judges well must judge content and not the seams.

    Args:
        real, fake: Images ``[N, 3, H, W]`` of the N layouts. Gradients flow into both.
        layout: N layouts; of another size, it is resized by PyTorch's ``nearest`` rule.
        generator: Source of the coins; torch's default one if None.

    Returns:
        The mixed images ``[N, 3, H, W]``, and the mask ``[N, 1, H, W]`` in {0, 1}: 1 where they are real.
    """
    coins = torch.rand(
        layout.batch_size, layout.num_classes, generator=generator, device=generator.device if generator else None
    )
    labels = layout.at((real.shape[-2], real.shape[-1]))
    is_real = (coins < 0.5).to(labels.device).gather(1, labels.flatten(1)).view_as(labels)
    mask = is_real.unsqueeze(1).to(real.dtype)
    return torch.where(mask.bool(), real, fake), mask
