"""Diversity inside and outside of class regions, with made-up generators and a distance by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from segscape.errors import EvaluationError
from segscape.evaluation.diversity.lpips import open_distance
from segscape.evaluation.diversity.variety import Diversity, Variety, pairwise_diversity, variety
from segscape.labels import LabelSet

LABELS = LabelSet.numbered(4, unknown=3)
SKY, ROAD, CAR, UNKNOWN = range(4)


@dataclass(frozen=True)
class Absolute:
    """The mean absolute difference of two images, other pixels set to 0."""

    name: str = "absolute"
    description: str = "by hand"

    def embed(self, images: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        return [images if mask is None else images * mask]

    def compare(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return (a[0] - b[0]).abs().mean((1, 2, 3))

    def __call__(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.compare(self.embed(a, mask), self.embed(b, mask))


@pytest.fixture
def label_map() -> Tensor:
    """Half sky, a quarter road, an eighth each car and unknown."""
    label_map = torch.zeros(8, 8, dtype=torch.int64)
    label_map[4:], label_map[6:, :4], label_map[6:, 4:] = ROAD, CAR, UNKNOWN
    return label_map


def resampling(index: int, label_map: Tensor, count: int = 4) -> Tensor:
    """Pictures in which only one class differs, by a grey of its own."""
    greys = torch.arange(count).view(-1, 1, 1, 1) / 10
    return torch.where(label_map == index, greys, 0.5).expand(-1, 3, -1, -1)


def test_pairwise_diversity_is_the_mean_over_pairs() -> None:
    images = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    arrays = images.numpy().astype(np.float64)
    expected = np.mean([np.abs(a - b).mean() for a, b in itertools.combinations(arrays, 2)])
    assert pairwise_diversity(images, Absolute()) == pytest.approx(expected, rel=1e-6)
    assert pairwise_diversity(images.flip(0), Absolute()) == pytest.approx(expected, rel=1e-6)
    assert pairwise_diversity(images[:1].expand(3, -1, -1, -1), Absolute()) == 0


def test_a_single_picture_has_no_diversity() -> None:
    with pytest.raises(EvaluationError, match=r"1 picture\(s\) of a layout have no diversity: generate 2 or more"):
        pairwise_diversity(torch.zeros(1, 3, 4, 4), Absolute())


def test_changing_one_class_alone_changes_nothing_outside(label_map: Tensor) -> None:
    samples = {index: resampling(index, label_map) for index in (SKY, ROAD, CAR, UNKNOWN)}
    found = variety(torch.rand(4, 3, 8, 8), label_map, LABELS, Absolute(), samples)
    greys = np.mean([abs(a - b) / 10 for a, b in itertools.combinations(range(4), 2)])
    assert found.inside == pytest.approx({SKY: greys / 2, ROAD: greys / 4, CAR: greys / 8})
    assert found.outside == {SKY: 0, ROAD: 0, CAR: 0}


def test_one_global_style_changes_everything(label_map: Tensor) -> None:
    """The same pictures serve every class: what is not inside is outside, for a distance that adds up over places."""
    pictures = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = variety(pictures, label_map, LABELS, Absolute())
    assert set(found.inside) == {SKY, ROAD, CAR}
    for index in found.inside:
        assert found.inside[index] > 0
        assert found.inside[index] + found.outside[index] == pytest.approx(found.overall, rel=1e-5)


def test_only_classes_that_were_resampled_are_measured(label_map: Tensor) -> None:
    samples = {CAR: resampling(CAR, label_map), 2 * CAR + 9: torch.rand(2, 3, 8, 8)}
    found = variety(torch.rand(2, 3, 8, 8), label_map, LABELS, Absolute(), samples)
    assert set(found.inside) == set(found.outside) == {CAR}


def test_a_class_that_fills_the_layout_has_no_outside(label_map: Tensor) -> None:
    everywhere = torch.full_like(label_map, ROAD)
    found = variety(torch.rand(2, 3, 8, 8), everywhere, LABELS, Absolute())
    assert found.inside == {ROAD: pytest.approx(found.overall)} and found.outside == {}
    nothing = variety(torch.rand(2, 3, 8, 8), torch.full_like(label_map, UNKNOWN), LABELS, Absolute())
    assert nothing.overall > 0 and nothing.inside == nothing.outside == {}


def test_pictures_have_the_size_of_their_layout(label_map: Tensor) -> None:
    with pytest.raises(EvaluationError, match=r"pictures are \[8, 9\] and their layout \[8, 8\]"):
        variety(torch.rand(2, 3, 8, 9), label_map, LABELS, Absolute())


def test_a_perceptual_distance_sees_the_same(label_map: Tensor) -> None:
    large = label_map.repeat_interleave(8, 0).repeat_interleave(8, 1)
    samples = {index: resampling(index, large, count=3) for index in (SKY, CAR)}
    distance = open_distance("efficientnet-lite0", torch.device("cpu"))
    found = variety(samples[SKY], large, LABELS, distance, samples)
    assert found.outside == {SKY: 0, CAR: 0}
    assert 0 < found.inside[CAR] < found.inside[SKY]


def test_averages_are_taken_over_layouts_and_then_over_classes() -> None:
    first = Variety(overall=1, inside={SKY: 0.2, ROAD: 0.4}, outside={SKY: 0.1})
    second = Variety(overall=3, inside={SKY: 0.4}, outside={SKY: 0.3, ROAD: 0.6})
    found = Diversity.over([first, second])
    assert (found.overall, found.layouts) == (2, 2)
    assert found.inside == pytest.approx({SKY: 0.3, ROAD: 0.4}) and found.mean_csd == pytest.approx(0.35)
    assert found.outside == pytest.approx({SKY: 0.2, ROAD: 0.6}) and found.mean_ocd == pytest.approx(0.4)


values = st.floats(0, 10)
varieties = st.builds(
    Variety, values, st.dictionaries(st.integers(0, 2), values), st.dictionaries(st.integers(0, 2), values)
)


@given(st.lists(varieties, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_layouts_changes_no_digit(found: list[Variety], random: Random) -> None:
    shuffled = found.copy()
    random.shuffle(shuffled)
    assert Diversity.over(shuffled) == Diversity.over(found)
    assert math.isnan(Diversity.over(found).mean_csd) == all(not one.inside for one in found)


def test_no_layouts_are_no_diversity() -> None:
    with pytest.raises(EvaluationError, match="diversity of no layout"):
        Diversity.over([])
