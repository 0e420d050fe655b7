"""Data processes killed by the system, as when memory runs out: new ones go on where they were.

python -m tests.drills.dead_worker --kills 5
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import time
from pathlib import Path

from segscape.data.folder import FileDataset
from segscape.training import reading
from tests.drills.runs import Report, Training, make_recipe, number_option, outcome, start, train_through, workplace


def drill(kills: int) -> int:
    """Kill so many data processes of one run; 1 if it did not end like an undisturbed one."""
    report = Report("dead_worker")
    source = random.Random(0)
    with workplace() as folder:
        recipe = make_recipe(folder / "pairs", workers=2, log_images=2, snapshot_images=1000, images=16 * (kills + 1))
        train_through(recipe, folder / "undisturbed")
        training = start(recipe, folder / "run")
        for number in range(kills):
            training.until_image(16 * number + 2 * source.randrange(1, 6), folder / "run")
            training.until(lambda: _kill_one(training, source))
            report.check(f"kill {number + 1}: training goes on", training.wait(0.1) is None, training.text[-2000:])
        report.check("it ends well", training.finish() == 0, training.text[-2000:])
        restarts = training.text.count("reading goes on from image")
        report.check(f"{restarts} warnings of new processes", 0 < restarts <= kills, training.text[-2000:])
        report.check("the same in the end", outcome(folder / "run") == outcome(folder / "undisturbed"))
        training = train_through(recipe, folder / "again", functools.partial(_always_die, os.getpid()))
        report.check(
            "processes that always die: one sentence",
            training.code == 2 and "error: a process that reads data died" in training.text,
            training.text[-2000:],
        )
        report.check("and the run goes on when they live", train_through(recipe, folder / "again").code == 0)
    return report.summary()


def _children(training: Training) -> list[int]:
    """The processes that a training has started."""
    listed = Path(f"/proc/{training.pid}/task/{training.pid}/children")
    return [int(number) for number in listed.read_text().split()] if listed.exists() else []


def _kill_one(training: Training, source: random.Random) -> bool:
    """Kill one of the processes that a training has started; false if it has none just now."""
    children = _children(training)
    if children:
        os.kill(source.choice(children), signal.SIGKILL)
    return bool(children)


def _always_die(drilling: int) -> None:
    """Let each data process die at its first sample; `drilling` is the parent of the process that trains."""
    read = FileDataset.sample
    reading.RESTARTS = 1  # PyTorch takes 5 seconds to notice each

    def sample(self: FileDataset, index: int) -> object:
        if os.getppid() != drilling:
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, index)

    FileDataset.sample = sample  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    sys.exit(drill(number_option("--kills", 5, "how many data processes to kill")))
