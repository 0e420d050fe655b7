"""A disk that is full while a snapshot is saved: a warning and on it goes, an error at the end; nothing half is left.

    python -m tests.drills.full_disk --free-kilobytes 30

Root gets a real small disk (tmpfs). Everybody gets a limit on the size of files, which fails at the same places.
"""

from __future__ import annotations

import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from segscape.files import UNFINISHED
from segscape.training.checkpoint import read_sealed
from segscape.training.recipe import Recipe
from tests.drills.runs import Report, checkpoints, make_recipe, number_option, outcome, train_through, workplace


def drill(free: int) -> int:
    """Leave so many kilobytes on the disk, or allow them in a file; 1 if anything went wrong."""
    report = Report("full_disk")
    with workplace() as folder:
        recipe, half = (make_recipe(folder / "pairs", images=images) for images in (24, 12))
        train_through(recipe, folder / "undisturbed")
        whole = outcome(folder / "undisturbed")
        run = folder / "limited"
        train_through(half, run)
        _check(report, "files limited", recipe, run, whole, functools.partial(_limit, 1024 * free), lambda: None)
        with _small_disk(folder / "disk") as disk:
            if disk is None:
                print("  (no small disk: only root can mount one)")
                return report.summary()
            run = disk / "run"
            train_through(half, run)
            filler = disk / "filler"
            filler.write_bytes(b"\0" * (shutil.disk_usage(disk).free - 1024 * free))
            _check(report, "disk full", recipe, run, whole, None, filler.unlink)
    return report.summary()


def _check(
    report: Report,
    case: str,
    recipe: Recipe,
    run: Path,
    whole: dict[str, str],
    fill: Callable[[], object] | None,
    free: Callable[[], object],
) -> None:
    """Go on with a run that cannot save any more, then make room and go on again."""
    newest = checkpoints(run)[-1]
    training = train_through(recipe, run, fill)
    text = training.text[-3000:]
    warnings = training.text.count("cannot be written")
    report.check(f"{case}: {warnings} warnings, training goes on to the end", warnings > 2 and " 24/24 " in text, text)
    report.check(f"{case}: then an error that names {newest.name}", training.code == 2 and str(newest) in text, text)
    same = checkpoints(run)[-1] == newest and read_sealed(newest) is not None
    report.check(f"{case}: the newest checkpoint is the same, and whole", same)
    report.check(f"{case}: nothing half-written is left", not list(run.rglob(UNFINISHED)))
    free()
    training = train_through(recipe, run)
    good = training.code == 0 and outcome(run) == whole
    report.check(f"{case}: with room, the same in the end", good, training.text[-2000:])


def _limit(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails with an error, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@contextmanager
def _small_disk(place: Path) -> Iterator[Path | None]:
    """A disk of 24 MB; None for those who may not mount one."""
    place.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    mounted = os.geteuid() == 0 and subprocess.run(options, capture_output=True).returncode == 0
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


if __name__ == "__main__":
    sys.exit(drill(number_option("--free-kilobytes", 30, "room that is left")))
