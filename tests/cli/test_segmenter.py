"""`segscape segmenter train` and `score`: what they write, print and refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS, LabelSet
from tests.cli.conftest import Run

CAMVID = LABEL_SETS["camvid"]
TINY = (
    "--data",
    "data",
    "--labels",
    "camvid",
    "--encoder",
    "plain",
    "--images",
    4,
    "--batch-size",
    2,
    "--size",
    "32x32",
)


@pytest.fixture
def data(workplace: Path, street: np.ndarray) -> Path:
    """Pairs in the colours of their classes, two in train/ and one in val/."""
    for split, count in (("train", 2), ("val", 1)):
        for kind in ("images", "labels"):
            (workplace / "data" / split / kind).mkdir(parents=True)
        for number in range(count):
            labels = np.roll(street, 4 * number, axis=1)
            Image.fromarray(CAMVID.colorize(labels)).save(workplace / "data" / split / "images" / f"{number}.png")
            write_label_map(workplace / "data" / split / "labels" / f"{number}.png", labels, CAMVID)
    return workplace / "data"


def test_train_then_score(run: Run, data: Path) -> None:
    result = run("segmenter", "train", *TINY, "--out", "judge", "--seed", 1)
    assert result.code == 0, result.err
    assert f"segmenter in {Path('judge/model').resolve()}" in result.out
    scores = json.loads(Path("judge/scores.json").read_text())
    assert scores["photographs"] == 1 and scores["pixels"] == 32 * 32
    assert json.loads(Path("judge/model/config.json").read_text())["config"]["image_size"] == [32, 32]

    result = run("segmenter", "score", "--segmenter", "judge/model", "--data", "data", "--size", "32x32")
    assert result.code == 0, result.err
    assert "1 photographs, 32x32; segmenter: U-Net (plain, camvid)" in result.out and "11 of 11 classes" in result.out
    printed = {
        line.split()[0]: line.split()[1] for line in result.out.splitlines() if line[:1] == "m" or line[:1] == "a"
    }
    assert printed == {"mIoU": f"{scores['mean_iou']:.2%}", "accuracy": f"{scores['accuracy']:.2%}"}
    rows = {
        line.split()[3]: line.split() for line in result.out.splitlines() if line.strip()[:1].isdigit() and "%" in line
    }
    for name, value in scores["iou"].items():
        assert rows[name][1] == f"{value:.2%}"
    assert rows["unlabelled"][1] == "-" and rows["unlabelled"][2] == "0.00%"


def test_a_second_run_is_not_overwritten(run: Run, data: Path) -> None:
    assert run("segmenter", "train", *TINY, "--out", "judge").code == 0
    again = run("segmenter", "train", *TINY, "--out", "judge")
    assert again.code == 2 and "--force" in again.errors[0]
    assert run("segmenter", "train", *TINY, "--out", "judge", "--force").code == 0
    assert len(Path("judge/metrics.jsonl").read_text().splitlines()) == 1


def test_data_without_splits_is_not_scored(run: Run, data: Path) -> None:
    shutil.rmtree("data/val")
    for kind in ("images", "labels"):
        shutil.move(f"data/train/{kind}", f"data/{kind}")
    result = run("segmenter", "train", *TINY, "--out", "judge")
    assert result.code == 0, result.err
    assert Path("judge/model/model.safetensors").exists() and not Path("judge/scores.json").exists()


def test_score_with_a_mapping(run: Run, data: Path) -> None:
    assert run("segmenter", "train", *TINY, "--out", "judge").code == 0
    coarse = LabelSet(
        name="coarse", classes=(CAMVID.classes[0], CAMVID.classes[8].model_copy(update={"name": "thing"}))
    )
    coarse.save("coarse.json")
    for split in ("train", "val"):
        for path in (data / split / "labels").iterdir():
            labels = np.asarray(Image.open(path)) == CAMVID.index("car")
            write_label_map(path, labels.astype(np.int64), coarse)
    Path("mapping.json").write_text(json.dumps({"car": "thing", "pedestrian": "thing", "3": "sky"}))
    options = ("--segmenter", "judge/model", "--data", "data", "--labels", "coarse.json")
    result = run("segmenter", "score", *options, "--mapping", "mapping.json")
    assert result.code == 0, result.err
    assert "2 of 2 classes" in result.out
    by_name = run("segmenter", "score", *options)
    assert by_name.code == 0 and "1 of 2 classes" in by_name.out
    assert "has no counterpart of thing" in by_name.out
    Path("mapping.json").write_text(json.dumps({"cra": "thing"}))
    wrong = run("segmenter", "score", *options, "--mapping", "mapping.json")
    assert wrong.code == 2 and "did you mean 'car'" in wrong.errors[0]


def test_the_shipped_segmenter_is_the_default(run: Run, data: Path) -> None:
    result = run("segmenter", "score", "--data", "data", "--split", "train")
    assert result.code == 0, result.err
    assert "2 photographs, their own size; segmenter: U-Net (efficientnet-lite0, camvid)" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", *TINY, "--out", "judge", "--size", "32"), "--size '32' is not HEIGHTxWIDTH"),
        (("train", *TINY, "--out", "judge", "--labels", "moon"), "unknown label set 'moon'"),
        (("train", *TINY, "--out", "judge", "--data", "nowhere"), "nowhere does not exist"),
        (("score", "--data", "data", "--labels", "scenes"), "no shipped segmenter for label set 'scenes'"),
        (("score", "--data", "data", "--segmenter", "nowhere"), "nowhere does not exist"),
        (("score", "--data", "data", "--segmenter", "models/plain"), "holds a clade model, which generates pictures"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: tuple[object, ...], message: str, run: Run, data: Path) -> None:
    result = run("segmenter", *arguments)
    assert result.code == 2 and len(result.errors) == 1 and message in result.errors[0]
    assert not Path("judge").exists()
