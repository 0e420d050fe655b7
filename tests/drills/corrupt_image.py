"""Damaged files in the middle of the data: named, counted, and replaced by the next sample, whoever reads and resumes.

python -m tests.drills.corrupt_image --files 2
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

from tests.drills.runs import (
    Report,
    make_recipe,
    metrics_lines,
    number_option,
    outcome,
    start,
    train_through,
    workplace,
)


def drill(files: int) -> int:
    """Cut off so many photos (at most 4 of 6); 1 if anything went wrong."""
    report = Report("corrupt_image")
    with workplace() as folder:
        replaced = shutil.copytree(folder / "pairs", folder / "replaced")
        for number in range(files, 0, -1):  # what stands in for a damaged pair: a copy of the next good one
            for kind in ("images", "labels"):
                shutil.copy(replaced / kind / f"{number + 1}.png", replaced / kind / f"{number}.png")
        cut = [folder / "pairs" / "images" / f"{number}.png" for number in range(1, files + 1)]
        for path in cut:
            _cut(path)
        train_through(make_recipe(replaced), folder / "wanted")
        wanted = outcome(folder / "wanted")
        recipe = make_recipe(folder / "pairs")
        training = train_through(recipe, folder / "run")
        report.check("training goes on", training.code == 0, training.text[-2000:])
        report.check("as if the next pair stood in their place", outcome(folder / "run") == wanted)
        report.check("each is named", all(f"{path}: " in training.text for path in cut), training.text[-2000:])
        counted = json.loads(metrics_lines(folder / "run")[-1])["replaced_samples"]
        warned = training.text.count("is shown in its place")
        report.check(f"{counted} times counted, {warned} times warned", 0 < counted <= warned)
        train_through(make_recipe(folder / "pairs", workers=2), folder / "workers")
        report.check("the same with data processes", outcome(folder / "workers") == wanted)
        training = start(recipe, folder / "killed")
        training.until_image(12, folder / "killed")
        training.send(signal.SIGKILL)
        report.check("killed on the way", training.finish() == -signal.SIGKILL)
        train_through(recipe, folder / "killed")
        report.check("and resumed: the same", outcome(folder / "killed") == wanted)
        training = train_through(make_recipe(folder / "pairs", tolerance={"samples": files - 1}), folder / "strict")
        report.check(
            f"tolerance.samples={files - 1}: an error that names a file",
            training.code == 2 and "error: " in training.text and str(cut[0].parent) in training.text,
            training.text[-2000:],
        )
    return report.summary()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


if __name__ == "__main__":
    sys.exit(drill(number_option("--files", 2, "how many photos to damage")))
