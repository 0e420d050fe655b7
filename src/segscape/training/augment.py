"""Augmentation of what the discriminator sees, so that it cannot learn a small set of photographs by heart.

Photographs and generated images are changed alike, in a way that gradients pass, so that the generator does not learn
the changes (Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020, section 3).
What moves or covers the image does the same to its layout, as this discriminator judges whether the two fit. The
strength may follow how often the discriminator is sure of photographs (Karras et al., "Training Generative Adversarial
Networks with Limited Data", NeurIPS 2020, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from segscape.training.recipe import DiscriminatorAugmentation

LARGEST_SHIFT: Final = 1 / 8
"""Of height and width."""
HOLE: Final = 1 / 2
"""Height and width of the hole, as shares of the image's; its centre may lie anywhere in the image."""
STEPS_PER_CHANGE: Final = 4
"""The probability is changed every so many steps."""

_STREAM = 0x617567  # keeps these draws apart from those of the data, which come from the same seed and numbers
Array = NDArray[np.float64]


@dataclass(frozen=True)
class DrawnAugmentation:
    """What is done to each of N pairs; a callable for `MultiScaleDiscriminator.forward`.

    Attributes:
        color: `[N, 3]`: brightness to add, factor on the saturation, factor on the contrast; `(0, 1, 1)` for nothing.
        shift: `[N, 2]`: down and to the right, as shares of height and width.
        hole: `[N, 2]`: its centre, as shares of height and width; -1 for no hole.
    """

    color: Array
    shift: Array
    hole: Array

    def __call__(self, joined: Tensor) -> Tensor:
        """Change layouts and images `[k * N, S + 3, H, W]`, the image in the last 3 channels; zeros fill gaps."""
        times = joined.shape[0] // len(self.color)
        color, shift, hole = (np.tile(drawn, (times, 1)) for drawn in (self.color, self.shift, self.hole))
        x = torch.cat([joined[:, :-3], _recolor(joined[:, -3:], color)], dim=1)
        return _cover(_move(x, shift), hole)


def _recolor(image: Tensor, color: Array) -> Tensor:
    if np.array_equal(color, np.tile([0.0, 1.0, 1.0], (len(color), 1))):
        return image
    brightness, saturation, contrast = torch.from_numpy(color).to(image).view(-1, 3, 1, 1, 1).unbind(1)
    image = image + brightness
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * saturation
    mean = image.mean((1, 2, 3), keepdim=True)
    return mean + (image - mean) * contrast


def _move(x: Tensor, shift: Array) -> Tensor:
    pixels = np.rint(shift * np.array(x.shape[-2:])).astype(int)
    if not pixels.any():
        return x
    moved = [F.pad(one, (right, -right, down, -down)) for one, (down, right) in zip(x, pixels.tolist(), strict=True)]
    return torch.stack(moved)


def _cover(x: Tensor, hole: Array) -> Tensor:
    if (hole < 0).all():
        return x
    height, width = x.shape[-2:]
    rows, columns = (
        np.abs((np.arange(length) + 0.5) / length - hole[:, axis : axis + 1]) < HOLE / 2
        for axis, length in enumerate((height, width))
    )
    covered = rows[:, :, None] & columns[:, None, :] & (hole[:, :1, None] >= 0)
    return x * torch.from_numpy(~covered[:, None]).to(x)


class AdaptiveAugmentation:
    """Draws the augmentation of each pair by its number in the run, and steers how much of it there is.

    Part of the checkpoint, so that a resumed run is the run.

    Args:
        section: kinds, probability and target; None for no augmentation.
        seed: of the run.

    Attributes:
        probability: of each kind for each pair.
    """

    def __init__(self, section: DiscriminatorAugmentation | None, seed: int) -> None:
        self.section, self.seed = section, seed
        self.probability = 0.0 if section is None else section.start
        self.sign_sum, self.steps = 0.0, 0

    def draw(self, numbers: Sequence[int]) -> DrawnAugmentation | None:
        """The augmentation of the pairs with these numbers: a function of seed, number and probability.

        None if the probability is 0.
        """
        if self.section is None or not self.probability:
            return None
        pairs = [self._draw_one(number, self.section.kinds) for number in numbers]
        color, shift, hole = (np.stack(column) for column in zip(*pairs, strict=True))
        return DrawnAugmentation(color, shift, hole)

    def _draw_one(self, number: int, kinds: Sequence[str]) -> tuple[Array, Array, Array]:
        random = np.random.default_rng([self.seed, number, _STREAM])
        coins = dict(zip(("color", "translation", "cutout"), random.random(3), strict=True))
        color = random.uniform([-0.5, 0.0, 0.5], [0.5, 2.0, 1.5])
        shift = random.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 2)
        hole = random.random(2)
        happens = {kind: kind in kinds and coin < self.probability for kind, coin in coins.items()}
        return (
            color if happens["color"] else np.array([0.0, 1.0, 1.0]),
            shift if happens["translation"] else np.zeros(2),
            hole if happens["cutout"] else np.full(2, -1.0),
        )

    def observe(self, real_right: float, batch_size: int) -> dict[str, float]:
        """Take note of a step of `batch_size` images: the share of the scores of photos on the side of photos.

        Returns the probability as a metric, if there is augmentation.
        """
        if self.section is None:
            return {}
        if self.section.target is not None:
            self._steer(real_right, batch_size, self.section.target, self.section.ramp_images)
        return {"discriminator/augmentation": self.probability}

    def _steer(self, real_right: float, batch_size: int, target: float, ramp_images: int) -> None:
        self.sign_sum += 2 * real_right - 1
        self.steps += 1
        if self.steps < STEPS_PER_CHANGE:
            return
        direction = float(np.sign(self.sign_sum / self.steps - target))
        change = direction * self.steps * batch_size / ramp_images
        self.probability = min(1.0, max(0.0, self.probability + change))
        self.sign_sum, self.steps = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Probability, and what was observed since its last change."""
        return {"probability": self.probability, "sign_sum": self.sign_sum, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state over."""
        self.probability = state_dict["probability"]
        self.sign_sum, self.steps = state_dict["sign_sum"], state_dict["steps"]
