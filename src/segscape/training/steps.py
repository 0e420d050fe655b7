"""The two halves of a training iteration: what the generator and what the discriminator minimise.

Source: Park et al., CVPR 2019, section 3; the official order is a generator step, then a discriminator step on a
freshly generated image, both networks in training mode throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segscape.discriminators.judgement import Judgement
from segscape.layout import Layout
from segscape.losses import (
    PerceptualLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    gradient_penalty,
    kl_divergence,
)
from segscape.models.generator import Generator
from segscape.nn.spectral import held_power_iteration
from segscape.training.augment import DrawnAugmentation
from segscape.training.balance import judgement
from segscape.training.pool import ImagePool
from segscape.training.recipe import Objective


class StyledGenerator(nn.Module):
    """A generator and, where it takes a style, the encoder that finds it in the photo, in a single forward.

    Args:
        generator: any generator; its parameters are this module's parameters.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, layout: Layout, image: Tensor, noise: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Generate images of `layout` in the style of their photos.

        Args:
            layout: N layouts.
            image: their photos `[N, 3, H, W]`, not looked at by generators without style.
            noise: `[N, *style_shape]` from N(0, 1) with which variational generators draw a style from the encoding;
                None for the others.

        Returns:
            The images `[N, 3, H, W]` and the unweighted losses that the generator has of its own: `kl`, the divergence
            of the styles from the prior, summed, and what `Generator.forward_with_losses` says.
        """
        if self.generator.config.style_kind is None:
            fake, losses = self.generator.forward_with_losses(layout)
            return fake, losses
        encoded = self.generator.encode(image, layout)
        fake, losses = self.generator.forward_with_losses(layout, encoded.draw(noise))
        if encoded.log_variance is not None:
            losses = losses | {"kl": kl_divergence(encoded.mean.values, encoded.log_variance)}
        return fake, losses


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
        Losses by name (`gan`, `feature_matching`, `perceptual`, and the generator's own; those with weight 0 are
        absent), and the generated images `[N, 3, H, W]`, attached to the graph.
    """
    fake, own = generator(layout, image, noise)
    judged_fake, judged_real = _judge_beside_constant(discriminator, layout, fake, image, augment)
    losses = {"gan": objective.adversarial * generator_loss(judged_fake.scores, objective.gan_mode)}
    if objective.feature_matching:
        matching = feature_matching_loss(judged_fake.features, judged_real.features)
        losses["feature_matching"] = objective.feature_matching * matching
    if perceptual is not None and objective.perceptual:
        losses["perceptual"] = objective.perceptual * perceptual(fake, image)
    weights = objective.own_weights(layout.batch_size)
    losses |= {name: weights[name] * loss for name, loss in own.items() if weights[name]}
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
    pool: ImagePool | None = None,
    r1: float = 0.0,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The discriminator's losses on generated and real images, and how well it told them apart.

    Args:
        discriminator: the judge.
        layout: N layouts.
        image, fake: real and generated images, `[N, 3, H, W]` in [-1, 1].
        objective: the adversarial loss.
        augment: as in `generator_step_losses`.
        pool: exchanges some of the generated images, with their layouts, for earlier ones.
        r1: weight of the gradient penalty in this step; 0 leaves it out.

    Returns:
        Losses by name (`fake` and `real`, not halved; `r1` if it is taken), and `segscape.training.balance.judgement`.
    """
    image = image.detach().requires_grad_(r1 > 0)
    judged_fake, judged_real = _judge_pair(discriminator, layout, fake.detach(), image, augment, pool)
    fake_scores, real_scores = judged_fake.scores, judged_real.scores
    mode = objective.gan_mode
    losses = {
        "fake": discriminator_loss(fake_scores, real=False, mode=mode),
        "real": discriminator_loss(real_scores, real=True, mode=mode),
    }
    if r1 > 0:
        losses["r1"] = r1 * gradient_penalty(real_scores, image)
    return losses, judgement(real_scores, fake_scores, mode)


def _judge_pair(
    discriminator: nn.Module,
    layout: Layout,
    fake: Tensor,
    real: Tensor,
    augment: DrawnAugmentation | None,
    pool: ImagePool | None = None,
) -> tuple[Judgement, Judgement]:
    """Judge generated and real images in one pass, as the official code does, and part the outputs again."""

    def prepared(joined: Tensor) -> Tensor:
        if pool is not None:
            joined = torch.cat([pool(joined[:count]), joined[count:]])
        return joined if augment is None else augment(joined)

    count = fake.shape[0]
    changed = None if pool is None and augment is None else prepared
    judged: Judgement = discriminator(layout, torch.cat([fake, real]), changed)
    return judged.part(0, count), judged.part(count, count)


def _judge_beside_constant(
    discriminator: nn.Module, layout: Layout, fake: Tensor, real: Tensor, augment: DrawnAugmentation | None
) -> tuple[Judgement, Judgement]:
    """As `_judge_pair`, to rounding, but nothing is kept for a backward pass through the real images.

    They get a pass of their own, unless the discriminator has batch norm, which must see all images together.
    """
    if any(isinstance(layer, _BatchNorm) for layer in discriminator.modules()):
        return _judge_pair(discriminator, layout, fake, real, augment)
    with torch.no_grad():
        judged_real = discriminator(layout, real, augment)
    with held_power_iteration(discriminator):  # one iteration for both, as in one pass
        return discriminator(layout, fake, augment), judged_real
