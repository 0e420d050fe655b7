from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import LayoutError
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn import SPADE
from segscape.nn.spade import MAX_SHARE
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


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Noise, blocks or one class, down to a single pixel, with instances; the map may be larger than the features."""
    batch, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    block, classes, seed = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 1000))
    noise = torch.randint(0, classes, (batch, height, width), generator=torch.Generator().manual_seed(seed))
    label_map = noise.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, :height, :width]
    return Layout(label_map, LABELS, label_map.cumsum(2) // 2)


def on_both_paths(norm: SPADE, x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The outputs by `dense` and by `patterns`, however many patterns there are."""
    results = []
    for norm.path in ("dense", "patterns"):
        with mock.patch("segscape.nn.spade.MAX_SHARE", 1.0):
            results.append(norm(x, layout))
    return results[0], results[1]


def forbid(what: type, method: str) -> mock._patch[mock.MagicMock]:
    return mock.patch.object(what, method, side_effect=AssertionError(f"{method} was called"))


@settings(max_examples=120, deadline=None)
@given(layouts(), st.sampled_from([1, 3, 5]), st.booleans(), st.sampled_from([None, (1, 1), (3, 5), (7, 4)]))
def test_patterns_equal_dense(layout: Layout, kernel_size: int, instances: bool, size: tuple[int, int] | None) -> None:
    norm = SPADE(3, 4, instances=instances, kernel_size=kernel_size, hidden_channels=5).double().eval()
    x = torch.randn(layout.batch_size, 3, *(size or layout.size), dtype=torch.float64)
    dense, patterns = on_both_paths(norm, x, layout)
    torch.testing.assert_close(patterns, dense, rtol=0, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(layouts(), st.sampled_from([1, 3, 5]), st.booleans())
def test_gradients_of_patterns_equal_dense(layout: Layout, kernel_size: int, instances: bool) -> None:
    norm = SPADE(3, 4, instances=instances, kernel_size=kernel_size, hidden_channels=5).double().eval()
    x = torch.randn(layout.batch_size, 3, *layout.size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(x)
    sums = [(y * weight).sum() for y in on_both_paths(norm, x, layout)]
    dense, patterns = (torch.autograd.grad(total, [x, *norm.parameters()]) for total in sums)
    assert len(dense) == 7
    for one, two in zip(patterns, dense, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-10)


def structured_layout() -> Layout:
    """Few patterns at 24 x 36, with three classes and two images."""
    label_map = torch.zeros(2, 24, 36, dtype=torch.long)
    label_map[0, 8:, 11:] = 2
    label_map[1, :, 20:] = 3
    return Layout(label_map, LABELS, label_map)


@pytest.mark.parametrize("instances", [False, True])
def test_patterns_in_float32(instances: bool) -> None:
    """The official width; tolerance 1e-5 on values of the order of 1."""
    norm = SPADE(16, 4, instances=instances).eval()
    dense, patterns = on_both_paths(norm, torch.randn(2, 16, 24, 36), structured_layout())
    torch.testing.assert_close(patterns, dense, rtol=0, atol=1e-5)


def test_patterns_in_bfloat16() -> None:
    """Against the same parameters in float64: tolerance 2e-2, as rounding gamma near 1 alone costs 4e-3."""
    norm, layout = SPADE(16, 4, instances=True).eval().bfloat16(), structured_layout()
    exact = copy.deepcopy(norm).double().modulation(layout, layout.size, torch.float64)
    for path in ("dense", "patterns"):
        norm.path = path
        for found, expected in zip(norm.modulation(layout, layout.size, torch.bfloat16), exact, strict=True):
            assert found.dtype == torch.bfloat16
            torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-2)


def test_patterns_follow_autocast_as_dense_does() -> None:
    norm, layout = SPADE(3, 4, instances=True), structured_layout()
    for path in ("dense", "patterns"):
        norm.path = path
        with torch.autocast("cpu", torch.bfloat16):
            assert {values.dtype for values in norm.modulation(layout, layout.size)} == {torch.bfloat16}


def test_tables_hold_gamma_and_beta_of_each_pattern() -> None:
    norm, layout = SPADE(3, 4, instances=True, hidden_channels=5).double(), structured_layout()
    patterns = layout.patterns(edges=True)
    for table, expected in zip(norm.tables(patterns), norm.modulation(layout, (24, 36), torch.float64), strict=True):
        assert table.shape == (patterns.num_patterns, 3)
        torch.testing.assert_close(table[patterns.index].permute(0, 3, 1, 2), expected, rtol=0, atol=1e-10)


def test_patterns_need_no_one_hot_map_and_are_channels_last() -> None:
    norm, layout = SPADE(3, 4, instances=True, path="patterns"), structured_layout()
    with forbid(Layout, "semantic_map"), forbid(Layout, "one_hot"):
        gamma, beta = norm.modulation(layout, (24, 36))
    assert gamma.is_contiguous(memory_format=torch.channels_last)
    assert beta.is_contiguous(memory_format=torch.channels_last)


def test_noise_falls_back_to_dense() -> None:
    norm, layout, x = SPADE(3, 4).eval(), random_layout(), torch.randn(2, 3, 8, 12)
    assert layout.patterns().share > MAX_SHARE > structured_layout().patterns().share
    assert norm.useful_patterns(layout, (8, 12)) is None
    expected = norm(x, layout)
    norm.path = "patterns"
    with forbid(SPADE, "tables"):
        assert torch.equal(norm(x, layout), expected)


def test_the_path_is_no_parameter() -> None:
    dense, patterns = SPADE(3, 4), SPADE(3, 4, path="patterns")
    assert (dense.path, patterns.path) == ("dense", "patterns")
    assert dense.state_dict().keys() == patterns.state_dict().keys()
