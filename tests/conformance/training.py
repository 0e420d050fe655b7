"""Adapters of training: learning rates, one step, a few iterations."""

from __future__ import annotations

import torch
from torch import Tensor

from segscape.discriminators import MultiScaleDiscriminator
from segscape.layout import Layout
from segscape.models.conversion.spade import ENCODER_KEYS, GENERATOR_KEYS
from segscape.models.spade import SPADEGenerator
from segscape.training.recipe import Objective
from segscape.training.schedule import linear_decay
from segscape.training.steps import (
    StyledGenerator,
    discriminator_step_losses,
    generate_fake,
    generator_step_losses,
)

from .losses import GAN_MODES
from .networks import build_discriminator, build_generator, keys_of
from .options import labels_of, layout_of
from .vector import Vector, by_official_key

LOSSES = {"GAN": "gan", "GAN_Feat": "feature_matching", "KLD": "kl", "D_Fake": "fake", "D_real": "real"}
"""Official name of a loss -> ours."""


def learning_rates(vector: Vector) -> dict[str, Tensor]:
    """The rates of each epoch; with two time scales the generator's is halved and the discriminator's doubled."""
    config = vector.config
    constant, decay = config["niter"], config["niter_decay"]
    completed = range(constant + decay)  # epochs when an epoch starts
    factors = torch.tensor([linear_decay(e, constant, decay) for e in completed], dtype=torch.float64)
    generator, discriminator = rates(config)
    return {"lr_G": generator * factors, "lr_D": discriminator * factors}


def rates(config: dict[str, float]) -> tuple[float, float]:
    return (config["lr"], config["lr"]) if config.get("no_TTUR") else (config["lr"] / 2, config["lr"] * 2)


def step(vector: Vector) -> dict[str, Tensor]:
    """One step without optimiser: its weighted losses and the gradients of their sum."""
    setting = _Setting(vector)
    losses, fake = setting.losses(vector.config["which"])
    torch.stack(list(losses.values())).sum().backward()
    found = {f"loss.{name}": losses[ours] for name, ours in LOSSES.items() if ours in losses}
    return found | ({} if fake is None else {"fake": fake}) | setting.gradients_and_buffers(vector)


def trajectory(vector: Vector) -> dict[str, Tensor]:
    """Iterations on one batch: a generator step, then a discriminator step with a fresh fake image."""
    setting, config = _Setting(vector), vector.config
    networks = {"generator": setting.generator, "discriminator": setting.discriminator}
    betas = (config["beta1"], config["beta2"])
    optimizers = {
        which: torch.optim.Adam(network.parameters(), lr=rate, betas=betas)
        for (which, network), rate in zip(networks.items(), rates(config), strict=True)
    }
    history: dict[str, list[Tensor]] = {}
    for _ in range(config["iterations"]):
        for which, optimizer in optimizers.items():
            losses, _ = setting.losses(which)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            for ours, loss in losses.items():
                history.setdefault(ours, []).append(loss.detach())
    return {f"loss.{name}": torch.stack(history[ours]) for name, ours in LOSSES.items() if ours in history}


class _Setting:
    """Generator (with encoder), discriminator, batch and objective of a vector; both networks in train mode."""

    generator: SPADEGenerator
    discriminator: MultiScaleDiscriminator
    layout: Layout

    def __init__(self, vector: Vector) -> None:
        config = vector.config
        assert config["no_vgg_loss"], "a step with a perceptual loss needs VGG weights, which vectors do not hold"
        self.generator = build_generator(config, vector.state_of("G"), vector.state_of("E")).train()
        self.discriminator = build_discriminator(config, vector.state_of("D")).train()
        self.layout = layout_of(vector, labels_of(config))
        inputs = vector.inputs
        self.image = inputs["image"] if "image" in inputs else inputs["image_u8"].float() / 127.5 - 1
        self.noise = inputs.get("eps")
        self.objective = Objective(
            gan_mode=GAN_MODES[config["gan_mode"]],
            feature_matching=0.0 if config["no_ganFeat_loss"] else config["lambda_feat"],
            kl=config["lambda_kld"],
            kl_samples="official",
        )

    def losses(self, which: str) -> tuple[dict[str, Tensor], Tensor | None]:
        """The weighted losses of a step of `generator` or `discriminator`, and the image of the former."""
        styled = StyledGenerator(self.generator)
        batch = {"layout": self.layout, "image": self.image}
        if which == "discriminator":
            fake = generate_fake(styled, **batch, noise=self.noise)
            losses, _ = discriminator_step_losses(self.discriminator, **batch, fake=fake, objective=self.objective)
            return losses, None
        return generator_step_losses(styled, self.discriminator, **batch, objective=self.objective, noise=self.noise)

    def gradients_and_buffers(self, vector: Vector) -> dict[str, Tensor]:
        found = by_official_key(vector, self.generator, GENERATOR_KEYS, "G.")
        found |= by_official_key(vector, self.discriminator, keys_of(vector.config), "D.")
        if self.generator.encoder is not None:
            found |= by_official_key(vector, self.generator.encoder, ENCODER_KEYS, "E.")
        return found
