from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.errors import LayoutError
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn.group_spade import GroupSPADE
from tests.nn.gradients import gradients_agree

LABELS = LabelSet.numbered(4)


def random_layout(size: tuple[int, int] = (8, 12), instances: bool = True) -> Layout:
    label_map = torch.randint(0, 4, (2, *size), generator=torch.Generator().manual_seed(0))
    return Layout(label_map, LABELS, label_map * 7 if instances else None)


def group_by_group(norm: GroupSPADE, x: Tensor, inputs: Tensor) -> Tensor:
    """The layer with a convolution without groups for each group."""

    def convolve(of: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
        parts = zip(of.chunk(groups, 1), weight.chunk(groups), bias.chunk(groups), strict=True)
        return torch.cat([F.conv2d(part, w, b, padding=1) for part, w, b in parts], dim=1)

    hidden = F.relu(convolve(inputs, norm.shared.weight, norm.shared.bias, norm.shared.groups))
    gamma, beta = (convolve(hidden, conv.weight, conv.bias, conv.groups) for conv in (norm.gamma, norm.beta))
    return F.instance_norm(x) * (1 + gamma) + beta


@pytest.mark.parametrize("instances", [False, True])
@pytest.mark.parametrize(("shared_groups", "groups"), [(1, 1), (2, 2), (4, 4), (4, 2)])
def test_follows_the_equation(shared_groups: int, groups: int, instances: bool) -> None:
    options = {"hidden_channels": 8, "shared_groups": shared_groups, "groups": groups}
    norm = GroupSPADE(12, 4, instances=instances, statistics="instance", **options)  # type: ignore[arg-type]
    layout, x = random_layout(), torch.randn(2, 12, 4, 6)
    planes = []
    for number in range(4):
        planes += [(layout.at((4, 6)) == number).float()] + [layout.edges((4, 6))[:, 0]] * instances
    torch.testing.assert_close(norm(x, layout), group_by_group(norm, x, torch.stack(planes, dim=1)))


def test_modulation_is_what_forward_applies() -> None:
    norm = GroupSPADE(8, 4, hidden_channels=8, shared_groups=4, groups=2).eval()
    layout, x = random_layout(), torch.randn(2, 8, 4, 6)
    gamma, beta = norm.modulation(layout, (4, 6))
    assert torch.equal(norm(x, layout), norm.statistics(x) * gamma + beta)
    activated = norm.activated(x, layout, None, 0.2)
    torch.testing.assert_close(activated, F.leaky_relu(norm.statistics(x) * gamma + beta, 0.2))


def test_with_a_group_per_class_channels_see_their_class_only() -> None:
    norm = GroupSPADE(8, 4, hidden_channels=8, shared_groups=4, groups=4).eval()
    layout = random_layout()
    exchanged = Layout(torch.tensor([0, 2, 1, 3])[layout.label_map], LABELS)  # classes 1 and 2 change places
    for one, other in zip(norm.modulation(layout, (8, 12)), norm.modulation(exchanged, (8, 12)), strict=True):
        same = (one == other).flatten(2).all(2).all(0)
        assert same.tolist() == [True, True, False, False, False, False, True, True]


def test_needs_an_instance_map_if_built_for_one() -> None:
    norm = GroupSPADE(4, 4, hidden_channels=4, shared_groups=4, groups=4, instances=True)
    with pytest.raises(LayoutError, match="no instance map"):
        norm(torch.randn(2, 4, 4, 6), random_layout(instances=False))


def test_gradients() -> None:
    norm = GroupSPADE(
        4, 4, hidden_channels=4, shared_groups=4, groups=2, instances=True, statistics="instance"
    ).double()
    assert gradients_agree(norm, random_layout((3, 4)))
