"""Official checkpoints of DAGAN (`*_net_G.pth`): those of SPADE with three more modules.

Discriminators are SPADE's: `segscape.models.conversion.convert_discriminator`.
"""

from __future__ import annotations

from torch import Tensor

from segscape.labels import LabelSet
from segscape.models.conversion import spade
from segscape.models.conversion.official import PLAIN, State, has_keys, rename, under, without_prefix
from segscape.models.dagan import DAGANGenerator, DAGANGeneratorConfig
from segscape.models.spade import Upsampling

_SCALE = {**under("conv1", "conv_0", PLAIN), **under("conv2", "conv_1", PLAIN)}

ATTENTION_KEYS = {
    **under("conv_64", "attention.projection", PLAIN),
    **under("cab", "attention.scale", _SCALE),
    **under("channelAtt", "attention.scale", _SCALE),  # its name in code from 2020-08-31 to 2021-02-22
    "spatialAtt.conv.weight": "attention.position.conv.weight",
}
"""What DAGAN adds to a generator: official key -> ours."""

GENERATOR_KEYS = {**spade.GENERATOR_KEYS, **ATTENTION_KEYS}
"""A generator: official key -> ours."""


def recognises(official: State) -> bool:
    """Whether a state dict is of a generator with dual attention."""
    return has_keys(official, "spatialAtt.")


def convert(
    official: State,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    encoder: State | None = None,
    source: str = "the state dict",
    upsampling: Upsampling = "normal",
    use_instances: bool | None = None,
) -> DAGANGenerator:
    """An official generator as one of ours, in evaluation mode; arguments and errors as those of `spade.convert`.

    For the published models: `ade20k` or `ade20k-official`, `celebamask-hq` and `deepfashion` at (256, 256) or (512,
    512), `cityscapes` at (256, 512) with upsampling `more`.
    """
    shared, attention = _parts(official)
    plain = spade.infer_config(
        shared,
        labels=labels,
        image_size=image_size,
        upsampling=upsampling,
        use_instances=use_instances,
        source=source,
    )
    config = DAGANGeneratorConfig.build(**{**plain.model_dump(), "model": "dagan"})
    state = spade.reorder_classes(spade.generator_state(shared, source), config.labels)
    state |= rename(attention, ATTENTION_KEYS, source) | spade.encoder_part(
        encoder, config.latent_dim is not None, source
    )
    model = DAGANGenerator(config)
    model.load_weights(state, source)
    return model.eval()


def _parts(official: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What SPADE's generator has, and what DAGAN adds."""
    state = without_prefix(official)
    attention = {key: value for key, value in state.items() if key in ATTENTION_KEYS}
    return {key: value for key, value in state.items() if key not in ATTENTION_KEYS}, attention
