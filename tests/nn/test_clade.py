from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segscape.errors import LayoutError
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn import CLADE
from tests.nn.gradients import gradients_agree

LABELS = LabelSet.numbered(4)


def random_layout(size: tuple[int, int] = (8, 12), batch: int = 2, instances: bool = True) -> Layout:
    generator = torch.Generator().manual_seed(0)
    label_map = torch.randint(0, 4, (batch, *size), generator=generator)
    return Layout(label_map, LABELS, label_map * 7 if instances else None)


def perturbed(norm: nn.Module) -> nn.Module:
    """The layer with random weights everywhere, so that nothing is hidden by a zero or a one."""
    torch.manual_seed(1)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def test_is_a_table_lookup() -> None:
    norm, layout, x = perturbed(CLADE(3, 4, statistics="instance")), random_layout(), torch.randn(2, 3, 4, 6)
    y, classes, plain = norm(x, layout), layout.at((4, 6)), F.instance_norm(x)
    for n, i, j in ((0, 0, 0), (1, 3, 5), (0, 2, 4)):
        k = classes[n, i, j]
        torch.testing.assert_close(y[n, :, i, j], plain[n, :, i, j] * norm.gamma[k] + norm.beta[k])


def test_batch_statistics_in_training_running_ones_in_evaluation() -> None:
    norm, layout, x = CLADE(3, 4, statistics="batch"), random_layout(), torch.randn(2, 3, 4, 6) * 3 + 1
    with torch.no_grad():
        norm.gamma.fill_(1)
    y = norm.train()(x, layout)
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(norm.statistics.running_mean, 0.1 * x.mean(dim=(0, 2, 3)))
    assert not torch.allclose(norm.eval()(x, layout), y)


def test_synchronised_statistics_are_plain_ones_in_one_process() -> None:
    layout, x = random_layout(), torch.randn(2, 3, 4, 6)
    synchronised, plain = CLADE(3, 4, statistics="sync-batch"), CLADE(3, 4, statistics="batch")
    plain.load_state_dict(synchronised.state_dict())
    torch.testing.assert_close(synchronised(x, layout), plain(x, layout))


def test_instances_append_a_function_of_the_edges() -> None:
    norm, layout, x = perturbed(CLADE(3, 4, instances=True)), random_layout(), torch.randn(2, 3, 4, 6)
    y = norm(x, layout)
    assert norm.out_channels == 4 and y.shape == (2, 4, 4, 6)
    torch.testing.assert_close(y[:, 3:], layout.edges((4, 6)) * norm.edge.weight.item() + norm.edge.bias)


def test_modulation_scales_gamma_and_beta() -> None:
    norm, layout, x = perturbed(CLADE(3, 4, position="modulation")).eval(), random_layout(), torch.randn(2, 3, 4, 6)
    plain = CLADE(3, 4).eval()
    plain.load_state_dict({key: value for key, value in norm.state_dict().items() if "position" not in key})
    scale = 1 + norm.position_gamma(layout.position((4, 6)))
    shift = 1 + norm.position_beta(layout.position((4, 6)))
    beta = norm.beta[layout.at((4, 6))].permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x, layout), (plain(x, layout) - beta) * scale + beta * shift)


def test_feature_comes_after_the_edge() -> None:
    norm = perturbed(CLADE(3, 4, instances=True, position="feature"))
    layout, x = random_layout(), torch.randn(2, 3, 4, 6)
    y = norm(x, layout)
    assert norm.out_channels == 5 and y.shape == (2, 5, 4, 6)
    torch.testing.assert_close(y[:, 3:4], norm.edge(layout.edges((4, 6))))
    torch.testing.assert_close(y[:, 4:], norm.position_feature(layout.position((4, 6))))


@pytest.mark.parametrize("position", [None, "feature", "modulation"])
def test_modulation_is_what_forward_applies(position: str | None) -> None:
    norm = perturbed(CLADE(3, 4, instances=True, position=position)).eval()  # type: ignore[arg-type]
    layout, x = random_layout(), torch.randn(2, 3, 4, 6)
    gamma, beta = norm.modulation(layout, (4, 6))
    assert torch.equal(norm(x, layout)[:, :3], norm.statistics(x) * gamma + beta)
    factor = 1 + norm.position_gamma(layout.position((4, 6))) if position == "modulation" else torch.ones(2, 1, 4, 6)
    torch.testing.assert_close(gamma, norm.gamma[layout.at((4, 6))].permute(0, 3, 1, 2) * factor)


def test_position_rule_matters() -> None:
    layout, x = random_layout(), torch.randn(2, 3, 4, 6)
    official = perturbed(CLADE(3, 4, position="modulation")).eval()
    every = CLADE(3, 4, position="modulation", position_rule="official-all").eval()
    every.load_state_dict(official.state_dict())
    different = (official(x, layout) != every(x, layout)).any(dim=1)
    assert torch.equal(different.any(), torch.tensor(True))
    assert not different[layout.at((4, 6)) != 0].any()  # only label 0 has no encoding by the official rule


def test_needs_an_instance_map_if_built_for_one() -> None:
    with pytest.raises(LayoutError, match="no instance map"):
        CLADE(3, 4, instances=True)(torch.randn(2, 3, 4, 6), random_layout(instances=False))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 12), (16, 24), (7, 11)])
def test_reads_the_layout_at_any_size(size: tuple[int, int]) -> None:
    norm = CLADE(3, 4, instances=True, position="modulation").eval()
    assert norm(torch.randn(2, 3, *size), random_layout()).shape == (2, 4, *size)


@pytest.mark.parametrize("position", [None, "feature", "modulation"])
@pytest.mark.parametrize("instances", [False, True])
def test_gradients(instances: bool, position: str | None) -> None:
    norm = CLADE(2, 4, instances=instances, position=position, statistics="instance")  # type: ignore[arg-type]
    perturbed(norm).double()
    assert gradients_agree(norm, random_layout((4, 5)))


def test_starts_as_published() -> None:
    norm = CLADE(64, 50)
    assert norm.gamma.min() >= 0 and norm.gamma.max() <= 1 and 0.4 < norm.gamma.mean() < 0.6
    assert not norm.beta.any()


def test_can_be_copied() -> None:
    norm, layout, x = CLADE(3, 4, instances=True).eval(), random_layout(), torch.randn(2, 3, 4, 6)
    assert torch.equal(copy.deepcopy(norm)(x, layout), norm(x, layout))
