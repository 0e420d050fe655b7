"""`segscape compare`, end to end: a study of two tiny models, a server, votes, a report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch

from segscape.models import create_model
from segscape.studio.votes import Votes
from tests.cli.conftest import Run

WORDS = ("compare", "one", "two", "--out", "study")


@pytest.fixture
def contest(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: models `one` and `two`, and `scenes` to try them on."""
    monkeypatch.chdir(tmp_path)
    assert run("scenes", "--out", "scenes", "--count", 4, "--size", "32x48").code == 0
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        create_model("clade", labels="scenes", image_size=(32, 32), base_channels=1).save_pretrained(tmp_path / name)
    return tmp_path


def serve(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-m", "segscape", *WORDS, "--vote", "--device", "cpu", "--port", "0", *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("open "):
            return process, line.split()[1]
    raise AssertionError(process.communicate()[1])


def interrupt(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (0, False), err
    return out


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent in another way here")
def test_from_models_to_a_report(run: Run, contest: Path) -> None:
    process, address = serve(contest, "--data", "scenes", "--items", "3", "--size", "32x48")
    try:
        session = json.load(urlopen(f"{address}api/pairs?rater=anna"))
        assert len(session["pairs"]) == 3
        for pair in session["pairs"]:
            body = json.dumps({"rater": "anna", "item": pair["item"], "choice": "left", "seconds": 2}).encode()
            urlopen(Request(f"{address}api/votes", body, {"Content-Type": "application/json"}))
    finally:
        out = interrupt(process)
    assert "the votes are kept" in out
    assert len(list((contest / "study/pictures").rglob("*.png"))) == 9

    votes = Votes(contest / "study/votes.sqlite")
    wins = sum(vote.choice == "a" for vote in votes.all())
    assert wins in (1, 2)  # always left, and sides are balanced
    for item in (vote.item for vote in votes.all()):
        votes.record("ben", item, left="a", choice="a", seconds=1)
    result = run(*WORDS, "--report", "--json", "report.json")
    assert (result.code, result.err) == (0, "")
    percentage = 100 * (wins + 3) / 6
    assert f"{percentage:.1f} % prefer one (A) over two (B)" in result.out
    assert "6 votes of 2 raters, on 3 of 3 items" in result.out and "Wilson" in result.out
    rows = [line.split() for line in result.out.splitlines()]
    assert ["ben", "3", "100", "%"] in rows and ["anna", "3", f"{100 * wins / 3:.0f}", "%"] in rows
    content = json.loads(Path("report.json").read_text())
    assert content["preference"]["percentage"] == pytest.approx(percentage)
    assert content["study"]["size"] == [32, 48] and content["protocol"].startswith("preference/1")
    assert [row["rater"] for row in content["preference"]["per_rater"]] == ["anna", "ben"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "one of --vote and --report"),
        (("--vote", "--report"), "one of --vote and --report"),
        (("--vote", "--json", "x.json"), "give it with --report"),
        (("--report",), "holds no study"),
        (("--report", "--json", "nowhere/report.json"), "the folder nowhere does not exist"),
        (("--vote",), "--data"),
        (("--vote", "--data", "scenes", "--size", "9"), "--size"),
        (("--vote", "--data", "scenes"), "fewer than --items 40"),
        (("--vote", "--data", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_are_one_sentence(run: Run, contest: Path, options: tuple[str, ...], said: str) -> None:
    result = run(*WORDS, *options)
    assert result.code == 2
    assert len(result.errors) == 1 and said in result.errors[0]


def test_a_name_that_is_nothing(run: Run, contest: Path) -> None:
    result = run("compare", "./nothing", "two", "--out", "study", "--vote", "--data", "scenes")
    assert result.code == 2 and "nothing does not exist" in result.errors[0]


def test_without_the_extra_it_says_what_to_install(run: Run, contest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run(*WORDS, "--vote", "--data", "scenes", "--items", "2")
    assert result.code == 2 and "segscape[studio]" in result.errors[0]
    assert not Path("study").exists()
