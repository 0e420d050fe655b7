"""The queue before the network: order, fairness, batches, and everything that makes a work leave it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from segscape.studio.queue import Done, FairQueue
from segscape.studio.refusal import Refusal


@dataclass(frozen=True)
class Job:
    """Work that says its name."""

    name: str
    batch: str = ""
    pixels: int = 1


class Network:
    """Does a batch when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.permits = threading.Semaphore(0)

    def run(self, jobs: Sequence[Job]) -> list[str]:
        self.permits.acquire()
        self.batches.append([job.name for job in jobs])
        if any(job.name == "broken" for job in jobs):
            raise ValueError("broken")
        return [job.name.upper() for job in jobs]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


Make = Callable[..., FairQueue[Job, str]]


@pytest.fixture
def make(network: Network, executor: ThreadPoolExecutor) -> Make:
    return lambda **options: FairQueue[Job, str](network.run, executor, **options)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))  # type: ignore[arg-type]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def start(queue: FairQueue[Job, str], client: str, job: Job, **options: bool) -> asyncio.Task[Done[str]]:
    return asyncio.create_task(queue.submit(client, job, **options))


async def occupied(queue: FairQueue[Job, str]) -> asyncio.Task[Done[str]]:
    """The network is busy with a work of nobody else."""
    task = start(queue, "first", Job("first", "alone"))
    await settle()
    assert queue.waiting == 0
    return task


def test_a_result_and_its_wait(make: Make, network: Network) -> None:
    async def scene() -> None:
        network.permits.release()
        done = await make().submit("anna", Job("a"))
        assert done.result == "A" and 0 <= done.queued < 1000

    play(scene)


def test_who_was_served_longest_ago_is_next(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make()
        tasks = [await occupied(queue)]
        tasks += [start(queue, "greedy", Job(f"g{number}", "1")) for number in range(3)]
        await settle()
        tasks += [start(queue, name, Job(name, "1")) for name in ("anna", "ben")]
        network.permits.release(10)
        await asyncio.gather(*tasks)
        assert [name for batch in network.batches for name in batch] == ["first", "g0", "anna", "ben", "g1", "g2"]

    play(scene)


def test_equal_works_are_done_together(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make(batch_pixels=3)
        tasks = [await occupied(queue)]
        tasks += [start(queue, f"client {n}", Job(f"{n}", "small" if n % 2 else "large")) for n in range(8)]
        await settle()
        network.permits.release(10)
        results = [done.result for done in await asyncio.gather(*tasks)]
        assert results == ["FIRST", *(f"{n}" for n in range(8))], "everybody gets the own result"
        assert network.batches == [["first"], ["0", "2", "4"], ["1", "3", "5"], ["6"], ["7"]]

    play(scene)


def test_works_too_large_go_alone(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make(batch_pixels=3)
        tasks = [await occupied(queue)]
        tasks += [start(queue, f"client {n}", Job(f"{n}", "x", pixels=2)) for n in range(2)]
        await settle()
        network.permits.release(10)
        await asyncio.gather(*tasks)
        assert network.batches == [["first"], ["0"], ["1"]]

    play(scene)


def test_the_newest_of_a_client_wins(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make()
        busy = await occupied(queue)
        older = start(queue, "anna", Job("older", "a"), newest_wins=True)
        await settle()
        other = start(queue, "ben", Job("other", "b"), newest_wins=True)
        await settle()
        newer = start(queue, "anna", Job("newer", "c"), newest_wins=True)
        await settle()
        with pytest.raises(Refusal) as refused:
            await older
        assert refused.value.status == 409 and queue.waiting == 2
        network.permits.release(3)
        await asyncio.gather(busy, other, newer)
        assert network.batches == [["first"], ["newer"], ["other"]], "it keeps the place of the older one"

    play(scene)


def test_a_full_queue_refuses(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make(places=2)
        busy = await occupied(queue)
        waiting = [start(queue, name, Job(name, name)) for name in ("anna", "ben")]
        await settle()
        with pytest.raises(Refusal) as refused:
            await queue.submit("chris", Job("chris"))
        assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 1
        network.permits.release(3)
        await asyncio.gather(busy, *waiting)

    play(scene)


def test_a_slow_network_has_a_short_queue(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make(places=32, seconds=4.0)
        queue._pace = 1.0  # so that two works take half of the time
        tasks = [await occupied(queue)]
        tasks += [start(queue, name, Job(name, name)) for name in ("anna", "ben")]
        await settle()
        with pytest.raises(Refusal) as refused:
            await queue.submit("chris", Job("chris"))
        assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 2
        network.permits.release(3)
        await asyncio.gather(*tasks)

    play(scene)


def test_a_full_queue_keeps_those_served_longest_ago(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make(places=2)
        network.permits.release()
        await queue.submit("anna", Job("earlier"))
        busy = await occupied(queue)
        waiting = [start(queue, name, Job(name, name)) for name in ("anna", "ben")]
        await settle()
        newcomer = start(queue, "chris", Job("chris", "chris"))
        await settle()
        with pytest.raises(Refusal) as refused:
            await waiting[0]
        assert refused.value.status == 429
        network.permits.release(3)
        await asyncio.gather(busy, waiting[1], newcomer)

    play(scene)


def test_nobody_starves_in_a_crowd(make: Make, network: Network) -> None:
    """Clients that come back at once hold the queue, and yet those that were refused get their turn."""

    async def scene() -> None:
        queue, served, refused = make(places=4, batch_pixels=1), Counter[str](), Counter[str]()
        network.permits.release(10_000)

        async def paint(client: str) -> None:
            while sum(served.values()) < 300:
                try:
                    await queue.submit(client, Job(client), newest_wins=True)
                    served[client] += 1
                except Refusal as refusal:
                    assert refusal.status == 429
                    refused[client] += 1
                    await asyncio.sleep(0.002)

        await asyncio.gather(*(paint(f"client {number}") for number in range(12)))
        assert len(served) == 12 and min(served.values()) > 0.6 * max(served.values()), served
        assert sum(refused.values()) > 0

    play(scene)


def test_who_leaves_is_dropped(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make()
        busy = await occupied(queue)
        leaving, staying = start(queue, "anna", Job("a", "a")), start(queue, "ben", Job("b", "b"))
        await settle()
        leaving.cancel()
        await settle()
        assert queue.waiting == 1
        network.permits.release(3)
        await asyncio.gather(busy, staying)
        assert network.batches == [["first"], ["b"]]

    play(scene)


def test_it_takes_only_so_long(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make(seconds=0.05)
        running, waiting = await occupied(queue), start(queue, "anna", Job("a", "a"))
        for task in (running, waiting):
            with pytest.raises(Refusal) as refused:
                await task
            assert refused.value.status == 503
        assert queue.waiting == 0
        network.permits.release(2)
        queue.seconds = 10
        assert (await queue.submit("anna", Job("again"))).result == "AGAIN", "it goes on afterwards"

    play(scene)


def test_a_failure_is_told_and_the_rest_goes_on(make: Make, network: Network) -> None:
    async def scene() -> None:
        queue = make()
        busy = await occupied(queue)
        failing, fine = start(queue, "anna", Job("broken", "a")), start(queue, "ben", Job("b", "b"))
        await settle()
        network.permits.release(3)
        with pytest.raises(ValueError, match="broken"):
            await failing
        assert (await fine).result == "B" and (await busy).result == "FIRST"

    play(scene)
