"""`segscape evaluate`: from folders to a report, alone and under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from segscape.data.procedural import ProceduralScenes
from segscape.evaluation.report.report import Report
from segscape.models import create_model
from tests.cli.conftest import Run
from tests.evaluation.conftest import write_scenes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` with both splits, and `model` and `styled` for its classes."""
    root = tmp_path_factory.mktemp("evaluate")
    for split, seed in (("train", 1), ("val", 2)):
        write_scenes(root / "data" / split, ProceduralScenes(7, size=(48, 64), seed=seed))
    torch.manual_seed(0)
    for name, options in (("model", {"position": "modulation"}), ("styled", {"latent_dim": 4})):
        model = create_model("clade", labels="scenes", image_size=(32, 64), base_channels=1, **options)
        model.save_pretrained(root / name)
    return root


@pytest.fixture
def inside(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with links to what `place` holds; caches stay in it."""
    for name in ("data", "model", "styled"):
        (tmp_path / name).symlink_to(place / name, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGSCAPE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_a_model_is_measured_in_one_command(run: Run, inside: Path) -> None:
    done = run("evaluate", "--data", "data", "--model", "model", "--out", "out", "--save-images")
    assert done.code == 0, done.err
    report = Report.load(inside / "out" / "report.json")
    values = {score.name: score.value for score in report.scores}
    assert {"FD-EfficientNetLite0", "KD-EfficientNetLite0", "Parameters", "MACs", "FLOPs", "Run time"} <= set(values)
    assert report.title == "model" and report.images == 7
    assert all(score.protocol for score in report.scores)
    assert f"{values['FD-EfficientNetLite0']:.4g}"[:3] in done.out
    assert (inside / "out" / "report.html").is_file()
    assert Image.open(inside / "out" / "images" / "3.png").size == (64, 32)
    assert list((inside / "cache" / "features").iterdir())


def test_a_report_is_not_replaced_by_accident(run: Run, inside: Path) -> None:
    (inside / "out").mkdir()
    (inside / "out" / "report.json").write_text("mine")
    done = run("evaluate", "--data", "data", "--model", "model", "--out", "out")
    assert done.code == 2 and "--force" in done.errors[0]
    assert (inside / "out" / "report.json").read_text() == "mine"


def test_real_photos_have_no_distance_to_themselves(run: Run, inside: Path) -> None:
    options = ("--labels", "scenes", "--size", "32x64", "--reference", "val", "--protocol", "validation")
    done = run("evaluate", "--data", "data", "--images", "data/val/images", "--out", "out", *options)
    assert done.code == 0, done.err
    values = {score.name: score.value for score in Report.load(inside / "out").scores}
    assert abs(values["FD-EfficientNetLite0"]) < 1e-4
    assert values["precision-EfficientNetLite0"] == values["recall-EfficientNetLite0"] == 1
    assert "Parameters" not in values


def test_a_segmenter_of_the_users_own_pairs(run: Run, inside: Path) -> None:
    trained = ("--labels", "scenes", "--encoder", "plain", "--images", "4", "--batch-size", "2", "--size", "32x64")
    assert run("segmenter", "train", "--data", "data", "--out", "unet", *trained).code == 0
    done = run(
        "evaluate", "--data", "data", "--model", "model", "--out", "out", "--segmenter", "unet/model", "--no-cost"
    )
    assert done.code == 0, done.err
    report = Report.load(inside / "out")
    values = {score.name: score.value for score in report.scores}
    assert 0 <= values["mIoU"] <= 100 and values["accuracy (real images)"] >= 0
    assert len(report.classes) == 12
    assert "worst" in (inside / "out" / "report.html").read_text().lower()


@pytest.mark.slow
def test_a_reader_that_leaves_costs_no_report(inside: Path) -> None:
    command = [sys.executable, "-m", "segscape", "evaluate", "--data", "data", "--model", "model", "--out", "out"]
    running = subprocess.Popen(
        [*command, "--segmenter", "none", "--no-cost"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert running.stdout is not None
    running.stdout.close()  # as `| head -0` does
    running.wait(timeout=120)
    assert Report.load(inside / "out").images == 7 and (inside / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "found", "remedy"),
    [
        ("--model model --images data/val/images", "--model and --images", "give one of them"),
        ("--images data/val/images", "--labels SET", "a name, a JSON file, or a number"),
        ("--images data/val/images --labels scenes", "--size HxW", "256x256"),
        ("--model model --labels scenes", "--labels goes with --images", "its own label set"),
        ("--model model --size 40x64", "not 40x64", "--size 32x64"),
        ("--model model --reference elsewhere", "elsewhere", "a folder of images"),
        ("--model model --protocol spade", "spade", "known protocols"),
        ("--model model --features vgg", "vgg", "inception, efficientnet-lite0"),
        ("--model model --features inception", "inception", "--features-path"),
        ("--model model --segmenter nowhere", "nowhere", ""),
        ("--model model --mapping map.json", "--mapping goes with --segmenter", "name the segmenter"),
        ("--model model --diversity 3", "--diversity '3'", "20x5"),
        ("--model model --diversity 3x1", "--diversity '3x1'", "2 or more"),
        ("--model nowhere", "nowhere", ""),
        ("--model model --features none --segmenter none --no-cost", "nothing to measure", "leave out"),
    ],
)
def test_wrong_options_are_one_sentence(run: Run, inside: Path, options: str, found: str, remedy: str) -> None:
    done = run("evaluate", "--data", "data", "--out", "out", *options.split())
    assert done.code == 2 and len(done.errors) == 1, (done.out, done.err)
    assert found in done.errors[0] and remedy in done.errors[0]
    assert "Traceback" not in done.err and not (inside / "out" / "report.json").exists()


def test_the_numbers_are_not_lost_with_the_report(run: Run, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "out/report.json")

    monkeypatch.setattr("segscape.evaluation.report.report.write_report", full)
    done = run("evaluate", "--data", "data", "--model", "model", "--out", "out", "--no-cost")
    assert done.code == 2 and "No space left" in done.errors[0]
    assert "FD-EfficientNetLite0" in done.out


@pytest.mark.slow
@pytest.mark.parametrize("model", ["styled"])
def test_two_processes_give_the_scores_of_one(run: Run, inside: Path, model: str) -> None:
    options = ("--data", "data", "--model", model, "--no-cost", "--diversity", "2x2", "--batch-size", "2")
    assert run("evaluate", *options, "--out", "one").code == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEGSCAPE_CACHE": str(inside / "other")}
    done = subprocess.run(
        [*launcher, "-m", "segscape", "evaluate", *options, "--out", "two"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    # what was written counts: PyTorch may abort when an interpreter with process groups exits
    assert (inside / "two" / "report.json").is_file(), done.stderr
    one, two = (json.loads((inside / name / "report.json").read_text()) for name in ("one", "two"))
    assert one["scores"] == two["scores"] and one["classes"] == two["classes"]
