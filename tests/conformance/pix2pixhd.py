"""Adapters of pix2pixHD: networks, losses, a training step, styles of objects, data. `op` or `arch` names the kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segscape.data.sample import Sample, collate, image_array
from segscape.data.transforms import Placement, Preprocess
from segscape.discriminators import Judgement, MultiScaleDiscriminator
from segscape.features import VGG19_CONVS, VGG19Features
from segscape.inference import accelerate
from segscape.labels import LabelSet, label_set
from segscape.layout import Layout, instance_edges
from segscape.losses import PerceptualLoss, discriminator_loss, feature_matching_loss
from segscape.models.conversion import pix2pixhd as conversion
from segscape.models.pix2pixhd import LEAST_AREA, Pix2PixHDConfig, Pix2PixHDGenerator, Regions
from segscape.nn.region_pooling import region_means, spread
from segscape.style import Style
from segscape.training.initialize import transfer
from segscape.training.pool import ImagePool
from segscape.training.recipe import Objective
from segscape.training.schedule import linear_decay
from segscape.training.steps import StyledGenerator, discriminator_step_losses, generator_step_losses

from .options import labels_of
from .vector import Vector, by_official_key


def generator(vector: Vector) -> dict[str, Tensor]:
    """Either code's."""
    config = vector.config
    model = build_generator(config, vector.state, vector.inputs["x"]).train(vector.training)
    layout, style = layout_of(vector, labels_of(config)), style_of(vector)
    assert torch.equal(model.network_input(layout, style), vector.inputs["x"]), "the network reads something else"
    image = model(layout, style)
    keys = conversion.generator_keys(conversion.generator_shape(vector.state))
    return {"image": image} | by_official_key(vector, model, keys)


def accelerated(vector: Vector) -> dict[str, Tensor]:
    """The image of the fast copy of an evaluation-mode generator."""
    model = build_generator(vector.config, vector.state, vector.inputs["x"]).eval()
    return {"image": accelerate(model)(layout_of(vector, labels_of(vector.config)), style_of(vector))}


def build_generator(
    config: dict[str, Any], state: dict[str, Tensor], like: Tensor, encoder: dict[str, Tensor] | None = None
) -> Pix2PixHDGenerator:
    """A generator for inputs `like` this; what the converter infers must be what the vector says."""
    options = {"labels": labels_of(config), "image_size": (like.shape[-2], like.shape[-1])}
    if encoder is not None:
        model = conversion.convert(state, **options, encoder=encoder)
    else:
        style = {"feature_channels": config.get("feat_num") or None, "encoder_downsamplings": 1}
        inferred = conversion.infer_config(state, **options, **style)
        model = Pix2PixHDGenerator(inferred)
        model.load_weights(model.state_dict() | conversion.generator_state(state), "the vector")
    check_inferred(model.config, config)
    return model


def check_inferred(found: Pix2PixHDConfig, config: dict[str, Any]) -> None:
    local = config.get("arch") == "LocalEnhancer" or config.get("netG") == "local"
    halvings = config["n_local_enhancers"] if local else 0
    assert found.enhancers == halvings
    assert found.base_channels == config["ngf"] << halvings
    assert found.num_downsamplings == config.get("n_downsample_global", config.get("resnet_n_downsample"))
    assert found.num_blocks == config.get("n_blocks_global", config.get("resnet_n_blocks"))
    assert found.use_instances is not config["no_instance"]
    assert found.norm.replace("-", "") == config.get("norm_G", config.get("norm", "instance"))
    assert found.stem_kernel_size == config.get("resnet_initial_kernel_size", 7)
    assert found.block_kernel_size == config.get("resnet_kernel_size", 3)


def layout_of(vector: Vector, labels: LabelSet) -> Layout:
    instances = vector.inputs.get("inst")
    label_map = vector.inputs["label"].squeeze(1).long()
    return Layout(label_map, labels, None if instances is None else instances.squeeze(1).long())


def layout_of_instances(vector: Vector, classes: int | None = None) -> Layout:
    """The layout of Cityscapes' instance ids alone, which hold the class: `id`, or `id // 1000`."""
    instances = vector.inputs["inst"].squeeze(1).long()
    label_map = torch.where(instances < 1000, instances, instances // 1000)
    return Layout(label_map, LabelSet.numbered(classes or int(label_map.max()) + 1), instances)


def style_of(vector: Vector) -> Style | None:
    return Style(vector.inputs["feat"]) if "feat" in vector.inputs else None


def discriminator(vector: Vector) -> dict[str, Tensor]:
    """Outputs `pred.{scale}.{layer}`; without `getIntermFeat` the score alone, after a sigmoid if there is one."""
    config = vector.config
    model = build_discriminator(config, vector.state).train(vector.training)
    judgement = model.judge(vector.inputs["x"])
    if config["getIntermFeat"]:
        return flattened(judgement, "pred")
    return {
        f"pred.{i}.0": score.sigmoid() if config["use_sigmoid"] else score for i, score in enumerate(judgement.scores)
    }


def flattened(judgement: Judgement, name: str) -> dict[str, Tensor]:
    layers = [[*group, score] for group, score in zip(judgement.features, judgement.scores, strict=True)]
    return {f"{name}.{i}.{j}": output for i, outputs in enumerate(layers) for j, output in enumerate(outputs)}


def build_discriminator(config: dict[str, Any], state: dict[str, Tensor]) -> MultiScaleDiscriminator:
    model = conversion.discriminator_from_state(state, labels=config.get("label_nc", config.get("input_nc", 0) - 3))
    assert len(model.scales) == config["num_D"]
    assert all(len(scale.convs) == config["n_layers_D"] + 2 for scale in model.scales)
    return model


def encoder(vector: Vector) -> dict[str, Tensor]:
    model, layout = build_encoder(vector).train(vector.training), layout_of_instances(vector)
    assert model.encoder is not None
    image = vector.inputs["image"]
    return {"raw": model.encoder(image), "feat": model.encode(image, layout).mean.values}


def build_encoder(vector: Vector) -> Pix2PixHDGenerator:
    """A generator with this encoder."""
    config = vector.config
    found = conversion.encoder_state(vector.state)
    model = Pix2PixHDGenerator(
        Pix2PixHDConfig(
            labels=layout_of_instances(vector).labels,
            image_size=vector.inputs["image"].shape[-2:],
            base_channels=1,
            num_downsamplings=config["n_downsample_E"],
            num_blocks=1,
            norm=config["norm"],
            feature_channels=config["feat_num"],
            encoder_channels=config["nef"],
            encoder_downsamplings=config["n_downsample_E"],
        )
    ).eval()
    assert model.encoder is not None
    model.encoder.load_state_dict(found)
    return model


def adversarial(vector: Vector) -> dict[str, Tensor]:
    """The losses of the scales are added up; cross-entropy is of probabilities there, of logits here."""
    found = {}
    for name in ("real", "fake"):
        last = {i: max(k for k in vector.inputs if k.startswith(f"pred.{i}.")) for i in scales(vector, "pred")}
        leaves = {key.removeprefix("pred."): vector.leaf(key) for key in last.values()}
        scores = [leaf if vector.config["use_lsgan"] else leaf.logit() for leaf in leaves.values()]
        mode = "least-squares" if vector.config["use_lsgan"] else "original"
        loss = len(scores) * discriminator_loss(scores, name == "real", mode)
        loss.backward()
        found |= {f"loss_{name}": loss} | {f"grad_{name}.{key}": leaf.grad for key, leaf in leaves.items()}
    return {name: value for name, value in found.items() if value is not None}


def scales(vector: Vector, name: str) -> list[int]:
    return sorted({int(key.split(".")[1]) for key in vector.inputs if key.startswith(f"{name}.")})


def feature_matching(vector: Vector) -> dict[str, Tensor]:
    """The last map of each scale is the score, which has no part."""
    config, groups = vector.config, range(vector.config["n_layers_D"] + 1)
    fake = [[vector.leaf(f"fake.{i}.{j}") for j in groups] for i in range(config["num_D"])]
    real = [[vector.inputs[f"real.{i}.{j}"] for j in groups] for i in range(config["num_D"])]
    loss = matching_weight(config) * feature_matching_loss(fake, real)
    loss.backward()
    gradients = {f"grad_fake.{i}.{j}": fake[i][j].grad for i in range(config["num_D"]) for j in groups}
    return {"loss": loss} | {name: value for name, value in gradients.items() if value is not None}


def matching_weight(config: dict[str, Any]) -> float:
    return float(config["lambda_feat"] * 4 / (config["n_layers_D"] + 1))


def perceptual(vector: Vector) -> dict[str, Tensor]:
    loss = PerceptualLoss(vgg19(vector.state_of("vgg")))
    fake = vector.leaf("x")
    total = loss(fake, vector.inputs["y"])
    total.backward()
    assert fake.grad is not None
    taps = {f"tap_x.{i}": tap for i, tap in enumerate(loss.features(fake))}
    return {"loss": total, "grad_x": fake.grad} | taps


def vgg19(state: dict[str, Tensor]) -> VGG19Features:
    """VGG-19 of any widths: `slice{n}.{torchvision index}.*`."""
    stored = {key.split(".", 1)[1]: value for key, value in state.items()}
    network = VGG19Features(width_divisor=64)
    for place, index in enumerate(VGG19_CONVS):
        weight = stored[f"{index}.weight"]
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        conv.load_state_dict({"weight": weight, "bias": stored[f"{index}.bias"]})
        network.convs[place] = conv
    return network.requires_grad_(False).eval()


def training_step(vector: Vector) -> dict[str, Tensor]:
    """All losses of one iteration, of one generated image; the scales' adversarial losses are added up.

    In float64: an activation so near zero that rounding decides its sign changes a gradient by more than is allowed.
    """
    config = {"norm": "instance", **vector.config}
    scales, encoded = config["num_D"], vector.state_of("netE") or None
    image, layout = vector.inputs["image"].double(), layout_of(vector, labels_of(config))
    model = build_generator(config, vector.state_of("netG"), image, encoded).train().double()
    judge = build_discriminator(config, vector.state_of("netD")).train().double()
    objective = Objective(
        gan_mode="least-squares",
        adversarial=scales,
        feature_matching=matching_weight(config),
        perceptual=config["lambda_feat"],
    )
    vgg = {key.removeprefix("vgg."): value for key, value in vector.state_of("criterionVGG").items()}
    loss = PerceptualLoss(vgg19(vgg)).double()
    losses, fake = generator_step_losses(
        StyledGenerator(model), judge, layout, image, objective=objective, perceptual=loss
    )
    fake.retain_grad()
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    judge.zero_grad()
    judged, _ = discriminator_step_losses(judge, layout, image, fake, objective=objective)
    of_judge = scales * (judged["fake"] + judged["real"]) / 2
    of_judge.backward()
    assert fake.grad is not None
    style = model.encode(image, layout).draw(None) if encoded else None
    return {
        "loss_G_GAN": losses["gan"],
        "loss_G_GAN_Feat": losses["feature_matching"],
        "loss_G_VGG": losses["perceptual"],
        "loss_D_real": scales * judged["real"],
        "loss_D_fake": scales * judged["fake"],
        "loss_G": total,
        "loss_D": of_judge,
        "fake_image": fake,
        "grad_fake_image": fake.grad,
        "generator_input": model.network_input(layout, style),
    } | gradients(vector, model, judge)


def gradients(vector: Vector, model: Pix2PixHDGenerator, judge: MultiScaleDiscriminator) -> dict[str, Tensor]:
    keys = conversion.generator_keys(conversion.generator_shape(vector.state_of("netG")))
    layers = len(judge.scales[0].convs) - 1
    found = by_official_key(vector, model, keys, "netG.")
    found |= by_official_key(vector, judge, conversion.discriminator_keys(len(judge.scales), layers), "netD.")
    if model.encoder is not None:
        shape = conversion.Shape(model.config.encoder_downsamplings, 0)
        found |= by_official_key(vector, model.encoder, conversion.hourglass_keys(shape), "netE.")
    return found


def network_input(vector: Vector) -> dict[str, Tensor]:
    """`pool_ids` says what shares a style: our regions must be the same ones, in the same order."""
    config = vector.config
    model = Pix2PixHDGenerator(
        Pix2PixHDConfig(
            labels=labels_of(config),
            base_channels=1,
            num_downsamplings=1,
            num_blocks=1,
            use_instances=not config["no_instance"],
            feature_channels=1 if config["instance_feat"] or config["label_feat"] else None,
            feature_regions="instance" if config["instance_feat"] else "class",
            encoder_channels=1,
            encoder_downsamplings=1,
        )
    )
    layout = layout_of(vector, model.config.labels)
    found = {"x": model.network_input(layout, None)[:, : layout.num_classes + int(model.config.use_instances)]}
    if "pool_ids" in vector.outputs:
        ids, index = vector.outputs["pool_ids"].unique(return_inverse=True)
        found["pool_ids"] = torch.where(index.squeeze(1) == model.regions(layout).index, ids[index].squeeze(1), -1)[
            :, None
        ]
    return found


def edges(vector: Vector) -> dict[str, Tensor]:
    return {"edge": instance_edges(vector.inputs["inst"].squeeze(1).long())}


def instance_pooling(vector: Vector) -> dict[str, Tensor]:
    features = vector.leaf("features")
    ids, index = vector.inputs["inst"].squeeze(1).unique(return_inverse=True)
    pooled = spread(region_means(features, index, len(ids))[0], index)
    (pooled * vector.inputs["grad_output"]).sum().backward()
    assert features.grad is not None
    return {"pooled": pooled, "grad_features": features.grad}


def encode_features(vector: Vector) -> dict[str, Tensor]:
    features, classes, areas = build_encoder(vector).region_features(
        vector.inputs["image"], layout_of_instances(vector)
    )
    return {"feat": features, "class": classes, "area": areas, "kept": (areas > LEAST_AREA).byte()}


def sample_features(vector: Vector) -> dict[str, Tensor]:
    """NumPy's draws, in the order of the regions that have stored styles."""
    centres = {int(name.split(".")[1]): value for name, value in vector.inputs.items() if name.startswith("clusters.")}
    layout = layout_of_instances(vector, 1 + max(int(layout_of_instances(vector).label_map.max()), *centres))
    channels, most = vector.config["feat_num"], max(map(len, centres.values()))
    model = Pix2PixHDGenerator(
        Pix2PixHDConfig(labels=layout.labels, base_channels=1, feature_channels=channels, num_clusters=most)
    )
    for label, rows in centres.items():
        model.cluster_counts[label], model.cluster_centres[label, : len(rows)] = len(rows), rows
    regions, draws = model.regions(layout), np.random.RandomState(vector.config["numpy_seed"])
    choice = choices(model, regions, lambda count: int(draws.randint(0, count)))
    chosen = choice[model.cluster_counts[regions.classes] > 0]
    return {"feat": model.stored_style(regions, choice).values, "cluster_choice": chosen}


def choices(model: Pix2PixHDGenerator, regions: Regions, draw: Callable[[int], int]) -> Tensor:
    counts = model.cluster_counts[regions.classes].tolist()
    return torch.tensor([draw(count) if count else 0 for count in counts])


class PythonPool(ImagePool):
    """The pool with the official code's random numbers."""

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(size)
        self.random = random.Random(seed)

    def _draw(self) -> int | None:
        return self.random.randint(0, self.size - 1) if self.random.uniform(0, 1) > 0.5 else None


def image_pool(vector: Vector) -> dict[str, Tensor]:
    config = vector.config
    pool = PythonPool(config["pool_size"], config["python_seed"])
    return {f"returned.{step}": pool(vector.inputs[f"batch.{step}"]) for step in range(config["steps"])}


def learning_rates(vector: Vector) -> dict[str, Tensor]:
    """Of each epoch, and what would follow the last."""
    constant, decay = vector.config["niter"], vector.config["niter_decay"]
    completed = range(constant + decay + 1)
    factors = [linear_decay(epochs, constant, decay) for epochs in completed]
    return {"lr": vector.config["lr"] * torch.tensor(factors, dtype=torch.float64)}


def load_pretrained(vector: Vector) -> dict[str, Tensor]:
    """A network started from another: what both have is copied, from the coarsest scale on."""
    config, given = vector.config, {k: v for k, v in vector.inputs.items() if k.startswith("pretrained.")}
    pretrained = {key.removeprefix("pretrained."): value for key, value in given.items()}
    classes = config["target"]["input_nc"] - (3 if config["label"] == "D" else 0)
    names = [str(number) for number in range(classes)]
    old, new = (_network(config["label"], state, classes) for state in (pretrained, vector.state))
    transfer(old, new, names, names, "the pretrained network")
    if config["label"] == "D":
        target = config["target"]
        keys = conversion.discriminator_keys(target["num_D"], target["n_layers_D"] + 1, target["getIntermFeat"])
    else:
        keys = conversion.generator_keys(conversion.generator_shape(vector.state))
    weights = new.state_dict()
    return {f"state.{key}": weights[ours] for key, ours in keys.items() if ours in weights}


def _network(kind: str, state: dict[str, Tensor], classes: int) -> nn.Module:
    if kind == "D":
        return conversion.discriminator_from_state(state, labels=classes)
    shape = conversion.generator_shape(state)
    side = 4 << (shape.depth + shape.enhancers)
    return conversion.convert(state, labels=classes, image_size=(side, side))


def preprocess(vector: Vector) -> dict[str, Tensor]:
    """`crop_pos` and `flip` are given; `none` rounds to what the generator needs."""
    config, raw = vector.config, {name: value.numpy() for name, value in vector.inputs.items()}
    labels = labels_of(config)
    sample = Sample(raw["image_raw"], raw["label_raw"].astype(np.int64), raw["inst_raw"].astype(np.int64))
    mode = config["resize_or_crop"]
    enhancers = config["n_local_enhancers"] if config.get("netG") == "local" else 0
    how = Preprocess(
        mode=mode,
        load_size=config.get("loadSize"),
        crop_size=config.get("fineSize") if mode.endswith("crop") else None,
        multiple=1 << (config["n_downsample_global"] + enhancers) if mode == "none" else 32,
    )
    placement = Placement(crop=tuple(config["crop_pos"]), flip=config["flip"])
    batch = collate([how.apply(sample, placement)], labels)
    assert batch.layout.instance_map is not None
    return {"image": batch.images[0], "label": batch.layout.label_map, "inst": batch.layout.instance_map}


def eight_bits(vector: Vector) -> dict[str, Tensor]:
    return {"image_uint8": torch.from_numpy(image_array(vector.inputs["image"]))}


def rounded(vector: Vector) -> Tensor:
    """The nearest grey levels, found without Segscape."""
    values = (np.clip(vector.inputs["image"].double().numpy(), -1, 1) + 1) / 2 * 255
    found = torch.from_numpy(np.rint(values).astype(np.uint8).transpose(1, 2, 0))
    difference = found.int() - vector.outputs["image_uint8"].int()
    assert ((difference == 0) | (difference == 1)).all(), "rounding is at most one above truncation"
    return found


def color_map(vector: Vector) -> dict[str, Tensor]:
    """The palette of 35 classes is that of Cityscapes."""
    labels = label_set("cityscapes")
    assert labels.num_classes == vector.config["n_label"], "only the palette of Cityscapes is a published one"
    label_map = vector.inputs["label"][0].numpy()
    return {"colormap": torch.from_numpy(labels.colors), "color": torch.from_numpy(labels.colorize(label_map))}


ADAPTERS: dict[str, Callable[[Vector], dict[str, Tensor]]] = {
    "pix2pixhd/generator/GlobalGenerator": generator,
    "pix2pixhd/generator/LocalEnhancer": generator,
    "pix2pixhd/generator/Pix2PixHDGenerator(SPADE family)": generator,
    "pix2pixhd/discriminator/MultiscaleDiscriminator": discriminator,
    "pix2pixhd/encoder/Encoder": encoder,
    "pix2pixhd/loss/gan_loss": adversarial,
    "pix2pixhd/loss/feature_matching": feature_matching,
    "pix2pixhd/loss/vgg_loss": perceptual,
    "pix2pixhd/loss/train_step": training_step,
    "pix2pixhd/op/encode_input": network_input,
    "pix2pixhd/op/instance_edges": edges,
    "pix2pixhd/op/instance_pooling": instance_pooling,
    "pix2pixhd/op/encode_features": encode_features,
    "pix2pixhd/op/sample_features": sample_features,
    "pix2pixhd/op/image_pool": image_pool,
    "pix2pixhd/op/lr_schedule": learning_rates,
    "pix2pixhd/op/load_pretrained": load_pretrained,
    "pix2pixhd/op/preprocess": preprocess,
    "pix2pixhd/op/tensor2im": eight_bits,
    "pix2pixhd/op/label_colormap": color_map,
}
"""system/network/kind -> adapter."""

FAST = {kind: accelerated for kind, adapter in ADAPTERS.items() if adapter is generator}
"""system/network/kind of a generator -> what gives the `image` of its fast copy, in evaluation mode."""

CORRECTIONS: dict[tuple[str, str], tuple[str, Callable[[Vector], Tensor]]] = {
    ("pix2pixhd/op/tensor2im", "image_uint8"): (
        "the official code truncates to 8 bits, which darkens pictures by half a grey level on average",
        rounded,
    ),
}
"""(system/network/kind, output) -> what is wrong with the official value, and the right one."""
