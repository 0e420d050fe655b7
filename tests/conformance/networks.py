"""Adapters of whole networks: generator, encoder, discriminator. Their weights come in through the converter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segscape.discriminators import MultiScaleDiscriminator
from segscape.inference import accelerate
from segscape.models.conversion.spade import (
    ENCODER_KEYS,
    GENERATOR_KEYS,
    discriminator_from_state,
    discriminator_keys,
    encoder_state,
    generator_state,
    infer_config,
)
from segscape.models.spade import SPADEGenerator, SPADEGeneratorConfig
from segscape.nn.encoder import StyleEncoder
from segscape.style import Style

from .options import image_size, labels_of, layout_of, norm_text
from .vector import Vector, by_official_key


def generator(vector: Vector) -> dict[str, Tensor]:
    model = build_generator(vector.config, vector.state).train(vector.training)
    layout = layout_of(vector, labels_of(vector.config), position_is_official=True)
    style = Style(vector.inputs["z"]) if "z" in vector.inputs else None
    image = model(layout, style)
    if "grad_output" in vector.inputs:
        (image * vector.inputs["grad_output"]).sum().backward()
    return {"image": image} | by_official_key(vector, model, GENERATOR_KEYS)


def accelerated(vector: Vector) -> dict[str, Tensor]:
    """The image of the fast copy of an evaluation-mode generator."""
    model = build_generator(vector.config, vector.state).eval()
    layout = layout_of(vector, labels_of(vector.config), position_is_official=True)
    return {"image": accelerate(model)(layout, Style(vector.inputs["z"]) if "z" in vector.inputs else None)}


def build_generator(
    config: dict[str, Any], state: dict[str, Tensor], encoder: dict[str, Tensor] | None = None
) -> SPADEGenerator:
    """A generator with official weights; the configuration that the converter infers must be the vector's."""
    inferred = infer_config(
        state,
        labels=labels_of(config),
        image_size=image_size(config),
        upsampling=config["num_upsampling_layers"],
    )
    check_inferred(inferred, config)
    model = SPADEGenerator(inferred)
    weights = generator_state(state)
    if model.encoder is not None:
        own = encoder_state(encoder) if encoder else model.encoder.state_dict()
        weights |= {f"encoder.{name}": value for name, value in own.items()}
    model.load_weights(weights, "the vector")
    return model


def check_inferred(inferred: SPADEGeneratorConfig, config: dict[str, Any]) -> None:
    spectral, statistics, kernel_size = norm_text(config["norm_G"])
    spade_blocks = config.get("spade_blocks", 0 if config["norm_mode"] == "clade" else 8)
    norms = inferred.block_norms
    assert inferred.base_channels == config["ngf"]
    assert norms == tuple("spade" if i < spade_blocks else "clade" for i in range(len(norms)))
    assert inferred.use_instances is not config["no_instance"]
    assert inferred.position == ("modulation" if config["add_dist"] else None)
    assert inferred.latent_dim == (config["z_dim"] if config["use_vae"] else None)
    assert inferred.spectral_norm is spectral
    assert (inferred.statistics == "instance") is (statistics == "instance")
    assert inferred.kernel_size == kernel_size or "spade" not in norms


def encoder(vector: Vector) -> dict[str, Tensor]:
    weights = encoder_state(vector.state)
    model = StyleEncoder(vector.config["ngf"], weights["mean.weight"].shape[0]).train(vector.training)
    model.load_state_dict(weights)
    mean, log_variance = model(vector.inputs["image"])
    return {"mu": mean, "logvar": log_variance} | by_official_key(vector, model, ENCODER_KEYS)


def discriminator(vector: Vector) -> dict[str, Tensor]:
    model = build_discriminator(vector.config, vector.state).train(vector.training)
    x = vector.leaf("x")
    judged = model.judge(x)
    scales = [[*features, score] for features, score in zip(judged.features, judged.scores, strict=True)]
    found = {f"d{i}.f{j}": output for i, outputs in enumerate(scales) for j, output in enumerate(outputs)}
    if vector.outputs_below("grad."):
        scores = [score.flatten() for score in judged.scores]
        torch.stack([(s * torch.arange(s.numel()).float().cos()).sum() for s in scores]).sum().backward()
        assert x.grad is not None
        found["grad.x"] = x.grad
    return found | by_official_key(vector, model, keys_of(vector.config))


def build_discriminator(config: dict[str, Any], state: dict[str, Tensor]) -> MultiScaleDiscriminator:
    """A discriminator with official weights; scales and layers must be the vector's."""
    model = discriminator_from_state(state, labels=labels_of(config))
    assert model.instances is not config["no_instance"]
    assert len(model.scales) == config["num_D"]
    assert all(len(scale.convs) == config["n_layers_D"] + 1 for scale in model.scales)
    return model


def keys_of(config: dict[str, Any]) -> dict[str, str]:
    return discriminator_keys(config["num_D"], config["n_layers_D"])
