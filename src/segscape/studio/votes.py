"""The votes of a preference study in SQLite, and what they say: a percentage with its interval."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segscape.errors import EvaluationError

Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")

PROTOCOL = (
    "preference/1: two pictures of one layout, 'Which is more realistic?'; no ties, no time limit, order of pairs and "
    "sides random for every rater; the share of all votes"
)
RESAMPLES = 10_000
FEWEST = 5  # raters, and items, for which resampling them says something
_CHUNK = 1_000  # resamples at a time, which bounds the memory

_SCHEMA = """
CREATE TABLE IF NOT EXISTS votes (
    rater TEXT NOT NULL,
    item TEXT NOT NULL,
    "left" TEXT NOT NULL CHECK ("left" IN ('a', 'b')),
    choice TEXT NOT NULL CHECK (choice IN ('a', 'b')),
    seconds REAL NOT NULL CHECK (seconds >= 0),
    created TEXT NOT NULL,
    UNIQUE (rater, item)
)
"""
_RECORD = """
INSERT INTO votes (rater, item, "left", choice, seconds, created) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (rater, item) DO UPDATE SET
    "left" = excluded."left", choice = excluded.choice, seconds = excluded.seconds, created = excluded.created
"""
_READ = 'SELECT rater, item, "left", choice, seconds, created FROM votes'


@dataclass(frozen=True)
class Vote:
    """One answer.

    Attributes:
        rater: who.
        item: name of the layout.
        left: which of a and b was on the left.
        choice: which of a and b is more realistic.
        seconds: from the moment both pictures were shown.
        created: UTC, ISO 8601.
    """

    rater: str
    item: str
    left: Side
    choice: Side
    seconds: float
    created: str


@dataclass(frozen=True)
class RaterPreference:
    """One rater's votes; `percentage` of them are for A."""

    rater: str
    votes: int
    percentage: float


@dataclass(frozen=True)
class PreferenceReport:
    """What a study found.

    Attributes:
        percentage: of the votes that prefer A, 0 to 100.
        low, high: its 95 % interval.
        method: how the interval was found; `assumption` says what that takes for granted.
        p_value: two-sided binomial test against 50 %, in which every vote counts as independent.
        votes, raters, items: how many there are.
        per_rater: in the order of the names.
    """

    percentage: float
    low: float
    high: float
    method: Literal["bootstrap", "wilson"]
    p_value: float
    votes: int
    raters: int
    items: int
    per_rater: tuple[RaterPreference, ...]

    @property
    def assumption(self) -> str:
        """How the interval was found, in words."""
        if self.method == "bootstrap":
            return f"bootstrap over raters and items, {RESAMPLES:,} resamples: holds for other raters and other layouts"
        return (
            "Wilson: takes all votes as independent, which those of one rater or one layout are not; likely too narrow"
        )


class Votes:
    """The votes in a file; every call opens its own connection, so that any thread may use one object.

    Args:
        path: SQLite database, made if it is not there.

    Raises:
        EvaluationError: the file is no such database, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_SCHEMA)

    def record(self, rater: str, item: str, *, left: Side, choice: Side, seconds: float) -> None:
        """Keep a vote; it replaces the rater's earlier one on this item."""
        created = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        with self._connection() as connection:
            connection.execute(_RECORD, (rater, item, left, choice, seconds, created))

    def done(self, rater: str) -> list[Vote]:
        """The votes of one rater, oldest first."""
        with self._connection() as connection:
            rows = connection.execute(f"{_READ} WHERE rater = ? ORDER BY created, rowid", (rater,))
            return [Vote(*row) for row in rows]

    def all(self) -> list[Vote]:
        """Every vote, by rater and item."""
        with self._connection() as connection:
            return [Vote(*row) for row in connection.execute(f"{_READ} ORDER BY rater, item")]

    def report(self) -> PreferenceReport:
        """What the votes say so far; raises EvaluationError when there are none."""
        votes = self.all()
        if not votes:
            raise EvaluationError(f"{self.path} holds no votes yet: collect some with --vote.")
        return preference(votes)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One transaction on a connection of its own."""
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            raise EvaluationError(f"{self.path} cannot be used as the file of votes ({error}).") from error


def preference(votes: Sequence[Vote], seed: int = 0) -> PreferenceReport:
    """The share of votes for A with a 95 % interval.

    The interval resamples raters and items (`two_way_bootstrap`). With fewer than five of either, or when all votes
    agree, resampling cannot show the uncertainty, and it is Wilson's over the votes.

    Args:
        votes: at least one, at most one of each rater on each item.
        seed: of the resampling.
    """
    cast, for_a = _tables(votes)
    total, wins = int(cast.sum()), int(for_a.sum())
    method: Literal["bootstrap", "wilson"] = "wilson"
    if min(cast.shape) >= FEWEST and 0 < wins < total:
        method = "bootstrap"
    low, high = two_way_bootstrap(cast, for_a, seed=seed) if method == "bootstrap" else wilson(wins, total)
    return PreferenceReport(
        percentage=100 * wins / total,
        low=100 * low,
        high=100 * high,
        method=method,
        p_value=_binomial(wins, total).pvalue,
        votes=total,
        raters=cast.shape[0],
        items=cast.shape[1],
        per_rater=_per_rater(votes),
    )


def two_way_bootstrap(
    cast: NDArray[np.int64], for_a: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the share of votes for A, over raters and items drawn anew.

    The votes of one rater resemble each other, and so do those on one item. So each resample draws raters with
    replacement and, independently, items with replacement; a vote counts as often as its rater times its item was
    drawn. Source: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007). Where raters and items do
    differ it holds what it promises; if all votes are independent it is too wide, by up to the square root of 3.

    Args:
        cast: 1 where a rater voted on an item, else 0; `[raters, items]`.
        for_a: 1 where that vote was for A, else 0; `[raters, items]`.
        resamples: how many.
        seed: of the draws.

    Returns:
        (low, high), shares in 0..1. Resamples without a vote are left out.
    """
    generator = np.random.default_rng(seed)
    shares = [
        _resampled_shares(cast, for_a, min(_CHUNK, resamples - start), generator)
        for start in range(0, resamples, _CHUNK)
    ]
    low, high = np.nanquantile(np.concatenate(shares), (0.025, 0.975))
    return float(low), float(high)


def wilson(wins: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, (low, high) in 0..1, which takes all votes as independent."""
    interval = _binomial(wins, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _resampled_shares(
    cast: NDArray[np.int64], for_a: NDArray[np.int64], count: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """`[count]` shares for A; NaN where no vote was drawn."""
    raters, items = cast.shape
    of_raters = generator.multinomial(raters, np.full(raters, 1 / raters), size=count).astype(np.float64)
    of_items = generator.multinomial(items, np.full(items, 1 / items), size=count).astype(np.float64)
    wins, votes = (((of_raters @ table) * of_items).sum(1) for table in (for_a, cast))
    shares: NDArray[np.float64] = np.divide(wins, votes, out=np.full(count, np.nan), where=votes > 0)
    return shares


def _tables(votes: Sequence[Vote]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which votes were cast, and which of them for A: two `[raters, items]` of 0 and 1."""
    raters = {name: row for row, name in enumerate(sorted({vote.rater for vote in votes}))}
    items = {name: column for column, name in enumerate(sorted({vote.item for vote in votes}))}
    cast = np.zeros((len(raters), len(items)), dtype=np.int64)
    for_a = np.zeros_like(cast)
    for vote in votes:
        cast[raters[vote.rater], items[vote.item]] = 1
        for_a[raters[vote.rater], items[vote.item]] = vote.choice == "a"
    return cast, for_a


def _per_rater(votes: Sequence[Vote]) -> tuple[RaterPreference, ...]:
    choices: dict[str, list[bool]] = {}
    for vote in votes:
        choices.setdefault(vote.rater, []).append(vote.choice == "a")
    return tuple(RaterPreference(rater, len(own), 100 * sum(own) / len(own)) for rater, own in sorted(choices.items()))


def _binomial(wins: int, total: int):  # type: ignore[no-untyped-def]  # scipy has no types
    from scipy.stats import binomtest

    return binomtest(wins, total, 0.5)
