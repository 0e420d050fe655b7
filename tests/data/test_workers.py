"""Errors in a data loader's processes reach the user as their own sentence."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest
import torch.utils.data

from segscape.data.workers import WithErrors, in_workers, received
from segscape.errors import DataError, LabelMapError


class Faulty:
    """Item 2 is broken, item 5 kills its process, item 7 is a mistake of the program."""

    def __getitem__(self, key: int) -> int:
        if key == 2:
            raise LabelMapError("a.png: item 2 is broken", "damaged")
        if key == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return {7: 1 // (key - 7) if key != 7 else 1 / 0}.get(7, 0) if key == 7 else key


def load(keys: list[int], workers: int) -> list[int]:
    loader = torch.utils.data.DataLoader(
        WithErrors(Faulty()), batch_size=None, sampler=keys, collate_fn=lambda item: item, num_workers=workers
    )
    return list(received(loader))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arrives_as_it_was_raised(workers: int) -> None:
    assert load([0, 1, 3], workers) == [0, 1, 3]
    with pytest.raises(LabelMapError) as caught:
        load([0, 1, 2, 3], workers)
    assert str(caught.value) == "a.png: item 2 is broken" and caught.value.kind == "damaged"


def test_a_killed_process_is_named() -> None:
    with pytest.raises(DataError, match=r"a process that reads data died.*fewer workers"):
        load([0, 5], 1)


def test_mistakes_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="Traceback"):
        load([7], 1)


@pytest.mark.parametrize("workers", [0, 3])
def test_work_comes_back_in_order(workers: int) -> None:
    assert list(in_workers(partial(pow, 2), [5, 1, 3, 0], workers)) == [32, 2, 8, 1]
