"""All failure drills, one after the other: `python -m tests.drills`, or `--short` for a few minutes' less."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.drills import corrupt_image, damaged_checkpoint, dead_worker, full_disk, kill9, nan_batch, sigterm

DRILLS: dict[str, tuple[Callable[[int], int], int, int]] = {
    "kill9": (kill9.drill, 200, 3),
    "sigterm": (sigterm.drill, 5, 1),
    "full_disk": (full_disk.drill, 30, 30),
    "dead_worker": (dead_worker.drill, 5, 1),
    "nan_batch": (nan_batch.drill, 3, 1),
    "corrupt_image": (corrupt_image.drill, 2, 1),
    "damaged_checkpoint": (damaged_checkpoint.drill, 20, 5),
}
"""Each drill with its number, in full and in short."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="do everything once or twice")
    short = parser.parse_args().short
    sys.exit(max([drill(few if short else many) for drill, many, few in DRILLS.values()]))
