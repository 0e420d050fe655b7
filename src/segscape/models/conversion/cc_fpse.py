"""Official checkpoints of CC-FPSE (`*_net_G.pth`, `*_net_E.pth`, `*_net_D.pth`) under our names.

Width, up-sampling, instance edges and latent follow from the shapes. The batch norms that the official code never
applies come along, see `CCBlock`.
"""

from __future__ import annotations

from torch import Tensor

from segscape.discriminators import FeaturePyramidDiscriminator
from segscape.errors import CheckpointError
from segscape.labels import LabelSet, as_label_set
from segscape.models.cc_fpse import CCFPSEConfig, CCFPSEGenerator
from segscape.models.conversion.official import (
    PLAIN,
    RUNNING,
    State,
    has_keys,
    load_discriminator,
    reads_edges,
    rename,
    under,
    with_classes_of,
)
from segscape.models.conversion.spade import BLOCKS, NORM_KEYS, encoder_part

SPECTRAL = {"weight_orig": "weight", "weight_u": "weight_u", "weight_v": "weight_v"}

BATCH_NORM = {**PLAIN, **RUNNING}

UNIT_KEYS = {**under("0.0", "0", SPECTRAL), **under("0.1", "1", BATCH_NORM)}
"""A unit of the pyramid: official key -> ours."""

LEVELS = 7
"""Most levels that a pyramid has."""

PYRAMID_KEYS = {
    key: name
    for official, ours, count in (("enc", "encoders", LEVELS), ("lat", "laterals", LEVELS - 1), ("dec", "decoders", 6))
    for i in range(count)
    for key, name in under(f"label{official}{i + 1}", f"{ours}.{i}", UNIT_KEYS).items()
}
"""A label pyramid: official key -> ours."""

PREDICTOR_KEYS = {**under("0", "0", PLAIN), **under("2", "2", PLAIN)}

BLOCK_KEYS = {
    **under("norm_1", "norm_1", BATCH_NORM),
    **under("gen_weights1", "depthwise_1.predictor", PREDICTOR_KEYS),
    **under("conv_1", "pointwise_1", PLAIN),
    **under("gen_se_weights1", "gate_1", PREDICTOR_KEYS),
    **under("norm_2", "norm_2", BATCH_NORM),
    **under("gen_weights2", "depthwise_2.predictor", PREDICTOR_KEYS),
    **under("conv_3", "pointwise_2", PLAIN),
    **under("gen_se_weights2", "gate_2", PREDICTOR_KEYS),
    **under("norm_s", "norm_s", NORM_KEYS),
    **under("conv_s", "conv_s", SPECTRAL),
    **under("norm_0", "unused.0", BATCH_NORM),
    **under("conv_0.norm_layer", "unused.1", BATCH_NORM),
    **under("conv_2.norm_layer", "unused.2", BATCH_NORM),
}
"""A conditional convolution block: official key -> ours."""

GENERATOR_KEYS = {
    **under("fc", "stem", PLAIN),
    **{key: f"pyramid.{name}" for key, name in PYRAMID_KEYS.items()},
    **{key: name for i in range(7) for key, name in under(BLOCKS[i], f"blocks.{i}", BLOCK_KEYS).items()},
    **under("conv_img", "to_rgb", PLAIN),
}
"""A generator: official key -> ours."""

DISCRIMINATOR_KEYS = {
    **{
        key: name
        for official, ours, numbers in (("enc", "encoders", range(1, 6)), ("lat", "laterals", range(2, 6)),
                                        ("final", "finals", range(2, 5)))
        for i, number in enumerate(numbers)
        for key, name in under(f"{official}{number}.0.0", f"{ours}.{i}.0", SPECTRAL).items()
    },
    **under("tf", "realness", PLAIN),
    **under("seg", "agreement", PLAIN),
    **under("embedding", "embedding", PLAIN),
}  # fmt: skip
"""A discriminator: official key -> ours."""


def recognises(official: State) -> bool:
    """Whether a state dict is that of a generator of CC-FPSE."""
    return has_keys(official, "labelenc1.")


def convert(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    encoder: State | None = None,
    source: str = "the state dict",
) -> CCFPSEGenerator:
    """An official generator as one of ours, in evaluation mode.

    Args:
        official: its state dict.
        labels: the label set that it was trained with, its name, or the number of classes (the unknown class counts).
            Of the published models: `ade20k` (the classes are put in its order) or `ade20k-official` (they stay),
            `coco-stuff`, `cityscapes`.
        image_size: (height, width) of its images: (256, 256), for Cityscapes (256, 512).
        encoder: the state dict of its encoder (`*_net_E.pth`); a generator with a latent needs it, others have none.
        source: what errors call the state dict.

    Raises:
        CheckpointError: incomplete, of another network, or not fitting the arguments.
        ConfigError: `image_size` does not fit the up-sampling.
    """
    state, labels = rename(official, GENERATOR_KEYS, source), as_label_set(labels)
    config = _config(state, labels, image_size, source)
    model = CCFPSEGenerator(config)
    model.load_weights(_reorder(state, labels) | encoder_part(encoder, config.latent_dim is not None, source), source)
    return model.eval()


def discriminator_from_state(
    official: State, *, labels: LabelSet | str | int, source: str = "the state dict"
) -> FeaturePyramidDiscriminator:
    """An official discriminator (`*_net_D.pth`) as one of ours, in training mode. Arguments and errors as `convert`."""
    state, labels = rename(official, DISCRIMINATOR_KEYS, source), as_label_set(labels)
    _require(state, ("embedding.weight", "encoders.0.0.weight"), source)
    instances = reads_edges(state["embedding.weight"].shape[1], labels, None, source)
    base = state["encoders.0.0.weight"].shape[0]
    discriminator = FeaturePyramidDiscriminator(labels.num_classes, instances=instances, base_channels=base)
    load_discriminator(discriminator, _reorder(state, labels), source)
    return discriminator


def _config(state: State, labels: LabelSet, image_size: tuple[int, int], source: str) -> CCFPSEConfig:
    first, hidden = "pyramid.encoders.0.0.weight", "blocks.0.gate_1.0.weight"
    _require(state, (first, hidden, "stem.weight"), source)
    stem = state["stem.weight"]
    config: CCFPSEConfig = CCFPSEConfig.build(
        labels=labels,
        image_size=image_size,
        use_instances=reads_edges(state[first].shape[1], labels, None, source),
        base_channels=state[first].shape[0],
        hidden_channels=state[hidden].shape[0],
        upsampling="more" if f"pyramid.encoders.{LEVELS - 1}.0.weight" in state else "normal",
        latent_dim=stem.shape[1] if stem.ndim == 2 else None,
    )
    places = (image_size[0] // config.size_multiple) * (image_size[1] // config.size_multiple)
    if config.latent_dim and stem.shape[0] != 16 * config.base_channels * places:
        raise CheckpointError(
            f"{source} starts from {stem.shape[0] // (16 * config.base_channels)} places, but images of "
            f"{image_size[0]}x{image_size[1]} start from {places}: give the image size that it was trained with."
        )
    return config


def _require(state: State, names: tuple[str, ...], source: str) -> None:
    missing = [name for name in names if name not in state]
    if missing:
        raise CheckpointError(f"{source} is incomplete: {missing[0]}, as we call it, is missing.")


def _reorder(state: State, labels: LabelSet) -> dict[str, Tensor]:
    """The classes in the order of `labels`, also in the pyramid's first singular vector, `[S * 9]`."""
    vector = {name: value.view(-1, 9) for name, value in state.items() if name == "pyramid.encoders.0.0.weight_v"}
    ordered = with_classes_of(labels, {**state, **vector}, _class_axis)
    return ordered | {name: ordered[name].flatten() for name in vector}


def _class_axis(name: str, value: Tensor) -> int | None:
    """Axis 1 of the layers that read the semantic map: first in the pyramid, each predictor, norm, stem, embedding."""
    if name == "pyramid.encoders.0.0.weight_v":
        return 0
    predicts = ".predictor.0." in name or ".gate_1.0." in name or ".gate_2.0." in name or ".shared." in name
    reads = predicts or name in ("pyramid.encoders.0.0.weight", "stem.weight", "embedding.weight")
    return 1 if reads and value.ndim == 4 else None
