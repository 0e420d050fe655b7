"""The learning-rate schedule; the official one per epoch is a conformance vector."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from segscape.training.schedule import linear_decay

numbers = st.floats(0, 1e6)


@given(progress=numbers, constant=numbers)
def test_without_decay_the_factor_is_one(progress: float, constant: float) -> None:
    assert linear_decay(progress, constant, 0) == 1


@given(progress=numbers, more=numbers, constant=numbers, decay=st.floats(1, 1e6))
def test_factor_falls_from_one_to_zero(progress: float, more: float, constant: float, decay: float) -> None:
    first, later = linear_decay(progress, constant, decay), linear_decay(progress + more, constant, decay)
    assert 0 <= later <= first <= 1
    assert linear_decay(constant, constant, decay) == 1
    assert linear_decay(constant + decay, constant, decay) < 1e-9
