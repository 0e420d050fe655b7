"""The training loop: it learns, resumes exactly, survives interruption, and stops at broken losses."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import segscape.training.loop as loop
from segscape.errors import CheckpointError, ConfigError, LayoutError, RecipeError, TrainingError
from segscape.models.registry import load_model
from segscape.training.loop import train
from segscape.training.reading import extra_batches
from segscape.training.recipe import Recipe
from tests.zoo import SIZE, TINY, build

MakeRecipe = Callable[..., Recipe]
RECIPES = Path(__file__).parents[2] / "recipes"


def metrics(run: Path) -> list[dict[str, float]]:
    """The logged metrics without the speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def latest_state(run: Path) -> dict[str, torch.Tensor]:
    content = torch.load(sorted((run / "checkpoints").glob("*.pt"))[-1], weights_only=True)
    networks = ("generator", "discriminator", "average")
    return {f"{net}.{key}": value for net in networks if net in content for key, value in content[net].items()}


def test_a_run_leaves_everything_behind(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = train(make_recipe(), run)
    assert folder == run / "model"
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md", "samples.png"}
    assert [line["images"] for line in metrics(run)] == [2, 4, 6, 8, 10, 12]
    assert {path.name for path in (run / "samples").iterdir()} == {"0000000006.png", "0000000012.png"}
    assert len(list((run / "checkpoints").iterdir())) == 2
    assert list((run / "tensorboard").iterdir())
    assert "images: 12" in (run / "recipe.yaml").read_text()


@pytest.mark.parametrize("options", [{"name": "clade-icpe"}, {"name": "clade", "latent_dim": 4}])
def test_resumed_run_equals_uninterrupted_run_bit_for_bit(
    make_recipe: MakeRecipe, tmp_path: Path, options: dict[str, object]
) -> None:
    model = {"image_size": [32, 32], "base_channels": 1, **options}
    train(make_recipe(model=model), tmp_path / "whole")
    train(make_recipe(model=model, images=6), tmp_path / "parts")
    train(make_recipe(model=model), tmp_path / "parts", resume=True)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    whole, parts = latest_state(tmp_path / "whole"), latest_state(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def own_sections(system: str) -> dict[str, Any]:
    """What a published recipe of a system says of its objective and discriminator, which is made tiny."""
    name = "spade" if system == "spade-light" else system  # of which no training was published
    content = yaml.safe_load(sorted(RECIPES.glob(f"*-{name}.yaml"))[-1].read_text())
    discriminator = {**content.get("discriminator", {}), "base_channels": 2}
    if discriminator.get("kind") != "feature-pyramid":
        discriminator |= {"num_scales": 1, "num_layers": 2}
    return {"discriminator": discriminator, "objective": {**content.get("objective", {}), "perceptual": 0.0}}


@pytest.mark.parametrize("name", TINY)
def test_every_system_trains_by_its_recipe_and_resumes(make_recipe: MakeRecipe, tmp_path: Path, name: str) -> None:
    sections = own_sections(name)
    recipe = {
        "data": {"kind": "scenes", "count": 4, "size": list(SIZE)},
        "model": {"name": name, "image_size": list(SIZE), **TINY[name]},
        **sections,
    }
    train(make_recipe(**recipe, images=4), tmp_path / "whole")
    train(make_recipe(**recipe, images=2), tmp_path / "parts")
    train(make_recipe(**recipe, images=4), tmp_path / "parts", resume=True)
    lines = metrics(tmp_path / "parts")
    assert lines == metrics(tmp_path / "whole") and len(lines) == 2
    assert all(np.isfinite(value) for line in lines for value in line.values())
    model = load_model(tmp_path / "parts" / "model")
    assert ("generator/kl" in lines[0]) == model.config.variational
    assert ("generator/attention" in lines[0]) == (name == "ca2-sis")
    fresh = build(name, labels=model.config.labels).state_dict()
    assert any(not torch.equal(value, fresh[key]) for key, value in model.state_dict().items())


def test_resumed_run_writes_the_metrics_of_an_uninterrupted_run(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    options = {"log_images": 4, "snapshot_images": 6}
    train(make_recipe(**options, images=16), tmp_path / "whole")
    train(make_recipe(**options, images=14), tmp_path / "parts")
    sorted((tmp_path / "parts" / "checkpoints").glob("*.pt"))[-1].unlink()  # as if it had died before image 14
    train(make_recipe(**options, images=16), tmp_path / "parts", resume=True)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_worker_processes_give_the_same_run(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(images=4), tmp_path / "none")
    train(make_recipe(images=4, workers=1), tmp_path / "one")
    assert metrics(tmp_path / "none") == metrics(tmp_path / "one")


@pytest.mark.parametrize("ema", [None, {"half_life_images": 8, "statistics_batches": 2}])
def test_sample_grid_is_drawn_from_the_saved_weights(
    make_recipe: MakeRecipe, tmp_path: Path, ema: dict[str, int] | None
) -> None:
    run = tmp_path / "run"
    recipe = make_recipe(ema=ema)
    model = load_model(train(recipe, run))
    grid = np.asarray(Image.open(run / "samples" / "0000000012.png"))
    view = loop.training_view(recipe, recipe.data.open(), model)
    batch = next(extra_batches(view, 1, 2, torch.device("cpu")))
    with torch.no_grad():
        again = loop.sample_grid(batch, model(batch.layout))
    assert np.abs(grid.astype(int) - again.astype(int)).max() <= 1


def test_training_goes_on_in_training_mode_after_a_snapshot(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(ema=None, snapshot_images=2), tmp_path / "often")
    train(make_recipe(ema=None, snapshot_images=1000), tmp_path / "once")
    assert metrics(tmp_path / "often") == metrics(tmp_path / "once")


def test_reconstruction_losses_fall(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(
        images=240,
        batch_size=4,
        log_images=40,
        snapshot_images=240,
        optimizer={"generator_lr": 2e-3},
        model={"name": "clade", "image_size": [32, 32], "base_channels": 4},
        objective={"features": "efficientnet-lite0"},
    )
    train(recipe, tmp_path / "run")
    perceptual = [line["generator/perceptual"] for line in metrics(tmp_path / "run")]
    assert perceptual[-1] < 0.75 * perceptual[0]


def test_broken_loss_stops_and_keeps_the_last_checkpoint(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = loop.generator_step_losses, []

    def broken(*args: object, **kwargs: object) -> object:
        losses, fake = real(*args, **kwargs)  # type: ignore[arg-type]
        calls.append(1)
        return (losses | {"gan": losses["gan"] * float("nan")} if len(calls) == 5 else losses), fake

    monkeypatch.setattr(loop, "generator_step_losses", broken)
    with pytest.raises(TrainingError, match=r"after 8 images .* not finite \(generator/gan = nan\); .*0000000006\.pt"):
        train(make_recipe(tolerance={"steps": 0}), tmp_path / "run")
    monkeypatch.undo()
    train(make_recipe(), tmp_path / "run", resume=True)
    assert all(torch.isfinite(value).all() for value in latest_state(tmp_path / "run").values())


def test_broken_weights_are_not_saved(make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = loop._set_rate, []

    def explode(optimizer: torch.optim.Optimizer, rate: float) -> None:
        calls.append(1)
        real(optimizer, float("inf") if len(calls) == 12 else rate)  # the discriminator's last step

    monkeypatch.setattr(loop, "_set_rate", explode)
    with pytest.raises(TrainingError, match=r"the discriminator's scales.* is not finite after 12 images.*0000000006"):
        train(make_recipe(), tmp_path / "run")
    assert [path.stem for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["0000000006"]


def test_ctrl_c_saves_and_leaves(make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"

    def press() -> None:
        while not (run / "metrics.jsonl").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    before = signal.getsignal(signal.SIGINT)
    train(make_recipe(images=100_000, snapshot_images=100_000), run)
    thread.join()
    assert "stopped by Ctrl-C" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    stopped_at = int(next((run / "checkpoints").glob("*.pt")).stem)
    assert 0 < stopped_at < 100_000
    assert load_model(run / "model").config.model == "clade"
    train(make_recipe(images=stopped_at + 2), run, resume=True)


def test_a_run_folder_is_not_overwritten(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(images=2), tmp_path / "run")
    with pytest.raises(RecipeError, match="holds a run already; go on with --resume"):
        train(make_recipe(images=2), tmp_path / "run")


def test_resume_refuses_another_recipe(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(images=2), tmp_path / "run")
    with pytest.raises(RecipeError, match=r"differs from the one of the run .* in seed;"):
        train(make_recipe(images=4, seed=1), tmp_path / "run", resume=True)


def test_resume_with_lower_rates(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(images=2), tmp_path / "run")
    train(make_recipe(images=4, optimizer={"generator_lr": 1e-5}), tmp_path / "run", resume=True)
    assert [line["learning_rate"] for line in metrics(tmp_path / "run")] == [1e-4, 1e-5]
    with pytest.raises(RecipeError, match="in optimizer;"):
        train(make_recipe(images=6, optimizer={"betas": [0.5, 0.9]}), tmp_path / "run", resume=True)


def test_resume_without_a_run_is_an_error(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no run to resume"):
        train(make_recipe(), tmp_path / "nothing", resume=True)


def test_damaged_checkpoint_is_an_error(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(images=2), tmp_path / "run")
    next((tmp_path / "run" / "checkpoints").glob("*.pt")).write_bytes(b"PK truncated")
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
        train(make_recipe(images=4), tmp_path / "run", resume=True)


def test_missing_instances_and_wrong_options_are_found_before_training(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no folder of instance maps"):
        train(make_recipe(model={"name": "clade", "image_size": [32, 32], "use_instances": True}), tmp_path / "run")
    with pytest.raises(ConfigError, match="unknown option 'colour'"):
        train(make_recipe(model={"name": "clade", "colour": 1}), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"VGG-19 weights .* do not exist"):
        train(make_recipe(objective={"features_path": "nowhere.pth"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unfit_sizes_leave_no_run_behind(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    wrong_crop = make_recipe(preprocess={"mode": "fixed", "crop_size": 40})
    with pytest.raises(LayoutError, match=r"40x40 .* multiples of 32: pad it to 64x64"):
        train(wrong_crop, tmp_path / "run")
    with pytest.raises(RecipeError, match="more than one value per channel"):
        train(make_recipe(batch_size=1), tmp_path / "run")
    assert not (tmp_path / "run").exists()
