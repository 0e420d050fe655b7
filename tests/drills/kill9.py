"""`kill -9` at random moments: a run that is resumed as often as it is killed ends as an undisturbed one does.

python -m tests.drills.kill9 --kills 200
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
from pathlib import Path

from segscape.files import UNFINISHED
from segscape.training.recipe import Recipe
from tests.drills.runs import Report, make_recipe, number_option, outcome, start, train_through, workplace


def drill(kills: int) -> int:
    """Kill so many times; 1 if a run ended otherwise than the undisturbed one."""
    report = Report("kill9")
    source = random.Random(0)
    with workplace() as folder:
        recipe = make_recipe(folder / "pairs")
        train_through(recipe, folder / "undisturbed")
        begun = time.monotonic()
        report.check("undisturbed runs agree", train_through(recipe, folder / "again").code == 0)
        duration = time.monotonic() - begun
        whole = outcome(folder / "undisturbed")
        report.check("and leave the same", outcome(folder / "again") == whole)
        print(f"  an undisturbed run takes {duration:.1f} s; killing at random moments of that")
        killed = runs = writing = 0
        while killed < kills:
            runs += 1
            now, cut = run_through(recipe, folder / "run", source, duration, kills - killed)
            killed, writing = killed + now, writing + cut
            duration *= 1 if now else 0.7  # the machine has become faster
            found = outcome(folder / "run")
            different = [name for name in whole if found.get(name) != whole[name]]
            report.check(f"run {runs}: killed {now} times, the same in the end", not different, f"{different}")
            shutil.rmtree(folder / "run")
    identical = report.good - 2
    return report.summary(
        f"{killed} kills, {writing} of them while a file was being written; {identical} of {runs} runs ended with "
        "bit-identical weights, optimisers, averages, saved model and metrics"
    )


def run_through(recipe: Recipe, run: Path, source: random.Random, duration: float, most: int) -> tuple[int, int]:
    """Bring a run to its end through at most so many kills; how many it took, and how many cut off a writing."""
    killed = writing = 0
    while True:
        training = start(recipe, run)
        if killed < most and training.wait(source.uniform(0, duration)) is None:
            training.send(signal.SIGKILL)
            if training.finish() == -signal.SIGKILL:
                killed += 1
                writing += any(run.rglob(UNFINISHED))
                continue
        if training.finish() != 0:
            raise SystemExit(f"FAILED: a resumed run did not go on:\n{training.text[-3000:]}")
        return killed, writing


if __name__ == "__main__":
    sys.exit(drill(number_option("--kills", 200, "how often to kill")))
