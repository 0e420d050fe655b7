"""Runs of two processes on the CPU, started as users start them, against runs of one process on the same batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from segscape.training.loop import train
from segscape.training.recipe import Recipe

from .distributed_jobs import exact_arithmetic

MakeRecipe = Callable[..., Recipe]

STILL = {"generator_lr": 1e-12, "discriminator_lr": 1e-12}
"""Rates at which nothing moves, so that the discriminator's gradient is not that of another generator."""

SYSTEMS: dict[str, dict[str, Any]] = {
    "spade": {"name": "spade", "hidden_channels": 4},
    "clade": {"name": "clade"},
    "clade-icpe": {"name": "clade-icpe"},
    "styles": {"name": "spade", "hidden_channels": 4, "latent_dim": 4},
}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # name: (model, recipe of two processes, what differs in that of one)
    **{name: ({**model, "statistics": "sync-batch"}, {"batch_size": 4}, {}) for name, model in SYSTEMS.items()},
    **{
        f"{name}, accumulated": ({**model, "statistics": "sync-batch"}, {"batch_size": 4, "accumulate": 2}, {})
        for name, model in SYSTEMS.items()
    },
    "accumulated against whole": (
        {**SYSTEMS["clade"], "statistics": "instance"},
        {"batch_size": 4, "accumulate": 2},
        {"accumulate": 1},
    ),
    "unequal parts": ({**SYSTEMS["styles"], "statistics": "sync-batch"}, {"batch_size": 3}, {}),
    "synchronised discriminator": (
        {**SYSTEMS["clade"], "statistics": "sync-batch"},
        {
            "batch_size": 4,
            "objective": {"perceptual": 0.0, "gan_mode": "least-squares", "fresh_fake": False},
            "discriminator": {"base_channels": 2, "num_scales": 2, "num_layers": 2, "norm": "sync-batch"},
        },
        {},
    ),
    "perceptual": (
        {**SYSTEMS["clade"], "statistics": "sync-batch"},
        {"batch_size": 4, "objective": {"features": "efficientnet-lite0"}},
        {},
    ),
}


def torchrun(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *arguments], capture_output=True, text=True, env=environment, timeout=300)


def train_in_two(folder: Path, *jobs: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Carry out jobs, see `distributed_jobs`, whose recipes are objects here."""
    for job in jobs:
        path = Path(f"{job['run']}.{job['recipe'].images}.yaml")
        path.write_text(job["recipe"].to_yaml())
        job["recipe"] = str(path)
    described = [{"exact": False, "resume": False, "stop": False, **job, "run": str(job["run"])} for job in jobs]
    (folder / "jobs.json").write_text(json.dumps(described))
    return torchrun([str(Path(__file__).with_name("distributed_jobs.py")), str(folder / "jobs.json")])


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def first_step(run: Path) -> dict[str, torch.Tensor]:
    """A run's only step: its losses, its gradients (Adam's first moments, as its first beta is 0) and its buffers."""
    content = torch.load(next((run / "checkpoints").glob("*.pt")), weights_only=True)
    found = {name: torch.tensor(value) for name, value in metrics(run)[0].items() if "/" in name}
    for network in ("generator", "discriminator"):
        states = content[f"{network}_optimizer"]["state"]
        found |= {f"{network}.gradient.{key}": state["exp_avg"] for key, state in states.items()}
        found |= {f"{network}.{key}": value for key, value in content[network].items()}
    return found


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest one, relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-3))


def one_step(make_recipe: MakeRecipe, case: str, processes: int) -> Recipe:
    model, common, alone = CASES[case]
    options = {"optimizer": STILL, **common, **(alone if processes == 1 else {})}
    size = options["batch_size"]
    model = {"image_size": [64, 64], "base_channels": 2, **model}
    data = {"kind": "scenes", "count": 8, "size": [64, 64]}
    return make_recipe(data=data, model=model, images=size, log_images=size, **options)


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    folders = {case: tmp_path / f"case{number}" for number, case in enumerate(CASES)}
    jobs = [{"recipe": one_step(make_recipe, case, 2), "run": folder / "two", "exact": True} for case, folder in folders.items()]
    for folder in folders.values():
        folder.mkdir()
    done = train_in_two(tmp_path, *jobs)
    assert done.returncode == 0, done.stderr
    worst = {}
    for case, folder in folders.items():
        with exact_arithmetic():
            train(one_step(make_recipe, case, 1), folder / "one")
        one, two = first_step(folder / "one"), first_step(folder / "two")
        assert one.keys() == two.keys()
        different = {key: difference(two[key], one[key]) for key in one}
        worst[case] = max((value, key) for key, value in different.items())
    Path("/tmp/plan/worst.txt").write_text("\n".join(map(str,worst.items())))
    assert all(value < 1e-5 for value, _ in worst.values()), worst


