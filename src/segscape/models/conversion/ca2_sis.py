"""Official checkpoints of CA2-SIS (`*_net_G.pth` of TFonta/CA2SIS) under our names.

The variants that exist: with the mapping network (`noise_encoder`), without it (before 13 December 2023), or with a
wide one (noise of 256 dimensions, before 15 January 2024), all told by their shapes; and without the final tanh (before
19 December 2023), which no shape tells.
"""

from __future__ import annotations

import re
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from segscape.errors import CheckpointError
from segscape.labels import LABEL_SETS, LabelSet, as_label_set
from segscape.models.ca2_sis import STYLE_LEVELS, CA2SISConfig, CA2SISGenerator
from segscape.models.conversion.official import PLAIN, State, check_classes, has_keys, modernize, rename, under

ATTENTION_KEYS = {
    "to_q.weight": "query.weight",
    "to_k.weight": "key.weight",
    "to_v.weight": "value.weight",
    **under("to_out.0", "out", PLAIN),
}
"""An attention: official key -> ours."""

TRANSFORMER_KEYS = {
    **under("norm", "norm", PLAIN),
    **under("proj_in", "proj_in", PLAIN),
    **under("proj_out", "proj_out", PLAIN),
    **under("transformer_blocks.0.attn1", "self_attention", ATTENTION_KEYS),
    **under("transformer_blocks.0.attn2", "cross_attention", ATTENTION_KEYS),
    **under("transformer_blocks.0.ff.net.0.proj", "feed_forward.expand", PLAIN),
    **under("transformer_blocks.0.ff.net.2", "feed_forward.out", PLAIN),
    **under("transformer_blocks.0.norm1", "self_norm", PLAIN),
    **under("transformer_blocks.0.norm2", "cross_norm", PLAIN),
    **under("transformer_blocks.0.norm3", "feed_norm", PLAIN),
}
"""A transformer: official key -> ours."""

RESIDUAL_KEYS = {
    **under("in_layers.0", "norm_0", PLAIN),
    **under("in_layers.2", "conv_0", PLAIN),
    **under("out_layers.0", "norm_1", PLAIN),
    **under("out_layers.3", "conv_1", PLAIN),
    **under("skip_connection", "shortcut", PLAIN),
}
"""A residual block: official key -> ours."""


def style_encoder_keys(levels: int = STYLE_LEVELS) -> dict[str, str]:
    """A style encoder with so many halvings: official key -> ours."""
    table = {**under("Encoder.first_layer.0", "first.0", PLAIN), **under("Encoder.first_layer.1", "first.1", PLAIN)}
    for i in range(levels):
        table |= under(f"Encoder.enc_layer_{i}.0", f"down.{i}.0", PLAIN)
        table |= under(f"Encoder.enc_layer_{i}.1", f"down.{i}.1", PLAIN)
    for i in range(levels - 1):
        table |= under(f"Decoder.dec_layer_{i}.1", f"up.{i}.0", PLAIN)
        table |= under(f"Decoder.dec_layer_{i}.2", f"up.{i}.1", PLAIN)
        table |= under(f"out.out_{i}.0", f"heads.{i}", PLAIN)
    return table


MAPPING_KEYS = {
    key: name
    for i in (0, 2, 4, 6)
    for key, name in {
        **under(f"shared.{i}", f"shared.{i}", PLAIN),
        **under(f"unshared.{i}", f"per_class.{i}", PLAIN),  # once `joined_mapping` has joined the classes
    }.items()
}
"""A mapping network: official key -> ours."""

GENERATOR_KEYS = {
    **under("encs.encs.0", "mask_embedder", PLAIN),
    **under("style_encoder", "style_encoder", style_encoder_keys()),
    **under("noise_encoder", "mapping", MAPPING_KEYS),
    **under("reshape_conv", "stem", PLAIN),
    **{
        key: name for i in range(5) for key, name in under(f"res{i + 2}", f"blocks.{i}.residual", RESIDUAL_KEYS).items()
    },
    **{
        key: name
        for i in range(5)
        for key, name in under(f"cross{i + 2}", f"blocks.{i}.transformer", TRANSFORMER_KEYS).items()
    },
    **under("out_conv", "to_rgb", PLAIN),
}
"""A generator, the classes of its mapping network joined: official key -> ours."""


def joined_mapping(official: State) -> dict[str, Tensor]:
    """A state dict in which the branches of the mapping network, one for each class, are grouped convolutions.

    `[prefix]unshared.{class}.{layer}.{weight,bias}` become `[prefix]unshared.{layer}.{weight,bias}`, class after class.
    """
    branch = re.compile(r"(|.*\.)unshared\.(\d+)\.(\d+)\.(weight|bias)")
    matches = {key: branch.fullmatch(key) for key in official}
    state = {key: value for key, value in official.items() if matches[key] is None}
    parts: dict[str, dict[int, Tensor]] = {}
    for key, match in matches.items():
        if match is not None:
            prefix, number, layer, kind = match.groups()
            value = official[key].unsqueeze(-1) if kind == "weight" else official[key]
            parts.setdefault(f"{prefix}unshared.{layer}.{kind}", {})[int(number)] = value
    return state | {key: torch.cat([found[i] for i in sorted(found)]) for key, found in parts.items()}


def recognises(official: State) -> bool:
    """Whether a state dict is of a generator of CA2-SIS."""
    return has_keys(official, "encs.encs.")


def generator_state(official: State, source: str = "the state dict") -> dict[str, Tensor]:
    """An official generator's weights under our names; raises CheckpointError on keys that it does not have."""
    return rename(joined_mapping(modernize(official)), GENERATOR_KEYS, source)


def convert(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    source: str = "the state dict",
    final_tanh: bool = True,
    heads: int = 8,
    last_heads: int = 4,
    norm_groups: int = 32,
) -> CA2SISGenerator:
    """An official generator as one of ours, in evaluation mode.

    Args:
        official: its state dict.
        labels: the label set that it was trained with, its name, or the number of classes (the unknown class counts).
        image_size: (height, width) of its images: (256, 256); (256, 512) for Cityscapes.
        source: what errors call the state dict.
        final_tanh: false for checkpoints from before 19 December 2023.
        heads, last_heads, norm_groups: constants of the official code, which shapes do not tell.

    Raises:
        CheckpointError: not a complete generator, or not of these labels and sizes.
        ConfigError: `image_size` is impossible.
    """
    state = generator_state(official, source)
    labels = as_label_set(labels)
    _check_order(labels, source)
    try:
        options = _options(state, heads, last_heads)
    except KeyError as missing:
        raise CheckpointError(f"{source} is incomplete: a generator of CA2-SIS has {missing}.") from None
    classes = options.pop("classes")
    check_classes(classes, str(classes), labels, source)
    config = CA2SISConfig.build(
        labels=labels, image_size=image_size, final_tanh=final_tanh, norm_groups=norm_groups, **options
    )
    _check_grid(state, config, source)
    model = CA2SISGenerator(config)
    model.load_weights(state, source)
    return model.eval()


def _options(state: State, heads: int, last_heads: int) -> dict[str, Any]:
    """What shapes tell, as options of the config, and `classes`."""
    grouped = state["style_encoder.down.0.0.weight"]  # [classes * 2 f, f, 3, 3]
    features = grouped.shape[1]
    classes = grouped.shape[0] // (2 * features)
    stem, shared = state["stem.weight"], state.get("mapping.shared.0.weight")
    inner, last_inner = (state[f"blocks.{i}.transformer.proj_in.weight"].shape[0] for i in (0, 4))
    options = {
        "classes": classes,
        "base_channels": stem.shape[0] // 16,
        "exclude_background": stem.shape[1] == classes - 1,
        "heads": heads,
        "head_channels": inner // heads,
        "last_heads": last_heads,
        "last_head_channels": last_inner // last_heads,
        "mask_size": isqrt(state["mask_embedder.weight"].shape[1]),
        "style_features": features,
        "style_channels": state["style_encoder.heads.0.weight"].shape[0] // classes,
        "mapping_dim": None if shared is None else shared.shape[1],
    }
    return options if shared is None else {**options, "mapping_channels": shared.shape[0]}


def _check_order(labels: LabelSet, source: str) -> None:
    """The style encoder mixes neighbouring classes, so that they cannot be put into another order."""
    if labels == LABEL_SETS["ade20k"]:
        raise CheckpointError(
            f"{source} was trained with the unknown class first, and a style encoder of CA2-SIS works in the order of "
            "its training only: give the label set ade20k-official."
        )


def _check_grid(state: State, config: CA2SISConfig, source: str) -> None:
    cells, (height, width) = state["mask_embedder.weight"].shape[0], config.grid
    if cells != height * width:
        raise CheckpointError(
            f"{source} has shape embeddings of {cells} cells, but images of {config.image_size[0]}x"
            f"{config.image_size[1]} have {height}x{width}: check the image size."
        )
