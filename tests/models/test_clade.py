from __future__ import annotations

import pytest
import torch

from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.clade import mixed_norms
from segscape.nn import CLADE, SPADE


@pytest.mark.parametrize("spade_blocks", [0, 2, 7])
def test_mixed_generator_begins_with_spade(spade_blocks: int) -> None:
    model = create_model(
        "clade", labels=4, base_channels=1, image_size=(32, 32), norm=mixed_norms(spade_blocks), hidden_channels=2
    )
    kinds = [type(block.norm_0) for block in model.blocks]
    assert kinds == [SPADE] * spade_blocks + [CLADE] * (7 - spade_blocks)
    label_map = torch.zeros(2, 32, 32, dtype=torch.long)
    assert model.eval()(Layout(label_map, LabelSet.numbered(4))).shape == (2, 3, 32, 32)


def test_variants() -> None:
    clade, icpe = (create_model(name, labels=4, base_channels=1) for name in ("clade", "clade-icpe"))
    assert clade.config.position is None and icpe.config.position == "modulation"
    assert set(clade.config.block_norms) == set(icpe.config.block_norms) == {"clade"}


def test_edges_widen_the_convolutions_of_clade_blocks_only() -> None:
    model = create_model("clade", labels=4, base_channels=1, use_instances=True, norm=mixed_norms(2))
    assert [block.conv_0.in_channels for block in model.blocks] == [16, 16, 17, 17, 9, 5, 3]


def test_one_look_up_needs_no_one_hot_map() -> None:
    """CLADE's norms read indices: the only one-hot map that a pass makes is the stem's."""
    labels = LabelSet.numbered(4)
    model = create_model("clade", labels=labels, base_channels=1, image_size=(64, 64)).eval()
    layout = Layout(torch.zeros(1, 64, 64, dtype=torch.long), labels)
    sizes = []
    one_hot = layout.one_hot
    layout.one_hot = lambda size=None: sizes.append(size) or one_hot(size)  # type: ignore[method-assign]
    model(layout)
    assert sizes == [(2, 2)]
