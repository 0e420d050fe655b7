"""Adapters of CC-FPSE: its networks, operations, losses and whole training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.discriminators import FeaturePyramidDiscriminator
from segscape.features import VGG19_CONVS, VGG19Features
from segscape.inference import accelerate
from segscape.labels import LabelSet
from segscape.layout import Layout, Size
from segscape.losses import (
    PerceptualLoss,
    discriminator_loss,
    generator_loss,
    kl_divergence,
)
from segscape.models.cc_fpse import CCFPSEGenerator, LabelPyramid
from segscape.models.conversion.cc_fpse import (
    BLOCK_KEYS,
    DISCRIMINATOR_KEYS,
    GENERATOR_KEYS,
    PYRAMID_KEYS,
    convert,
    discriminator_from_state,
)
from segscape.models.conversion.official import rename
from segscape.models.conversion.spade import ENCODER_KEYS, NORM_KEYS, encoder_state
from segscape.nn.conditional_convolution import CCBlock, MapSPADE, conditional_convolution
from segscape.nn.encoder import StyleEncoder
from segscape.style import Style, StyleDistribution
from segscape.training.recipe import Objective
from segscape.training.steps import (
    StyledGenerator,
    discriminator_step_losses,
    generate_fake,
    generator_step_losses,
)

from .losses import GAN_MODES
from .options import labels_of, layout_of_semantic_map
from .training import learning_rates, rates
from .vector import Vector, by_official_key

HIDDEN = 128
"""Width of the predictors in the files of single operations, whose metadata do not say it."""

LOSSES = {"GAN": "gan", "GAN_Feat": "feature_matching", "VGG": "perceptual", "KLD": "kl"}
"""Official name of a generator's loss -> ours."""


class SemanticLayout(Layout):
    """A layout whose semantic map is a given tensor, so that gradients reach it."""

    def __init__(self, semantic: Tensor, like: Layout) -> None:
        super().__init__(like.label_map, like.labels, edges=like._edges, check=False)
        self.semantic = semantic

    def semantic_map(self, size: Size | None = None, edges: bool = False) -> Tensor:
        return F.interpolate(self.semantic, size=self.size if size is None else size, mode="nearest")


def scaled(vector: Vector, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs as the file stores them."""
    scales = vector.config.get("scales", {})
    return {name: value * scales.get(name, 1) for name, value in found.items()}


def layout_of(vector: Vector) -> Layout:
    """The layout of `input.semantics`."""
    labels = labels_of(vector.config)
    layout = layout_of_semantic_map(vector.inputs["semantics"], labels.num_classes, None)
    return Layout(layout.label_map, labels, edges=layout._edges)


def generator(vector: Vector) -> dict[str, Tensor]:
    model = build_generator(vector.config, vector.state).train(vector.training)
    semantic, z = vector.leaf("semantics"), vector.leaf("z") if "z" in vector.inputs else None
    image = model(SemanticLayout(semantic, layout_of(vector)), None if z is None else Style(z))
    found = {"image": image}
    if "probe" in vector.inputs:
        (image * vector.inputs["probe"]).sum().backward()
        assert semantic.grad is not None
        found["grad_semantics"] = semantic.grad.sum((2, 3))
        found |= {} if z is None or z.grad is None else {"grad_z": z.grad}
    found |= gradients(vector, "grad_param.", model, GENERATOR_KEYS)
    return scaled(vector, found | by_official_key(vector, model, GENERATOR_KEYS))


def accelerated(vector: Vector) -> dict[str, Tensor]:
    """The image of the fast copy of an evaluation-mode generator."""
    model = accelerate(build_generator(vector.config, vector.state))
    style = Style(vector.inputs["z"]) if "z" in vector.inputs else None
    return {"image": model(layout_of(vector), style)}


def build_generator(
    config: dict[str, Any], state: dict[str, Tensor], encoder: dict[str, Tensor] | None = None
) -> CCFPSEGenerator:
    """A generator with official weights; what the converter infers must be what the metadata say."""
    doublings = 6 if config["dataset_mode"] == "cityscapes" else 5
    width = config["crop_size"] // 2**doublings
    size = (round(width / config["aspect_ratio"]) << doublings, width << doublings)
    if config["use_vae"] and encoder is None:
        own = StyleEncoder(config["ngf"], config["z_dim"]).state_dict()
        encoder = {key: own[name] for key, name in ENCODER_KEYS.items() if name in own and key[-9:] != ".0.weight"}
    model = convert(state, labels=labels_of(config), image_size=size, encoder=encoder)
    assert model.config.base_channels == config["ngf"]
    assert model.config.hidden_channels == config["nhidden"]
    assert model.config.size_multiple == 2**doublings
    assert model.config.use_instances is not config["no_instance"]
    assert model.config.latent_dim == (config["z_dim"] if config["use_vae"] else None)
    return model


def gradients(vector: Vector, prefix: str, module: nn.Module, keys: dict[str, str]) -> dict[str, Tensor]:
    """The gradients that the vector asks for under a prefix and official keys."""
    found = {f"{prefix}{key}": module.get_parameter(keys[key]).grad for key in vector.outputs_below(prefix)}
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def encoder(vector: Vector) -> dict[str, Tensor]:
    weights = encoder_state(vector.state)
    model = StyleEncoder(vector.config["ngf"], weights["mean.weight"].shape[0]).train(vector.training)
    model.load_state_dict(weights)
    mean, log_variance = model(vector.inputs["image"])
    z = StyleDistribution(Style(mean), log_variance).draw(vector.inputs["eps"]).values
    return {"mu": mean, "logvar": log_variance, "z": z} | by_official_key(vector, model, ENCODER_KEYS)


def discriminator(vector: Vector) -> dict[str, Tensor]:
    """By the way of indices, which the way of training, a semantic map joined with the image, must agree with."""
    model, layout, image = build_discriminator(vector.config, vector.state), layout_of(vector), vector.inputs["image"]
    judged = model.train(vector.training)(layout, image)
    buffers = by_official_key(vector, model, DISCRIMINATOR_KEYS)
    again = model.eval().judge(model.join(layout, image))  # with the singular vectors that the first one left
    for found, expected in zip(again.scores, judged.scores, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=vector.tolerances["pred0"])
    scores = {f"pred{i}": score for i, score in enumerate(judged.scores)}
    return scores | {f"feat{i}": feature for i, (feature,) in enumerate(judged.features)} | buffers


def build_discriminator(config: dict[str, Any], state: dict[str, Tensor]) -> FeaturePyramidDiscriminator:
    model = discriminator_from_state(state, labels=labels_of(config))
    assert model.instances is not config["no_instance"]
    return model


def label_pyramid(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    levels = sum(key.startswith("labelenc") and key.endswith("weight_orig") for key in vector.state)
    pyramid = LabelPyramid(config["semantic_nc"], config["ngf"], levels).train(vector.training)
    pyramid.load_state_dict(rename(vector.state, PYRAMID_KEYS))
    found = {f"segout{i + 1}": features for i, features in enumerate(pyramid(vector.inputs["semantics"]))}
    return found | by_official_key(vector, pyramid, PYRAMID_KEYS)


def block(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    module = CCBlock(config["fin"], config["fout"], config["seg_nc"], config.get("nhidden", HIDDEN))
    return conditioned(vector, module, BLOCK_KEYS, "seg")


def map_spade(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    module = MapSPADE(config["norm_nc"], config["seg_nc"], config.get("nhidden", HIDDEN))
    return conditioned(vector, module, NORM_KEYS, "segmap")


def conditioned(vector: Vector, module: nn.Module, keys: dict[str, str], conditions: str) -> dict[str, Tensor]:
    """A module of features and of a map that the official code first brings to their size."""
    module.load_state_dict(rename(vector.state, keys))
    x, given = vector.leaf("x"), vector.leaf(conditions)
    y = module.train(vector.training)(x, F.interpolate(given, size=x.shape[-2:], mode="nearest"))
    (y * vector.inputs["probe"]).sum().backward()
    assert x.grad is not None and given.grad is not None
    found = {"y": y, "grad_x": x.grad, f"grad_{conditions}": given.grad}
    found |= gradients(vector, "grad_param.", module, keys)
    return scaled(vector, found | by_official_key(vector, module, keys))


def convolution(vector: Vector) -> dict[str, Tensor]:
    x, weights = vector.leaf("x"), vector.leaf("weights")
    y = conditional_convolution(x, weights)
    (y * vector.inputs["probe"]).sum().backward()
    assert x.grad is not None and weights.grad is not None
    return scaled(vector, {"y": y, "grad_x": x.grad, "grad_weights": weights.grad})


def semantics(vector: Vector) -> dict[str, Tensor]:
    """Grey values are labels as they are, but 255, which is the unknown class; ADE20K is not shifted by one."""
    config, known = vector.config, vector.config["label_nc"]
    labels = LabelSet.numbered(known + 1, unknown=known, ignore_value=255)
    if not config["contain_dontcare_label"]:
        labels = LabelSet.numbered(known)
    label_map = torch.from_numpy(labels.map_ignore(vector.inputs["raw_label"].squeeze(1).long().numpy()))
    instances = vector.inputs["instance"].squeeze(1).long() if "instance" in vector.inputs else None
    layout = Layout(label_map, labels, instances)
    found = {"label": label_map.unsqueeze(1), "semantics": layout.semantic_map(edges=not config["no_instance"])}
    return found | ({} if instances is None else {"edges": layout.edges()})


def optimizer(vector: Vector) -> dict[str, Tensor]:
    """Steps of the optimisers that the training loop makes: Adam, by default with two rates and the betas (0, 0.9)."""
    config, found = vector.config, {}
    betas = (config["beta1"], config["beta2"]) if config["no_TTUR"] else (0.0, 0.9)
    for network, rate in zip("GD", rates(config), strict=True):
        parameter = nn.Parameter(vector.inputs["param"].clone())
        adam = torch.optim.Adam([parameter], lr=rate, betas=betas)
        for step in range(sum(name.startswith("grad") for name in vector.inputs)):
            parameter.grad = vector.inputs[f"grad{step}"]
            adam.step()
            found[f"param_{network}_step{step + 1}"] = parameter.detach().clone()
    return found


def gan(vector: Vector) -> dict[str, Tensor]:
    mode, count = GAN_MODES[vector.config["gan_mode"]], len(vector.inputs)
    found = {}
    for name in ("D_fake", "D_real", "G"):
        scores = [vector.leaf(f"pred{i}") for i in range(count)]
        loss = generator_loss(scores, mode) if name == "G" else discriminator_loss(scores, name == "D_real", mode)
        loss.backward()
        found[name] = loss
        found |= {f"grad_{name}.pred{i}": score.grad for i, score in enumerate(scores) if score.grad is not None}
    return scaled(vector, found)


def divergence(vector: Vector) -> dict[str, Tensor]:
    mean, log_variance = vector.leaf("mu"), vector.leaf("logvar")
    loss = vector.config["lambda_kld"] * kl_divergence(mean, log_variance)
    loss.backward()
    assert mean.grad is not None and log_variance.grad is not None
    return scaled(vector, {"loss": loss, "grad_mu": mean.grad, "grad_logvar": log_variance.grad})


def perceptual(vector: Vector) -> dict[str, Tensor]:
    x = vector.leaf("x")
    loss = vector.config["lambda_vgg"] * PerceptualLoss(vgg19(vector.state))(x, vector.inputs["y"])
    loss.backward()
    assert x.grad is not None
    return scaled(vector, {"loss": loss, "grad_x": x.grad})


def vgg19(state: dict[str, Tensor]) -> VGG19Features:
    """VGG-19 of any widths, from torchvision's keys."""
    network = VGG19Features()
    for place, index in enumerate(VGG19_CONVS):
        weight, bias = (_one(state, f"{index}.{name}") for name in ("weight", "bias"))
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        conv.load_state_dict({"weight": weight, "bias": bias})
        network.convs[place] = conv
    return network.requires_grad_(False)


def _one(state: dict[str, Tensor], ending: str) -> Tensor:
    (found,) = (value for key, value in state.items() if f".{key}".endswith(f".{ending}"))
    return found


def adversarial(vector: Vector) -> dict[str, Tensor]:
    """The generator's losses with the gradient of their sum, then the discriminator's; it stays in evaluation mode."""
    config = vector.config
    mode = GAN_MODES[config["gan_mode"]]
    model = build_discriminator(config, vector.state_of("D") or vector.state).train(vector.training)
    layout, fake, real = layout_of(vector), vector.leaf("fake"), vector.inputs["real"]
    objective = Objective(gan_mode=mode, feature_matching=config["lambda_feat"], perceptual=0)
    losses, _ = generator_step_losses(Given(fake), model, layout, real, objective=objective)
    torch.stack(list(losses.values())).sum().backward()
    assert fake.grad is not None
    found = {"GAN": losses["gan"], "GAN_Feat": losses["feature_matching"], "grad_fake": fake.grad}
    model.zero_grad()
    judged, _ = discriminator_step_losses(model, layout, real, fake, objective=objective)
    (judged["fake"] + judged["real"]).backward()
    found |= {"D_fake": judged["fake"], "D_real": judged["real"]}
    return scaled(vector, found | gradients(vector, "gradD.", model, DISCRIMINATOR_KEYS))


class Given(nn.Module):
    """A generator, as the steps call it, of a given image."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, *_: object) -> tuple[Tensor, dict[str, Tensor]]:
        return self.image, {}


def train_step(vector: Vector) -> dict[str, Tensor]:
    """One iteration: a generator step with its update, then a discriminator step on a fresh image."""
    config, image = vector.config, vector.inputs["image"]
    encoder = vector.state_of("E") if config["use_vae"] else None
    model = build_generator(config, vector.state_of("G"), encoder).train()
    judge = build_discriminator(config, vector.state_of("D")).train()
    styled, batch = StyledGenerator(model), {"layout": raw_layout(vector), "image": image}
    objective = Objective(
        gan_mode=GAN_MODES[config["gan_mode"]],
        feature_matching=config["lambda_feat"],
        perceptual=config["lambda_vgg"],
        kl=config["lambda_kld"],
        kl_samples="official",
    )
    losses, fake = generator_step_losses(
        styled,
        judge,
        **batch,
        objective=objective,
        perceptual=PerceptualLoss(vgg19(vector.state_of("vgg"))),
        noise=vector.inputs.get("eps_G"),
    )
    torch.stack(list(losses.values())).sum().backward()
    found = {f"loss.{name}": losses[ours] for name, ours in LOSSES.items() if ours in losses}
    found["fake"] = fake[..., ::4, ::4] if fake.shape[-1] == 256 else fake
    found |= gradient_lengths(vector, model)
    betas = (config["beta1"], config["beta2"]) if config["no_TTUR"] else (0.0, 0.9)
    torch.optim.Adam(model.parameters(), lr=rates(config)[0], betas=betas).step()
    judge.zero_grad()
    fresh = generate_fake(styled, **batch, noise=vector.inputs.get("eps_D"))
    judged, _ = discriminator_step_losses(judge, **batch, fake=fresh, objective=objective)
    (judged["fake"] + judged["real"]).backward()
    found |= {"loss.D_Fake": judged["fake"], "loss.D_real": judged["real"]}
    return scaled(vector, found | gradients(vector, "gradD.", judge, DISCRIMINATOR_KEYS))


def raw_layout(vector: Vector) -> Layout:
    """The layout of `input.label`, as stored by the official data set, and `input.instance`."""
    instance = vector.inputs.get("instance")
    return Layout(
        vector.inputs["label"].reshape(-1, *vector.inputs["image"].shape[-2:]).long(),
        labels_of(vector.config),
        None if instance is None else instance.squeeze(1).long(),
    )


def gradient_lengths(vector: Vector, model: CCFPSEGenerator) -> dict[str, Tensor]:
    """The logarithm of the length of the gradient of each official part that the metadata list."""
    networks: dict[str, tuple[str, dict[str, str]]] = {"G": ("", GENERATOR_KEYS), "E": ("encoder.", ENCODER_KEYS)}
    found = {}
    for network, (prefix, keys) in networks.items():
        if f"gradlog.{network}" not in vector.outputs:
            continue
        squares = []
        for part in vector.config[f"grad_modules_{network}"]:
            names = {f"{prefix}{name}" for key, name in keys.items() if key.startswith(f"{part}.")}
            own = [p.grad for name, p in model.named_parameters() if name in names and p.grad is not None]
            squares.append(torch.stack([gradient.square().sum() for gradient in own]).sum())
        found[f"gradlog.{network}"] = torch.stack(squares).log() / 2
    return found


ADAPTERS: dict[str, Callable[[Vector], dict[str, Tensor]]] = {
    "cc-fpse/generator/generator": generator,
    "cc-fpse/encoder/encoder": encoder,
    "cc-fpse/discriminator/discriminator": discriminator,
    "cc-fpse/op/label_pyramid": label_pyramid,
    "cc-fpse/op/cc_block": block,
    "cc-fpse/op/cond_conv": convolution,
    "cc-fpse/op/spade": map_spade,
    "cc-fpse/op/semantics": semantics,
    "cc-fpse/op/lr_schedule": learning_rates,
    "cc-fpse/op/optimizer": optimizer,
    "cc-fpse/loss/gan": gan,
    "cc-fpse/loss/kld": divergence,
    "cc-fpse/loss/vgg": perceptual,
    "cc-fpse/loss/adversarial": adversarial,
    "cc-fpse/loss/train_step": train_step,
}
"""system/network/kind -> adapter."""

FAST = {"cc-fpse/generator/generator": accelerated}
