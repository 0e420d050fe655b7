from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from segscape.errors import EvaluationError
from segscape.evaluation.agreement.confusion import NO_CLASS, Agreement
from segscape.labels import LabelSet

CLASSES = 4

maps = st.integers(1, 3).flatmap(
    lambda count: st.tuples(
        arrays.arrays(np.int64, (count, 3, 5), elements=st.integers(0, CLASSES - 1)),
        arrays.arrays(np.int64, (count, 3, 5), elements=st.integers(NO_CLASS, CLASSES - 1)),
    )
)
left_out = st.frozensets(st.integers(0, CLASSES - 1), max_size=3)


def by_loop(truth: np.ndarray, found: np.ndarray, excluded: frozenset[int]) -> tuple[list[float], float]:
    """IoU of each class and accuracy, pixel by pixel."""
    pairs = [(t, f) for t, f in zip(truth.ravel(), found.ravel(), strict=True) if t not in excluded]
    iou = []
    for c in range(CLASSES):
        union = sum(t == c or f == c for t, f in pairs)
        both = sum(t == c and f == c for t, f in pairs)
        iou.append(math.nan if c in excluded or union == 0 else both / union)
    return iou, sum(t == f for t, f in pairs) / len(pairs) if pairs else math.nan


@settings(max_examples=60, deadline=None)
@given(maps, left_out)
def test_it_is_what_a_loop_over_pixels_counts(pair: tuple[np.ndarray, np.ndarray], excluded: frozenset[int]) -> None:
    truth, found = pair
    agreement = Agreement.of(torch.from_numpy(truth), torch.from_numpy(found), CLASSES, excluded)
    iou, accuracy = by_loop(truth, found, excluded)
    np.testing.assert_allclose(agreement.iou.numpy(), iou, rtol=1e-12)
    np.testing.assert_allclose(agreement.accuracy, accuracy, rtol=1e-12)
    scored = [value for value in iou if not math.isnan(value)]
    np.testing.assert_allclose(agreement.mean_iou, np.mean(scored) if scored else math.nan, rtol=1e-12)
    assert agreement.pixels == sum(t not in excluded for t in truth.ravel())


@settings(max_examples=30, deadline=None)
@given(maps, left_out)
def test_it_is_what_torchmetrics_counts(pair: tuple[np.ndarray, np.ndarray], excluded: frozenset[int]) -> None:
    truth, found = map(torch.from_numpy, pair)
    agreement = Agreement.of(truth, found, CLASSES, excluded)
    if not agreement.pixels:
        return
    target = torch.where(torch.isin(truth, torch.tensor(sorted(excluded))), -1, truth)
    options = {"num_classes": CLASSES + 1, "ignore_index": -1}
    predicted = torch.where(found == NO_CLASS, CLASSES, found)
    theirs = multiclass_jaccard_index(predicted, target, average="none", **options)[:CLASSES].double()
    scored = ~agreement.iou.isnan()
    torch.testing.assert_close(agreement.iou[scored], theirs[scored], rtol=1e-6, atol=1e-6)
    accuracy = float(multiclass_accuracy(predicted, target, average="micro", **options))
    assert agreement.accuracy == pytest.approx(accuracy, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(maps, left_out)
def test_batches_add_up(pair: tuple[np.ndarray, np.ndarray], excluded: frozenset[int]) -> None:
    truth, found = map(torch.from_numpy, pair)
    whole = Agreement.of(truth, found, CLASSES, excluded)
    total = Agreement.zero(CLASSES, excluded)
    for number in range(len(truth)):
        total += Agreement.of(truth[number : number + 1], found[number : number + 1], CLASSES, excluded)
    assert torch.equal(total.counts, whole.counts)


def test_a_worked_example() -> None:
    truth = torch.tensor([[[0, 0, 1, 1], [2, 2, 3, 3]]])
    found = torch.tensor([[[0, 1, 1, 1], [2, 3, 0, 1]]])  # class 3 is unknown; one pixel was segmented as unknown
    agreement = Agreement.of(truth, found, 4, [3])
    assert agreement.pixels == 6
    assert agreement.iou[:3].tolist() == pytest.approx([1 / 2, 2 / 3, 1 / 2]) and agreement.iou[3].isnan()
    assert agreement.mean_iou == pytest.approx(5 / 9)
    assert agreement.accuracy == pytest.approx(4 / 6)
    labels = LabelSet.numbered(4)
    assert list(agreement.by_name(labels))[1] == "class 1" and agreement.by_name(labels)["class 1"] == 2 / 3


def test_a_class_that_is_only_predicted_counts_and_an_absent_one_does_not() -> None:
    agreement = Agreement.of(torch.zeros(1, 1, 4, dtype=torch.long), torch.tensor([[[0, 0, 0, 1]]]), 3)
    assert agreement.iou[:2].tolist() == [0.75, 0.0] and agreement.iou[2].isnan()
    assert agreement.mean_iou == 0.375


def test_of_nothing_there_is_no_score() -> None:
    agreement = Agreement.zero(3)
    assert agreement.pixels == 0 and math.isnan(agreement.mean_iou) and math.isnan(agreement.accuracy)


def test_wrong_input_is_refused() -> None:
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    with pytest.raises(EvaluationError, match=r"truth is \[1, 2, 2\] and the prediction \[1, 2, 1\]"):
        Agreement.of(labels, labels[:, :, :1], 3)
    with pytest.raises(EvaluationError, match=r"the prediction holds classes 3 to 3, the label set allows -1 to 2"):
        Agreement.of(labels, labels + 3, 3)
    with pytest.raises(EvaluationError, match="the truth holds classes -1 to -1"):
        Agreement.of(labels - 1, labels, 3)
    with pytest.raises(EvaluationError, match="excluded classes cannot be added"):
        Agreement.zero(3, [1]) + Agreement.zero(3, [2])
