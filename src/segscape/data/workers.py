"""Work for a data loader's processes: errors come back as the sentences that they are."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch.utils.data

from segscape.errors import DataError, SegscapeError

Result = TypeVar("Result")

DEAD_WORKER = "dead-worker"
"""The `kind` of the error that says that a process of a loader died."""


class _Keyed(Protocol):
    def __getitem__(self, key: Any, /) -> Any: ...


class WithErrors(torch.utils.data.Dataset[Any]):
    """Another map-style dataset that hands its errors over as items.

    A data loader would put the traceback of its process into the message of an error that is raised.
    """

    def __init__(self, dataset: _Keyed) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        """The item of a key, or the SegscapeError or OSError that it raised."""
        try:
            return self.dataset[key]
        except (SegscapeError, OSError) as error:
            return error

    def __getitems__(self, keys: Sequence[Any]) -> list[Any]:
        """The items of a batch, or the error that keeps it from being read."""
        prepare = getattr(self.dataset, "prepare", None)
        try:
            if prepare is not None:
                prepare(keys)
        except (SegscapeError, OSError) as error:
            return [error]
        return [self[key] for key in keys]


def received(loader: Any) -> Iterator[Any]:
    """What a data loader of a `WithErrors` yields; its errors are raised here.

    Raises:
        SegscapeError, OSError: as the dataset raised it.
        DataError: a process of the loader died.
    """
    items = None
    try:
        items = iter(loader)
        _leave_deaths_to_next()
        for item in items:
            if isinstance(item, (SegscapeError, OSError)):
                raise item
            yield item
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "a process that reads data died, most often because memory ran out: use fewer workers, or smaller images "
            f"({' '.join(str(error).split())})",
            kind=DEAD_WORKER,
        ) from None
    finally:
        del items  # stops the processes now, not when the error that refers to this frame is forgotten


def _leave_deaths_to_next() -> None:
    """Let the next item tell that a process of a loader died, and not an exception in the midst of other work.

    PyTorch raises it from its handler of SIGCHLD, which could interrupt an optimiser halfway through its weights.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def in_workers(work: Callable[[int], Result], numbers: Sequence[int], workers: int) -> Iterator[Result]:
    """Yield `work(number)` of every number, in their order; raises as `received`.

    Args:
        work: can be pickled; what it returns too.
        numbers: what to call it with.
        workers: how many processes; 0 works in this one.
    """
    loader: Any = torch.utils.data.DataLoader(
        WithErrors(_Called(work)),
        batch_size=None,
        sampler=numbers,
        collate_fn=_unchanged,
        num_workers=workers,
    )
    yield from received(loader)


class _Called:
    """A function, written as a dataset."""

    def __init__(self, work: Callable[[int], Any]) -> None:
        self.work = work

    def __getitem__(self, number: int) -> Any:
        return self.work(number)


def _unchanged(result: Result) -> Result:
    return result
