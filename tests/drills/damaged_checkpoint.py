"""Damaged checkpoints: the newest whole one is used, with a warning that names the damaged; an error if none is whole.

python -m tests.drills.damaged_checkpoint --flips 20
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from segscape.training.checkpoint import read_sealed
from tests.drills.runs import Report, checkpoints, make_recipe, number_option, outcome, train_through, workplace


def drill(flips: int) -> int:
    """Damage checkpoints in several ways, flip a bit in so many places; 1 if anything went wrong."""
    report = Report("damaged_checkpoint")
    source = random.Random(0)
    with workplace() as folder:
        recipe = make_recipe(folder / "pairs", snapshot_images=8)
        half = make_recipe(folder / "pairs", snapshot_images=8, images=16)
        train_through(recipe, folder / "undisturbed")
        train_through(half, folder / "half")
        whole = outcome(folder / "undisturbed")
        for name, damage in DAMAGES.items():
            run = shutil.copytree(folder / "half", folder / name)
            newest = checkpoints(run)[-1]
            damage(newest)
            training = train_through(recipe, run)
            report.check(
                f"{name}: named, set aside, the same in the end",
                f"warning: {newest} is damaged" in training.text
                and newest.with_name(f"{newest.name}.damaged").exists()
                and outcome(run) == whole,
                training.text[-2000:],
            )
        report.check(
            f"{flips} flipped bits are all noticed", flips == _noticed(checkpoints(folder / "half")[-1], flips, source)
        )
        for path in checkpoints(folder / "half"):
            DAMAGES["cut off"](path)
        training = train_through(recipe, folder / "half")
        report.check(
            "all damaged: an error", training.code == 2 and "every checkpoint in" in training.text, training.text
        )
    return report.summary()


def _noticed(path: Path, flips: int, source: random.Random) -> int:
    """How many of so many single flipped bits make the file no longer count as whole."""
    content, noticed = path.read_bytes(), 0
    for _ in range(flips):
        place = source.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << source.randrange(8))]) + content[place + 1 :])
        noticed += read_sealed(path) is None
    path.write_bytes(content)
    return noticed


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut off": _cut,
    "one bit flipped": _flip,
    "empty": lambda path: path.write_bytes(b""),
    "something else": lambda path: path.write_bytes(b"PK\3\4 what is this?" * 1000),
    "zeros at the end": lambda path: path.write_bytes(path.read_bytes()[:-4096] + b"\0" * 4096),
}
"""What happens to a file, by its name in the report."""


if __name__ == "__main__":
    sys.exit(drill(number_option("--flips", 20, "how many single bits to flip")))
