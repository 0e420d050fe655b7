"""The queue before the network: fair to clients, the newest request of each, in micro-batches.

One thread works. Clients take turns in the order in which they came. While the queue is full, a newcomer who was served
longer ago than somebody who waits takes that place, so that no client starves behind those who ask more often. It is
full when all places are taken, or when what waits would take half of the time that a work may take.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from segscape.studio.refusal import Refusal

KNOWN_CLIENTS = 4096
"""How many clients' turns are remembered."""


class Work(Protocol):
    """What is queued.

    Attributes:
        batch: works that are equal here can be done together.
        pixels: of the pictures that it makes.
    """

    @property
    def batch(self) -> Hashable: ...

    @property
    def pixels(self) -> int: ...


LONGEST_RETRY = 60
"""Seconds after which a refused client is asked to come back, at most."""

W = TypeVar("W", bound=Work)
R = TypeVar("R")


@dataclass
class Done(Generic[R]):
    """A result, and how many milliseconds its work waited."""

    result: R
    queued: float


@dataclass
class _Waiting(Generic[W, R]):
    client: str
    work: W
    future: asyncio.Future[Done[R]]
    arrived: float = field(default_factory=time.monotonic)
    since: float = 0.0  # of its place in the queue, which may be older

    def __post_init__(self) -> None:
        self.since = self.arrived


class FairQueue(Generic[W, R]):
    """Works, done in batches in an executor.

    Args:
        run: does a batch of works; blocks, and is never called twice at the same time.
        executor: where `run` is called; it should have one thread.
        places: how many works can wait.
        seconds: how long a work may wait and be done.
        batch_pixels: of the works of a batch together; one work may have more.
    """

    def __init__(
        self,
        run: Callable[[Sequence[W]], Sequence[R]],
        executor: Executor,
        *,
        places: int = 32,
        seconds: float = 30.0,
        batch_pixels: int = 1 << 16,
    ) -> None:
        self._run, self._executor = run, executor
        self.places, self.seconds, self.batch_pixels = places, seconds, batch_pixels
        self._waiting: list[_Waiting[W, R]] = []
        self._turns: OrderedDict[str, int] = OrderedDict()  # client -> the number of its last turn
        self._turn = 0
        self._away: dict[str, float] = {}  # who was refused -> when they were told to come back
        self._pace = 0.02  # seconds for a work, lately
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many works wait."""
        return len(self._waiting)

    async def submit(self, client: str, work: W, *, newest_wins: bool = False) -> Done[R]:
        """Wait for a work to be done; if the caller is cancelled, it leaves the queue.

        Args:
            client: whose turn it takes.
            work: what to do.
            newest_wins: an older work of this client that still waits is dropped, and this one takes its place.

        Raises:
            Refusal: 429 if the queue is full, 409 if a newer work of the client came, 503 if it took too long.
        """
        entry = _Waiting[W, R](client, work, asyncio.get_running_loop().create_future())
        self._admit(entry, newest_wins)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await asyncio.wait_for(entry.future, self.seconds)
        except asyncio.TimeoutError:
            raise Refusal(
                503, f"This took longer than {self.seconds:g} seconds; ask for a smaller picture.", {"Retry-After": "5"}
            ) from None
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _admit(self, entry: _Waiting[W, R], newest_wins: bool) -> None:
        older = [one for one in self._waiting if one.client == entry.client] if newest_wins else []
        for one in older:
            entry.since = min(entry.since, one.since)
            self._drop(one, Refusal(409, "A newer request of this client took the place of this one."))
        if len(self._waiting) >= self._room():
            latest = max(self._waiting, key=lambda one: (self._turns.get(one.client, 0), one.since))
            if self._turns.get(latest.client, 0) <= self._turns.get(entry.client, 0):
                raise self._full(entry.client)
            self._drop(latest, self._full(latest.client))
        self._away.pop(entry.client, None)
        self._waiting.append(entry)

    def _drop(self, entry: _Waiting[W, R], reason: Refusal) -> None:
        self._waiting.remove(entry)
        if not entry.future.done():
            entry.future.set_exception(reason)

    def _room(self) -> int:
        """How many works can wait at the present pace."""
        return max(1, min(self.places, int(self.seconds / 2 / self._pace)))

    def _full(self, client: str) -> Refusal:
        """Refuse a client; the more were sent away already, the later it should come back."""
        now = time.monotonic()
        self._away = {one: due for one, due in self._away.items() if due > now and one != client}
        seconds = min(LONGEST_RETRY, max(1, math.ceil(self._pace * (self.places + len(self._away)))))
        self._away[client] = now + seconds
        return Refusal(429, f"{len(self._waiting)} requests wait already; try again.", {"Retry-After": str(seconds)})

    def _in_turn(self) -> list[_Waiting[W, R]]:
        """What waits, in the order in which it is done: of each client one, then of each another."""
        rounds: Counter[str] = Counter()
        ranked = []
        for one in sorted(self._waiting, key=lambda one: one.since):
            ranked.append((rounds[one.client], one.since, one))
            rounds[one.client] += 1
        return [one for _, _, one in sorted(ranked, key=lambda entry: entry[:2])]

    def _next_batch(self) -> list[_Waiting[W, R]]:
        """Take the next works that can be done together, one of each client."""
        first, *others = self._in_turn()
        batch, pixels = [first], first.work.pixels
        for other in others:
            fits = other.work.batch == first.work.batch and pixels + other.work.pixels <= self.batch_pixels
            if fits and other.client not in {one.client for one in batch}:
                batch.append(other)
                pixels += other.work.pixels
        for one in batch:
            self._waiting.remove(one)
            self._turn += 1
            self._turns[one.client] = self._turn
            self._turns.move_to_end(one.client)
        now, served = time.monotonic(), {one.client for one in batch}
        for one in self._waiting:
            if one.client in served:  # its other works wait behind everybody
                one.since = now
        while len(self._turns) > KNOWN_CLIENTS:
            self._turns.popitem(last=False)
        return batch

    async def _work(self) -> None:
        """Do what waits until nothing does."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = self._next_batch()
            start = time.monotonic()
            try:
                results = await loop.run_in_executor(self._executor, self._run, [one.work for one in batch])
            except Exception as error:
                for one in batch:
                    if not one.future.done():
                        one.future.set_exception(error)
                continue
            self._pace += 0.2 * ((time.monotonic() - start) / len(batch) - self._pace)
            for one, result in zip(batch, results, strict=True):
                if not one.future.done():
                    one.future.set_result(Done(result, 1000 * (start - one.arrived)))
