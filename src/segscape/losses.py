"""The losses of the SPADE family: adversarial, feature matching, perceptual, Kullback-Leibler.

Source: Park et al., CVPR 2019, section 3 and appendix; Wang et al., CVPR 2018, equations 3 and 4; LabelMix:
Schönfeld et al., ICLR 2021; the gradient penalty: Mescheder et al., ICML 2018. Each function returns an unweighted
scalar; the weights (10, 10, 0.05) belong to the training objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GANMode = Literal["hinge", "least-squares", "original", "wasserstein"]

VGG19_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
"""Official weights of the differences at relu1_1, relu2_1, relu3_1, relu4_1, relu5_1."""

LITE0_WEIGHTS = (1 / 16, 1 / 16, 1 / 8, 1 / 8, 1 / 4)
"""Weights for EfficientNet-Lite0's five maps, such that each has a similar share between unrelated street photos."""


def _mean_over_scales(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean()


def _mean_distance(found: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference, in float32 or wider; no gradient flows into the target, and it is not kept for one."""
    kind = torch.promote_types(found.dtype, torch.float32)
    return (found - target.detach()).abs().mean(dtype=kind)


def discriminator_loss(scores: Sequence[Tensor], real: bool, mode: GANMode = "hinge") -> Tensor:
    """The discriminator's loss on images that are all real or all generated.

    Args:
        scores: one score map per scale, `[N, 1, h, w]`; averaged per scale, then over scales.
        real: what the images are.
        mode: `hinge` max(0, 1 -+ s), `least-squares` (s - target)^2, `original` cross-entropy on logits,
            `wasserstein` -+s.
    """
    one: dict[GANMode, Callable[[Tensor], Tensor]] = {
        "hinge": lambda s: F.relu(1 - s if real else 1 + s).mean(),
        "least-squares": lambda s: (s - float(real)).square().mean(),
        "original": lambda s: F.binary_cross_entropy_with_logits(s, torch.full_like(s, float(real))),
        "wasserstein": lambda s: (-s if real else s).mean(),
    }
    return _mean_over_scales([one[mode](score) for score in scores])


def generator_loss(scores: Sequence[Tensor], mode: GANMode = "hinge") -> Tensor:
    """The generator's adversarial loss on the scores of its images; with `hinge` it is -mean, without a margin."""
    if mode == "hinge":
        return _mean_over_scales([-score.mean() for score in scores])
    return discriminator_loss(scores, real=True, mode=mode)


def feature_matching_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of the discriminator's features, summed over each group, averaged over groups.

    Args:
        fake, real: `Judgement.features`; a multi-scale discriminator has one group per scale. Gradients flow into
            `fake`.
    """
    scales = [
        torch.stack([_mean_distance(f, r) for f, r in zip(fakes, reals, strict=True)]).sum()
        for fakes, reals in zip(fake, real, strict=True)
    ]
    return _mean_over_scales(scales)


def gradient_penalty(scores: Sequence[Tensor], image: Tensor) -> Tensor:
    """Half the squared length of the gradient of the scores with respect to the image: per place, averaged over scales.

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", ICML 2018 (R1, on real images),
    for one score per image. Here the scores of a map are added up, and the squared length is divided by their number:
    the mean over the places where these see different parts of the image, whatever its size.

    Args:
        scores: one score map per scale, `[N, 1, h, w]`.
        image: `[N, 3, H, W]` that requires a gradient and that the scores were computed from.
    """
    lengths = []
    for score in scores:
        (gradient,) = torch.autograd.grad(score.sum(), image, create_graph=True)
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        lengths.append(gradient.square().sum((1, 2, 3)).mean() / score[0].numel())
    return _mean_over_scales(lengths) / 2


def label_mix_loss(mixed: Sequence[Tensor], real: Sequence[Tensor], fake: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean squared difference between the scores of a mixed image and the mix of the scores, averaged over scales.

    Source: Schönfeld et al., ICLR 2021 (OASIS), whose discriminator scores every pixel.

    Args:
        mixed, real, fake: one score map per scale, `[N, C, h, w]`, of the mixed, real and generated images. Gradients
            flow into all three.
        mask: `[N, 1, H, W]` as of `discriminators.label_mix`; read at a score map's size by the `nearest` rule.
    """
    scales = []
    for mixed_scores, real_scores, fake_scores in zip(mixed, real, fake, strict=True):
        is_real = F.interpolate(mask, size=mixed_scores.shape[-2:], mode="nearest").bool()
        scales.append(F.mse_loss(mixed_scores, torch.where(is_real, real_scores, fake_scores)))
    return _mean_over_scales(scales)


def diversity_loss(image: Tensor, other: Tensor) -> Tensor:
    """Minus the mean absolute difference of images `[N, 3, H, W]` of one layout in two styles; none flows into `other`.

    CA2-SIS, official code: trains its mapping network from noise.
    """
    return -_mean_distance(image, other)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Divergence of N(mean, exp(log_variance)) from N(0, 1): the SUM over batch and dimensions (`[N, D]` each).

    So does the official code, on each GPU; `Objective.kl_samples` says what training makes of the sum.
    """
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()


class PerceptualLoss(nn.Module):
    """Weighted mean absolute differences of the features of a frozen network.

    Args:
        features: maps an image `[N, 3, H, W]` to a list of feature maps.
        weights: one per feature map; the default belongs to VGG-19 (relu1_1 to relu5_1).
    """

    def __init__(self, features: nn.Module, weights: Sequence[float] = VGG19_WEIGHTS) -> None:
        super().__init__()
        self.features = features
        self.weights = tuple(weights)

    def per_layer(self, fake: Tensor, real: Tensor) -> list[Tensor]:
        """The unweighted differences, one scalar per feature map; no gradient flows into `real`."""
        with torch.no_grad():
            targets = self.features(real)
        return [_mean_distance(found, target) for found, target in zip(self.features(fake), targets, strict=True)]

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """The weighted sum over feature maps."""
        layers = self.per_layer(fake, real)
        return torch.stack([w * loss for w, loss in zip(self.weights, layers, strict=True)]).sum()
