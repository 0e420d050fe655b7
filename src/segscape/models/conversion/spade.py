"""Official checkpoints of SPADE and CLADE (`*_net_G.pth`, `*_net_E.pth`, `*_net_D.pth`) under our names.

The files are plain state dicts, read without unpickling anything but tensors. Every official key stands in a
table below; a key that no table has is an error, so nothing is dropped silently. What the shapes and keys tell (width,
norm of each block, instances, positional encoding, style) is inferred; the label set, the image size and
the up-sampling are not in the file and must be given.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from segscape.discriminators import MultiScaleDiscriminator
from segscape.errors import CheckpointError
from segscape.labels import LABEL_SETS, LabelSet, as_label_set
from segscape.models.conversion.official import (
    CONV,
    PLAIN,
    RUNNING,
    State,
    check_classes,
    has_keys,
    load_discriminator,
    reads_edges,
    rename,
    under,
    with_classes_of,
)
from segscape.models.spade import NormKind, SPADEGenerator, SPADEGeneratorConfig, Upsampling
from segscape.nn.conditional import Statistics
from segscape.position import PositionRule

Network = Literal["generator", "discriminator", "encoder"]

NORM_KEYS = {
    **under("param_free_norm", "statistics", RUNNING),
    # SPADE
    **under("mlp_shared.0", "shared", PLAIN),
    **under("mlp_gamma", "gamma", PLAIN),
    **under("mlp_beta", "beta", PLAIN),
    # CLADE, CLADE-ICPE, instance edges
    "class_specified_affine.weight": "gamma",
    "class_specified_affine.bias": "beta",
    **under("class_specified_affine.dist_conv_w", "position_gamma", PLAIN),
    **under("class_specified_affine.dist_conv_b", "position_beta", PLAIN),
    **under("inst_conv", "edge", PLAIN),
}
"""A conditional norm: official key -> ours."""

BLOCK_KEYS = {
    **under("conv_0", "conv_0", CONV),
    **under("conv_1", "conv_1", CONV),
    **under("conv_s", "conv_s", CONV),
    **under("norm_0", "norm_0", NORM_KEYS),
    **under("norm_1", "norm_1", NORM_KEYS),
    **under("norm_s", "norm_s", NORM_KEYS),
}
"""A residual block: official key -> ours."""

BLOCKS = ("head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3", "up_4")
"""The official names of the residual blocks in order; `up_4` exists with up-sampling `most` only."""

GENERATOR_KEYS = {
    **under("fc", "stem", PLAIN),
    **{key: name for i, block in enumerate(BLOCKS) for key, name in under(block, f"blocks.{i}", BLOCK_KEYS).items()},
    **under("conv_img", "to_rgb", PLAIN),
}
"""A generator: official key -> ours."""

ENCODER_KEYS = {
    **{key: name for i in range(6) for key, name in under(f"layer{i + 1}.0", f"layers.{i}", CONV).items()},
    **under("fc_mu", "mean", PLAIN),
    **under("fc_var", "log_variance", PLAIN),
}
"""An encoder: official key -> ours (below `encoder.` in a generator)."""

FIRST_KEYS: dict[Network, tuple[str, str]] = {
    "generator": ("head_0.", "_net_G.pth"),
    "discriminator": ("discriminator_0.", "_net_D.pth"),
    "encoder": ("fc_mu.", "_net_E.pth"),
}
"""What tells the networks apart, and how the official files that hold them end."""


def discriminator_keys(scales: int, layers: int) -> dict[str, str]:
    """A discriminator of `scales` patch discriminators with `layers` layers before the score: official key -> ours.

    Inner layers are `model{j}.0.0` with their norm in `model{j}.0.1`, or `model{j}.0` if they have no norm.
    """
    table: dict[str, str] = {}
    for i in range(scales):
        for j in range(layers + 1):
            official, conv = f"discriminator_{i}.model{j}.0", f"scales.{i}.convs.{j}"
            table |= under(official, conv, CONV)
            table |= under(f"{official}.0", conv, CONV)
            table |= under(f"{official}.1", f"scales.{i}.norms.{j}", {**PLAIN, **RUNNING})
    return table


def generator_state(official: State, source: str = "the state dict") -> dict[str, Tensor]:
    """An official generator's weights under our names.

    Args:
        official: its state dict; a `module.` prefix is taken off, float16 is widened.
        source: what errors call it, for example the file.

    Raises:
        CheckpointError: another network, or keys that no generator of the family has.
    """
    _require(official, "generator", source)
    return rename(official, GENERATOR_KEYS, source)


def encoder_state(official: State, source: str = "the state dict") -> dict[str, Tensor]:
    """An official encoder's weights under the names of `StyleEncoder`. Arguments and errors as `generator_state`."""
    _require(official, "encoder", source)
    return rename(official, ENCODER_KEYS, source)


def discriminator_state(official: State, source: str = "the state dict") -> dict[str, Tensor]:
    """An official discriminator's weights under our names. Arguments and errors as `generator_state`."""
    _require(official, "discriminator", source)
    names = [key.removeprefix("module.").split(".") for key in official]
    scales = [int(name[0].rpartition("_")[2]) for name in names if name[0].rpartition("_")[2].isdigit()]
    layers = [int(name[1].removeprefix("model")) for name in names if name[1].removeprefix("model").isdigit()]
    return rename(official, discriminator_keys(max(scales) + 1, max(layers, default=0) + 1), source)


def reorder_classes(state: State, labels: LabelSet) -> dict[str, Tensor]:
    """`with_classes_of` for a generator or discriminator under our names."""
    return with_classes_of(labels, state, _class_axis)


def _class_axis(name: str, value: Tensor) -> int | None:
    """Which axis of a tensor runs over the classes (and then, perhaps, over other inputs)."""
    if name.endswith((".gamma", ".beta")):  # the tables of CLADE
        return 0
    one_hot = name.endswith(".shared.weight") or (name.startswith("scales.") and name.endswith(".convs.0.weight"))
    return 1 if one_hot or (name == "stem.weight" and value.ndim == 4) else None


def _require(official: State, network: Network, source: str) -> None:
    keys = [key.removeprefix("module.") for key in official]
    found = [name for name, (first, _) in FIRST_KEYS.items() if any(key.startswith(first) for key in keys)]
    if network in found:
        return
    wanted = FIRST_KEYS[network][1]
    if found:
        article = "an" if found[0] == "encoder" else "a"
        raise CheckpointError(
            f"{source} holds {article} {found[0]} where the {network} is needed: give the file that ends in {wanted}."
        )
    raise CheckpointError(
        f"{source} holds no {network} of the official SPADE or CLADE code (first key: {keys[0] if keys else 'none'}): "
        f"give the file that ends in {wanted}."
    )


def infer_config(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    upsampling: Upsampling = "normal",
    use_instances: bool | None = None,
    position_rule: PositionRule = "official",
    source: str = "the state dict",
) -> SPADEGeneratorConfig:
    """The configuration of an official generator.

    Args:
        official: its state dict.
        labels: the label set it was trained with, its name, or the number of classes (the unknown class counts).
        image_size: (height, width) of its images.
        upsampling: `normal` (ADE20K, COCO-Stuff), `more` (Cityscapes) or `most`.
        use_instances: whether a SPADE generator reads instance edges; None: if it has one channel more than classes.
        position_rule: the rule of its positional encoding, if it uses one.
        source: what errors call the state dict.

    Raises:
        CheckpointError: not a generator, or not one of these labels, sizes and up-sampling.
        ConfigError: `image_size` is impossible for `upsampling`.
    """
    state, labels = generator_state(official, source), as_label_set(labels)
    norms = _block_norms(state, source)
    _check_blocks(len(norms), upsampling, source)
    channels = int(state["blocks.0.conv_0.weight"].shape[0])
    config = SPADEGeneratorConfig.build(
        labels=labels,
        image_size=image_size,
        base_channels=channels // 16,
        norm=norms[0] if len(set(norms)) == 1 else norms,
        use_instances=_uses_instances(state, labels, use_instances, source),
        upsampling=upsampling,
        position_rule=position_rule,
        **_norm_options(state),
        **_style_options(state),
    )
    _check_start(state, config, source)
    return config


def _block_norms(state: State, source: str) -> list[NormKind]:
    blocks = [i for i in range(len(BLOCKS)) if f"blocks.{i}.conv_0.weight" in state]
    if blocks != list(range(len(blocks))) or not {"stem.weight", "to_rgb.weight"} <= state.keys():
        raise CheckpointError(
            f"{source} is incomplete: a generator has fc, head_0, G_middle_0, ..., up_3 and conv_img."
        )
    return ["spade" if f"blocks.{i}.norm_0.shared.weight" in state else "clade" for i in blocks]


def _check_blocks(count: int, upsampling: Upsampling, source: str) -> None:
    if count != (8 if upsampling == "most" else 7):
        wanted = "'most'" if count == 8 else "'normal' or 'more'"
        raise CheckpointError(
            f"{source} has {count} residual blocks, which does not fit the up-sampling {upsampling!r}: give {wanted}."
        )


def _uses_instances(state: State, labels: LabelSet, wish: bool | None, source: str) -> bool:
    """Whether the generator reads instance edges; raises CheckpointError if its classes are not those of `labels`."""
    tables = [value for key, value in state.items() if key.endswith("norm_0.gamma")]
    if tables:  # CLADE says both
        found = len(tables[0])
        check_classes(found, str(found), labels, source)
        return any(key.endswith(".edge.weight") for key in state)
    return reads_edges(state["blocks.0.norm_0.shared.weight"].shape[1], labels, wish, source)


def _norm_options(state: State) -> dict[str, Any]:
    """Options that any block tells: statistics, spectral norm, positional encoding, the shape of SPADE's kernels."""
    running = "blocks.0.norm_0.statistics.running_mean" in state
    statistics: Statistics = "sync-batch" if running else "instance"
    options: dict[str, Any] = {"model": "spade", "statistics": statistics}
    options["spectral_norm"] = "blocks.0.conv_0.weight_u" in state
    if any(key.endswith("norm_0.gamma") for key in state):
        options["model"] = "clade"
    if any(key.endswith(".position_gamma.weight") for key in state):
        options |= {"model": "clade-icpe", "position": "modulation"}
    for key, value in state.items():
        if key.endswith("norm_0.shared.weight"):
            options |= {"hidden_channels": value.shape[0], "kernel_size": value.shape[-1]}
    return options


def _style_options(state: State) -> dict[str, int]:
    stem = state["stem.weight"]
    return {"latent_dim": stem.shape[1]} if stem.ndim == 2 else {}


def _check_start(state: State, config: SPADEGeneratorConfig, source: str) -> None:
    """The start size of a variational generator is in its first layer; other generators fit any size."""
    if config.latent_dim is None:
        return
    height, width = (side // config.size_multiple for side in config.image_size)
    found = state["stem.weight"].shape[0] // (16 * config.base_channels)
    if found != height * width:
        raise CheckpointError(
            f"{source} starts from {found} positions, but images of {config.image_size[0]}x{config.image_size[1]} with "
            f"the up-sampling {config.upsampling!r} start from {height}x{width}: check image size and up-sampling."
        )


def recognises(official: State) -> bool:
    """Whether a state dict is of one of the three networks of SPADE's code; ask the systems built on it first."""
    return has_keys(official, *(first for first, _ in FIRST_KEYS.values()))


def convert(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    encoder: State | None = None,
    source: str = "the state dict",
    upsampling: Upsampling = "normal",
    use_instances: bool | None = None,
    position_rule: PositionRule = "official",
) -> SPADEGenerator:
    """An official generator as one of ours, in evaluation mode.

    Args:
        official: its state dict.
        encoder: the state dict of its encoder (`*_net_E.pth`); a generator with a style needs it, others have none.
        labels, image_size, source, upsampling, use_instances, position_rule: as in `infer_config`. For the published
            models: `ade20k` (the classes are put in its order) or `ade20k-official` (they stay) at (256, 256);
            `coco-stuff` at (256, 256); `cityscapes` at (256, 512) with upsampling `more`.

    Raises:
        CheckpointError: incomplete, of another network, or not fitting the arguments.
        ConfigError: `image_size` is impossible for `upsampling`.
    """
    config = infer_config(
        official,
        labels=labels,
        image_size=image_size,
        upsampling=upsampling,
        use_instances=use_instances,
        position_rule=position_rule,
        source=source,
    )
    model = SPADEGenerator(config)
    _check_shift(config, source)
    state = reorder_classes(generator_state(official, source), config.labels)
    state |= encoder_part(encoder, config.latent_dim is not None, source)
    model.load_weights(state, source)
    return model.eval()


def _check_shift(config: SPADEGeneratorConfig, source: str) -> None:
    """The official positional encoding leaves out index 0, which is unknown as long as the classes are not shifted."""
    if config.labels == LABEL_SETS["ade20k"] and config.encoding_rule == "official":
        raise CheckpointError(
            f"{source} gives index 0 no position, and that is the unknown class in the official order only: give the "
            "label set ade20k-official."
        )


def encoder_part(encoder: State | None, takes_style: bool, source: str) -> dict[str, Tensor]:
    """The weights of the attribute `encoder` of a generator; raises CheckpointError if they should not or must be."""
    if not takes_style:
        if encoder is not None:
            raise CheckpointError(f"{source} takes no style, so the encoder does not belong to it.")
        return {}
    if encoder is None:
        raise CheckpointError(f"{source} takes a style: give its encoder too, the file that ends in _net_E.pth.")
    state = encoder_state(encoder, f"the encoder of {source}")
    return {f"encoder.{name}": value for name, value in state.items()}


def discriminator_from_state(
    official: State,
    *,
    labels: LabelSet | str | int,
    use_instances: bool | None = None,
    last_stride: int = 1,
    source: str = "the state dict",
) -> MultiScaleDiscriminator:
    """An official discriminator (`*_net_D.pth`), in training mode: it is of use to go on training.

    Args:
        official: its state dict.
        labels: the label set it was trained with, its name, or the number of classes; as in `convert`.
        use_instances: whether it reads instance edges; None: if it has one channel more than classes and image.
        last_stride: of its last inner layer: 2 in SEAN and CA2-SIS, whose checkpoints do not tell.
        source: what errors call the state dict.

    Raises:
        CheckpointError: incomplete, of another network, or of other labels.
    """
    labels = as_label_set(labels)
    state = discriminator_state(official, source)
    if "scales.0.convs.0.weight" not in state:
        raise CheckpointError(f"{source} is incomplete: the first layer of its discriminator is missing.")
    base, channels = state["scales.0.convs.0.weight"].shape[:2]
    instances = reads_edges(channels - 3, labels, use_instances, source)
    discriminator = MultiScaleDiscriminator(
        labels.num_classes,
        instances=instances,
        base_channels=base,
        num_scales=1 + max(int(name.split(".")[1]) for name in state),
        num_layers=max(int(name.split(".")[3]) for name in state),
        norm=_discriminator_norm(state),
        spectral="scales.0.convs.1.weight_u" in state,
        last_stride=last_stride,
    )
    load_discriminator(discriminator, reorder_classes(state, labels), source)
    return discriminator


def _discriminator_norm(state: State) -> Literal["instance", "sync-batch", "none"]:
    if "scales.0.norms.1.running_mean" in state:
        return "sync-batch"
    return "none" if "scales.0.convs.1.bias" in state and "scales.0.convs.2.weight" in state else "instance"
