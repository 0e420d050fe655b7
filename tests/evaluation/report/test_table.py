"""No column mixes protocols, and every format says the same as the reports."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segscape.errors import EvaluationError
from segscape.evaluation.report.report import MISSING, Report
from segscape.evaluation.report.table import FORMATS, score_table, split_metrics
from segscape.evaluation.score import Score


def report(title: str, *scores: Score) -> Report:
    return Report(title, scores, (), {}, {}, "2026-01-02", 3)


def miou(value: float, protocol: str = "U-Net") -> Score:
    return Score("mIoU", value, "%", "higher", "agreement", protocol)


FID = Score("FID", 30.484, "", "lower", "fidelity", "Inception; train", "few images")
MACS = Score("MACs, paper's rule", 42.2, "G", None, "cost", "the paper's")
CLADE = ("clade", report("clade", MACS, miou(35.43), FID))
SPADE = ("spade_light|b", report("spade", miou(36.28), replace(FID, value=29.79, note="")))
OTHER = ("oasis & <b>", report("oasis", miou(48.3, "UperNet"), replace(FID, value=math.nan, note="")))
ROWS = [CLADE, SPADE, OTHER]


scores = st.builds(
    Score,
    name=st.sampled_from(["FID", "mIoU", "accuracy"]),
    value=st.floats(),
    unit=st.sampled_from(["", "%"]),
    better=st.sampled_from(["higher", "lower", None]),
    group=st.sampled_from(["fidelity", "cost"]),
    protocol=st.sampled_from(["", "a", "a; b", "c"]),
)
reports = st.lists(scores, max_size=8, unique_by=lambda score: (score.name, score.unit, score.protocol)).map(
    lambda found: report("model", *found)
)


@given(st.lists(reports, min_size=1, max_size=4).filter(lambda found: any(entry.scores for entry in found)))
def test_no_column_mixes_protocols_and_no_score_is_lost(found: list[Report]) -> None:
    table = score_table([(str(number), entry) for number, entry in enumerate(found)])
    for cells, entry in zip(table.cells, found, strict=True):
        shown = []
        for cell, column in zip(cells, table.columns, strict=True):
            if cell is not None:
                assert (cell.name, cell.unit, cell.protocol) == (column.metric, column.unit, column.protocol)
                shown.append(cell)
        assert sorted(map(repr, shown)) == sorted(map(repr, entry.scores))
    for write in FORMATS.values():
        assert write(table)


def test_columns_are_split_by_protocol_and_ordered_by_group() -> None:
    table = score_table(ROWS)
    assert [(column.metric, column.protocol) for column in table.columns] == [
        ("FID", "Inception; train"),
        ("mIoU", "U-Net"),
        ("mIoU", "UperNet"),
        ("MACs, paper's rule", "the paper's"),
    ]
    assert table.figures() == [
        ["30.48", "35.43", MISSING, "42.20"],
        ["29.79", "36.28", MISSING, MISSING],
        [MISSING, MISSING, "48.30", MISSING],
    ]


def test_metrics_choose_and_order_the_columns() -> None:
    table = score_table(ROWS, ["miou", "FID", "mIoU"])
    assert [column.metric for column in table.columns] == ["mIoU", "mIoU", "FID"]


def test_an_unknown_metric_is_named_with_those_that_exist() -> None:
    with pytest.raises(EvaluationError, match=r"'FD'; they have FID, mIoU, MACs"):
        score_table(ROWS, ["FD"])


def test_reports_without_scores_make_no_table() -> None:
    with pytest.raises(EvaluationError, match="no scores"):
        score_table([("empty", report("empty"))])


def test_two_values_of_one_protocol_are_refused() -> None:
    with pytest.raises(EvaluationError, match="clade has 2 values of mIoU"):
        score_table([("clade", report("clade", miou(1), miou(2)))])


@pytest.mark.parametrize(
    ("text", "metrics"),
    [
        ("mIoU,FID", ["mIoU", "FID"]),
        (" mIoU , fid,", ["mIoU", "fid"]),
        ("MACs, paper's rule,mIoU", ["MACs, paper's rule", "mIoU"]),
        ("mIoU,macs, Paper's rule", ["mIoU", "macs, Paper's rule"]),
        ("", []),
    ],
)
def test_a_list_of_metrics_may_hold_names_with_commas(text: str, metrics: list[str]) -> None:
    assert split_metrics(text, [entry for _, entry in ROWS]) == metrics


def test_text() -> None:
    text = score_table(ROWS).to_text()
    lines = text.splitlines()
    assert re.split("  +", lines[0].strip()) == ["FID¹ ↓", "mIoU (%)² ↑", "mIoU (%)³ ↑", "MACs, paper's rule (G)⁴"]
    assert lines[2].split() == ["clade", "30.48", "35.43", MISSING, "42.20"]
    assert {"¹ Inception; train", "² U-Net", "³ UperNet", "clade, FID: few images"} <= set(lines)


def test_text_is_divided_into_blocks_that_fit() -> None:
    many = [Score(f"metric {number:02}", float(number), protocol="one") for number in range(40)]
    text = score_table([("a", report("a", *many)), ("b", report("b", *many))]).to_text()
    assert max(map(len, text.splitlines())) < 120
    assert re.findall(r"metric \d\d", text) == [score.name for score in many]
    assert [float(number) for line in text.splitlines() if line.startswith("b ") for number in line.split()[1:]] == [
        score.value for score in many
    ]


def test_csv_has_every_digit_and_protocol() -> None:
    exact = [('a,"b"\nc', report("a", miou(0.1 + 0.2, 'p, "q"'))), ("d", report("d", replace(FID, value=math.nan)))]
    metrics, protocols, *rows = csv.reader(io.StringIO(score_table(exact).to_csv()))
    assert metrics == ["model", "FID", "mIoU (%)"]
    assert protocols == ["protocol", "Inception; train", 'p, "q"']
    assert rows == [['a,"b"\nc', "", "0.30000000000000004"], ["d", "nan", ""]]


def test_json_is_strict_and_complete() -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    data = json.loads(score_table(ROWS).to_json(), parse_constant=refuse)
    assert data["format"] == 1
    assert [column["protocol"] for column in data["columns"]] == ["Inception; train", "U-Net", "UperNet", "the paper's"]
    assert [row["model"] for row in data["rows"]] == [name for name, _ in ROWS]
    assert data["rows"][0]["cells"][0] == {"value": 30.484, "note": "few images"}
    assert data["rows"][2]["cells"] == [{"value": None, "note": ""}, None, {"value": 48.3, "note": ""}, None]


def test_markdown_reads_back_as_the_same_table() -> None:
    markdown_it = pytest.importorskip("markdown_it")
    tokens = markdown_it.MarkdownIt().enable("table").parse(score_table(ROWS).to_markdown())
    texts = ["".join(part.content for part in token.children) for token in tokens if token.type == "inline"]
    assert texts[:5] == ["model", "FID¹ ↓", "mIoU (%)² ↑", "mIoU (%)³ ↑", "MACs, paper's rule (G)⁴"]
    assert texts[5:10] == ["clade", "30.48", "35.43", MISSING, "42.20"]
    assert texts[10:15] == ["spade_light|b", "29.79", "36.28", MISSING, MISSING]
    assert texts[15] == "oasis & <b>"
    assert "".join(texts[20:]).startswith("¹ Inception; train")
    strong = [
        "".join(p.content for p in t.children)
        for t in tokens
        if t.children and t.children[0].markup == "" and any(p.type == "strong_open" for p in t.children)
    ]
    assert strong == ["29.79", "36.28"]


def test_latex_has_balanced_cells_and_escapes() -> None:
    text = score_table(ROWS).to_latex()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 4
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {4}
    assert r"\begin{tabular}{lrrrr}" in text
    assert rows[0].split(" & ")[2] == r"mIoU (\%)$^{2}$ $\uparrow$"
    assert rows[2] == r"spade\_light\textbar{}b & \textbf{29.79} & \textbf{36.28} & -- & -- \\"
    assert rows[3].startswith(r"oasis \& \textless{}b\textgreater{} & ")
    assert r"$^{3}$ UperNet\par" in text


def test_the_best_of_a_column_is_bold_only_where_there_is_a_contest() -> None:
    tie = [("a", report("a", miou(50.001), MACS)), ("b", report("b", miou(50.004), MACS)), ("c", report("c", miou(1)))]
    text = score_table(tie).to_latex()
    assert text.count(r"\textbf{50.00}") == 2
    assert text.count(r"\textbf") == 2
