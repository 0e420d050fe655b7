"""`segscape table`: reports in, one table out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from segscape.evaluation.report.report import Report
from segscape.evaluation.score import Score
from tests.cli.conftest import Run


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two report folders of one title."""
    folders = []
    for name, value in (("one", 35.43), ("two", 36.28)):
        scores = (
            Score("mIoU", value, "%", "higher", "agreement", "U-Net"),
            Score("FID", value - 5, "", "lower", "fidelity", "Inception"),
        )
        folder = tmp_path / name
        folder.mkdir()
        Report("clade", scores, (), {}, {}, "2026-01-02", 3).save(folder / "report.json")
        folders.append(folder)
    return folders


def test_files_and_folders_make_one_table(run: Run, folders: list[Path]) -> None:
    result = run("table", folders[0], folders[1] / "report.json", "--metrics", "mIoU", "--format", "csv")
    assert result.code == 0
    rows = list(csv.reader(io.StringIO(result.out)))
    assert rows == [
        ["model", "mIoU (%)"],
        ["protocol", "U-Net"],
        [f"clade ({folders[0]})", "35.43"],
        [f"clade ({folders[1] / 'report.json'})", "36.28"],
    ]


def test_one_report_keeps_its_title(run: Run, folders: list[Path]) -> None:
    result = run("table", folders[0], "--format", "json")
    data = json.loads(result.out)
    assert [row["model"] for row in data["rows"]] == ["clade"]
    assert [column["metric"] for column in data["columns"]] == ["FID", "mIoU"]


@pytest.mark.parametrize(
    ("format_name", "mark"), [("text", "FID¹ ↓"), ("markdown", "| model |"), ("latex", r"\toprule")]
)
def test_formats_for_people(run: Run, folders: list[Path], format_name: str, mark: str) -> None:
    result = run("table", *folders, "--format", format_name)
    assert result.code == 0
    assert mark in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no report"),
        (["one", "--metrics", "FVD"], "no report has the metric 'FVD'; they have FID, mIoU"),
        (["one", "--metrics", ","], "--metrics names no score"),
    ],
)
def test_mistakes_are_one_sentence(
    run: Run, folders: list[Path], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folders[0].parent)
    result = run("table", *arguments)
    assert result.code == 2
    assert len(result.errors) == 1 and message in result.errors[0]


def test_without_reports_the_usage_is_shown(run: Run) -> None:
    result = run("table")
    assert result.code == 2
    assert "REPORT" in result.err
