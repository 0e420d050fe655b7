"""Evaluation protocols: named, versioned descriptions of how pictures are made and what they are compared with.

Published numbers of one model differ by many points between protocols (real training or validation images, label maps
resized one way or another, unknown pixels counted or not), so every score carries the text of its protocol. A change in
this file that changes a number is a new version.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, NonNegativeInt
from torch import Tensor

from segscape.data.sample import image_array
from segscape.errors import EvaluationError
from segscape.layout import Size


class Protocol(BaseModel):
    """How pictures are generated and compared.

    Attributes:
        name, version: under which `PROTOCOLS` lists it.
        reference: real images of the fidelity scores: `train` or `val` of the data, a folder, or a file of statistics.
        quantization: how a network's output in [-1, 1] becomes 8-bit pixels: `truncate` as the official codes of the
            family do, or `round`.
        style: where a multi-modal model takes its style from: `photo` encodes the real photo of the layout and samples
            around its mean, `prior` draws from N(0, 1).
        seed: of the styles; that of image number i depends on (seed, i) only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = 1
    reference: str = "train"
    quantization: Literal["truncate", "round"] = "truncate"
    style: Literal["photo", "prior"] = "photo"
    seed: NonNegativeInt = 0

    def describe(self, size: Size) -> str:
        """The text that every score carries; `size` is the (height, width) of the evaluation."""
        quantization = {"truncate": "truncated", "round": "rounded"}[self.quantization]
        style = {"photo": "around the real photo's", "prior": "from the prior"}[self.style]
        return (
            f"{self.name}/{self.version}: {size[0]}x{size[1]}, photos and pictures in files resized bicubic, label "
            f"maps nearest (both Pillow), aspect not kept; a model's output {quantization} to 8 bits, random styles "
            f"{style}, seed {self.seed}"
        )

    def quantize(self, images: Tensor) -> npt.NDArray[np.uint8]:
        """`[N, 3, H, W]` in [-1, 1] -> uint8 `[N, H, W, 3]` by the protocol's rule."""
        if self.quantization == "round":
            return image_array(images)
        pixels = images.detach().float().add(1).div(2).mul(255).clamp(0, 255).byte()  # the cast truncates
        array: npt.NDArray[np.uint8] = pixels.movedim(-3, -1).cpu().numpy()
        return array


PROTOCOLS: dict[str, Protocol] = {
    # Tan et al., TPAMI 2021, section 4.3, and the official test script: validation layouts, real TRAINING images.
    "clade": Protocol(name="clade"),
    # The habit of most later papers: generated validation images against the real validation images.
    "validation": Protocol(name="validation", reference="val"),
    # Pictures as the pipeline gives them: rounded, styles drawn freely.
    "product": Protocol(name="product", quantization="round", style="prior"),
}
"""The named protocols; docs/evaluation.md lists them."""


def find_protocol(name: str) -> Protocol:
    """The protocol `clade` or, to insist on a version, `clade/1`; raises EvaluationError if there is none."""
    plain, _, version = name.partition("/")
    known = ", ".join(f"{protocol.name}/{protocol.version}" for protocol in PROTOCOLS.values())
    if plain not in PROTOCOLS or (version and version != str(PROTOCOLS[plain].version)):
        raise EvaluationError(f"there is no protocol {name!r}; known protocols: {known}.")
    return PROTOCOLS[plain]
