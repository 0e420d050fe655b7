"""Adapters of SEAN, and of SEAN-CLADE in the reading of the vectors: nothing official is published of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.discriminators import MultiScaleDiscriminator
from segscape.inference import accelerate, draw_rectangle, draw_stroke, fill_region
from segscape.labels import LabelSet
from segscape.layout import Layout, instance_edges
from segscape.losses import PerceptualLoss, discriminator_loss, generator_loss
from segscape.models.conversion.official import rename
from segscape.models.conversion.sean import BLOCK_KEYS, ENCODER_KEYS, GENERATOR_KEYS, NORM_KEYS, convert, joined
from segscape.models.conversion.spade import BLOCKS, discriminator_from_state, discriminator_keys
from segscape.models.sean import RegionStyleEncoder, SEANGenerator, SEANGeneratorConfig
from segscape.nn.clade import CLADE
from segscape.nn.noise import AddedNoise
from segscape.nn.residual import ResidualBlock
from segscape.nn.sean import ACE
from segscape.nn.spade import SPADE
from segscape.style import Style
from segscape.training.recipe import Objective
from segscape.training.steps import (
    StyledGenerator,
    discriminator_step_losses,
    generate_fake,
    generator_step_losses,
)

from . import data
from .dagan import OFFICIAL
from .losses import GAN_MODES
from .options import image_size
from .training import rates
from .vector import Vector

TABLES = {"Spade.weight": "layout_norm.gamma", "Spade.bias": "layout_norm.beta"}
"""SEAN-CLADE's tables, for which there are no official keys."""

NORMS = {f"ACE_{part}": f"norm_{part}" for part in "01s"}
"""How the vectors call the noise of a block's norms -> our norm."""


def keys_of(table: dict[str, str], clade: bool) -> dict[str, str]:
    """A table of the converter, with the tables of SEAN-CLADE in place of SPADE."""
    if not clade:
        return table
    norms = {official.removesuffix("noise_var"): ours.removesuffix("noise.weight") for official, ours in table.items()
             if official.endswith("noise_var")}  # fmt: skip
    return table | {a + key: b + name for a, b in norms.items() for key, name in TABLES.items()}


def weights_of(state: dict[str, Tensor], table: dict[str, str], config: dict[str, Any]) -> dict[str, Tensor]:
    """Official weights under our names. The vectors' tables lack the `1 +` that is in ours, as in CLADE's own."""
    clade = config.get("clade", False)
    ours = rename(joined(state, config["semantic_nc"]), keys_of(table, clade))
    return {name: value + clade if name.endswith("layout_norm.gamma") else value for name, value in ours.items()}


def labels_of(config: dict[str, Any]) -> LabelSet:
    return LabelSet.numbered(config["label_nc"])


def uses_instances(config: dict[str, Any]) -> bool:
    return bool(config["semantic_nc"] > config["label_nc"])


def layout_of(vector: Vector, config: dict[str, Any] | None = None) -> Layout:
    instance = vector.inputs.get("instance")
    labels = labels_of(config or vector.config)
    return Layout(vector.inputs["label"].long(), labels, None if instance is None else instance.long())


@contextmanager
def given_noise(layers: dict[str, AddedNoise], inputs: dict[str, Tensor], prefix: str) -> Iterator[None]:
    """A block in which layers add the noise of a vector instead of drawing it."""
    for name, layer in layers.items():
        noise = inputs[f"{prefix}{name}"]
        layer.draw = lambda x, noise=noise: noise  # type: ignore[method-assign, misc]
    yield
    for layer in layers.values():
        del layer.draw  # type: ignore[method-assign]


def noises_of(block: nn.Module) -> dict[str, AddedNoise]:
    """The noise of a residual block's norms by the vectors' names."""
    norms = {name: getattr(block, ours, None) for name, ours in NORMS.items()}
    return {name: norm.noise for name, norm in norms.items() if norm is not None}


def noises_of_generator(model: SEANGenerator) -> dict[str, AddedNoise]:
    found = {}
    for name, block in zip(BLOCKS, model.blocks, strict=False):
        found |= {f"{name}_{norm}": noise for norm, noise in noises_of(block).items()}
    return found


def make_norm(config: dict[str, Any], channels: int) -> ACE:
    common: dict[str, Any] = {"num_classes": config["label_nc"]}
    layout_norm = (
        CLADE(channels, **common)
        if config.get("clade")
        else SPADE(channels, instances=uses_instances(config), **common)
    )
    return ACE(
        layout_norm,
        config["semantic_nc"],
        config["style_length"],
        instances=uses_instances(config),
        styled=config["use_rgb"],
    )


def ace(vector: Vector) -> dict[str, Tensor]:
    """One norm, by both of its paths; gradients are those of `sum(y * grad_weight)`."""
    config = vector.config
    norm = make_norm(config, config["norm_nc"])
    norm.load_state_dict(weights_of(vector.state, NORM_KEYS, config))
    norm.train(vector.training)
    with given_noise({"ACE": norm.noise}, vector.inputs, "noise."):
        if norm.style is not None:
            norm.style.path = "dense"
            dense = _run(vector, norm.eval() if not vector.training else norm)
            norm.style.path = "classes"
            norm.load_state_dict(weights_of(vector.state, NORM_KEYS, config))
            norm.zero_grad()
        found = _run(vector, norm)
    if norm.style is not None:
        for name, value in found.items():
            torch.testing.assert_close(dense[name], value, rtol=0, atol=vector.tolerances[name])
    return found


def _run(vector: Vector, norm: ACE) -> dict[str, Tensor]:
    inputs = {name: vector.leaf(name) for name in ("x", "style_codes") if name in vector.inputs}
    style = Style(inputs["style_codes"]) if "style_codes" in inputs else None
    y = norm(inputs["x"], layout_of(vector), style)
    found = {"y": y.detach()}
    if "grad_weight" in vector.inputs:
        (y * vector.inputs["grad_weight"]).sum().backward()
        found |= {f"grad.{name}": leaf.grad for name, leaf in inputs.items() if leaf.grad is not None}
    return found | _results(vector, norm, keys_of(NORM_KEYS, vector.config.get("clade", False)))


def _results(
    vector: Vector, module: nn.Module, keys: dict[str, str], grad: str = "grad.", after: str = "after."
) -> dict[str, Tensor]:
    """The gradients and what became of parameters and buffers, as far as the vector has them, by official key."""
    found = {}
    for name in vector.outputs:
        for prefix in (grad, after):
            key = name.removeprefix(prefix)
            value = _value(module, keys, key, prefix == grad) if name.startswith(prefix) else None
            if value is not None:
                found[name] = value.detach().clone()
    return found


def _value(module: nn.Module, keys: dict[str, str], key: str, gradient: bool) -> Tensor | None:
    head, layer, tail = key.rpartition("fc_mu")
    number, _, rest = tail.partition(".")
    name = keys.get(f"{head}fc_mu.{rest}" if layer else key)
    if name is None:
        return None
    value = module.get_parameter(name).grad if gradient else module.state_dict()[name]
    return value[int(number)] if layer and value is not None else value


def residual_block(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    block = ResidualBlock(config["fin"], config["fout"], partial(make_norm, config))
    block.load_state_dict(weights_of(vector.state, BLOCK_KEYS, config))
    block.train(vector.training)
    x = vector.leaf("x")
    style = Style(vector.leaf("style_codes")) if "style_codes" in vector.inputs else None
    with given_noise(noises_of(block), vector.inputs, "noise.block_"):
        y = block(x, layout_of(vector), style)
    if "grad_weight" not in vector.inputs:
        return {"y": y}
    (y * vector.inputs["grad_weight"]).sum().backward()
    found = {"y": y, "grad.x": x.grad}
    if style is not None and style.values.grad is not None:
        found["grad.style_codes"] = style.values.grad
    return {name: value for name, value in found.items() if value is not None} | _results(
        vector, block, keys_of(BLOCK_KEYS, config.get("clade", False))
    )


def build(config: dict[str, Any], state: dict[str, Tensor]) -> SEANGenerator:
    """A generator with official weights; what the converter infers must be the vector's configuration."""
    size = image_size({"aspect_ratio": 1.0} | config)
    if not config.get("clade"):
        model = convert(state, labels=labels_of(config), image_size=size, upsampling=config["num_upsampling_layers"])
        found = model.config
        assert found.base_channels == config["ngf"] and found.use_instances is uses_instances(config)
        assert (found.style_dim, found.encoder_channels) == (config["style_length"], config["zenc_ngf"])
        return model
    model = SEANGenerator(
        SEANGeneratorConfig.build(
            labels=labels_of(config),
            image_size=size,
            base_channels=config["ngf"],
            style_dim=config["style_length"],
            encoder_channels=config["zenc_ngf"],
            upsampling=config["num_upsampling_layers"],
            use_instances=uses_instances(config),
            norm="clade",
        )
    )
    own = {name: getattr(model, name) for name in ("mean_codes", "code_counts")}
    model.load_weights(weights_of(state, GENERATOR_KEYS, config) | own, "the vector")
    return model.eval()


def generator(vector: Vector) -> dict[str, Tensor]:
    """Style, image, and the output `feat.*` of each block."""
    model, layout = build(vector.config, vector.state).train(vector.training), layout_of(vector)
    found: dict[str, Tensor] = {}
    for name, block in zip(BLOCKS, model.blocks, strict=False):
        block.register_forward_hook(lambda *call, name=name: found.update({f"feat.{name}": call[2]}))
    style = model.encode(vector.inputs["style_image"], layout).mean
    with given_noise(noises_of_generator(model), vector.inputs, "noise."):
        image = model(layout, style)
    if "grad_weight" in vector.inputs:
        (image * vector.inputs["grad_weight"]).sum().backward()
    found |= {"style_codes": style.values, "image": image}
    return found | _results(vector, model, keys_of(GENERATOR_KEYS, vector.config.get("clade", False)))


def accelerated(vector: Vector) -> dict[str, Tensor]:
    model, layout = build(vector.config, vector.state), layout_of(vector)
    with given_noise(noises_of_generator(model), vector.inputs, "noise."):
        fast = accelerate(model)  # with the noise, as copies have it
        return {"image": fast(layout, fast.encode(vector.inputs["style_image"], layout).mean)}


def encoder(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    model = RegionStyleEncoder(config["zenc_ngf"], config["style_length"])
    model.load_state_dict(rename(vector.state, ENCODER_KEYS))
    image = vector.leaf("style_image")
    style = model(image, layout_of(vector), uses_instances(config))
    assert style.present is not None
    assert torch.equal(style.present, (vector.outputs["style_codes"] != 0).any(2)), "other classes are present"
    found = {"style_codes": style.values, "features": model.features(image)}
    if "grad_weight" in vector.inputs:
        (style.values * vector.inputs["grad_weight"]).sum().backward()
        assert image.grad is not None
        found["grad.style_image"] = image.grad
    return found | _results(vector, model, ENCODER_KEYS)


def build_discriminator(config: dict[str, Any], state: dict[str, Tensor]) -> MultiScaleDiscriminator:
    model = discriminator_from_state(state, labels=labels_of(config), last_stride=2)
    assert model.instances is uses_instances(config)
    assert len(model.scales) == config["num_D"]
    assert all(len(scale.convs) == config["n_layers_D"] + 1 for scale in model.scales)
    return model


def discriminator(vector: Vector) -> dict[str, Tensor]:
    model = build_discriminator(vector.config, vector.state).train(vector.training)
    image = vector.leaf("image")
    judged = model(layout_of(vector), image)
    outputs = [[*group, score] for group, score in zip(judged.features, judged.scores, strict=True)]
    return {f"d{i}.{j}": output for i, scale in enumerate(outputs) for j, output in enumerate(scale)}


def iteration(vector: Vector) -> dict[str, Tensor]:
    """A generator step, then a discriminator step with a new fake, each with its own noise and its Adam."""
    config, layout, image = vector.config, layout_of(vector), vector.inputs["image"]
    model = build(config, vector.state_of("netG")).train()
    judge = build_discriminator(config, vector.state_of("netD")).train()
    styled, weights = StyledGenerator(model), Objective(perceptual=0)
    pace = rates(config)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=rate, betas=(0.0, 0.9))
        for network, rate in zip((model, judge), pace, strict=True)
    ]
    with given_noise(noises_of_generator(model), vector.inputs, "noise_g."):
        terms, fake = generator_step_losses(styled, judge, layout, image, objective=weights)
    torch.stack(list(terms.values())).sum().backward()
    keys, judge_keys = (
        keys_of(GENERATOR_KEYS, config.get("clade", False)),
        discriminator_keys(config["num_D"], config["n_layers_D"]),
    )
    found = {"fake_image": fake, "lr": torch.tensor(pace)} | _results(vector, model, keys, "grad_G.", "none.")
    optimizers[0].step()
    with given_noise(noises_of_generator(model), vector.inputs, "noise_d."):
        fresh = generate_fake(styled, layout, image, None)
    judge.zero_grad()
    judged, _ = discriminator_step_losses(judge, layout, image, fresh, objective=weights)
    torch.stack(list(judged.values())).sum().backward()
    found |= _results(vector, judge, judge_keys, "grad_D.", "none.")
    optimizers[1].step()
    found |= {f"loss.{OFFICIAL[name]}": loss for name, loss in (terms | judged).items()}
    found |= _results(vector, model, keys, "none.", "after.netG.")
    return found | _results(vector, judge, judge_keys, "none.", "after.netD.")


def published_keys(vector: Vector) -> dict[str, Tensor]:
    """The official names and shapes of a published model: the converter must take them all."""
    config = vector.config
    with torch.device("meta"):
        states = {
            network: {
                key: torch.empty(shape, dtype=getattr(torch, kind))
                for key, shape, kind in json.loads(vector.metadata[f"{network}_state_dict"])
            }
            for network in ("generator", "discriminator")
        }
        model = convert(states["generator"], labels=labels_of(config), image_size=(config["crop_size"],) * 2)
        judge = build_discriminator(config, states["discriminator"])
    assert model.config.style_dim == config["style_length"]
    assert len(judge.scales) == config["num_D"]
    return {}


def adversarial(vector: Vector) -> dict[str, Tensor]:
    """`loss.{d_real, d_fake, g}` of the last score map of each scale, with its gradients."""
    config, last = vector.config, vector.config["n_feat"] - 1
    mode, found = GAN_MODES[config["gan_mode"]], {}
    for name in ("d_real", "d_fake", "g"):
        scores = {f"pred{i}.{last}": vector.leaf(f"pred{i}.{last}") for i in range(config["num_D"])}
        values = list(scores.values())
        loss = generator_loss(values, mode) if name == "g" else discriminator_loss(values, name == "d_real", mode)
        loss.backward()
        found[f"loss.{name}"] = loss
        found |= {f"grad.{name}.{key}": score.grad for key, score in scores.items() if score.grad is not None}
    return found


def perceptual(vector: Vector) -> dict[str, Tensor]:
    """The weighting, with averages of the image in the place of the network's features."""
    loss, fake = PerceptualLoss(_Averages(vector.config["levels"])), vector.leaf("fake")
    total = loss(fake, vector.inputs["real"])
    total.backward()
    assert fake.grad is not None
    return {"loss": total, "grad.fake": fake.grad}


class _Averages(nn.Module):
    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, image: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(image, 2**i) for i in range(self.levels)]


def edges(vector: Vector) -> dict[str, Tensor]:
    return {"edges": instance_edges(vector.inputs["instance"].long())}


def preprocess(vector: Vector) -> dict[str, Tensor]:
    from segscape.data.sample import image_array

    raw = {f"{name}_raw": vector.inputs[f"{name}_u8"] for name in ("image", "label")}
    options = {"preprocess_mode": "resize_and_crop"} | vector.config
    found = data.loading(dataclasses.replace(vector, inputs=raw, config=options))
    written = image_array(vector.inputs["net_output"])  # rounds, where the official code truncates
    return found | {"tensor2im": torch.from_numpy(np.ascontiguousarray(written))}


def mean_style(vector: Vector) -> dict[str, Tensor]:
    codes, present = vector.inputs["codes"], vector.inputs["present"].bool()
    model = small_model(codes.shape[1], codes.shape[2])
    model.fit_mean_codes(Style(codes[i : i + 2], present[i : i + 2]) for i in range(0, len(codes), 2))
    return {"mean_codes": model.mean_codes, "mean_present": model.code_counts > 0}


def style_edits(vector: Vector) -> dict[str, Tensor]:
    """What the official editor does to a style, with the methods of `Style`; -99 marks what has no code at all.

    It knows a class only if there is a mean code for it.
    """
    inputs, config = vector.inputs, vector.config
    codes, known = inputs["codes"], inputs["mean_present"].bool()
    present = inputs["present"].bool() & known
    model = small_model(codes.shape[1], codes.shape[2])
    model.mean_codes.copy_(inputs["mean_codes"])
    model.code_counts.copy_(known)
    photos = [Style(codes[i : i + 1], present[i : i + 1]) for i in range(len(codes))]
    source = photos[config["source"]]
    opened = model.completed(source)
    new = model.completed(Style(torch.zeros_like(codes[:1]), torch.zeros_like(present[:1])))
    contained = [j for j in range(codes.shape[1]) if inputs["present"][config["source"], j] and known[j]]
    chosen = [j for j in contained if config["checked"][j]]

    def transfer(style: Style, photo: int, alpha: float) -> Style:
        return style.replace_classes(opened.interpolate(photos[photo], alpha), chosen)

    transferred = transfer(opened, config["reference"], config["alpha"])
    again = transfer(transferred, config["reference2"], 1.0)
    averaged = again.replace_classes(new, [j for j, ticked in enumerate(config["checked_mean"]) if ticked])
    back = transfer(averaged, config["source"], 1.0)
    stops = [opened.replace_classes(photos[i], range(codes.shape[1])) for i in config["strip"]]
    frames = [
        back.replace_classes(first.interpolate(second, step / 20), chosen)
        for first, second in pairwise(stops)
        for step in range(1, 21)
    ]
    states = {"new": new, "open": opened, "transfer": transferred, "transfer2": again, "mean": averaged, "reset": back}
    found = {f"after_{name}": _marked(style)[0] for name, style in states.items()}
    return found | {"label_count": torch.tensor(contained), "interp_frames": torch.cat([*map(_marked, frames)])}


def label_edits(vector: Vector) -> dict[str, Tensor]:
    """The maps after each operation of the official editor; to undo is to go back to the layout before."""
    done = [Layout(vector.inputs["label"][None].long(), LabelSet.numbered(256))]
    found = {}
    for number, operation in enumerate(vector.config["ops"]):
        if operation["op"] == "undo":
            done.pop()
        else:
            done.append(_edited(done[-1], operation))
        found[f"label.{number}"] = done[-1].label_map[0]
    return found


def _edited(layout: Layout, operation: dict[str, Any]) -> Layout:
    label = layout.labels.names[operation["label"]]
    if operation["op"] == "stroke":
        return draw_stroke(layout, [(x, y) for x, y in operation["points"]], label, operation["size"])
    if operation["op"] == "rect":
        return draw_rectangle(layout, tuple(operation["from"]), tuple(operation["drag"][-1]), label)
    return fill_region(layout, tuple(operation["at"]), label)


def _marked(style: Style) -> Tensor:
    assert style.present is not None
    return torch.where(style.present.unsqueeze(2), style.values, -99.0)


def small_model(num_classes: int, style_dim: int) -> SEANGenerator:
    return SEANGenerator(
        SEANGeneratorConfig.build(
            labels=num_classes, base_channels=1, style_dim=style_dim, encoder_channels=1, image_size=(32, 32)
        )
    )


def _kinds(kinds: dict[str, Any]) -> dict[str, Any]:
    return {f"{system}/{kind}/{kind}": adapter for system in ("sean", "sean-clade") for kind, adapter in kinds.items()}


ADAPTERS = _kinds(
    {
        "ace": ace,
        "resblock": residual_block,
        "generator": generator,
        "encoder": encoder,
        "discriminator": discriminator,
        "trainstep": iteration,
        "keys": published_keys,
        "loss_gan": adversarial,
        "loss_vgg": perceptual,
        "op_edges": edges,
        "op_preprocess": preprocess,
        "op_meanstyle": mean_style,
        "op_uilabel": label_edits,
        "op_uistyle": style_edits,
    }
)
"""system/network/kind -> adapter."""

FAST = _kinds({"generator": accelerated})
"""As `adapters.FAST`."""
