"""DAGAN: the generator of SPADE with dual attention before the last convolution.

Source: Tang, Bai and Sebe, "Dual Attention GANs for Semantic Image Synthesis", ACM Multimedia 2020, arXiv 2008.13024,
official code Ha0Tang/DAGAN (CC BY-NC-SA 4.0; nothing of it is used here: written from a specification and checked
against stored outputs). Everything else, discriminator and training included, is SPADE's. Differences from the official
code: the attention has the width of the generator (there it is 64, whatever the generator's is), and the output has the
size of the layout.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from segscape.models.generator import Variant
from segscape.models.spade import SPADEGenerator, SPADEGeneratorConfig
from segscape.nn.dual_attention import DualAttention
from segscape.nn.initialization import initialize_xavier


class DAGANGeneratorConfig(SPADEGeneratorConfig):
    """Configuration of DAGAN: that of SPADE, norms and all."""

    model: str = "dagan"
    upsampling: Literal["normal", "more"] = "normal"


class DAGANGenerator(SPADEGenerator):
    """SPADE's generator; the last block's output goes through `DualAttention` with what the block was given."""

    config: DAGANGeneratorConfig
    config_class = DAGANGeneratorConfig

    def __init__(self, config: DAGANGeneratorConfig) -> None:
        super().__init__(config)
        self.attention = DualAttention(2 * config.base_channels, config.base_channels)
        initialize_xavier(self.attention)

    def _finish(self, before: Tensor, x: Tensor) -> Tensor:
        enlarged = F.interpolate(before, size=x.shape[-2:], mode="nearest")
        y: Tensor = self.attention(enlarged, x)
        return y


DAGAN_VARIANTS = {"dagan": Variant(DAGANGenerator, {})}
"""Name -> variant of this system."""
