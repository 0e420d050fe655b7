"""Whether generator and discriminator are a match for each other: what is measured in every step, and the warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from segscape.losses import GANMode

SATURATED: Final = 0.99
"""Output pixels beyond this (the ends are -1 and 1) count as saturated."""
HALF_LIFE_STEPS: Final = 100
"""Of the running means that warnings look at."""
ALWAYS_RIGHT: Final = 0.995
"""Running mean of the discriminator's right scores above which it has won."""
TOO_SATURATED: Final = 0.2
"""Running mean of the share of saturated pixels, beyond that of the photographs, above which there is a warning."""

WARNINGS: Final = {
    "won": (
        "warning: for some {steps} steps the discriminator has told real from generated nearly without a mistake "
        "({value:.1%} right), so it teaches little: lower optimizer.discriminator_lr, or set objective.r1 or "
        "discriminator_augmentation."
    ),
    "saturated": (
        "warning: for some {steps} steps {value:.0%} more of the generated pixels than of the photos' have been at the "
        "ends of their range: lower optimizer.generator_lr, or set optimizer.clip_norm."
    ),
}


def judgement(real: Sequence[Tensor], fake: Sequence[Tensor], mode: GANMode) -> dict[str, Tensor]:
    """What a discriminator thinks of real and generated images, as scalars without graph.

    Args:
        real, fake: one score map per scale, `[N, 1, h, w]`.
        mode: of the adversarial loss; it says from which score on an image is taken for real: 0, for `least-squares`
            0.5, for `wasserstein` the middle between the mean scores.

    Returns:
        `real_score` and `fake_score`, the mean scores; `real_right` and `fake_right`, the shares of scores on the right
        side; each is averaged over the places, then over the scales.
    """
    with torch.no_grad():
        real_score, fake_score = (_mean_over_scales(scores) for scores in (real, fake))
        border = (real_score + fake_score) / 2 if mode == "wasserstein" else 0.5 * (mode == "least-squares")
        return {
            "real_score": real_score,
            "fake_score": fake_score,
            "real_right": _mean_over_scales([(score > border).float() for score in real]),
            "fake_right": _mean_over_scales([(score < border).float() for score in fake]),
        }


def _mean_over_scales(scores: Sequence[Tensor]) -> Tensor:
    return torch.stack([score.float().mean() for score in scores]).mean()


def saturation(fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """The shares of values beyond `SATURATED`: `saturation` of generated and `photo_saturation` of real images."""
    shares = {"saturation": fake, "photo_saturation": real}
    return {name: (image.detach().abs() > SATURATED).float().mean() for name, image in shares.items()}


def clip_gradients(network: nn.Module, largest: float | None) -> Tensor:
    """The norm of all gradients of a network, which are then shortened to `largest` if that is given."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if largest is not None:
        torch.nn.utils.clip_grads_with_norm_(network.parameters(), largest, norm)
    return norm


class BalanceWatch:
    """Warns once each time that the discriminator wins outright, or the outputs saturate, for long.

    Part of the checkpoint, so that a resumed run does not repeat a warning.
    """

    def __init__(self) -> None:
        self.means: dict[str, float] = {}
        self.steps = 0
        self.warned: set[str] = set()

    def observe(self, values: dict[str, float]) -> list[str]:
        """Take note of a step's values, by the names under which they are logged; returns new warnings."""
        right = (values["discriminator/real_right"] + values["discriminator/fake_right"]) / 2
        self._average(
            {"won": right, "saturated": values["generator/saturation"] - values["generator/photo_saturation"]}
        )
        if self.steps < HALF_LIFE_STEPS:
            return []
        limits = {"won": ALWAYS_RIGHT, "saturated": TOO_SATURATED}
        high = {name for name, limit in limits.items() if self.means[name] > limit}
        new, self.warned = high - self.warned, high
        return [WARNINGS[name].format(steps=HALF_LIFE_STEPS, value=self.means[name]) for name in sorted(new)]

    def _average(self, values: dict[str, float]) -> None:
        """Running means with the half-life; early on, plain means over the steps so far."""
        self.steps += 1
        keep = min(0.5 ** (1 / HALF_LIFE_STEPS), 1 - 1 / self.steps)
        self.means = {name: keep * self.means.get(name, 0.0) + (1 - keep) * value for name, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        """The running means, and what has been warned of."""
        return {"means": self.means, "steps": self.steps, "warned": sorted(self.warned)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state over."""
        self.means, self.steps = dict(state_dict["means"]), state_dict["steps"]
        self.warned = set(state_dict["warned"])
