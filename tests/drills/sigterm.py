"""SIGTERM, as clusters send it before they take a machine away: the run saves, leaves with code 75, and goes on later.

python -m tests.drills.sigterm --times 5
"""

from __future__ import annotations

import random
import signal
import sys

from segscape.training.signals import PREEMPTED
from tests.drills.runs import Report, checkpoints, make_recipe, number_option, outcome, start, train_through, workplace


def drill(times: int) -> int:
    """Stop a run so many times by SIGTERM and once by SIGINT; 1 if anything went wrong."""
    report = Report("sigterm")
    source = random.Random(0)
    with workplace() as folder:
        recipe = make_recipe(folder / "pairs", images=8 * (times + 2), snapshot_images=10_000, log_images=2)
        train_through(recipe, folder / "undisturbed")
        run = folder / "run"
        for number, sent in enumerate([signal.SIGTERM] * times + [signal.SIGINT]):
            wanted = 8 * number + source.choice([2, 4, 6])
            training = start(recipe, run)
            training.until_image(wanted, run)
            training.send(sent)
            training.send(sent)  # a launcher passes on what the scheduler has sent to all: this is no second signal
            code, images = training.finish(), int(checkpoints(run)[-1].stem)
            report.check(
                f"{sent.name} near image {wanted}: saved at {images}, exit code {code}",
                code == (PREEMPTED if sent == signal.SIGTERM else 0) and wanted <= images < recipe.images,
                training.text[-2000:],
            )
        train_through(recipe, run)
        report.check("the same in the end", outcome(run) == outcome(folder / "undisturbed"))
    return report.summary()


if __name__ == "__main__":
    sys.exit(drill(number_option("--times", 5, "how often to send SIGTERM")))
