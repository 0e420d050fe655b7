"""Adapters of the losses."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segscape.features import VGG19_CONVS, VGG19Features
from segscape.losses import (
    GANMode,
    PerceptualLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    kl_divergence,
)
from segscape.style import Style, StyleDistribution

from .vector import Vector

GAN_MODES: dict[str, GANMode] = {
    "hinge": "hinge",
    "ls": "least-squares",
    "original": "original",
    "w": "wasserstein",
}


def adversarial(vector: Vector) -> dict[str, Tensor]:
    """Losses `D_fake`, `D_real`, `G` on score maps `pred{i}`, and `X.grad{i}`."""
    mode = GAN_MODES[vector.config["gan_mode"]]
    found = {}
    for name in ("D_fake", "D_real", "G"):
        scores = [vector.leaf(f"pred{i}") for i in range(vector.config["num_D"])]
        loss = generator_loss(scores, mode) if name == "G" else discriminator_loss(scores, name == "D_real", mode)
        loss.backward()
        found[name] = loss
        found |= {f"{name}.grad{i}": score.grad for i, score in enumerate(scores) if score.grad is not None}
    return found


def feature_matching(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    scales, layers = range(config["num_D"]), range(config["n_feat"])
    fake = [[vector.leaf(f"fake_{i}_{j}") for j in layers] for i in scales]
    real = [[vector.inputs[f"real_{i}_{j}"] for j in layers] for i in scales]
    loss = config["lambda_feat"] * feature_matching_loss([scale[:-1] for scale in fake], [scale[:-1] for scale in real])
    leaves = {f"grad_{i}_{j}": fake[i][j] for i in scales for j in layers}
    gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)  # 0 for the scores
    return {"GAN_Feat": loss} | dict(zip(leaves, gradients, strict=True))


def divergence(vector: Vector) -> dict[str, Tensor]:
    mean, log_variance = vector.leaf("mu"), vector.leaf("logvar")
    loss = kl_divergence(mean, log_variance)
    loss.backward()
    assert mean.grad is not None and log_variance.grad is not None
    return {
        "kld": loss,
        "z": StyleDistribution(Style(mean), log_variance).draw(vector.inputs["eps"]).values,
        "grad.mu": mean.grad,
        "grad.logvar": log_variance.grad,
    }


def perceptual(vector: Vector) -> dict[str, Tensor]:
    loss = PerceptualLoss(vgg19(vector))
    fake, real = vector.leaf("fake"), vector.inputs["real"]
    total = loss(fake, real)
    total.backward()
    assert fake.grad is not None
    with torch.no_grad():
        taps = loss.features(fake)
        per_layer = torch.stack(loss.per_layer(fake, real))
    return {
        "vgg": total,
        "grad.fake": fake.grad,
        "l1_per_layer": per_layer,
        "relu1_1.mean": taps[0].mean(),
        "relu5_1.mean": taps[-1].mean(),
    }


def vgg19(vector: Vector) -> VGG19Features:
    """VGG-19 with stored weights (`slice{k}.{torchvision index}.*`), or with weights generated from `weight_seed`."""
    network = VGG19Features(vector.config["width_divisor"])
    seed = vector.config.get("weight_seed")
    stored = {key.split(".", 1)[1]: value for key, value in vector.state.items()}
    for index, conv in zip(VGG19_CONVS, network.convs, strict=True):
        weights = (
            {name: stored[f"{index}.{name}"] for name in ("weight", "bias")}
            if seed is None
            else generated(100 * seed + index, tuple(conv.weight.shape))
        )
        conv.load_state_dict(weights)
    return network


def generated(seed: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
    scale = np.float32(np.sqrt(2 / (9 * shape[1])))
    weight = np.random.RandomState(seed).standard_normal(shape).astype(np.float32) * scale
    bias = np.random.RandomState(seed + 50).standard_normal(shape[:1]).astype(np.float32) * np.float32(0.1)
    return {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}
