from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import zscore

from segscape.evaluation.modulation.class_tables import (
    ClassTable,
    PositionResponse,
    class_distances,
    nearest_classes,
    position_channels,
    table_distances,
)
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn import CLADE
from segscape.position import PositionRule


def test_distances_are_those_of_standardised_columns() -> None:
    generator = np.random.default_rng(0)
    tables = [generator.normal(size=(6, 4)), generator.normal(size=(6, 3)) * 100 + 7]
    columns = zscore(np.concatenate(tables, axis=1), axis=0)
    np.testing.assert_allclose(class_distances(tables), cdist(columns, columns) / np.sqrt(7), atol=1e-12)


def test_constant_columns_do_not_count() -> None:
    table = np.random.default_rng(0).normal(size=(5, 4))
    both = np.concatenate([table, np.full((5, 3), 0.1)], axis=1)
    np.testing.assert_array_equal(class_distances([both]), class_distances([table]))
    assert not class_distances([np.full((5, 3), 0.1)]).any()


def test_finds_planted_neighbours() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(size=(6, 20))
    table[4] = table[1] + 0.1 * generator.normal(size=20)
    table[0] = table[3]
    nearest = nearest_classes(class_distances([table]))
    assert [neighbours[0].class_index for neighbours in nearest][:2] == [3, 4]
    assert nearest[3][0].class_index == 0 and nearest[3][0].distance == 0
    assert nearest[4][0].class_index == 1
    assert all(len(neighbours) == 3 for neighbours in nearest)
    assert all(index not in [near.class_index for near in neighbours] for index, neighbours in enumerate(nearest))


def test_two_classes_have_one_neighbour() -> None:
    assert [len(neighbours) for neighbours in nearest_classes(class_distances([np.array([[0.0], [1.0]])]))] == [1, 1]


def test_gamma_and_beta_weigh_the_same() -> None:
    norm = CLADE(5, 4)
    with torch.no_grad():
        norm.beta.normal_(std=1e-3)
    table = ClassTable.of("norm", norm)
    np.testing.assert_array_equal(table.beta, norm.beta.detach().double().numpy())
    np.testing.assert_array_equal(table_distances([table]), class_distances([table.gamma, table.beta]))
    np.testing.assert_array_equal(table_distances([table], ["beta"]), class_distances([table.beta]))


@pytest.mark.parametrize("rule", ["official", "official-all", "paper"])
def test_position_response_is_what_the_norm_multiplies_with(rule: PositionRule) -> None:
    norm = CLADE(3, 4, position="modulation", position_rule=rule)
    with torch.no_grad():
        norm.beta.normal_()
        for conv in (norm.position_gamma, norm.position_beta):
            conv.weight.normal_(), conv.bias.normal_()
    label_map = torch.randint(0, 4, (1, 6, 9), generator=torch.Generator().manual_seed(0))
    layout = Layout(label_map, LabelSet.numbered(4))
    response = PositionResponse.of("norm", norm, layout.size)
    vertical, horizontal = position_channels(layout, layout.size, rule)
    with torch.no_grad():
        gamma, beta = norm.modulation(layout, layout.size)
    for factor, dense, table in ((response.gamma, gamma, norm.gamma), (response.beta, beta, norm.beta)):
        expected = table[label_map[0]].detach().numpy() * factor.at(vertical, horizontal)[..., None]
        np.testing.assert_allclose(dense[0].permute(1, 2, 0), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["official-all", "paper"])
def test_the_vertical_offset_changes_down_the_map(rule: PositionRule) -> None:
    layout = Layout(torch.zeros(1, 4, 6, dtype=torch.long), LabelSet.numbered(1))
    vertical, horizontal = position_channels(layout, (4, 6), rule)
    assert (np.diff(vertical, axis=0) > 0).all() and not np.diff(vertical, axis=1).any()
    assert (np.diff(horizontal, axis=1) > 0).all() and not np.diff(horizontal, axis=0).any()
