"""`segscape dataset inspect` and `init`: reports, exit codes, and a draft that trains as it is."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run
from tests.data.planted import DEFECTS, LABELS, label_map, plant_all, write_pair


@pytest.fixture
def pairs(workplace: Path) -> Path:
    """Five good pairs in `data`, and their label set in `mine.json`."""
    for folder in ("data/images", "data/labels"):
        Path(folder).mkdir(parents=True)
    for number in range(5):
        write_pair(Path("data/images"), Path("data/labels"), f"{number}", number)
    LABELS.save("mine.json")
    return Path("data")


def test_good_data(run: Run, pairs: Path) -> None:
    result = run("dataset", "inspect", pairs, "--labels", "mine.json", "--json", "all.json", "--sheet", "sheet.jpg")
    assert (result.code, result.err) == (0, "")
    assert "everything fits" in result.out and "5 label maps, 5 with a photograph" in result.out
    rows = [line.split() for line in result.out.splitlines() if "%" in line]
    assert [row[-1] for row in rows] == list(LABELS.names)
    pixels = np.bincount(np.concatenate([label_map(number).ravel() for number in range(5)]))
    assert [int(row[1].replace(",", "")) for row in rows] == pixels.tolist()
    written = json.loads(Path("all.json").read_text())
    assert written["splits"] == {"": 5} and written["problems"] == []
    assert Image.open("sheet.jpg").format == "JPEG"


def test_every_planted_defect_is_in_the_report(run: Run, workplace: Path) -> None:
    plant_all(Path("planted"))
    LABELS.save("mine.json")
    result = run("dataset", "inspect", "planted", "--labels", "mine.json", "--json", "all.json", "--sheet", "sheet.png")
    assert result.code == 1 and "Traceback" not in result.out + result.err
    written = json.loads(Path("all.json").read_text())
    for defect in DEFECTS:
        path = os.path.join("planted", *defect.file.split("/"))
        place = written["notes" if defect.harmless else "problems"]
        assert any((entry["path"], entry["kind"]) == (path, defect.kind) for entry in place), defect.name
        assert path in result.out, defect.name


def test_files_to_write_are_looked_at_first(run: Run, pairs: Path) -> None:
    result = run("dataset", "inspect", pairs, "--json", ".")
    assert result.code == 2 and "--json . is a folder: give the name of a file" in result.errors[0] and not result.out


def test_no_workers_are_one(run: Run, pairs: Path) -> None:
    assert run("dataset", "inspect", pairs, "--labels", "mine.json", "--workers", 0).code == 0


def test_long_lists_are_cut(run: Run, pairs: Path) -> None:
    for number in range(12):
        Path(f"data/labels/extra{number:02}.png").write_bytes(Path("data/labels/0.png").read_bytes())
    result = run("dataset", "inspect", pairs)
    assert result.code == 1
    assert "no-partner (12)" in result.out and "... and 2 more" in result.out
    assert "extra09.png" in result.out and "extra10.png" not in result.out


def test_a_terminal_without_the_letters(run: Run, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("images/0.jpg", "labels/0.png"):
        (pairs / file).rename(pairs / file.replace("0", "straße"))
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    assert run("dataset", "inspect", pairs).code == 0
    terminal.seek(0)
    assert "stra\\xdfe" in terminal.read()


def test_no_contact_sheet_without_classes(run: Run, pairs: Path) -> None:
    Image.fromarray(LABELS.colorize(label_map(0))).save(pairs / "labels/0.png")
    result = run("dataset", "inspect", pairs, "--sheet", "sheet.png")
    assert result.code == 1 and "no contact sheet" in result.err and not Path("sheet.png").exists()


def test_init_never_overwrites(run: Run, pairs: Path) -> None:
    Path("drafts").mkdir()
    Path("drafts/data.yaml").write_text("mine")
    refused = run("dataset", "init", pairs, "--out", "drafts")
    assert refused.code == 2 and "--force" in refused.errors[0]
    assert Path("drafts/data.yaml").read_text() == "mine" and not Path("drafts/data.json").exists()
    assert run("dataset", "init", pairs, "--out", "drafts", "--force").code == 0
    assert Path("drafts/data.json").exists()


def test_a_failed_init_leaves_the_old_recipe(run: Run, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data.yaml").write_text("mine")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segscape.files.Path.replace", fail)
    result = run("dataset", "init", pairs, "--force")
    assert result.code == 2 and "No space left" in result.errors[0]
    assert Path("data.yaml").read_text() == "mine" and not Path("data.json").exists()


def test_a_draft_is_a_recipe_as_it_is(run: Run, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("dataset", "init", pairs, "--name", "draft")
    assert result.code == 0, result.err
    assert "draft.json, 6 classes" in result.out and "segscape train draft.yaml" in result.out
    assert run("dataset", "inspect", pairs, "--labels", "draft.json").code == 0
    monkeypatch.chdir("/")
    resolved = run("train", tmp_path / "draft.yaml", "--dry-run")
    assert resolved.code == 0 and str(tmp_path / "data" / "images") in resolved.out


@pytest.mark.slow
def test_a_draft_trains(run: Run, pairs: Path) -> None:
    assert run("dataset", "init", pairs, "--name", "draft").code == 0
    smaller = ("images=10", "model.base_channels=1", "discriminator.base_channels=2", "workers=0")
    quick = ("objective.perceptual=0", "ema.statistics_batches=1")
    options = [word for setting in (*smaller, *quick) for word in ("--set", setting)]
    result = run("train", "draft.yaml", *options)
    assert result.code == 0, result.err
    assert run("generate", "data/labels/0.png", "--model", "runs/draft/model", "--out", "out").code == 0
