"""Which adapter computes a vector's outputs, and where we knowingly compute something else than the official code."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from . import ca2_sis, cc_fpse, dagan, data, groupdnet, layers, layouts, losses, networks, pix2pixhd, sean, training
from .vector import Vector

Adapter = Callable[[Vector], dict[str, Tensor]]

KINDS: dict[str, Adapter] = {
    "generator/generator": networks.generator,
    "encoder/encoder": networks.encoder,
    "discriminator/discriminator": networks.discriminator,
    "op/spade_norm": layers.spade_norm,
    "op/clade_norm": layers.clade_norm,
    "op/resblock": layers.residual_block,
    "op/edges": layouts.edges,
    "op/semantics": layouts.semantics,
    "op/posenc": layouts.positional_encoding,
    "op/data": data.loading,
    "op/lr": training.learning_rates,
    "loss/gan_loss": losses.adversarial,
    "loss/feat_loss": losses.feature_matching,
    "loss/kld": losses.divergence,
    "loss/vgg": losses.perceptual,
    "loss/step": training.step,
    "loss/trajectory": training.trajectory,
}
"""network/kind -> adapter."""

ADAPTERS: dict[str, Adapter] = {
    f"{system}/{kind}": adapter
    for system in ("spade", "clade", "clade-icpe", "family")
    for kind, adapter in KINDS.items()
}
"""system/network/kind -> adapter."""
ADAPTERS |= cc_fpse.ADAPTERS
ADAPTERS |= dagan.ADAPTERS
ADAPTERS |= ca2_sis.ADAPTERS
ADAPTERS |= groupdnet.ADAPTERS
ADAPTERS |= pix2pixhd.ADAPTERS
ADAPTERS |= sean.ADAPTERS

FAST: dict[str, Adapter] = {
    f"{system}/generator/generator": networks.accelerated for system in ("spade", "clade", "clade-icpe", "family")
}
"""system/network/kind of a generator -> what gives the `image` of its fast copy, in evaluation mode."""
FAST |= cc_fpse.FAST
FAST |= dagan.FAST
FAST |= ca2_sis.FAST
FAST |= groupdnet.FAST
FAST |= pix2pixhd.FAST
FAST |= sean.FAST


class Correction(NamedTuple):
    """An output in which a published bug is mended: what is wrong, and the right value, found in another way."""

    reason: str
    expected: Callable[[Vector], Tensor]


CORRECTIONS: dict[tuple[str, str], Correction] = {
    ("clade-icpe/op/data", "dist"): Correction(
        "the official pipeline flips the positional encoding along its height and keeps the sign of the horizontal "
        "offset, and resizes it by another nearest rule than the label map",
        data.corrected_position,
    ),
}
"""(system/network/kind, output) -> correction. Every other output must be as stored."""
CORRECTIONS |= {output: Correction(*how) for output, how in pix2pixhd.CORRECTIONS.items()}
