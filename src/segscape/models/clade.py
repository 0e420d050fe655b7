"""CLADE, CLADE-ICPE and the mixed generators: the generator of models/spade.py with class-adaptive norms.

Source: Tan et al., "Efficient Semantic Image Synthesis via Class-Adaptive Normalization", TPAMI 2021,
arXiv 2012.04644, official code tzt101/CLADE (CC BY-NC-SA 4.0; nothing of it is used here). The layer itself, with
the paper's equations, is `segscape.nn.clade.CLADE`.
"""

from __future__ import annotations

from segscape.models.generator import Variant
from segscape.models.spade import NormKind, SPADEGenerator

CLADE_VARIANTS = {
    "clade": Variant(SPADEGenerator, {"norm": "clade"}),
    "clade-icpe": Variant(SPADEGenerator, {"norm": "clade", "position": "modulation"}),
}
"""Name -> variant of this system. The other placements of Table VII are `position="input"` and `position="feature"`."""


def mixed_norms(spade_blocks: int, blocks: int = 7) -> list[NormKind]:
    """`S(1-k)+C(k+1-7)` of Table VI: SPADE in the first k residual blocks, CLADE in the others.

    With instances the SPADE blocks read the edge as a channel of the semantic map and the CLADE blocks append it (the
    paper does not say; this is the natural reading).
    """
    first: list[NormKind] = ["spade"] * spade_blocks
    rest: list[NormKind] = ["clade"] * (blocks - spade_blocks)
    return first + rest
