"""Adapters of CA2-SIS: the network and its parts, losses, one training step, the edits."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segscape.discriminators import MultiScaleDiscriminator
from segscape.inference import accelerate
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.losses import PerceptualLoss, discriminator_loss, diversity_loss, feature_matching_loss, generator_loss
from segscape.models.ca2_sis import (
    CA2SISGenerator,
    GroupedStyleEncoder,
    GroupNormResidualBlock,
    MappingNetwork,
)
from segscape.models.conversion.ca2_sis import (
    ATTENTION_KEYS,
    GENERATOR_KEYS,
    MAPPING_KEYS,
    RESIDUAL_KEYS,
    TRANSFORMER_KEYS,
    convert,
    joined_mapping,
    style_encoder_keys,
)
from segscape.models.conversion.official import rename
from segscape.models.conversion.spade import discriminator_keys, discriminator_state
from segscape.models.registry import create_model
from segscape.nn.cross_attention import Attention, CrossAttentionTransformer, attention_loss, mean_logits
from segscape.style import Style
from segscape.training.recipe import Objective, OptimizerSection
from segscape.training.steps import (
    StyledGenerator,
    discriminator_step_losses,
    generate_fake,
    generator_step_losses,
)

from .options import labels_of
from .training import learning_rates as rates_of_epochs
from .vector import Vector


def build_generator(config: dict[str, Any], state: dict[str, Tensor]) -> CA2SISGenerator:
    """A generator with official weights; what the converter infers must be the vector's."""
    model = convert(
        state,
        labels=labels_of(config),
        image_size=(16 * config["grid_h"], 16 * config["grid_w"]),
        heads=config["heads"],
        last_heads=config["heads_last"],
        norm_groups=config["norm_groups"],
    )
    found = model.config
    assert found.base_channels == config["ngf"] and found.exclude_background is config["exclude_bg"]
    assert (found.head_channels, found.last_head_channels) == (config["dim_head"], config["dim_head_last"])
    assert (found.mask_size, found.mapping_channels) == (config["mask_size"], config["mapping_hidden"])
    assert (found.style_features, found.style_channels) == (config["style_num_feat"], config["style_dim"])
    assert found.mapping_dim == config["mapping_dim"]
    return model


def layout_named(vector: Vector, name: str, labels: LabelSet) -> Layout:
    return Layout(vector.inputs[name].squeeze(1).long(), labels)


def generator(vector: Vector) -> dict[str, Tensor]:
    """Style and attention loss belong to `label`, shapes to `label_shape` if there is one."""
    return generate(vector, build_generator(vector.config, vector.state))


def generate(vector: Vector, model: CA2SISGenerator) -> dict[str, Tensor]:
    layout = layout_named(vector, "label", model.config.labels)
    shapes = layout_named(vector, "label_shape", model.config.labels) if "label_shape" in vector.inputs else layout
    with torch.no_grad():
        style = model.encode(vector.inputs["image"], layout).draw(None)
        embedding = model.mask_embedding(shapes)
        image, losses = model.decode_with_losses(embedding, style, layout)
        if shapes.size == model.config.image_size:
            assert torch.equal(model(shapes, style), image), "the image depends on the attention loss"
    return {"image": image, "mask_embedding": embedding, "style_codes": style.values, "att_loss": losses["attention"]}


def accelerated(vector: Vector) -> dict[str, Tensor]:
    """The image of the fast copy, from the layout of the shapes."""
    model = build_generator(vector.config, vector.state)
    layout = layout_named(vector, "label", model.config.labels)
    shapes = layout_named(vector, "label_shape", model.config.labels) if "label_shape" in vector.inputs else layout
    style = model.encode(vector.inputs["image"], layout).draw(None)
    return {"image": accelerate(model)(shapes.resize(model.config.image_size), style)}


def generator_noise(vector: Vector) -> dict[str, Tensor]:
    model = build_generator(vector.config, vector.state)
    layout = layout_named(vector, "label", model.config.labels)
    with torch.no_grad():
        style = model.codes_from_noise(layout, vector.inputs["z"])
        image, losses = model.decode_with_losses(model.mask_embedding(layout), style, layout)
    return {"image": image, "style_codes": style.values, "att_loss": losses["attention"]}


def full_width(vector: Vector) -> dict[str, Tensor]:
    """The official widths, with weights from a recipe."""
    config = vector.config
    size = (16 * config.get("grid_h", 16), 16 * config.get("grid_w", 16))
    options = {"exclude_background": config["exclude_bg"], "image_size": size}
    with torch.device("meta"):
        twin = create_model("ca2-sis", labels=labels_of(config), **options)
    assert isinstance(twin, CA2SISGenerator)
    state = {key: recipe(key, shape, config["recipe_seed"]) for key, shape in official_shapes(twin).items()}
    return generate(vector, convert(state, labels=labels_of(config), image_size=size))


def official_shapes(model: CA2SISGenerator) -> dict[str, tuple[int, ...]]:
    """The official keys of a generator with their shapes."""
    own, shapes = model.state_dict(), {}
    for key, name in GENERATOR_KEYS.items():
        if name not in own:
            continue
        shape = tuple(own[name].shape)
        if ".unshared." not in key:
            shapes[key] = shape
            continue
        classes = model.config.labels.num_classes
        for i in range(classes):
            shapes[key.replace(".unshared.", f".unshared.{i}.")] = (shape[0] // classes, *shape[1:2])
    return shapes


def recipe(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A weight of `full_width`, by the note of the vectors."""
    random = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32)
    drawn = random.standard_normal(int(np.prod(shape))).reshape(shape)
    if len(shape) > 1:
        drawn = drawn / np.sqrt(drawn.size / shape[0])
    else:
        drawn = 1 + 0.25 * drawn if key.endswith("weight") else 0.15 * drawn
    value = torch.from_numpy(drawn.astype(np.float16).astype(np.float32))
    return 0.25 * value if key == "out_conv.weight" else value


def style_encoder(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    levels = config["style_num_downsample"]
    assert config["style_num_upsample"] == levels - 1
    model = GroupedStyleEncoder(config["classes"], config["style_num_feat"], config["style_dim"], levels)
    model.load_state_dict(rename(vector.state, style_encoder_keys(levels)))
    layout = layout_named(vector, "label", LabelSet.numbered(config["classes"]))
    return {"style_codes": model(vector.inputs["image"], layout)}


def mask_embedder(vector: Vector) -> dict[str, Tensor]:
    """Within a generator, which is what reads the masks; a grid of 1 x cells."""
    config = vector.config
    cells = config["latent"]
    model = create_model(
        "ca2-sis",
        labels=config["classes"],
        image_size=(16, 16 * cells),
        mask_size=config["mask_size"],
        base_channels=1,
        norm_groups=1,
    )
    assert isinstance(model, CA2SISGenerator)
    model.mask_embedder.load_state_dict({key.removeprefix("encs.0."): value for key, value in vector.state.items()})
    return {"mask_embedding": model.mask_embedding(layout_named(vector, "label", model.config.labels))}


def mapping(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    model = MappingNetwork(config["classes"], config["mapping_dim"], config["mapping_hidden"], config["out_dim"])
    model.load_state_dict(rename(joined_mapping(vector.state), MAPPING_KEYS))
    return {"style_codes": model(vector.inputs["z"])}


def residual_block(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    block = GroupNormResidualBlock(config["cin"], config["cout"], groups=config["norm_groups"], up=config["up"])
    block.load_state_dict(rename(vector.state, RESIDUAL_KEYS))
    return _with_gradients(vector, block(x := vector.leaf("x")), None, {"x": x})


def self_attention(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    layer = Attention(config["query_dim"], config["query_dim"], config["heads"], config["dim_head"])
    layer.load_state_dict(rename(vector.state, ATTENTION_KEYS))
    x = vector.leaf("x")
    return _with_gradients(vector, layer(x, x)[0], None, {"x": x})


def cross_attention(vector: Vector) -> dict[str, Tensor]:
    """The features are square, as the official code takes for granted."""
    config = vector.config
    layer = Attention(config["query_dim"], config["context_dim"], config["heads"], config["dim_head"])
    layer.load_state_dict(rename(vector.state, ATTENTION_KEYS))
    x, context = vector.leaf("x"), vector.leaf("context")
    out, logits = layer(x, context, mean_logits)
    side = round(x.shape[1] ** 0.5)
    labels = layout_named(vector, "label", LabelSet.numbered(config["classes"])).at((side, side))
    loss = attention_loss(logits.unflatten(2, (side, side)), labels)
    return _with_gradients(vector, out, loss, {"x": x, "context": context})


def transformer(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    block = CrossAttentionTransformer(
        config["cin"],
        config["context_dim"],
        heads=config["heads"],
        head_channels=config["dim_head"],
        self_attention=not config["no_self_att"],
        groups=config["norm_groups"],
    )
    block.load_state_dict(rename(vector.state, TRANSFORMER_KEYS))
    x, context = vector.leaf("x"), vector.leaf("context")
    if "label" not in vector.inputs:
        return _with_gradients(vector, block(x, context)[0], None, {"x": x, "context": context})
    out, logits = block(x, context, mean_logits)
    labels = layout_named(vector, "label", LabelSet.numbered(config["classes"])).at(tuple(x.shape[-2:]))
    return _with_gradients(vector, out, attention_loss(logits, labels), {"x": x, "context": context})


def _with_gradients(vector: Vector, out: Tensor, loss: Tensor | None, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The output, the attention loss, and the gradients of sum(out * cotangent) + loss, and of the loss alone."""
    found = {"out": out}
    if loss is not None:
        found["att_loss"] = loss
        gradients = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True)
        found |= {f"grad_{name}_of_att_loss": g for name, g in zip(leaves, gradients, strict=True)}
    if "cotangent" in vector.inputs:
        total = (out * vector.inputs["cotangent"]).sum() + (0 if loss is None else loss)
        gradients = torch.autograd.grad(total, list(leaves.values()))
        found |= {f"grad_{name}": g for name, g in zip(leaves, gradients, strict=True)}
    return found


def build_discriminator(config: dict[str, Any], state: dict[str, Tensor], train: bool) -> MultiScaleDiscriminator:
    model = MultiScaleDiscriminator(
        labels_of(config).num_classes,
        base_channels=config["ndf"],
        num_scales=config["num_D"],
        num_layers=config["n_layers_D"],
        last_stride=2,
    )
    model.load_state_dict(discriminator_state(state))
    return model.train(train)


def discriminator(vector: Vector) -> dict[str, Tensor]:
    model = build_discriminator(vector.config, vector.state, vector.training)
    judged = model(layout_named(vector, "label", labels_of(vector.config)), vector.inputs["image"])
    found = {}
    for i, (features, score) in enumerate(zip(judged.features, judged.scores, strict=True)):
        found |= {f"scale{i}.layer{n}": output for n, output in enumerate([*features, score])}
    return found | _buffers(vector, model, "after.")


def _buffers(vector: Vector, model: MultiScaleDiscriminator, prefix: str) -> dict[str, Tensor]:
    keys = discriminator_keys(vector.config["num_D"], vector.config["n_layers_D"])
    return {f"{prefix}{key}": model.get_buffer(keys[key]) for key in vector.outputs_below(prefix)}


def losses(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    scales, last = range(config["scales"]), config["layers"] - 1
    fake = [[vector.leaf(f"fake.scale{i}.layer{n}") for n in range(last + 1)] for i in scales]
    real = [[vector.leaf(f"real.scale{i}.layer{n}") for n in range(last + 1)] for i in scales]
    fake_scores, real_scores = ([scale[-1] for scale in group] for group in (fake, real))
    found = {
        "g_gan": generator_loss(fake_scores),
        "g_feat": config["lambda_feat"] * feature_matching_loss(*([s[:-1] for s in group] for group in (fake, real))),
        "d_fake": discriminator_loss(fake_scores, real=False),
        "d_real": discriminator_loss(real_scores, real=True),
    }
    leaves = {f"fake.scale{i}.layer{n}": fake[i][n] for i in scales for n in range(last + 1)}
    found |= _gradients("grad_g.", found["g_gan"] + found["g_feat"], leaves)
    leaves = {f"{kind}.scale{i}": group[i][-1] for kind, group in (("fake", fake), ("real", real)) for i in scales}
    found |= _gradients("grad_d.", found["d_fake"] + found["d_real"], leaves)
    return found | _perceptual(vector) | _diversity(vector)


def _perceptual(vector: Vector) -> dict[str, Tensor]:
    """The feature maps are given, so the network is the identity."""
    fake = [vector.leaf(f"vgg_fake.{i}") for i in range(5)]
    real = [vector.inputs[f"vgg_real.{i}"] for i in range(5)]
    loss = vector.config["lambda_vgg"] * PerceptualLoss(nn.Identity())(fake, real)
    return {"vgg": loss} | _gradients("grad_vgg.", loss, {str(i): leaf for i, leaf in enumerate(fake)})


def _diversity(vector: Vector) -> dict[str, Tensor]:
    first = vector.leaf("ds_image1")
    loss = diversity_loss(first, vector.inputs["ds_image2"])
    return {"diversity": loss} | _gradients("grad_diversity", loss, {"": first})


def _gradients(prefix: str, loss: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, materialize_grads=True)
    return {f"{prefix}{name}": gradient for name, gradient in zip(leaves, found, strict=True)}


def train_step(vector: Vector) -> dict[str, Tensor]:
    """A step of the generator, and one of the discriminator from the same weights."""
    config = vector.config
    generator = build_generator(config, vector.state_of("netG")).train()
    batch = {"layout": layout_named(vector, "label", labels_of(config)), "image": vector.inputs["image"]}
    styled, objective = StyledGenerator(generator), Objective(perceptual=0.0)
    judge = build_discriminator(config, vector.state_of("netD"), train=True)
    of_generator, fake = generator_step_losses(styled, judge, **batch, objective=objective)
    total = torch.stack(list(of_generator.values())).sum()
    total.backward()
    found = {"fake": fake, "g_total": total}
    names = {"g_gan": "gan", "g_feat": "feature_matching", "g_att": "attention"}
    found |= {name: of_generator[ours] for name, ours in names.items()}
    found |= _parameter_gradients(vector, generator, GENERATOR_KEYS, "grad_g.netG.")
    found |= _buffers(vector, judge, "after_g_step.netD.")
    judge = build_discriminator(config, vector.state_of("netD"), train=True)
    fake = generate_fake(styled, **batch, noise=None)
    of_judge, _ = discriminator_step_losses(judge, **batch, fake=fake, objective=objective)
    total = torch.stack(list(of_judge.values())).sum()
    total.backward()
    found |= {"d_fake": of_judge["fake"], "d_real": of_judge["real"], "d_total": total}
    keys = discriminator_keys(config["num_D"], config["n_layers_D"])
    return found | _parameter_gradients(vector, judge, keys, "grad_d.netD.")


def _parameter_gradients(vector: Vector, model: nn.Module, keys: dict[str, str], prefix: str) -> dict[str, Tensor]:
    found = {}
    for key in vector.outputs_below(prefix):
        gradient = model.get_parameter(keys[key]).grad
        assert gradient is not None, f"{key} has no gradient"
        found[f"{prefix}{key}"] = gradient
    return found


def edit(vector: Vector) -> dict[str, Tensor]:
    """Sample i and sample i + half the batch are partners; `parts` are the classes that go from one to the other."""
    model, parts = build_generator(vector.config, vector.state), vector.config["parts"]
    layout = layout_named(vector, "label", model.config.labels)
    half = layout.batch_size // 2
    with torch.no_grad():
        style = model.encode(vector.inputs["image"], layout).draw(None)
        partner = Style(style.values.roll(half, 0))  # all of its codes, also those of classes that it does not have
        shapes = model.mask_embedding(layout)
        others = shapes.roll(half, 0)
        mixed = style.replace_classes(partner, parts)
        shared = layout.present_classes() & layout.present_classes().roll(half, 0)
        transferred = model.with_shapes(shapes, others, parts, where=shared)
        masks = exchanged(layout.one_hot(), parts, shared)
        check_masks(model, masks, transferred)
        return {
            "reconstruction": model(layout, style),
            "style_global": model(layout, partner),
            "style_class": model(layout, mixed),
            "shape_semantics": masks,
            "shape": model.decode(transferred, style),
            "style_and_shape": model.decode(model.with_shapes(shapes, others, parts), mixed),
        }


def exchanged(one_hot: Tensor, parts: list[int], shared: Tensor) -> Tensor:
    """The masks in which partners have exchanged those of `parts` that both have."""
    taken = shared & torch.isin(torch.arange(one_hot.shape[1]), torch.tensor(parts))
    return torch.where(taken[..., None, None], one_hot.roll(one_hot.shape[0] // 2, 0), one_hot)


def check_masks(model: CA2SISGenerator, masks: Tensor, embedding: Tensor) -> None:
    """Exchanging rows of the shape embedding is exchanging masks."""
    side = model.config.mask_size
    small = nn.functional.interpolate(masks, size=(side, side), mode="nearest")
    small = small[:, int(model.config.exclude_background) :]
    torch.testing.assert_close(model.mask_embedder(small.flatten(2)), embedding)


def preprocess(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    instances = vector.inputs["instance"].squeeze(1).long() if "instance" in vector.inputs else None
    layout = Layout(vector.inputs["label"].squeeze(1).long(), labels_of(config), instances)
    with_edges = not config["no_instance"]
    return {"semantics": layout.semantic_map(edges=with_edges)} | ({"edges": layout.edges()} if with_edges else {})


def learning_rates(vector: Vector) -> dict[str, Tensor]:
    betas = (0.5, 0.999) if vector.config["no_TTUR"] else OptimizerSection().betas
    return rates_of_epochs(vector) | {"betas_G_D": torch.tensor([*betas, *betas])}


ADAPTERS = {
    "ca2-sis/generator/generator": generator,
    "ca2-sis/generator/generator_noise": generator_noise,
    "ca2-sis/generator/fullwidth": full_width,
    "ca2-sis/generator/edit": edit,
    "ca2-sis/encoder/style_encoder": style_encoder,
    "ca2-sis/encoder/mask_embedder": mask_embedder,
    "ca2-sis/encoder/mapping": mapping,
    "ca2-sis/discriminator/discriminator": discriminator,
    "ca2-sis/loss/losses": losses,
    "ca2-sis/loss/train_step": train_step,
    "ca2-sis/op/resblock": residual_block,
    "ca2-sis/op/self_attention": self_attention,
    "ca2-sis/op/cross_attention": cross_attention,
    "ca2-sis/op/transformer": transformer,
    "ca2-sis/op/transformer_nomask": transformer,
    "ca2-sis/op/preprocess": preprocess,
    "ca2-sis/op/lr_schedule": learning_rates,
}
"""system/network/kind -> adapter."""

FAST = {"ca2-sis/generator/generator": accelerated}
"""As `adapters.FAST`."""
