from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn import CLADE, SPADE, ConditionalNorm, ResidualBlock, SpectralNormConv2d
from segscape.style import Style

LABELS = LabelSet.numbered(4)


def layout() -> Layout:
    label_map = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    return Layout(label_map, LABELS, label_map)


@pytest.mark.parametrize(
    "norm",
    [
        partial(SPADE, num_classes=4),
        partial(SPADE, num_classes=4, instances=True),
        partial(CLADE, num_classes=4),
        partial(CLADE, num_classes=4, instances=True, position="feature"),
        partial(CLADE, num_classes=4, position="modulation", statistics="instance"),
    ],
)
@pytest.mark.parametrize(("before", "after"), [(6, 6), (6, 3), (3, 6)])
def test_any_norm_and_width(norm: partial[ConditionalNorm], before: int, after: int) -> None:
    block = ResidualBlock(before, after, norm)
    assert block(torch.randn(2, before, 4, 4), layout()).shape == (2, after, 4, 4)
    assert block.learned_shortcut is (before != after)
    assert block.conv_0.out_channels == min(before, after)


def test_identity_shortcut() -> None:
    block, x = ResidualBlock(3, 3, partial(CLADE, num_classes=4), spectral=False), torch.randn(2, 3, 4, 4)
    nn.init.zeros_(block.conv_1.weight), nn.init.zeros_(block.conv_1.bias)
    assert torch.equal(block(x, layout()), x)
    assert not hasattr(block, "conv_s")


def test_learned_shortcut_has_a_norm_but_neither_bias_nor_activation() -> None:
    block, x = ResidualBlock(4, 2, partial(CLADE, num_classes=4), spectral=False).eval(), torch.randn(2, 4, 4, 4)
    nn.init.zeros_(block.conv_1.weight), nn.init.zeros_(block.conv_1.bias)
    assert block.conv_s.bias is None
    torch.testing.assert_close(block(x, layout()), F.conv2d(block.norm_s(x, layout()), block.conv_s.weight))


def test_spectral_norm_on_all_convolutions_or_none() -> None:
    for spectral in (True, False):
        block = ResidualBlock(4, 2, partial(CLADE, num_classes=4), spectral=spectral)
        convs = (block.conv_0, block.conv_1, block.conv_s)
        assert all(isinstance(conv, SpectralNormConv2d) is spectral for conv in convs)


def test_takes_a_norm_from_elsewhere() -> None:
    class StyleShift(ConditionalNorm):
        def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
            assert style is not None
            shifted: Tensor = self.statistics(x) + style.values.mean()
            return shifted

    block = ResidualBlock(3, 3, partial(StyleShift, statistics="instance"))
    x = torch.randn(2, 3, 4, 4)
    assert block(x, layout(), Style(torch.ones(2, 5))).shape == x.shape
