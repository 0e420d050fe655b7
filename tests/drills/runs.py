"""A training run of a few seconds, in a process of its own that a drill can kill, and what it leaves, for comparing.

The processes are forked from this one, which has imported everything and computed nothing; so each starts at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401  (imported before the processes are forked)
import torch
import torch._dynamo  # the first optimiser of a process imports it, which takes longer than a short training

from segscape.errors import SegscapeError
from segscape.training import Recipe, train
from segscape.training.recipe import parse_recipe
from tests.pairs import make_pairs

torch.set_num_threads(1)

PATIENCE = 300.0
"""Seconds after which a process counts as hanging."""


def make_recipe(pairs: Path, **changes: Any) -> Recipe:
    """A tiny recipe on these pairs: 12 steps, a checkpoint after every second one."""
    folders = {"images": str(pairs / "images"), "labels": str(pairs / "labels")}
    content: dict[str, Any] = {
        "data": {"kind": "folder", "label_set": "camvid", **folders},
        "model": {"name": "clade", "image_size": [32, 32], "base_channels": 2, "latent_dim": 4},
        "discriminator": {"base_channels": 2, "num_scales": 1, "num_layers": 2},
        "objective": {"perceptual": 0.0},
        "ema": {"half_life_images": 8, "statistics_batches": 1},
        "images": 24,
        "batch_size": 2,
        "snapshot_images": 4,
        "log_images": 6,
        "samples": 1,
        "trackers": [],
    }
    return parse_recipe(content | changes, "drill")


@dataclass
class Training:
    """A process that trains.

    Attributes:
        pid: of the process.
        log: file with what it prints.
    """

    pid: int
    log: Path
    code: int | None = None

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """The exit code, minus the signal that killed it; None if it still runs after so many seconds."""
        end = time.monotonic() + seconds
        while self.code is None and time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.002)
        return self.code

    def finish(self) -> int:
        """Wait for the end; a process that hangs is killed, and the drill fails."""
        code = self.wait()
        if code is None:
            self.send(signal.SIGKILL)
            raise SystemExit(f"FAILED: a process hangs:\n{self.log.read_text()[-3000:]}")
        return code

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.code is None:
            os.kill(self.pid, number)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something has happened, or the process has ended."""
        while not condition() and self.wait(0.002) is None:
            pass

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(errors="replace")

    def until_image(self, number: int, run: Path) -> None:
        """Wait for the line of metrics about this image."""
        lines = run / "metrics.jsonl"
        self.until(lambda: lines.exists() and f'{{"images": {number}, ' in lines.read_text())


def start(recipe: Recipe, run: Path, prepare: Callable[[], object] | None = None) -> Training:
    """Begin a run, or go on with it, in a new process, which calls `prepare` first."""
    log = run.with_suffix(".log")
    log.write_text("")
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _become_training(recipe, run, log, prepare)
    return Training(pid, log)


def _become_training(recipe: Recipe, run: Path, log: Path, prepare: Callable[[], object] | None) -> None:
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(handle, stream)
        if prepare is not None:
            prepare()
        train(recipe, run, resume=(run / "recipe.yaml").is_file())
        code = 0
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except SegscapeError as error:
        print(f"error: {error}")
        code = 2
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def train_through(recipe: Recipe, run: Path, prepare: Callable[[], object] | None = None) -> Training:
    """Run to the end."""
    training = start(recipe, run, prepare)
    training.finish()
    return training


def outcome(run: Path) -> dict[str, str]:
    """Digests of everything that a finished run leaves: state by part, saved model, metrics without speed."""
    content = torch.load(checkpoints(run)[-1], weights_only=True)
    content["tracker"] = {key: value for key, value in content["tracker"].items() if key != "incidents"}
    found = {name: _digest(part) for name, part in content.items()}
    found["model"] = hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()
    found["metrics"] = _digest([_without_speed(json.loads(line)) for line in metrics_lines(run)])
    return found


def metrics_lines(run: Path) -> list[str]:
    """The lines of the metrics."""
    return (run / "metrics.jsonl").read_text().splitlines()


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints, oldest first."""
    return sorted((run / "checkpoints").glob("*.pt"))


def _without_speed(line: dict[str, float]) -> dict[str, float]:
    left_out = ("images_per_second", "reader_restarts", "replaced_samples", "skipped_steps")
    return {key: value for key, value in line.items() if key not in left_out}


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    for part in _flatten(value):
        digest.update(part)
    return digest.hexdigest()


def _flatten(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype}{list(value.shape)}".encode() + value.contiguous().view(-1).numpy().tobytes()
    elif isinstance(value, dict):
        for key in value:
            yield repr(key).encode()
            yield from _flatten(value[key])
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _flatten(entry)
    else:
        yield repr(value).encode()


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder with `pairs` in it, for one drill."""
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        make_pairs(Path(folder) / "pairs")
        yield Path(folder)


class Report:
    """What a drill prints: a line for each thing that it did, and a summary."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.good = self.bad = 0

    def check(self, what: str, good: bool, detail: str = "") -> bool:
        """Note whether one thing went as it should."""
        self.good, self.bad = self.good + good, self.bad + (not good)
        print(f"  {'ok    ' if good else 'FAILED'} {what}" + (f"\n{detail}" if detail and not good else ""), flush=True)
        return good

    def summary(self, counts: str = "") -> int:
        """Print the last line; 1 if anything failed, else 0."""
        counts = counts or f"{self.good} of {self.good + self.bad} checks passed"
        print(f"{self.name}: {'FAILED' if self.bad else 'passed'}: {counts}", flush=True)
        return int(self.bad > 0)


def number_option(option: str, default: int, what: str) -> int:
    """The value of the one option that a drill has."""
    parser = argparse.ArgumentParser()
    parser.add_argument(option, type=int, default=default, metavar="N", help=f"{what} (default {default})")
    return int(next(iter(vars(parser.parse_args()).values())))
