"""Sharing numbers between processes; that two processes agree with one is tested with the command."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from segscape.evaluation.processes import Processes, joined_processes


@given(length=st.integers(0, 40), count=st.integers(1, 7))
def test_shares_part_the_numbers(length: int, count: int) -> None:
    shares = [list(Processes(rank, count).share(length)) for rank in range(count)]
    assert sorted(number for share in shares for number in share) == list(range(length))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_one_process_gathers_in_the_order_of_the_numbers() -> None:
    with joined_processes() as processes:
        assert processes == Processes(0, 1) and processes.first
        assert processes.gather([(2, "c"), (0, "a"), (1, "b")]) == ["a", "b", "c"]
        assert processes.agree("mine") == "mine"
