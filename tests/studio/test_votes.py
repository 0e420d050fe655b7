"""Votes in SQLite, and the interval of their percentage against scipy and simulation."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from segscape.errors import EvaluationError
from segscape.studio.votes import Vote, Votes, preference, two_way_bootstrap, wilson


def ballot(choices: NDArray[np.int64] | Iterable[Iterable[int]]) -> list[Vote]:
    """Votes of `[raters, items]`: 1 for a, 0 for b."""
    return [
        Vote(f"rater {row:02d}", f"item {column:03d}", "a", "a" if value else "b", 1.0, "")
        for row, values in enumerate(choices)
        for column, value in enumerate(values)
    ]


@pytest.fixture
def votes(tmp_path: Path) -> Votes:
    return Votes(tmp_path / "votes.sqlite")


def test_a_vote_is_read_back(votes: Votes) -> None:
    votes.record("anna", "town/01", left="b", choice="a", seconds=2.5)
    (found,) = votes.all()
    assert (found.rater, found.item, found.left, found.choice, found.seconds) == ("anna", "town/01", "b", "a", 2.5)
    assert found.created.endswith("+00:00")
    with closing(sqlite3.connect(votes.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_repeated_vote_replaces_the_earlier(votes: Votes) -> None:
    for choice in ("a", "b"):
        votes.record("anna", "x", left="a", choice=choice, seconds=1)  # type: ignore[arg-type]
    votes.record("ben", "x", left="b", choice="a", seconds=1)
    assert [(vote.rater, vote.choice) for vote in votes.all()] == [("anna", "b"), ("ben", "a")]


def test_done_is_in_the_order_of_the_votes(votes: Votes) -> None:
    for item in ("z", "a", "m"):
        votes.record("anna", item, left="a", choice="a", seconds=1)
    votes.record("ben", "q", left="a", choice="a", seconds=1)
    assert [vote.item for vote in votes.done("anna")] == ["z", "a", "m"]
    assert votes.done("nobody") == []


def test_votes_outlive_their_object(votes: Votes) -> None:
    votes.record("anna", "x", left="a", choice="b", seconds=1)
    assert Votes(votes.path).all() == votes.all()


def test_threads_write_at_once(votes: Votes) -> None:
    def write(rater: int) -> None:
        for item in range(25):
            votes.record(f"r{rater}", f"i{item}", left="a", choice="a" if rater % 2 else "b", seconds=0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    report = votes.report()
    assert (report.votes, report.raters, report.items, report.percentage) == (200, 8, 25, 50.0)


@pytest.mark.parametrize(
    "wrong",
    [{"left": "c"}, {"choice": "left"}, {"seconds": -1.0}, {"rater": None}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_the_database_refuses_nonsense(votes: Votes, wrong: dict[str, object]) -> None:
    vote = {"rater": "anna", "item": "x", "left": "a", "choice": "a", "seconds": 1.0, **wrong}
    with pytest.raises(EvaluationError, match=r"votes\.sqlite"):
        votes.record(vote.pop("rater"), vote.pop("item"), **vote)  # type: ignore[arg-type]
    assert votes.all() == []


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "votes.sqlite").write_text("no database, but long enough to be looked at" * 50)
    with pytest.raises(EvaluationError, match="cannot be used as the file of votes"):
        Votes(tmp_path / "votes.sqlite")


def test_no_votes_no_report(votes: Votes) -> None:
    with pytest.raises(EvaluationError, match="no votes yet"):
        votes.report()


def test_the_numbers_of_the_paper_are_whole_votes() -> None:
    """Table V: 20 users and 40 items; 48.375 % (CLADE against SPADE, ADE20K) are 387 votes."""
    choices = np.zeros(800, dtype=np.int64)
    choices[np.random.default_rng(0).permutation(800)[:387]] = 1
    report = preference(ballot(choices.reshape(20, 40)))
    assert (report.percentage, report.votes, report.raters, report.items) == (48.375, 800, 20, 40)
    assert report.method == "bootstrap" and report.low < 48.375 < report.high
    # binomial test by the definition: all outcomes that are not more likely than the one found
    likelihood = stats.binom.pmf(np.arange(801), 800, 0.5)
    assert report.p_value == pytest.approx(likelihood[likelihood <= likelihood[387] * (1 + 1e-9)].sum())


def test_each_rater_is_counted() -> None:
    report = preference(ballot([[1, 1, 1, 0], [0, 0, 0, 0]]))
    assert [(row.rater, row.votes, row.percentage) for row in report.per_rater] == [
        ("rater 00", 4, 75.0),
        ("rater 01", 4, 0.0),
    ]
    assert report.percentage == 37.5


@pytest.mark.parametrize(("wins", "total"), [(0, 10), (3, 10), (40, 40), (387, 800)])
def test_wilson_by_its_formula(wins: int, total: int) -> None:
    z, share = stats.norm.ppf(0.975), wins / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    assert wilson(wins, total) == pytest.approx((centre - half, centre + half), abs=1e-12)


@pytest.mark.parametrize(
    "choices",
    [np.eye(1, 40, dtype=np.int64), np.eye(4, 40, dtype=np.int64), np.eye(8, 4, dtype=np.int64)],
    ids=["one rater", "four raters", "four items"],
)
def test_few_raters_or_items_take_wilson(choices: NDArray[np.int64]) -> None:
    report = preference(ballot(choices))
    low, high = wilson(int(choices.sum()), choices.size)
    assert (report.method, report.low, report.high) == ("wilson", 100 * low, 100 * high)
    assert "independent" in report.assumption


@pytest.mark.parametrize("value", [0, 1])
def test_agreement_of_all_still_has_an_interval(value: int) -> None:
    report = preference(ballot(np.full((10, 10), value)))
    assert report.percentage == 100 * value and report.method == "wilson"
    assert 0 < report.high - report.low < 5
    assert report.p_value == pytest.approx(2 * 0.5**100)


def test_the_bootstrap_draws_raters_and_items() -> None:
    """Against a plain loop over resamples with its own random numbers."""
    generator = np.random.default_rng(3)
    cast = generator.integers(0, 2, (7, 9))
    for_a = cast * generator.integers(0, 2, (7, 9))
    shares = []
    for _ in range(4000):
        rows, columns = generator.integers(0, 7, 7), generator.integers(0, 9, 9)
        shares.append(for_a[np.ix_(rows, columns)].sum() / cast[np.ix_(rows, columns)].sum())
    expected = np.quantile(shares, (0.025, 0.975))
    assert two_way_bootstrap(cast, for_a) == pytest.approx(tuple(expected), abs=0.02)


def test_the_bootstrap_repeats_and_depends_on_its_seed() -> None:
    cast = np.ones((13, 37), dtype=np.int64)
    for_a = np.random.default_rng(0).integers(0, 2, cast.shape)
    first = two_way_bootstrap(cast, for_a, resamples=1500, seed=1)
    assert first == two_way_bootstrap(cast, for_a, resamples=1500, seed=1)
    assert first != two_way_bootstrap(cast, for_a, resamples=1500, seed=2)


def test_resamples_without_votes_are_left_out() -> None:
    cast = np.eye(5, dtype=np.int64)  # each rater saw one item of its own
    low, high = two_way_bootstrap(cast, cast * np.array([1, 0, 1, 0, 1]))
    assert (low, high) == (0.0, 1.0)


def test_the_bootstrap_covers_where_wilson_does_not() -> None:
    """Raters and items differ: the true share lies in the bootstrap interval about as often as promised."""
    generator = np.random.default_rng(5)
    spread = np.hypot(0.5, 1.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    truth = (weights / (1 + np.exp(-(0.4 + spread * nodes)))).sum() / weights.sum()
    covered = {"bootstrap": 0, "wilson": 0}
    cast = np.ones((20, 40), dtype=np.int64)
    for _ in range(150):
        taste = 0.4 + 0.5 * generator.standard_normal((20, 1)) + generator.standard_normal((1, 40))
        for_a = (generator.random((20, 40)) < 1 / (1 + np.exp(-taste))).astype(np.int64)
        low, high = two_way_bootstrap(cast, for_a, resamples=500)
        covered["bootstrap"] += low <= truth <= high
        low, high = wilson(int(for_a.sum()), 800)
        covered["wilson"] += low <= truth <= high
    assert covered["bootstrap"] / 150 >= 0.88
    assert covered["wilson"] / 150 <= 0.75
