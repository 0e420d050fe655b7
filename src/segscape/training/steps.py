"""The two halves of a training iteration: what the generator and what the discriminator minimise.

Source: Park et al., CVPR 2019, section 3; the official order is a generator step, then a discriminator step on a freshly
generated image, both networks in training mode throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segscape.layout import Layout
from segscape.losses import (
    PerceptualLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    kl_divergence,
    reparameterize,
)
from segscape.style import Style
from segscape.training.recipe import Objective


def generator_step_losses(
    generator: nn.Module,
    discriminator: nn.Module,
    layout: Layout,
    image: Tensor,
    *,
    objective: Objective,
    perceptual: PerceptualLoss | None = None,
    noise: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """The generator's losses, weighted, and the images it made.

    Args:
        layout: N layouts.
        image: the real photos, `[N, 3, H, W]` in [-1, 1].
        perceptual: the perceptual loss; left out when None or when its weight is 0.
        noise: `[N, D]` from N(0, 1), for models with a latent style: the photo is encoded, a style drawn with this noise.

    Returns:
        Losses by name (`gan`, `feature_matching`, `perceptual`, `kl`; those with weight 0 are absent), and the generated
        images `[N, 3, H, W]`, attached to the graph.
    """
    losses: dict[str, Tensor] = {}
    style, kl = encode_style(generator, image, noise)
    if kl is not None:
        losses["kl"] = objective.kl * kl
    fake = generator(layout, style)
    judged_fake, judged_real = _judge_pair(discriminator, layout, fake, image)
    losses["gan"] = generator_loss([scale[-1] for scale in judged_fake], objective.gan_mode)
    if objective.feature_matching:
        losses["feature_matching"] = objective.feature_matching * feature_matching_loss(judged_fake, judged_real)
    if perceptual is not None and objective.perceptual:
        losses["perceptual"] = objective.perceptual * perceptual(fake, image)
    return losses, fake


def discriminator_step_losses(
    discriminator: nn.Module, layout: Layout, image: Tensor, fake: Tensor, *, objective: Objective
) -> dict[str, Tensor]:
    """The discriminator's losses `fake` and `real` (not halved) on generated and real images `[N, 3, H, W]`."""
    judged_fake, judged_real = _judge_pair(discriminator, layout, fake.detach(), image)
    mode = objective.gan_mode
    return {
        "fake": discriminator_loss([scale[-1] for scale in judged_fake], real=False, mode=mode),
        "real": discriminator_loss([scale[-1] for scale in judged_real], real=True, mode=mode),
    }


def generate_fake(generator: nn.Module, layout: Layout, image: Tensor, noise: Tensor | None) -> Tensor:
    """Images for the discriminator step, without gradients; in training mode, so running statistics move."""
    with torch.no_grad():
        style, _ = encode_style(generator, image, noise)
        return generator(layout, style)  # type: ignore[no-any-return]


def encode_style(generator: nn.Module, image: Tensor, noise: Tensor | None) -> tuple[Style | None, Tensor | None]:
    """A style drawn from the photo's encoding, and the divergence from the prior; nothing for models without latent."""
    if noise is None:
        return None, None
    mean, log_variance = generator.encode(image)  # type: ignore[operator]
    return Style(reparameterize(mean, log_variance, noise)), kl_divergence(mean, log_variance)


def _judge_pair(
    discriminator: nn.Module, layout: Layout, fake: Tensor, real: Tensor
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Judge generated and real images in one pass, as the official code does, and part the outputs again."""
    judged = discriminator(layout, torch.cat([fake, real]))
    count = fake.shape[0]
    first = [[output[:count] for output in scale] for scale in judged]
    second = [[output[count:] for output in scale] for scale in judged]
    return first, second
