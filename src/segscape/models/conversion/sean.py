"""Official checkpoints of SEAN (`*_net_G.pth`), with the style encoder in them.

Discriminators are converted by `segscape.models.conversion.convert_discriminator`.
"""

from __future__ import annotations

import re
from typing import Literal

import torch
from torch import Tensor

from segscape.errors import CheckpointError
from segscape.labels import LabelSet, as_label_set
from segscape.models.conversion.official import (
    CONV,
    PLAIN,
    RUNNING,
    State,
    has_keys,
    reads_edges,
    rename,
    under,
    without_prefix,
)
from segscape.models.conversion.spade import BLOCKS
from segscape.models.sean import SEANGenerator, SEANGeneratorConfig

NORM_KEYS = {
    **under("param_free_norm", "statistics", RUNNING),
    **under("Spade.mlp_shared.0", "layout_norm.shared", PLAIN),
    **under("Spade.mlp_gamma", "layout_norm.gamma", PLAIN),
    **under("Spade.mlp_beta", "layout_norm.beta", PLAIN),
    **under("fc_mu", "style.linear", PLAIN),
    **under("conv_gamma", "style.gamma", PLAIN),
    **under("conv_beta", "style.beta", PLAIN),
    "blending_gamma": "blend_gamma",
    "blending_beta": "blend_beta",
    "noise_var": "noise.weight",
}
"""A norm (ACE), after `joined`: official key -> ours."""

BLOCK_KEYS = {
    **under("conv_0", "conv_0", CONV),
    **under("conv_1", "conv_1", CONV),
    **under("conv_s", "conv_s", CONV),
    **under("ace_0", "norm_0", NORM_KEYS),
    **under("ace_1", "norm_1", NORM_KEYS),
    **under("ace_s", "norm_s", NORM_KEYS),
}
"""A residual block, after `joined`: official key -> ours."""

ENCODER_KEYS = {
    **{key: name for i in range(4) for key, name in under(f"model.{1 + 3 * i}", f"layers.{i}", PLAIN).items()},
    **under("model.14", "to_style", PLAIN),
}
"""The style encoder: official key -> ours."""

GENERATOR_KEYS = {
    **under("Zencoder", "style_encoder", ENCODER_KEYS),
    **under("fc", "stem", PLAIN),
    **{
        key: name for i, block in enumerate(BLOCKS[:7]) for key, name in under(block, f"blocks.{i}", BLOCK_KEYS).items()
    },
    **under("conv_img", "to_rgb", PLAIN),
}
"""A generator, after `joined`: official key -> ours."""

_CLASS_LAYER = re.compile(r"(.*\bfc_mu)(\d+)\.(weight|bias)")


def joined(official: State, num_codes: int) -> dict[str, Tensor]:
    """The state with the layers `fc_mu0`, `fc_mu1`, ... of the classes as one, and without what no one reads.

    That is the statistics of SPADE inside a norm, and the layers beyond `num_codes`: the official code makes 19 of them
    whatever the number of classes.
    """
    state: dict[str, Tensor] = {}
    layers: dict[str, dict[int, Tensor]] = {}
    for key, value in without_prefix(official).items():
        if found := _CLASS_LAYER.fullmatch(key):
            layers.setdefault(f"{found[1]}.{found[3]}", {})[int(found[2])] = value
        elif "Spade.param_free_norm." not in key:
            state[key] = value
    for key, parts in layers.items():
        state[key] = torch.stack([parts[i] for i in sorted(parts) if i < num_codes])
    return state


def recognises(official: State) -> bool:
    """Whether a state dict is of a SEAN generator."""
    return has_keys(official, "Zencoder.")


def convert(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    source: str = "the state dict",
    upsampling: Literal["normal", "more"] = "normal",
    use_instances: bool | None = None,
) -> SEANGenerator:
    """An official generator as one of ours, in evaluation mode. It has no mean codes yet, see `fit_mean_codes`.

    Args:
        official: its state dict.
        labels: the label set it was trained with, its name, or the number of classes: for the published model
            `celebamask-hq`, at (256, 256).
        image_size: (height, width) of its images.
        source: what errors call the state dict.
        upsampling: `normal` or `more`.
        use_instances: whether it reads instance edges; None: if it has one channel more than classes.

    Raises:
        CheckpointError: incomplete, of another network, or not fitting the arguments.
        ConfigError: `image_size` is impossible for `upsampling`.
    """
    labels = as_label_set(labels)
    state = without_prefix(official)
    try:
        width, channels = state["fc.weight"].shape[:2]
        style_dim, encoder_channels = state["Zencoder.model.14.bias"].shape[0], state["Zencoder.model.1.bias"].shape[0]
    except KeyError as missing:
        raise CheckpointError(f"{source} is incomplete: a SEAN generator has the key {missing}.") from None
    instances = reads_edges(channels, labels, use_instances, source)
    config = SEANGeneratorConfig.build(
        labels=labels,
        image_size=image_size,
        base_channels=width // 16,
        style_dim=style_dim,
        encoder_channels=encoder_channels,
        use_instances=instances,
        upsampling=upsampling,
        spectral_norm="head_0.conv_0.weight_orig" in state,
    )
    model = SEANGenerator(config)
    own = {name: getattr(model, name) for name in ("mean_codes", "code_counts")}
    model.load_weights(rename(joined(state, config.num_codes), GENERATOR_KEYS, source) | own, source)
    return model.eval()
