"""`segscape analyze modulation`, from files to files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segscape.models import create_model
from tests.cli.conftest import Run
from tests.cli.test_main import HEAVY


@pytest.fixture
def scenes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with scenes in `val` and a tiny model."""
    monkeypatch.chdir(tmp_path)
    assert run("scenes", "--out", "data/val", "--count", 3, "--size", "48x80").code == 0
    model = create_model("spade", labels="scenes", image_size=(32, 64), base_channels=1, hidden_channels=4)
    model.save_pretrained(Path("spade"))
    return tmp_path


def test_spade_on_scenes(run: Run, scenes: Path) -> None:
    options = ("--model", "spade", "--data", "data", "--classes", "sky, road", "--channels", "0")
    result = run("analyze", "modulation", *options, "--layer", "blocks.2.norm_0", "--out", "out")
    assert result.code == 0, result.err
    assert "blocks.6.norm_1  SPADE  32x64" in result.out and "Nearest classes" not in result.out
    assert "5 figures, analysis.json and report.md in" in result.out
    assert Path("out/maps-blocks.2.norm_0.png").is_file() and Path("out/maps-blocks.6.norm_1.png").is_file()
    assert json.loads(Path("out/analysis.json").read_text())["layouts"] == 3


def test_label_maps_alone_are_enough_and_json_is_printed(run: Run, scenes: Path) -> None:
    options = ("--model", "spade", "--images", 2, "--classes", "sky", "--out", "out", "--json")
    result = run("analyze", "modulation", "--data", "data/val/labels", *options)
    assert result.code == 0, result.err
    numbers = json.loads(result.out)
    assert numbers == json.loads(Path("out/analysis.json").read_text()) and numbers["layouts"] == 2
    assert "# Modulation of spade on labels" in Path("out/report.md").read_text()


def test_photos_are_not_needed(run: Run, scenes: Path) -> None:
    options = ("--model", "spade", "--images", 1, "--classes", "sky", "--out", "out", "--json")
    with_photos = run("analyze", "modulation", "--data", "data", *options)
    shutil.rmtree("data/val/images")
    for where in ("data", "data/val"):
        result = run("analyze", "modulation", "--data", where, *options)
        assert result.code == 0, result.err
        assert result.out == with_photos.out


def test_a_model_with_instances_needs_their_maps(run: Run, scenes: Path) -> None:
    size = {"image_size": (32, 64), "base_channels": 1, "hidden_channels": 4}
    create_model("spade", labels="scenes", use_instances=True, **size).save_pretrained(Path("edges"))  # type: ignore[arg-type]
    options = ("--images", 1, "--classes", "sky", "--out", "out")
    command = ("analyze", "modulation", "--model", "edges", "--data", "data", *options)
    assert run(*command).code == 0
    shutil.rmtree("data/val/instances")
    result = run(*command)
    assert result.code == 2 and "the model needs instance maps and data has none" in result.errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--channels", "a"), "--channels 'a' is no list of channels"),
        (("--channels", "0,99"), "has no channel 99"),
        (("--classes", "skye"), "did you mean 'sky'"),
        (("--layer", "blocks.0"), "'blocks.0' is no norm"),
        (("--split", "test"), "has no split 'test'"),
    ],
)
def test_wrong_options_are_one_line(run: Run, scenes: Path, options: tuple[str, str], message: str) -> None:
    result = run("analyze", "modulation", "--model", "spade", "--data", "data", "--out", "out", *options)
    assert result.code == 2 and len(result.errors) == 1 and message in result.errors[0]


@pytest.mark.parametrize("arguments", [["analyze", "--help"], ["analyze", "modulation", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom segscape.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as leaving:\n    assert not leaving.code\n"
        f"print('heavy:', [name for name in {(*HEAVY, 'matplotlib')!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: []\n") and "modulation" in done.stdout


@pytest.fixture
def attentive(run: Run, scenes: Path) -> Path:
    """A tiny CA2-SIS model beside the scenes."""
    options = {"image_size": (32, 64), "base_channels": 2, "norm_groups": 2, "heads": 1, "head_channels": 4}
    options |= {"last_heads": 1, "style_features": 1, "style_channels": 4, "mask_size": 8, "mapping_dim": None}
    create_model("ca2-sis", labels="scenes", **options).save_pretrained(Path("ca2-sis"))  # type: ignore[arg-type]
    return scenes


def test_attention_is_drawn(run: Run, attentive: Path) -> None:
    layout, photo = sorted(Path("data/val/labels").iterdir())[0], sorted(Path("data/val/images").iterdir())[0]
    command = ("analyze", "attention", "ca2-sis", layout, "--out", "out")
    result = run(*command, "--photo", photo)
    assert result.code == 0, result.err
    assert "4      32x64" in result.out and "6 figures and attention.json in" in result.out
    assert Path("out/attention.png").is_file() and Path("out/attention-4.png").is_file()
    assert len(json.loads(Path("out/attention.json").read_text())["blocks"]) == 5


def test_wrong_attention_commands_are_one_line(run: Run, attentive: Path) -> None:
    layout = sorted(Path("data/val/labels").iterdir())[0]
    other = run("analyze", "attention", "spade", layout, "--out", "out")
    assert other.code == 2 and "has no attention over classes" in other.errors[0]
    alone = run("analyze", "attention", "ca2-sis", layout, "--out", "out", "--photo-layout", layout)
    assert alone.code == 2 and "give --photo, too" in alone.errors[0]
