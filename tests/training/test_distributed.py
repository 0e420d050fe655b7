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

from segscape.models.registry import load_model
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
        f"{name}, accumulated": ({**SYSTEMS[name], "statistics": "sync-batch"}, {"batch_size": 4, "accumulate": 2}, {})
        for name in ("clade-icpe", "styles")
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
    "recomputed activations": (
        {**SYSTEMS["clade"], "statistics": "sync-batch"},
        {"batch_size": 4, "accumulate": 2, "speed": {"checkpoint_activations": "blocks"}},
        {"speed": {}},
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


def largest_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> tuple[float, str]:
    """And where it is, relative to the largest value of each tensor.

    Gradients that vanish but for rounding are let off: a bias before a norm has such ones.
    """
    assert found.keys() == expected.keys()
    steepest = max(float(value.abs().max()) for key, value in expected.items() if ".gradient." in key)
    differences = []
    for key, value in expected.items():
        scale = max(float(value.abs().max()), 1e-9 * steepest)
        differences.append((float((found[key] - value).abs().max()) / scale, key))
    return max(differences)


def one_step(make_recipe: MakeRecipe, case: str, processes: int) -> Recipe:
    model, common, alone = CASES[case]
    options = {"optimizer": STILL, **common, **(alone if processes == 1 else {})}
    size = options["batch_size"]
    model = {"image_size": [64, 64], "base_channels": 2, **model}
    data = {"kind": "scenes", "count": 8, "size": [64, 64]}
    return make_recipe(data=data, model=model, images=size, log_images=size, samples=1, ema=None, **options)


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    folders = {case: tmp_path / f"case{number}" for number, case in enumerate(CASES)}
    jobs: list[dict[str, Any]] = []
    for case, folder in folders.items():
        folder.mkdir()
        jobs.append({"recipe": one_step(make_recipe, case, 2), "run": folder / "two", "exact": True})
    done = train_in_two(tmp_path, *jobs)
    assert done.returncode == 0, done.stderr
    differences = {}
    for case, folder in folders.items():
        with exact_arithmetic():
            train(one_step(make_recipe, case, 1), folder / "one")
        differences[case] = largest_difference(first_step(folder / "two"), first_step(folder / "one"))
    assert max(differences.values())[0] < 1e-6, differences


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    model = {"name": "clade", "image_size": [64, 64], "base_channels": 2, "latent_dim": 4}
    data = {"kind": "scenes", "count": 6, "size": [64, 64]}
    options: dict[str, Any] = {"model": model, "batch_size": 4, "log_images": 4, "data": data}
    with exact_arithmetic():
        train(make_recipe(**options, images=24), tmp_path / "one")
        train(make_recipe(**options, images=8), tmp_path / "changing")
    done = train_in_two(
        tmp_path,
        {"recipe": make_recipe(**options, images=16), "run": tmp_path / "changing", "resume": True, "exact": True},
        {"recipe": make_recipe(**options, images=100_000), "run": tmp_path / "stopped", "stop": True},
    )
    assert done.returncode == 0, done.stderr
    with exact_arithmetic():
        train(make_recipe(**options, images=24), tmp_path / "changing", resume=True)
    for line, other in zip(metrics(tmp_path / "changing"), metrics(tmp_path / "one"), strict=True):
        assert line == pytest.approx(other, rel=1e-5, abs=1e-7)
    # in the second run one process was told to stop, and both did so after the same step
    written = metrics(tmp_path / "stopped")
    assert "stopped" in done.stdout and 4 <= written[-1]["images"] < 100_000
    assert (tmp_path / "stopped" / "checkpoints" / f"{int(written[-1]['images']):010d}.pt").exists()


@pytest.mark.slow
def test_torchrun_starts_the_command(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(make_recipe(images=8, batch_size=4, workers=1).to_yaml())
    done = torchrun(["-m", "segscape", "train", str(path), "--out", str(tmp_path / "run")])
    assert done.returncode == 0, done.stderr
    assert [line["images"] for line in metrics(tmp_path / "run")] == [4, 8]
    assert load_model(tmp_path / "run" / "model").config.model == "clade"
