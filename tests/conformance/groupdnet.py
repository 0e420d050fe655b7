"""Adapters of GroupDNet: the network and its parts, losses, one training step, resampling of one class."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from segscape.discriminators import MultiScaleDiscriminator
from segscape.inference import accelerate
from segscape.labels import LabelSet
from segscape.layout import Layout, instance_edges
from segscape.losses import (
    PerceptualLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    kl_divergence,
)
from segscape.models.conversion.groupdnet import infer_config, recognises, weights
from segscape.models.conversion.official import rename
from segscape.models.conversion.spade import BLOCK_KEYS, ENCODER_KEYS, GENERATOR_KEYS, NORM_KEYS, encoder_state
from segscape.models.groupdnet import ClassEncoder, GroupDNet, Modulation, spade_options
from segscape.nn import CLADE, ConditionalNorm, ResidualBlock
from segscape.nn.class_images import class_images
from segscape.nn.group_spade import GroupSPADE
from segscape.style import Style
from segscape.training.recipe import Objective
from segscape.training.steps import (
    StyledGenerator,
    discriminator_step_losses,
    generate_fake,
    generator_step_losses,
)

from .losses import GAN_MODES
from .networks import build_discriminator, keys_of
from .options import image_size, labels_of, layout_of, norm_text
from .vector import Vector

MODULATIONS: dict[str, Modulation] = {
    "deepfashion": "by-group",
    "cityscapes": "by-class",
    "ade20k": "class-to-group",
}
"""Official `dataset_mode` (of a single norm: `data_mode`) -> ours."""


def generator(vector: Vector) -> dict[str, Tensor]:
    model = build_generator(vector.config, vector.state).train(vector.training)
    layout = layout_of(vector, labels_of(vector.config))
    z = vector.leaf("z")
    image = model(layout, style_of(z, model))
    if "cotangent" in vector.inputs:
        (image * vector.inputs["cotangent"]).sum().backward()
    return {"image": image} | gradient("grad.z", z) | _by_key(vector, model, GENERATOR_KEYS)


def accelerated(vector: Vector) -> dict[str, Tensor]:
    """The image of the fast copy of an evaluation-mode generator."""
    model = build_generator(vector.config, vector.state).eval()
    layout = layout_of(vector, labels_of(vector.config))
    return {"image": accelerate(model)(layout, style_of(vector.inputs["z"], model))}


def build_generator(
    config: dict[str, Any], state: dict[str, Tensor], encoder: dict[str, Tensor] | None = None
) -> GroupDNet:
    """A generator with official weights; the configuration that the converter infers must be the vector's."""
    assert recognises(state)
    inferred = infer_config(
        state,
        labels=labels_of(config),
        image_size=image_size(config),
        upsampling=config["num_upsampling_layers"],
        use_instances=not config["no_instance"],
        encoder=encoder,
    )
    assert list(inferred.groups) == config["groups"][:7]
    assert inferred.norm == ("clade" if config.get("norm_mode") == "clade" else "group-spade")
    assert inferred.use_instances is not config["no_instance"]
    assert inferred.norm == "clade" or inferred.modulation == MODULATIONS[config["dataset_mode"]]
    model = GroupDNet(inferred)
    own = encoder_state(encoder) if encoder else model.encoder.state_dict()
    model.load_weights(weights(state) | {f"encoder.{name}": value for name, value in own.items()}, "the vector")
    return model


def style_of(z: Tensor, model: GroupDNet) -> Style:
    """The codes in official noise `[N, 8 C, h, w]`."""
    return Style(z.reshape(z.shape[0], *model.config.style_shape))


def appearance_mix(vector: Vector) -> dict[str, Tensor]:
    """One image per new code of one class, the others' staying."""
    model, given = build_generator(vector.config, vector.state).eval(), Style(vector.inputs["z0"].flatten(2))
    layout, place = layout_of(vector, labels_of(vector.config)), vector.config["test_mask"]
    images = []
    for code in vector.inputs["z_new"]:
        drawn = Style(code.flatten(1).unsqueeze(1).expand_as(given.values))
        images.append(model(layout, given.replace_classes(drawn, [place])))
    assert len(images) == vector.config["times"]
    return {"images": torch.stack(images)}


def encoder(vector: Vector) -> dict[str, Tensor]:
    config, state = vector.config, encoder_state(vector.state)
    classes, layers = config["semantic_nc"], sum(name.endswith("weight_u") for name in state)
    assert layers == (6 if config["crop_size"] >= 256 else 5)
    model = ClassEncoder(classes, config["ndf_E"] // classes, layers).train(vector.training)
    model.load_state_dict(state)
    images = vector.leaf("class_images")
    mean, log_variance = model(images)
    return {"mu": mean, "logvar": log_variance} | _by_key(vector, model, ENCODER_KEYS)


def discriminator(vector: Vector) -> dict[str, Tensor]:
    model = build_discriminator(vector.config, vector.state).train(vector.training)
    image = vector.leaf("image")
    scores, features = model(layout_of(vector, labels_of(vector.config)), image)
    layers = [[*group, score] for group, score in zip(features, scores, strict=True)]
    if "grad.image" in vector.outputs:
        torch.stack([score.mean() for score in scores]).sum().backward()
    found = {f"feat_{i}_{j}": layer for i, scale in enumerate(layers) for j, layer in enumerate(scale)}
    return found | gradient("grad.image", image) | _by_key(vector, model, keys_of(vector.config))


def group_spade(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    classes = config["label_nc"]
    norm = GroupSPADE(
        config["norm_nc"],
        classes,
        instances=config["use_instance"],
        statistics=norm_text(config["config_text"])[1],
        **spade_options(MODULATIONS[config["data_mode"]], classes, config["group_num"]),
    )
    return _layer(vector, norm, NORM_KEYS, LabelSet.numbered(classes))


def clade_norm(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    norm = CLADE(config["norm_nc"], config["label_nc"], statistics=norm_text(config["config_text"])[1])
    found = _layer(vector, norm, NORM_KEYS, LabelSet.numbered(config["label_nc"]))
    return found | gradient("grad.weight", norm.gamma) | gradient("grad.bias", norm.beta)


def residual_block(vector: Vector) -> dict[str, Tensor]:
    config, labels = vector.config, labels_of(vector.config)
    spectral, statistics, _ = norm_text(config["norm_G"])
    groups, classes = config["group_num"], labels.num_classes
    norm: partial[ConditionalNorm] = partial(CLADE, num_classes=classes, statistics=statistics)
    if config.get("norm_mode") != "clade":
        norm = partial(
            GroupSPADE,
            num_classes=classes,
            instances=not config["no_instance"],
            statistics=statistics,
            **spade_options(MODULATIONS[config["dataset_mode"]], classes, groups),
        )
    block = ResidualBlock(config["fin"], config["fout"], norm, spectral=spectral, groups=groups)
    return _layer(vector, block, BLOCK_KEYS, labels)


def images_of_classes(vector: Vector) -> dict[str, Tensor]:
    layout = layout_of(vector, labels_of(vector.config))
    image = vector.inputs["image_u8"].float() / 127.5 - 1
    found = class_images(image, layout, layout.size)
    top, left, step = vector.config["sub"]
    return {"class_images_sub": found[:, :, top::step, left::step], "channel_means": found.mean((2, 3))}


def edges(vector: Vector) -> dict[str, Tensor]:
    return {"edge": instance_edges(vector.inputs["instance"].squeeze(1).long())}


def losses(vector: Vector) -> dict[str, Tensor]:
    """Both sides' losses on given features `fake_i_j` and `real_i_j`, the last of each scale being the scores."""
    config = vector.config
    scales, layers = range(config["num_D"]), range(config["n_feats"])
    mode, score = GAN_MODES[config["gan_mode"]], layers[-1]
    leaves = {name: vector.leaf(name) for name in vector.inputs if not name.startswith("real")}
    real = [[vector.inputs[f"real_{i}_{j}"] for j in layers] for i in scales]
    fake = [[leaves[f"fake_{i}_{j}"] for j in layers] for i in scales]
    of_generator = {
        "KLD": config["lambda_kld"] * kl_divergence(leaves["mu"], leaves["logvar"]),
        "GAN": generator_loss([scale[-1] for scale in fake], mode),
        "GAN_Feat": config["lambda_feat"]
        * feature_matching_loss([scale[:-1] for scale in fake], [scale[:-1] for scale in real]),
    }
    found = _summed("G", of_generator, {f"grad.{name}": leaf for name, leaf in leaves.items()})
    judged = {f"{kind}_{i}": vector.leaf(f"{kind}_{i}_{score}") for kind in ("fake", "real") for i in scales}
    of_discriminator = {
        "D_Fake": discriminator_loss([judged[f"fake_{i}"] for i in scales], real=False, mode=mode),
        "D_real": discriminator_loss([judged[f"real_{i}"] for i in scales], real=True, mode=mode),
    }
    return found | _summed("D", of_discriminator, {f"grad.{name}": leaf for name, leaf in judged.items()})


def _summed(side: str, losses: dict[str, Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    total = torch.stack(list(losses.values())).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    found = losses | {"total": total} | dict(zip(leaves, gradients, strict=True))
    return {f"{side}.{name}": value for name, value in found.items()}


def vgg_weighting(vector: Vector) -> dict[str, Tensor]:
    """The perceptual loss on given features of both images."""
    fake, real = ([vector.leaf(f"{kind}_{i}") for i in range(5)] for kind in ("fake", "real"))
    loss = vector.config["lambda_vgg"] * PerceptualLoss(nn.Identity())(fake, real)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(loss, fake)
    return {"loss": loss} | {f"grad.fake_{i}": gradient for i, gradient in enumerate(gradients)}


def train_step(vector: Vector) -> dict[str, Tensor]:
    """The losses of a generator step, then those of a discriminator step, without optimisers."""
    config, inputs = vector.config, vector.inputs
    assert config["no_vgg_loss"], "a step with a perceptual loss needs VGG weights, which vectors do not hold"
    model = build_generator(config, vector.state_of("G"), vector.state_of("E")).train()
    critic = build_discriminator(config, vector.state_of("D")).train()
    objective = Objective(
        gan_mode=GAN_MODES[config["gan_mode"]],
        feature_matching=0.0 if config["no_ganFeat_loss"] else config["lambda_feat"],
        kl=config["lambda_kld"],
        kl_samples="official",
    )
    batch = {"layout": layout_of(vector, labels_of(config)), "image": inputs["image_u8"].float() / 127.5 - 1}
    styled = StyledGenerator(model)
    noise = {side: style_of(inputs[f"eps_{side}"], model).values for side in ("G", "D")}
    of_generator, fake = generator_step_losses(styled, critic, **batch, objective=objective, noise=noise["G"])
    torch.stack(list(of_generator.values())).sum().backward()
    found = {"fake_sub4": fake[:, :, ::4, ::4]} | _gradients(vector, "G", model, critic)
    critic.zero_grad()
    again = generate_fake(styled, **batch, noise=noise["D"])
    of_discriminator, _ = discriminator_step_losses(critic, **batch, fake=again, objective=objective)
    torch.stack(list(of_discriminator.values())).sum().backward()
    found |= _gradients(vector, "D", model, critic) | _buffers(vector, model, critic)
    names = {"G.GAN": "gan", "G.GAN_Feat": "feature_matching", "G.KLD": "kl", "D.D_Fake": "fake", "D.D_real": "real"}
    every = of_generator | of_discriminator
    return found | {name: every[ours] for name, ours in names.items() if ours in every}


def _places(vector: Vector, model: GroupDNet, critic: MultiScaleDiscriminator) -> dict[str, tuple[nn.Module, str]]:
    """Official key with the prefix of its network -> the module and our name."""
    parts: list[tuple[str, nn.Module, dict[str, str]]] = [
        ("G", model, GENERATOR_KEYS),
        ("E", model.encoder, ENCODER_KEYS),
        ("D", critic, keys_of(vector.config)),
    ]
    return {f"{letter}.{key}": (part, name) for letter, part, keys in parts for key, name in keys.items()}


def _gradients(vector: Vector, side: str, model: GroupDNet, critic: MultiScaleDiscriminator) -> dict[str, Tensor]:
    found, places = {}, _places(vector, model, critic)
    for key in vector.outputs_below(f"{side}.grad."):
        part, name = places[key]
        found |= gradient(f"{side}.grad.{key}", part.get_parameter(name))
    return {name: value.clone() for name, value in found.items()}


def _buffers(vector: Vector, model: GroupDNet, critic: MultiScaleDiscriminator) -> dict[str, Tensor]:
    places = _places(vector, model, critic)
    return {f"after.{key}": places[key][0].get_buffer(places[key][1]) for key in vector.outputs_below("after.")}


def _layer(vector: Vector, layer: nn.Module, keys: dict[str, str], labels: LabelSet) -> dict[str, Tensor]:
    """Run `y = layer(x, layout)`, and backward from `sum(y * cotangent)`."""
    layer.load_state_dict(rename(vector.state, keys))
    layer.train(vector.training)
    x, layout = vector.leaf("x"), _layout(vector, labels)
    y = layer(x, layout)
    (y * vector.inputs["cotangent"]).sum().backward()
    return {"y": y} | gradient("grad.x", x) | _by_key(vector, layer, keys)


def _layout(vector: Vector, labels: LabelSet) -> Layout:
    return Layout(vector.inputs["label"].squeeze(1).long(), labels, edges=vector.inputs.get("edge"))


def gradient(name: str, leaf: Tensor) -> dict[str, Tensor]:
    """The gradient of a leaf under a name, if there is one."""
    return {} if leaf.grad is None else {name: leaf.grad}


def _by_key(vector: Vector, module: nn.Module, keys: dict[str, str]) -> dict[str, Tensor]:
    """The gradients and buffers of a module that the vector asks for, under its names."""
    found = {}
    for key in vector.outputs_below("grad."):
        if key in keys:
            found |= gradient(f"grad.{key}", module.get_parameter(keys[key]))
    for key in vector.outputs_below("after."):
        found[f"after.{key}"] = module.get_buffer(keys[key])
    return found


ADAPTERS = {
    "groupdnet/generator/generator": generator,
    "groupdnet/generator/appearance_mix": appearance_mix,
    "groupdnet/encoder/encoder": encoder,
    "groupdnet/discriminator/discriminator": discriminator,
    "groupdnet/op/group_spade": group_spade,
    "groupdnet/op/clade_norm": clade_norm,
    "groupdnet/op/group_resblock": residual_block,
    "groupdnet/op/class_images": images_of_classes,
    "groupdnet/op/edges": edges,
    "groupdnet/loss/losses": losses,
    "groupdnet/loss/vgg_weighting": vgg_weighting,
    "groupdnet/loss/train_step": train_step,
}
"""system/network/kind -> adapter."""

FAST = {"groupdnet/generator/generator": accelerated}
"""As `adapters.FAST`."""
