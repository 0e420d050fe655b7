from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segscape.errors import LayoutError
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn import SPADE
from tests.nn.gradients import gradients_agree

LABELS = LabelSet.numbered(4)


def random_layout(size: tuple[int, int] = (8, 12), instances: bool = True) -> Layout:
    label_map = torch.randint(0, 4, (2, *size), generator=torch.Generator().manual_seed(0))
    return Layout(label_map, LABELS, label_map * 7 if instances else None)


def test_follows_the_equation() -> None:
    norm, layout, x = SPADE(3, 4, statistics="instance", hidden_channels=8), random_layout(), torch.randn(2, 3, 4, 6)
    hidden = F.relu(norm.shared(layout.one_hot((4, 6))))
    expected = F.instance_norm(x) * (1 + norm.gamma(hidden)) + norm.beta(hidden)
    torch.testing.assert_close(norm(x, layout), expected)


def test_without_modulation_only_normalises() -> None:
    norm, layout, x = SPADE(3, 4, statistics="instance"), random_layout(), torch.randn(2, 3, 4, 6)
    for conv in (norm.gamma, norm.beta):
        nn.init.zeros_(conv.weight), nn.init.zeros_(conv.bias)
    torch.testing.assert_close(norm(x, layout), F.instance_norm(x))


def test_modulation_is_what_forward_applies() -> None:
    norm, layout, x = SPADE(3, 4, instances=True).eval(), random_layout(), torch.randn(2, 3, 4, 6)
    gamma, beta = norm.modulation(layout, (4, 6))
    assert torch.equal(norm(x, layout), norm.statistics(x) * gamma + beta)
    hidden = F.relu(norm.shared(layout.semantic_map((4, 6), edges=True)))
    torch.testing.assert_close(gamma, 1 + norm.gamma(hidden))
    torch.testing.assert_close(beta, norm.beta(hidden))


def test_modulation_has_the_type_asked_for() -> None:
    norm, layout = SPADE(3, 4, instances=True).double(), random_layout()
    gamma, beta = norm.modulation(layout, (4, 6), torch.float64)
    assert gamma.dtype == beta.dtype == torch.float64


def test_reads_edges_as_the_last_channel() -> None:
    norm, layout, x = SPADE(3, 4, instances=True).eval(), random_layout(), torch.randn(2, 3, 8, 12)
    assert norm.shared.in_channels == 5 and norm.out_channels == 3
    other = Layout(layout.label_map, LABELS, edges=1 - layout.edges())
    with torch.no_grad():
        assert not torch.allclose(norm(x, layout), norm(x, other))
        norm.shared.weight[:, 4] = 0
    torch.testing.assert_close(norm(x, layout), norm(x, other))


def test_needs_an_instance_map_if_built_for_one() -> None:
    with pytest.raises(LayoutError, match="no instance map"):
        SPADE(3, 4, instances=True)(torch.randn(2, 3, 4, 6), random_layout(instances=False))


@pytest.mark.parametrize(("kernel_size", "reach"), [(1, 0), (3, 2), (5, 4)])
def test_sees_a_square_neighbourhood(kernel_size: int, reach: int) -> None:
    norm = SPADE(3, 4, kernel_size=kernel_size).eval()
    label_map = torch.zeros(1, 15, 15, dtype=torch.long)
    changed = label_map.clone()
    changed[0, 7, 7] = 3
    x = torch.randn(1, 3, 15, 15)
    different = (norm(x, Layout(label_map, LABELS)) != norm(x, Layout(changed, LABELS))).any(dim=1)[0]
    rows, columns = different.nonzero().unbind(1)
    assert (rows.min(), rows.max()) == (7 - reach, 7 + reach)
    assert (columns.min(), columns.max()) == (7 - reach, 7 + reach)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 12), (16, 24), (7, 11)])
def test_reads_the_layout_at_any_size(size: tuple[int, int]) -> None:
    norm = SPADE(3, 4, instances=True, hidden_channels=4).eval()
    assert norm(torch.randn(2, 3, *size), random_layout()).shape == (2, 3, *size)


@pytest.mark.parametrize("instances", [False, True])
def test_gradients(instances: bool) -> None:
    norm = SPADE(2, 4, instances=instances, statistics="instance", hidden_channels=3).double()
    assert gradients_agree(norm, random_layout((4, 5)))


def test_can_be_copied() -> None:
    norm, layout, x = SPADE(3, 4).eval(), random_layout(), torch.randn(2, 3, 4, 6)
    assert torch.equal(copy.deepcopy(norm)(x, layout), norm(x, layout))
