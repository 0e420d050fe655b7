"""Official checkpoints of GroupDNet, and of GroupDNet-CLADE in the same layout, under our names.

The keys are those of SPADE, so their tables are in spade.py; groups and widths are read from the shapes. The label set,
the image size and the up-sampling are not in the file. Classes keep the order of the checkpoint, as each has channels
of its own in every layer: models of ADE20K belong to the label set `ade20k-official`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from torch import Tensor

from segscape.errors import CheckpointError
from segscape.labels import LABEL_SETS, LabelSet, as_label_set
from segscape.models.conversion.official import State, without_prefix
from segscape.models.conversion.spade import encoder_part, encoder_state, generator_state
from segscape.models.groupdnet import BLOCKS, CODE_CHANNELS, GroupDNet, GroupDNetConfig, Modulation, spade_options

UNUSED: Final = f"blocks.{BLOCKS}."
"""The official ADE20K generator owns an eighth block, `up_4`, that never runs; it is left out."""


def recognises(official: State) -> bool:
    """Whether a state dict is that of a generator of GroupDNet: of SPADE's keys, with groups in its first block."""
    state = without_prefix(official)
    norm, first = "head_0.norm_0.", state.get("head_0.conv_0.weight_orig")
    tables = [state.get(norm + name) for name in ("mlp_gamma.bias", "class_specified_affine.weight")]
    return first is not None and any(table is not None and first.shape[1] < table.shape[-1] for table in tables)


def weights(official: State, source: str = "the state dict") -> dict[str, Tensor]:
    """An official generator's weights under our names, without the block that never runs.

    Raises:
        CheckpointError: another network, or keys that no generator of the family has.
    """
    state = generator_state(official, source)
    return {name: value for name, value in state.items() if not name.startswith(UNUSED)}


def infer_config(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    upsampling: Literal["normal", "more"] = "more",
    use_instances: bool | None = None,
    encoder: State | None = None,
    source: str = "the state dict",
) -> GroupDNetConfig:
    """The configuration of an official generator.

    Args:
        official: its state dict.
        labels: the label set it was trained with, its name, or the number of classes (the unknown class counts).
        image_size: (height, width) of its images.
        upsampling: `more` (the published models) or `normal`.
        use_instances: of GroupDNet-CLADE, whether the discriminator reads instance edges; else the weights tell.
        encoder: the state dict of its encoder, which has a width of its own.
        source: what errors call the state dict.

    Raises:
        CheckpointError: not a generator, or not one of these labels.
        ConfigError: `image_size` is impossible for `upsampling`.
    """
    state, labels = weights(official, source), as_label_set(labels)
    try:
        options = {
            **_shape_options(state, labels.num_classes),
            **_norm_options(state, labels, bool(use_instances), source),
            **_encoder_options(encoder, labels.num_classes),
        }
    except KeyError as error:
        raise CheckpointError(f"{source} is incomplete: it has no {error} of a GroupDNet.") from None
    return GroupDNetConfig.build(labels=labels, image_size=image_size, upsampling=upsampling, **options)


def _shape_options(state: State, classes: int) -> dict[str, Any]:
    """Widths, groups and statistics."""
    widths = [len(state["stem.weight"]), *(len(state[f"blocks.{i}.conv_1.weight"]) for i in range(BLOCKS))]
    running = "blocks.0.norm_0.statistics.running_mean" in state
    return {
        "base_channels": widths[-1],
        "widths": widths,
        "groups": [widths[i] // state[f"blocks.{i}.conv_0.weight"].shape[1] for i in range(BLOCKS)],
        "stem_groups": CODE_CHANNELS * classes // state["stem.weight"].shape[1],
        "statistics": "sync-batch" if running else "instance",
    }


def _norm_options(state: State, labels: LabelSet, use_instances: bool, source: str) -> dict[str, Any]:
    table = state.get("blocks.0.norm_0.gamma")
    if table is None:
        return _modulation_options(state, labels, source)
    if len(table) != labels.num_classes:
        raise _other_classes(labels, source)
    return {"model": "groupdnet-clade", "norm": "clade", "use_instances": use_instances}


def _modulation_options(state: State, labels: LabelSet, source: str) -> dict[str, Any]:
    """How the convolutions of GroupSPADE are grouped: the way that gives their shapes in every block."""
    found, groups = [], []
    for i in range(BLOCKS):
        shared, gamma = (state[f"blocks.{i}.norm_0.{name}.weight"] for name in ("shared", "gamma"))
        found.append((len(shared), shared.shape[1], gamma.shape[1]))
        groups.append(len(gamma) // state[f"blocks.{i}.conv_0.weight"].shape[1])
    for modulation in get_args(Modulation):
        for instances in (False, True):
            expected = [_shapes(modulation, labels.num_classes, group, found[0][0], instances) for group in groups]
            if found == expected:
                own = {"hidden_channels": found[0][0]} if modulation == "by-group" else {}
                return {"modulation": modulation, "use_instances": instances, **own}
    raise _other_classes(labels, source)


def _shapes(
    modulation: Modulation, classes: int, groups: int, hidden_channels: int, instances: bool
) -> tuple[int, ...]:
    """Hidden channels, and input channels of each group of the first and second convolutions."""
    options = spade_options(modulation, classes, groups, hidden_channels)
    hidden_channels = options["hidden_channels"]
    return (
        hidden_channels,
        classes * (1 + instances) // options["shared_groups"],
        hidden_channels // options["groups"],
    )


def _other_classes(labels: LabelSet, source: str) -> CheckpointError:
    return CheckpointError(
        f"{source} was not trained with the {labels.num_classes} classes of the label set {labels.name!r}: give the "
        "label set of the checkpoint (an unknown class counts)."
    )


def _encoder_options(encoder: State | None, classes: int) -> dict[str, int]:
    if encoder is None:
        return {}
    return {"encoder_channels": len(encoder_state(encoder)["layers.0.weight"]) // classes}


def convert(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    encoder: State | None = None,
    source: str = "the state dict",
    upsampling: Literal["normal", "more"] = "more",
    use_instances: bool | None = None,
) -> GroupDNet:
    """An official generator with its encoder as one of ours, in evaluation mode.

    Args:
        official: the generator's state dict.
        encoder: the state dict of its encoder (`*_net_E.pth`), which is needed.
        labels, image_size, source, upsampling, use_instances: as in `infer_config`. For the published models:
            `deepfashion` and `ade20k-official` at (256, 256), `cityscapes` at (256, 512).

    Raises:
        CheckpointError: incomplete, of another network, or not fitting the arguments.
        ConfigError: `image_size` is impossible for `upsampling`.
    """
    own_encoder = encoder_part(encoder, takes_style=True, source=source)
    config = infer_config(
        official,
        labels=labels,
        image_size=image_size,
        upsampling=upsampling,
        use_instances=use_instances,
        encoder=encoder,
        source=source,
    )
    if config.labels == LABEL_SETS["ade20k"]:
        raise CheckpointError(
            f"{source} has channels of its own for each class, so the official order of classes stays: give the "
            "label set ade20k-official."
        )
    model = GroupDNet(config)
    model.load_weights(weights(official, source) | own_encoder, source)
    return model.eval()
