"""A run of two processes on the CPU, started as users start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segscape.models.registry import load_model
from segscape.training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


def torchrun(recipe: Recipe, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "segscape", "train", str(path), "--out", str(folder / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *command], capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.slow
def test_two_processes_train_one_model(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    model = {"name": "clade", "image_size": [32, 32], "base_channels": 1, "statistics": "batch"}
    done = torchrun(make_recipe(model=model, images=8, batch_size=4), tmp_path)
    # what was written counts: PyTorch may abort when an interpreter with process groups exits
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [4, 8], done.stderr
    assert load_model(tmp_path / "run" / "model").config.model == "clade"


@pytest.mark.slow
def test_cpu_processes_cannot_synchronise_batch_norm(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    done = torchrun(make_recipe(), tmp_path)
    assert done.returncode != 0
    assert "error: PyTorch cannot synchronise batch norm between CPU processes" in done.stderr
    assert not (tmp_path / "run").exists()
