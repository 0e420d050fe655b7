"""Reports survive their file digit for digit; the page is valid, safe, complete, and shows every protocol."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segscape.errors import EvaluationError
from segscape.evaluation.report.cases import Case, ClassScore
from segscape.evaluation.report.report import (
    MISSING,
    Report,
    decimals,
    figure,
    footnotes,
    grouped,
    screen_table,
    write_report,
)
from segscape.evaluation.score import Score

HOSTILE = "<script>alert(\"x\")</script> & '$x$'"
VOID = {"meta", "img", "link", "br"}

SCORES = (
    Score("FD-EfficientNetLite0", 0.1 + 0.2, "", "lower", "fidelity", "256x256; real images: train", "nearly singular"),
    Score("precision-EfficientNetLite0", 2 / 3, "", "higher", "fidelity", "256x256; real images: train; 5 neighbours"),
    Score("mIoU", 38.93, "%", "higher", "agreement", "U-Net"),
    Score("mIoU (real images)", 61.02, "%", "higher", "agreement", "U-Net"),
    Score("accuracy", 81.5, "%", "higher", "agreement", "U-Net"),
    Score("parameters", 71.42, "M", None, "cost", ""),
)
CLASSES = (
    ClassScore("sky", (135, 206, 235), 0.75, 0.9, 600),
    ClassScore(HOSTILE, (1, 2, 3), 0.25, None, 300),
    ClassScore("void", (0, 0, 0), None, None, 100),
)


def a_report(**changes: object) -> Report:
    report = Report(
        "clade-tiny",
        SCORES,
        CLASSES,
        {"cores": "2"},
        {"name": "clade", "size": [8, 8]},
        "2026-01-02",
        7,
        ("few images",),
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def picture(seed: int, height: int = 10, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def a_case(name: str, seed: int = 0, *, real: bool = True, predicted: bool = True) -> Case:
    images = [picture(4 * seed + part) for part in range(4)]
    return Case(name, 0.8125, images[0], images[1] if real else None, images[2], images[3] if predicted else None)


class Page(HTMLParser):
    """What a reader of the page finds; unbalanced tags are errors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.words.append(data)
        if "td" in self.stack or "th" in self.stack:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def row(self, head: str) -> list[str]:
        (found,) = [row for row in self.rows if row[0].startswith(head)]
        return found


def read_page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_report_survives_its_file_digit_for_digit(tmp_path: Path) -> None:
    report = a_report()
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    assert Report.load(tmp_path) == report
    assert json.loads((tmp_path / "report.json").read_text())["scores"][0]["value"] == 0.30000000000000004


@given(st.floats(), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_value_and_text_survive(value: float, text: str) -> None:
    report = a_report(title=text, scores=(Score(text, value, protocol=text, note=text),))
    stored = json.dumps(report.to_dict(), allow_nan=False)
    again = Report.from_dict(json.loads(stored))
    assert again.title == text
    expected = value if math.isfinite(value) else math.nan
    np.testing.assert_equal(again.scores[0].value, expected)
    assert replace(again.scores[0], value=0.0) == replace(report.scores[0], value=0.0)


def test_the_file_holds_no_nan(tmp_path: Path) -> None:
    undefined = a_report(
        scores=(Score("FID", math.inf), Score("KID", math.nan)),
        classes=(ClassScore("sky", (0, 0, 0), math.nan, 0.5, 1),),
        protocol={"seed": math.nan},
    )
    undefined.save(tmp_path / "report.json")

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    data = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert [score["value"] for score in data["scores"]] == [None, None]
    again = Report.load(tmp_path)
    assert all(math.isnan(score.value) for score in again.scores)
    assert again.classes[0].iou is None


@pytest.mark.parametrize("format_number", [None, 0, 2, "1"])
def test_an_unknown_format_is_refused(format_number: object) -> None:
    with pytest.raises(EvaluationError, match=f"format {format_number!r}.* reads format 1"):
        Report.from_dict(a_report().to_dict() | {"format": format_number})


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("title", {"title": 3}),
        ("scores", {"scores": 3}),
        ("scores.0.value", {"scores": [{"name": "FID", "value": "low"}]}),
        ("scores.0.value", {"scores": [{"name": "FID"}]}),
        ("scores.0.better", {"scores": [{"name": "FID", "value": 1, "better": "bigger"}]}),
        ("classes.0.color", {"classes": [{"name": "a", "color": [1, 2], "iou": 1, "ceiling": 1, "pixels": 1}]}),
    ],
)
def test_a_wrong_field_is_named(place: str, change: dict[str, object]) -> None:
    with pytest.raises(EvaluationError, match=f"field '{place}"):
        Report.from_dict(a_report().to_dict() | change)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no report"), ("{", "not JSON"), ("[]", "no report"), ("{}", "format None")]
)
def test_a_file_that_is_no_report_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(EvaluationError, match=message) as caught:
        Report.load(tmp_path)
    assert str(tmp_path / "report.json") in str(caught.value)


def test_a_protocol_that_json_cannot_hold_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="JSON"):
        a_report(protocol={"network": object()}).save(tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


def test_scores_are_grouped_with_their_ceilings_beside_them() -> None:
    groups = dict(grouped(SCORES[::-1]))
    assert list(groups) == ["fidelity", "agreement", "cost"]
    pairs = [(row.score.name, row.ceiling and row.ceiling.name) for row in groups["agreement"]]
    assert pairs == [("accuracy", None), ("mIoU", "mIoU (real images)")]
    (alone,) = grouped(SCORES[3:4])[0][1]
    assert (alone.score.name, alone.ceiling) == ("mIoU (real images)", None)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (29.7412, "", "29.74"),
        (145.257, "", "145.26"),
        (0.00123456, "", "0.001235"),
        (0.71234, "", "0.7123"),
        (-0.71234, "", "-0.7123"),
        (8.2, "%", "8.20"),
        (1312.44, "MB", "1312.4"),
        (0.0, "", "0.00"),
        (math.nan, "%", MISSING),
        (1e-12, "", "0.000000"),
    ],
)
def test_figures(value: float, unit: str, text: str) -> None:
    assert figure(value, decimals([value], unit)) == text


def test_a_protocol_that_adds_to_another_is_not_written_out_again() -> None:
    protocols = ["a; b", "c", "a; b; d", "a; b; d; e", "a; bad"]
    assert footnotes(protocols, "<{}>".format) == ["a; b", "c", "as <1>; d", "as <3>; e", "a; bad"]


def test_the_screen_table_says_everything_within_120_columns() -> None:
    long = replace(SCORES[0], name="n" * 90, protocol="word " * 100, note="note " * 60)
    text = screen_table(a_report(title="t" * 300, scores=(*SCORES, long)))
    lines = text.splitlines()
    assert max(map(len, lines)) < 120
    assert text.count("word") == 100
    (row,) = [line for line in lines if line.startswith("  mIoU")]
    assert row.split() == ["mIoU", "38.93", "%", "61.02", "%", "higher", "[4]"]
    assert any(line.startswith("  nnnn") and line.split()[1:] == ["0.3000", "lower", "[3]"] for line in lines)
    assert "[4] U-Net" in lines
    assert "[2] as [1]; 5 neighbours" in lines
    assert "[5] protocol not stated" in lines
    assert "note: FD-EfficientNetLite0: nearly singular" in lines
    assert "warning: few images" in lines
    assert [line for line in lines if line and line.split()[0] in ("Fidelity", "Agreement", "Cost")] == [
        "Fidelity",
        "Agreement with the layout",
        "Cost",
    ]


def test_a_ceiling_of_another_protocol_shows_both() -> None:
    other = replace(SCORES[3], protocol="SegFormer")
    text = screen_table(a_report(scores=(SCORES[2], other)))
    assert "[1][2]" in text
    assert "[2] SegFormer" in text


def test_the_page_is_balanced_and_complete(tmp_path: Path) -> None:
    cases = [a_case("first"), a_case("second", 1, real=False), a_case("third", 2, predicted=False)]
    samples = [(picture(90), [picture(91), picture(92)]), (picture(93), [picture(94)])]
    folder = tmp_path / "deep" / "report"
    write_report(a_report(), folder, grid=cases, worst=cases[:2], best=cases[2:], samples=samples)
    page = read_page(folder)
    images = page.named("img")
    assert len(images) == (3 + 2 + 3) + (4 + 3) + 3 + (3 + 2) + 1
    assert all(image["alt"] for image in images)
    links = [link["href"] for link in page.named("a")]
    for target in [*(image["src"] for image in images), *links]:
        assert target is not None and not Path(target).is_absolute()
        assert (folder / target).is_file(), target
    assert {path.name for path in (folder / "pictures").iterdir()} == {
        Path(target or "").name for target in [*(image["src"] for image in images), *links]
    } - {"report.json"}
    assert not page.named("script") and not page.named("link")
    assert "first: 81.2 % of the pixels agree" in page.text
    assert Report.load(folder) == a_report()


def test_the_page_shows_every_score_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    write_report(a_report(), tmp_path)
    page = read_page(tmp_path)
    assert page.row("FD-EfficientNetLite0") == [
        "FD-EfficientNetLite0 nearly singular",
        "0.3000",
        "",
        "↓ lower",
        "256x256; real images: train",
    ]
    assert page.row("precision")[-1] == "as for FD-EfficientNetLite0; 5 neighbours"
    assert page.row("mIoU") == ["mIoU", "38.93", "61.02", "%", "↑ higher", "U-Net"]
    assert page.row("accuracy") == ["accuracy", "81.50", "", "%", "↑ higher"]  # in the cell of the row above
    assert page.row("parameters") == ["parameters", "71.42", "M", "", "protocol not stated"]
    assert page.row("sky") == ["sky", "75.00", "90.00", "60.00"]
    assert page.row("void") == ["void", MISSING, MISSING, "10.00"]
    assert [cell["rowspan"] for cell in page.named("td") if "rowspan" in cell] == ["2"]
    assert "few images" in page.text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = a_report(
        title=HOSTILE,
        scores=(Score(HOSTILE, 1.0, HOSTILE, "lower", "cost", HOSTILE, HOSTILE),),
        machine={HOSTILE: HOSTILE},
        protocol={HOSTILE: HOSTILE},
        created=HOSTILE,
        warnings=(HOSTILE,),
    )
    write_report(hostile, tmp_path, grid=[a_case(HOSTILE)], worst=[a_case('"><script>')], best=[a_case("a\nb")])
    page = read_page(tmp_path)
    assert not page.named("script")
    assert page.text.count(HOSTILE) >= 10
    assert {name for name, attributes in page.tags for key in attributes if key.startswith("on")} == set()
    assert any(image["alt"] == f"Layout of {HOSTILE}" for image in page.named("img"))


def test_without_a_segmenter_there_are_no_classes_and_no_cases(tmp_path: Path) -> None:
    unknown = replace(a_case("first", predicted=False), accuracy=math.nan)
    write_report(a_report(scores=SCORES[:1], classes=()), tmp_path, grid=[unknown], worst=[], best=[])
    page = read_page(tmp_path)
    for absent in ("Classes", "Worst", "Best", "Agreement", "agree", "nan"):
        assert absent not in page.text
    assert not (tmp_path / "pictures" / "classes.png").exists()


def test_an_empty_report_can_be_written(tmp_path: Path) -> None:
    empty = Report("nothing", (), (), {}, {}, "2026-01-02", 0)
    write_report(empty, tmp_path)
    assert read_page(tmp_path).named("img") == []
    assert Report.load(tmp_path) == empty
    assert screen_table(empty).startswith("nothing: 0 images")


def test_the_numbers_are_safe_when_the_pictures_fail(tmp_path: Path) -> None:
    broken = replace(a_case("first"), generated=np.zeros((4, 4, 7), np.uint8))
    with pytest.raises((TypeError, ValueError)):
        write_report(a_report(), tmp_path, grid=[broken])
    assert Report.load(tmp_path) == a_report()
    assert not (tmp_path / "report.html").exists()
