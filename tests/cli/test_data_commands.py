"""`segscape scenes`, `models`, `convert` and `train`: what they write and print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from segscape.label_files import read_instance_map, read_label_map
from segscape.labels import LABEL_SETS
from segscape.models import list_models, load_model
from segscape.models.conversion.spade import GENERATOR_KEYS
from tests.cli.conftest import Run

TINY_RECIPE = """
data: {kind: scenes, count: 2, size: [32, 32]}
model: {name: clade, image_size: [32, 32], base_channels: 1}
discriminator: {base_channels: 2}
objective: {perceptual: 0}
batch_size: 2
ema: {statistics_batches: 1}
images: 2
"""


def write_scenes(run: Run, out: str = "scenes") -> None:
    result = run("scenes", "--out", out, "--count", 2, "--size", "32x48", "--seed", 5)
    assert result.code == 0, result.err


def test_scenes_are_written_repeatably(run: Run, workplace: Path) -> None:
    write_scenes(run, "one")
    write_scenes(run, "two")
    for kind in ("images", "labels", "instances"):
        files = sorted(path.name for path in Path("one", kind).iterdir())
        assert files == ["000000.png", "000001.png"]
        for name in files:
            assert Path("one", kind, name).read_bytes() == Path("two", kind, name).read_bytes()
    assert Image.open("one/images/000000.png").size == (48, 32)
    assert read_label_map("one/labels/000000.png", LABEL_SETS["scenes"]).shape == (32, 48)
    assert read_instance_map("one/instances/000000.png").shape == (32, 48)


@pytest.mark.parametrize(("folder", "mode"), [("images", "RGB"), ("instances", "I;16")])
def test_half_a_scene_is_never_left(
    run: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch, folder: str, mode: str
) -> None:
    save = Image.Image.save

    def fail(image: Image.Image, file: Path, **options: Any) -> None:
        save(image, file, **options)
        if image.mode == mode:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    result = run("scenes", "--out", "out", "--count", 1, "--size", "32x48")
    assert result.code == 2 and "No space left" in result.errors[0]
    assert not list(Path("out", folder).iterdir())


def test_models_lists_the_published_systems(run: Run) -> None:
    result = run("models")
    assert (result.code, result.err) == (0, "")
    rows = {line.split()[0]: line.split()[1] for line in result.out.splitlines() if line}
    assert rows["spade"] == "96,492,483" and rows["clade-icpe"] == "71,427,375"  # Table I, ADE20K
    assert rows["cc-fpse"] == "140,704,323"  # without its style encoder, as in docs/models and `segscape profile`
    assert set(list_models()) <= rows.keys()


def test_models_describes_a_saved_model(run: Run, workplace: Path) -> None:
    result = run("models", "models/styles")
    assert result.code == 0
    assert "latent, 4 numbers" in result.out and "camvid, 12 classes" in result.out
    assert "bicyclist (thing)" in result.out and "unlabelled (unknown)" in result.out
    assert run("models", "clade-icpe").out.startswith("clade-icpe (151 classes")


def test_train_prints_the_resolved_recipe(run: Run, workplace: Path) -> None:
    Path("recipe.yaml").write_text("data: {kind: scenes}\nmodel: {name: clade}\nimages: 4\n")
    result = run("train", "recipe.yaml", "--set", "images=8", "--set", "model.base_channels=2", "--dry-run")
    assert result.code == 0, result.err
    resolved = yaml.safe_load(result.out)
    assert resolved["images"] == 8 and resolved["model"]["base_channels"] == 2
    assert resolved["optimizer"]["generator_lr"] == 1e-4
    assert not Path("runs").exists()


def test_convert_writes_a_model_that_generate_reads(run: Run, workplace: Path) -> None:
    ours = load_model("models/plain").state_dict()
    official = {key: ours[name] for key, name in GENERATOR_KEYS.items() if name in ours}
    torch.save(official, "net_G.pth")
    options = ("net_G.pth", "--labels", "camvid", "--out", "converted", "--size", "32x32")
    result = run("convert", *options)
    assert result.code == 0, result.err
    assert f"clade model in {workplace / 'converted'}" in result.out
    for model in ("models/plain", "converted"):
        assert run("generate", "street.png", "--model", model, "--out", f"{model}-out".replace("/", "-")).code == 0
    assert Path("models-plain-out/street.png").read_bytes() == Path("converted-out/street.png").read_bytes()
    assert "--force" in run("convert", *options).errors[0]
    assert run("convert", *options, "--force").code == 0


def test_train_then_generate(run: Run, workplace: Path) -> None:
    Path("recipe.yaml").write_text(TINY_RECIPE)
    result = run("train", "recipe.yaml", "--set", "seed=1")
    assert result.code == 0, result.err
    assert "the model is in runs/recipe/model" in result.out
    again = run("train", "recipe.yaml", "--set", "seed=1")
    assert again.code == 2 and "--resume" in again.errors[0]
    assert run("train", "recipe.yaml", "--set", "seed=1", "--set", "images=4", "--resume").code == 0
    write_scenes(run)
    result = run("generate", "scenes/labels", "--model", "runs/recipe/model", "--out", "out")
    assert result.code == 0, result.err
    assert len(list(Path("out").iterdir())) == 2
