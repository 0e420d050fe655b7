"""Official checkpoints of pix2pixHD (`*_net_G.pth`, `_net_E.pth`, `_net_D.pth`), and of its generator in SPADE's code.

The official networks are flat sequences, whose indices count paddings and activations, too. In SPADE's code a
convolution and its norm are one step of the sequence. Width, depth, enhancers, norm and kernels are inferred; the label
set and the image size must be given. The styles that the official code stores (`features_clustered_*.npy`) are pickled
and are not read: `Pix2PixHDGenerator.fit_styles` finds them anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from segscape.discriminators import MultiScaleDiscriminator
from segscape.errors import CheckpointError
from segscape.labels import LabelSet, as_label_set
from segscape.models.conversion.official import (
    CONV,
    PLAIN,
    RUNNING,
    State,
    load_discriminator,
    rename,
    under,
    with_classes_of,
    without_prefix,
)
from segscape.models.pix2pixhd import Pix2PixHDConfig, Pix2PixHDGenerator
from segscape.nn.normed_convolution import ConvolutionNorm

NORM = {**PLAIN, **RUNNING}
"""A batch norm: official key -> ours."""


@dataclass(frozen=True)
class Shape:
    """What the keys of a generator or an encoder say of its structure.

    Attributes:
        depth, blocks: halvings and residual blocks of the global network.
        enhancers, enhancer_blocks: the local enhancers, and the residual blocks of each.
        family: whether it is the generator in SPADE's code.
        paired: there, whether convolutions have a norm; without one they are steps of their own.
    """

    depth: int
    blocks: int
    enhancers: int = 0
    enhancer_blocks: int = 0
    family: bool = False
    paired: bool = True


def generator_keys(shape: Shape) -> dict[str, str]:
    """A generator: official key -> ours."""
    table = {key: f"coarse.{name}" for key, name in (family_keys if shape.family else hourglass_keys)(shape).items()}
    for number in range(1, shape.enhancers + 1):
        ours, blocks = f"enhancers.{number - 1}", shape.enhancer_blocks
        table |= _step(f"model{number}_1", 1, f"{ours}.stem") | _step(f"model{number}_1", 4, f"{ours}.down")
        for place in range(blocks):
            table |= _block(f"model{number}_2.{place}", f"{ours}.blocks.{place}")
        table |= _step(f"model{number}_2", blocks, f"{ours}.up")
        table |= under(f"model{number}_2.{blocks + 4}", f"{ours}.head", PLAIN)
    return table


def hourglass_keys(shape: Shape) -> dict[str, str]:
    """A global network, or an encoder (which has no blocks): official key -> ours."""
    depth, blocks = shape.depth, shape.blocks
    table = _step("model", 1, "stem")
    for level in range(depth):
        table |= _step("model", 4 + 3 * level, f"down.{level}")
        table |= _step("model", 4 + 3 * depth + blocks + 3 * level, f"up.{level}")
    for place in range(blocks):
        table |= _block(f"model.{4 + 3 * depth + place}", f"blocks.{place}")
    return table | under(f"model.{5 + 6 * depth + blocks}", "head", PLAIN)


def family_keys(shape: Shape) -> dict[str, str]:
    """The generator in SPADE's code: official key -> ours below `coarse.`."""
    depth, blocks, paired = shape.depth, shape.blocks, shape.paired
    table = _pair("model.1", "stem", paired)
    for level in range(depth):
        table |= _pair(f"model.{3 + 2 * level}", f"down.{level}", paired)
        table |= _pair(f"model.{3 + 2 * depth + blocks + 2 * level}", f"up.{level}", paired)
    for place in range(blocks):
        block = f"model.{3 + 2 * depth + place}.conv_block"
        table |= _pair(f"{block}.1", f"blocks.{place}.first", paired)
        table |= _pair(f"{block}.4", f"blocks.{place}.second", paired)
    return table | under(f"model.{4 + 4 * depth + blocks}", "head", PLAIN)


def discriminator_keys(scales: int, layers: int, features: bool = True) -> dict[str, str]:
    """A discriminator: official key -> ours. Official scale 0 is the coarsest, ours the finest.

    Args:
        scales: patch discriminators.
        layers: layers before the score, one more than `n_layers_D`.
        features: whether it was built for feature matching; without, each scale is one flat sequence.
    """
    table: dict[str, str] = {}
    for scale in range(scales):
        ours = f"scales.{scales - 1 - scale}"
        for layer in range(layers + 1):
            index = 0 if layer == 0 else 3 * layer - 1
            conv = f"scale{scale}_layer{layer}.0" if features else f"layer{scale}.{index}"
            norm = f"scale{scale}_layer{layer}.1" if features else f"layer{scale}.{index + 1}"
            table |= under(conv, f"{ours}.convs.{layer}", PLAIN) | under(norm, f"{ours}.norms.{layer}", NORM)
    return table


def recognises(official: State) -> bool:
    """Whether a state dict is of a generator of pix2pixHD, in either code."""
    return any(re.match(r"(module\.)?model\.\d+\.conv_block\.", key) for key in official)


def convert(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    encoder: State | None = None,
    source: str = "the state dict",
    use_instances: bool | None = None,
    feature_regions: Literal["instance", "class"] = "instance",
) -> Pix2PixHDGenerator:
    """An official generator as one of ours, in evaluation mode.

    Args:
        official: its state dict.
        labels: the label set it was trained with, its name, or the number of classes (the unknown class counts). For
            the published model: `cityscapes`.
        image_size: (height, width) of its images; of the published model (1024, 2048).
        encoder: the state dict of its encoder, if it reads a style map.
        source: what errors call the state dict.
        use_instances: whether it reads instance edges; None: if it has a channel more than it needs otherwise.
        feature_regions: what shares a style: objects (`instance_feat`), or classes (`label_feat`).

    Raises:
        CheckpointError: incomplete, of another network, or not fitting the arguments.
        ConfigError: `image_size` is impossible.
    """
    config = infer_config(
        official,
        labels=labels,
        image_size=image_size,
        encoder=encoder,
        source=source,
        use_instances=use_instances,
        feature_regions=feature_regions,
    )
    model = Pix2PixHDGenerator(config)
    state = generator_state(official, source) | {k: v for k, v in model.state_dict().items() if k.startswith("cluster")}
    if encoder is not None:
        state |= {f"encoder.{name}": value for name, value in encoder_state(encoder).items()}
    model.load_weights(with_classes_of(config.labels, state, _class_axis), source)
    return model.eval()


def generator_state(official: State, source: str = "the state dict") -> dict[str, Tensor]:
    """An official generator's weights under our names; raises CheckpointError on other networks."""
    state = _without_idle_statistics(official)
    return rename(state, generator_keys(generator_shape(state, source)), source)


def encoder_state(official: State, source: str = "the encoder") -> dict[str, Tensor]:
    """An official encoder's weights under the names of `Hourglass`; raises CheckpointError on other networks."""
    state = _without_idle_statistics(official)
    found = [re.fullmatch(r"model\.(\d+)\.weight", key) for key, value in state.items() if value.ndim == 4]
    last = max((int(match[1]) for match in found if match), default=0)
    if last < 11 or last % 6 != 5 or recognises(official):
        raise CheckpointError(f"{source} holds no encoder of pix2pixHD: give the file that ends in _net_E.pth.")
    return rename(state, hourglass_keys(Shape((last - 5) // 6, 0)), source)


def generator_shape(official: State, source: str = "the state dict") -> Shape:
    """The structure of a generator; raises CheckpointError if it is none of pix2pixHD, or incomplete."""
    state = _without_idle_statistics(official)
    blocks = _numbers(r"model\.(\d+)\.conv_block\.", state)
    enhancers = _numbers(r"model(\d+)_1\.", state)
    enhancer_blocks = _numbers(r"model1_2\.(\d+)\.conv_block\.", state)
    family = any(key.endswith("weight_orig") for key in state)
    before, step = (3, 2) if family else (4, 3)
    first = blocks[0] - before if blocks else 0
    if first < 1 or first % step:
        raise CheckpointError(f"{source} holds no generator of pix2pixHD: give the file that ends in _net_G.pth.")
    return Shape(
        depth=first // step,
        blocks=len(blocks),
        enhancers=len(enhancers),
        enhancer_blocks=len(enhancer_blocks),
        family=family,
        paired="model.1.0.weight_orig" in state,
    )


def infer_config(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    encoder: State | None = None,
    source: str = "the state dict",
    use_instances: bool | None = None,
    **untold: Any,
) -> Pix2PixHDConfig:
    """The configuration of an official generator.

    Arguments and errors are those of `convert`; `untold` are fields of the configuration which the weights do not tell.
    """
    labels, shape, state = as_label_set(labels), generator_shape(official, source), generator_state(official, source)
    if not {"coarse.stem.convolution.weight", "coarse.blocks.0.first.convolution.weight"} <= state.keys():
        raise CheckpointError(f"{source} is incomplete: the first layers of the generator are missing.")
    options = {"feature_channels": None, **untold}
    if shape.enhancers:
        options |= {"enhancers": shape.enhancers, "num_enhancer_blocks": shape.enhancer_blocks}
    if encoder is not None:
        options |= _encoder_options(encoder_state(encoder))
    stem = state["coarse.stem.convolution.weight"]
    edges = _edge_channels(stem.shape[1], labels, options["feature_channels"] or 0, source)
    if use_instances is not None and use_instances is not bool(edges):
        raise CheckpointError(
            f"{source} has {edges} channels for instance edges, so use_instances={use_instances} does not fit it."
        )
    return Pix2PixHDConfig.build(
        labels=labels,
        image_size=image_size,
        use_instances=bool(edges),
        base_channels=stem.shape[0],
        num_downsamplings=shape.depth,
        num_blocks=shape.blocks,
        norm=_norm(state, shape),
        stem_kernel_size=stem.shape[-1],
        block_kernel_size=state["coarse.blocks.0.first.convolution.weight"].shape[-1],
        **options,
    )


def discriminator_from_state(
    official: State, *, labels: LabelSet | str | int, source: str = "the state dict"
) -> MultiScaleDiscriminator:
    """An official discriminator (`*_net_D.pth`), in training mode: it is of use to go on training.

    Args:
        official: its state dict; of one without feature matching, too.
        labels: the label set it was trained with, its name, or the number of classes.
        source: what errors call the state dict.

    Raises:
        CheckpointError: incomplete, of another network, or of other labels.
    """
    state, labels = _without_idle_statistics(official), as_label_set(labels)
    renamed = rename(state, _discriminator_table(state, source), source)
    base, channels = renamed["scales.0.convs.0.weight"].shape[:2]
    discriminator = MultiScaleDiscriminator(
        labels.num_classes,
        instances=bool(_edge_channels(channels - 3, labels, 0, source)),
        base_channels=base,
        num_scales=1 + max(int(name.split(".")[1]) for name in renamed),
        num_layers=max(int(name.split(".")[3]) for name in renamed),
        norm="batch" if "scales.0.norms.1.running_mean" in renamed else "instance",
        spectral=False,
        bias=True,
    )
    load_discriminator(discriminator, with_classes_of(labels, renamed, _class_axis), source)
    return discriminator


def _discriminator_table(state: State, source: str) -> dict[str, str]:
    scales = _numbers(r"scale(\d+)_layer\d+\.", state)
    if scales:
        return discriminator_keys(len(scales), _numbers(r"scale\d+_layer(\d+)\.", state)[-1])
    scales, places = _numbers(r"layer(\d+)\.", state), _numbers(r"layer\d+\.(\d+)\.", state)
    if not scales or places[-1] % 3 != 2:
        raise CheckpointError(f"{source} holds no discriminator of pix2pixHD: give the file that ends in _net_D.pth.")
    return discriminator_keys(len(scales), (places[-1] + 1) // 3, features=False)


def _step(prefix: str, index: int, ours: str) -> dict[str, str]:
    """A convolution and the norm behind it in a flat sequence."""
    convolution = under(f"{prefix}.{index}", f"{ours}.convolution", PLAIN)
    return convolution | under(f"{prefix}.{index + 1}", f"{ours}.norm", NORM)


def _block(official: str, ours: str) -> dict[str, str]:
    return _step(f"{official}.conv_block", 1, f"{ours}.first") | _step(f"{official}.conv_block", 5, f"{ours}.second")


def _pair(official: str, ours: str, paired: bool) -> dict[str, str]:
    """A convolution and its norm in SPADE's code."""
    if not paired:
        return under(official, f"{ours}.convolution", CONV)
    return under(f"{official}.0", f"{ours}.convolution", CONV) | under(f"{official}.1", f"{ours}.norm", NORM)


def _numbers(pattern: str, state: State) -> list[int]:
    """The distinct numbers that keys have where the pattern has its group, ascending."""
    return sorted({int(match[1]) for key in state if (match := re.match(pattern, key))})


def _without_idle_statistics(official: State) -> dict[str, Tensor]:
    """The state without prefix and without the statistics that old versions of PyTorch saved for instance norm."""
    state = without_prefix(official)
    return {
        key: value for key, value in state.items()
        if key.rpartition(".")[2] not in RUNNING or f"{key.rpartition('.')[0]}.weight" in state
    }  # fmt: skip


def _norm(state: Mapping[str, Tensor], shape: Shape) -> ConvolutionNorm:
    batch = "coarse.stem.norm.running_mean" in state
    if not shape.family:
        return "batch" if batch else "instance"
    if not shape.paired:
        return "spectral"
    return "spectral-batch" if batch else "spectral-instance"


def _encoder_options(state: State) -> dict[str, int]:
    return {
        "encoder_channels": state["stem.convolution.weight"].shape[0],
        "encoder_downsamplings": sum(key.startswith("down.") and key.endswith("n.weight") for key in state),
        "feature_channels": state["head.weight"].shape[0],
    }


def _edge_channels(inputs: int, labels: LabelSet, features: int, source: str) -> int:
    """How many channels of instance edges there are, 0 or 1; raises CheckpointError if the sum cannot be right."""
    edges = inputs - labels.num_classes - features
    if edges in (0, 1):
        return edges
    hint = "" if features else ", or its encoder if it reads a style map"
    raise CheckpointError(
        f"{source} reads {inputs} channels, which are not the {labels.num_classes} classes of {labels.name!r}"
        f"{f', {features} of a style' if features else ''} and perhaps instance edges: give its label set{hint}."
    )


def _class_axis(name: str, value: Tensor) -> int | None:
    """Which axis of a tensor runs over the classes."""
    reads_layout = name.endswith("stem.convolution.weight") and not name.startswith("encoder.")
    return 1 if reads_layout or re.fullmatch(r"scales\.\d+\.convs\.0\.weight", name) else None
