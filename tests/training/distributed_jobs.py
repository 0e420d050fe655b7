"""Several runs, one after the other, in each process that `torchrun` starts: the processes are started but once."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

import segscape.data.sample
from segscape.training.loop import train
from segscape.training.recipe import load_recipe


def main(jobs: Path) -> None:
    """Train by each `{"recipe": FILE, "run": FOLDER, "exact": BOOL, "resume": BOOL, "stop": BOOL}` of a JSON file."""
    torch.set_num_threads(1)
    for job in json.loads(jobs.read_text()):
        if job["stop"] and os.environ["RANK"] == "1":
            threading.Thread(target=press_ctrl_c, args=[Path(job["run"])]).start()
        with exact_arithmetic() if job["exact"] else nullcontext():
            train(load_recipe(job["recipe"]), job["run"], resume=job["resume"])


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Training in float64, in which other orders of the same sums agree to ten digits or more."""
    of_float32 = segscape.data.sample.image_tensor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segscape.data.sample, "image_tensor", lambda image: of_float32(image).double())
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def press_ctrl_c(run: Path) -> None:
    """In this process only, once the run has begun."""
    while not (run / "metrics.jsonl").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
