"""The two halves of a training iteration: what the generator and what the discriminator minimise.

Source: Park et al., CVPR 2019, section 3; the official order is a generator step, then a discriminator step on a
freshly generated image, both networks in training mode throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segscape.layout import Layout
from segscape.losses import (
    PerceptualLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    gradient_penalty,
    kl_divergence,
    reparameterize,
)
from segscape.nn.spectral import held_power_iteration
from segscape.style import Style
from segscape.training.augment import DrawnAugmentation
from segscape.training.balance import judgement
from segscape.training.recipe import Objective


class StyledGenerator(nn.Module):
    """A generator and, where it has one, its style encoder in a single forward.

    Args:
        generator: a generator of the family; its parameters are this module's parameters.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, layout: Layout, image: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Generate images of `layout`.

        Args:
            layout: N layouts.
            image: their photos `[N, 3, H, W]`, whose style is taken if there is noise.
            noise: `[N, D]` from N(0, 1) with which a style is drawn from the photo's encoding; None for models without
                a latent style.

        Returns:
            The images `[N, 3, H, W]` and the divergence of the styles from the prior, summed (None without noise).
        """
        if noise is None:
            return self.generator(layout), None
        mean, log_variance = self.generator.encode(image)  # type: ignore[operator]
        fake = self.generator(layout, Style(reparameterize(mean, log_variance, noise)))
        return fake, kl_divergence(mean, log_variance)


def generator_step_losses(
    generator: nn.Module,
    discriminator: nn.Module,
    layout: Layout,
    image: Tensor,
    *,
    objective: Objective,
    perceptual: PerceptualLoss | None = None,
    noise: Tensor | None = None,
    augment: DrawnAugmentation | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """The generator's losses, weighted, and the images it made.

    Args:
        generator: a `StyledGenerator`.
        discriminator: the judge; no gradient is needed in its parameters.
        layout: N layouts.
        image: the real photos, `[N, 3, H, W]` in [-1, 1].
        objective: the losses and their weights.
        perceptual: the perceptual loss; left out when None or when its weight is 0.
        noise: as in `StyledGenerator.forward`.
        augment: what happens to each pair before the discriminator sees it.

    Returns:
        Losses by name (`gan`, `feature_matching`, `perceptual`, `kl`; those with weight 0 are absent), and the
        generated images `[N, 3, H, W]`, attached to the graph.
    """
    fake, kl = generator(layout, image, noise)
    judged_fake, judged_real = _judge_beside_constant(discriminator, layout, fake, image, augment)
    losses = {"gan": generator_loss([scale[-1] for scale in judged_fake], objective.gan_mode)}
    if objective.feature_matching:
        losses["feature_matching"] = objective.feature_matching * feature_matching_loss(judged_fake, judged_real)
    if perceptual is not None and objective.perceptual:
        losses["perceptual"] = objective.perceptual * perceptual(fake, image)
    if kl is not None and objective.kl:
        samples = objective.kl_samples
        losses["kl"] = objective.kl * (kl if samples == "official" else kl * (samples / layout.batch_size))
    return losses, fake


def generate_fake(generator: nn.Module, layout: Layout, image: Tensor, noise: Tensor | None) -> Tensor:
    """Images for the discriminator step, without gradients; in training mode, so running statistics move."""
    with torch.no_grad():
        fake: Tensor = generator(layout, image, noise)[0]
        return fake


def discriminator_step_losses(
    discriminator: nn.Module,
    layout: Layout,
    image: Tensor,
    fake: Tensor,
    *,
    objective: Objective,
    augment: DrawnAugmentation | None = None,
    r1: float = 0.0,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The discriminator's losses on generated and real images, and how well it told them apart.

    Args:
        discriminator: the judge.
        layout: N layouts.
        image, fake: real and generated images, `[N, 3, H, W]` in [-1, 1].
        objective: the adversarial loss.
        augment: as in `generator_step_losses`.
        r1: weight of the gradient penalty in this step; 0 leaves it out.

    Returns:
        Losses by name (`fake` and `real`, not halved; `r1` if it is taken), and `segscape.training.balance.judgement`.
    """
    image = image.detach().requires_grad_(r1 > 0)
    judged_fake, judged_real = _judge_pair(discriminator, layout, fake.detach(), image, augment)
    fake_scores, real_scores = ([scale[-1] for scale in judged] for judged in (judged_fake, judged_real))
    mode = objective.gan_mode
    losses = {
        "fake": discriminator_loss(fake_scores, real=False, mode=mode),
        "real": discriminator_loss(real_scores, real=True, mode=mode),
    }
    if r1 > 0:
        losses["r1"] = r1 * gradient_penalty(real_scores, image)
    return losses, judgement(real_scores, fake_scores, mode)


def _judge_pair(
    discriminator: nn.Module, layout: Layout, fake: Tensor, real: Tensor, augment: DrawnAugmentation | None
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Judge generated and real images in one pass, as the official code does, and part the outputs again."""
    judged = discriminator(layout, torch.cat([fake, real]), augment)
    count = fake.shape[0]
    first = [[output[:count] for output in scale] for scale in judged]
    second = [[output[count:] for output in scale] for scale in judged]
    return first, second


def _judge_beside_constant(
    discriminator: nn.Module, layout: Layout, fake: Tensor, real: Tensor, augment: DrawnAugmentation | None
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """As `_judge_pair`, to rounding, but nothing is kept for a backward pass through the real images.

    They get a pass of their own, unless the discriminator has batch norm, which must see all images together.
    """
    if any(isinstance(layer, _BatchNorm) for layer in discriminator.modules()):
        return _judge_pair(discriminator, layout, fake, real, augment)
    with torch.no_grad():
        judged_real = discriminator(layout, real, augment)
    with held_power_iteration(discriminator):  # one iteration for both, as in one pass
        return discriminator(layout, fake, augment), judged_real
