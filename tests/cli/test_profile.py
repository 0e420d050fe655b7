"""`segscape profile`, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segscape.evaluation.cost import published
from tests.cli.conftest import Run


def rows(out: str) -> dict[str, list[str]]:
    """The rows of the table by title (the part of a split with the title above it), and their cells."""
    found: dict[str, list[str]] = {}
    above = ""
    for line in out.partition("\n\n")[0].splitlines():
        title = line[:24]
        if not title.startswith(" "):
            above = title.strip()
        found[above if not title.startswith("  ") else f"{above}: {title.strip()}"] = line[24:].split()
    return found


def test_two_systems_side_by_side(run: Run) -> None:
    result = run("profile", "--model", "spade", "--model", "clade", "--labels", "ade20k", "--no-timing")
    assert result.code == 0, result.err
    table = rows(result.out)
    assert table["parameters"] == ["96,492,483", "71,427,267"]
    assert table["parameters: backbone"] == ["68,122,179"] * 2
    assert table["parameters: norms"] == ["28,370,304", "3,305,088"]
    assert table["MACs, plain (G)"] == ["181.150", "42.212"]
    assert table["MACs, paper's rule (G)"] == ["181.282", "42.230"]
    assert table["size"] == ["256x256"] * 2
    assert not any("time" in title or "memory" in title for title in table)
    assert "plus one per output element of a biased convolution" in " ".join(result.out.split())


def test_number_of_labels_and_size(run: Run) -> None:
    result = run("profile", "--model", "clade", "--labels", 12, "--size", "64x96", "--no-timing")
    assert rows(result.out)["labels"] == ["12", "classes"]
    assert rows(result.out)["size"] == ["64x96"]
    # CLADE on ADE20K has two tables of 151 rows in 18 norms, and 151 inputs of the first convolution
    assert rows(result.out)["parameters: norms"] == [f"{3_305_088 // 151 * 12:,}"]
    assert rows(result.out)["parameters: backbone"] == [f"{68_122_179 - (151 - 12) * 9 * 1024:,}"]


def test_a_saved_model_is_timed(run: Run, workplace: Path) -> None:
    result = run("profile", "--model", "models/styles", "--device", "cpu", "--threads", 1, "--repetitions", 2)
    assert result.code == 0, result.err
    assert result.err == "models/styles: timing, 3 x 2 passes after the warm-up\n"
    table = rows(result.out)
    assert table["labels"] == ["12", "classes"] and table["size"] == ["32x32"]
    for title in ("run time (s)", "run time (s): backbone", "run time (s): norms", "run time (s): total, maps ready"):
        assert float(table[title][0]) > 0
    for title in ("peak memory (MB)", "peak memory (MB): backbone", "peak memory (MB): norms"):
        assert float(table[title][0]) > 0
    assert int(table["not counted: encoder"][0].replace(",", "")) > 0
    for word in ("Machine: processor", "threads 1", "torch 2", "inference; most bytes of tensors alive"):
        assert word in " ".join(result.out.split())


def test_json_layers_and_plot(run: Run, workplace: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run(
        "profile", "--model", "models/instances", "--model", "models/plain", "--size", "64x96", "--device",
        "cpu", "--repetitions", 1, "--batch-size", 2, "--layers", "--plot", "layers.svg", "--json", "cost.json",
    )  # fmt: skip
    assert result.code == 0, result.err
    content = json.loads(Path("cost.json").read_text())
    assert set(content) == {"machine", "rules", "models"} and set(content["rules"]) == {"macs", "paper_macs"}
    assert {"processor", "cores", "threads", "torch", "python"} <= set(content["machine"])
    one, other = content["models"]
    assert (one["name"], other["name"]) == ("models/instances", "models/plain")
    assert (one["labels"], other["labels"]) == ("12 classes, instances", "12 classes")
    assert one["complexity"]["size"] == other["timing"]["size"] == [64, 96]
    assert other["timing"]["batch_size"] == 2
    assert {score["name"] for score in other["scores"]} == {
        "Parameters", "MACs", "FLOPs", "Run time", "Peak memory",
    }  # fmt: skip
    for model in content["models"]:
        total, parts = model["complexity"]["total"], [model["complexity"][part] for part in ("backbone", "norms")]
        assert all(total[key] == sum(part[key] for part in parts) for key in total)
        assert len(model["complexity"]["layers"]) == 18
        assert f"\n{model['name']}: each norm beside" in result.out
    assert result.out.count("blocks.6.norm_s") == 2 and "39.21 %" in result.out
    assert "<svg" in Path("layers.svg").read_text()


def test_table_1(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tuple(
        row
        for row in published.COSTS
        if row.dataset == "ade20k" and row.model in ("spade", "clade", "spade-light", "cc-fpse")
    )
    monkeypatch.setattr(published, "COSTS", first)
    result = run("profile", "--table1", "--json", tmp_path / "table.json")
    assert result.code == 0, result.err
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert "I ade20k spade 96.492 96.5 agrees 181.150 181.282 181.3 agrees 0.042 4.36" in lines
    assert "IV ade20k spade-light 7.506 - 57.969 58.015 58.0 agrees - -" in lines
    assert "I ade20k cc-fpse 140.704 140.7 agrees 437.707 438.052 438.2 differs 0.093 -" in lines
    assert "cc-fpse, ade20k: the printed figure also holds operations of batch norm" in " ".join(result.out.split())
    assert result.out.count("differs") == 1 and "of inference" in " ".join(result.out.split())
    content = json.loads((tmp_path / "table.json").read_text())
    spade = next(row for row in content["rows"] if row["published"]["model"] == "spade")
    assert spade["published"]["training_memory"] == 4.36
    assert spade["counted"]["total"]["parameters"] == 96_492_483 and spade["flops_agree"] is True


@pytest.mark.parametrize(
    ("command", "found", "remedy"),
    [
        ("profile", "no model", "--model"),
        ("profile --table1 --model spade", "--model", "leave out"),
        ("profile --table1 --size 64x64 --layers", "--size, --layers", "leave out"),
        (
            "profile --table1 --threads 1 --device cpu --repetitions 10",
            "--threads, --device, --repetitions",
            "leave out",
        ),
        ("profile --table1 --batch-size 1 --no-timing", "--batch-size, --no-timing", "leave out"),
        ("profile --model clade --no-timing --threads 1 --repetitions 2", "--threads, --repetitions", "leave out"),
        ("profile --model clade --plot models.png --no-timing", "models.png is a folder", "name of a file"),
        ("profile --model clade --labels ² --no-timing", "'²'", "known are"),
        ("profile --model spadee --no-timing", "spadee", "config.json"),
        ("profile --model models/plain --labels ade20k", "ade20k", "leave out --labels"),
        ("profile --model clade --labels ade2k --no-timing", "'ade2k'", "known are"),
        ("profile --model clade --size 100 --no-timing", "'100'", "256x512"),
        ("profile --model clade --size 100x100 --no-timing", "multiple of 32", "nearest size"),
        ("profile --model models/plain --size 33x32", "33x32", "multiples of 32"),
        ("profile --model models/styles --size 64x64 --no-timing", "64x64", "resize the layout"),
        ("profile --model clade --plot layers.jpg", "layers.jpg", ".png"),
        ("profile --model clade --plot gone/layers.png", "gone", "does not exist"),
        ("profile --table1 --json gone/table.json", "gone", "does not exist"),
        ("profile --model models/plain --device gpu", "'gpu'", "use auto, cpu"),
    ],
)
def test_malformed(run: Run, workplace: Path, command: str, found: str, remedy: str) -> None:
    Path("models.png").mkdir()
    result = run(*command.split())
    assert result.code == 2 and len(result.errors) == 1, result.err
    assert found in result.errors[0] and remedy in result.errors[0]
    assert "Traceback" not in result.out + result.err


@pytest.mark.parametrize("option", ["--threads", "--repetitions", "--batch-size"])
def test_numbers_below_one_are_refused(run: Run, option: str) -> None:
    result = run("profile", "--model", "clade", option, 0)
    assert result.code == 2 and option in result.err
