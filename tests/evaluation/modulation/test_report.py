from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from segscape.evaluation.modulation.analysis import ModulationAnalysis, analyse_modulation
from segscape.evaluation.modulation.figures import LEGEND, class_legend
from segscape.evaluation.modulation.report import as_json, skipped_sentence, text_tables, write_report
from segscape.evaluation.plotting import new_figure
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.clade import mixed_norms

LABELS = LABEL_SETS["camvid"]


def analysis_of(**options: object) -> ModulationAnalysis:
    torch.manual_seed(0)
    model = create_model("clade", labels="camvid", image_size=(32, 32), base_channels=1, hidden_channels=4, **options)
    label_map = torch.randint(0, 11, (2, 2, 4)).repeat_interleave(16, 1).repeat_interleave(8, 2)
    return analyse_modulation(model, [Layout(label_map, LABELS)])


@pytest.fixture(scope="module")
def mixed() -> ModulationAnalysis:
    return analysis_of(norm=mixed_norms(6), position="modulation")


def test_the_report_shows_every_picture_that_it_wrote(mixed: ModulationAnalysis, tmp_path: Path) -> None:
    figures = write_report(mixed, tmp_path, "A title", mixed.frequent_classes(2))
    assert json.loads((tmp_path / "analysis.json").read_text()) == json.loads(json.dumps(as_json(mixed)))
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# A title\n")
    shown = re.findall(r"!\[.*\]\((.*)\)", text)
    assert shown == [figure.path.name for figure in figures]
    assert sorted(shown) == sorted(path.name for path in tmp_path.glob("*.png"))
    expected = {"within-class", "histograms", "deviations", "class-distances", "maps-blocks.5.norm_1"}
    expected |= {"position-encoding", "position-response", "position-on-layout"}
    assert {name.removesuffix(".png") for name in shown if not name.startswith("table-")} == expected
    assert sum(name.startswith("table-") for name in shown) == len(mixed.tables)
    for figure in figures:
        with Image.open(figure.path) as picture:
            extremes = picture.convert("L").getextrema()
        assert extremes[0] < 128 and extremes[1] == 255  # something is drawn on white


def test_spade_alone_has_neither_tables_nor_positions(tmp_path: Path) -> None:
    analysis = analysis_of(norm="spade")
    write_report(analysis, tmp_path, "SPADE", [0])
    names = {path.stem for path in tmp_path.glob("*.png")}
    assert names == {"within-class", "histograms", "deviations", "maps-blocks.6.norm_1"}
    assert [table.title for table in text_tables(analysis)] == ["Within-class share of the variance"]


def test_json_says_what_was_measured(mixed: ModulationAnalysis) -> None:
    numbers = json.loads(json.dumps(as_json(mixed), allow_nan=False))
    assert numbers["layouts"] == 2 and sum(numbers["class_pixels"].values()) == 2 * 32 * 32
    layer, measured = numbers["layers"][-1], mixed.layers[-1]
    assert (layer["name"], layer["gamma"]["within_share"]) == (measured.name, measured.gamma.within_share)
    assert numbers["layers"][0]["gamma"]["interior"] is None  # 1x1: nothing inside
    assert set(numbers["nearest_classes"]["layers"]) == {table.layer for table in mixed.tables}
    assert [entry["layer"] for entry in numbers["position"]] == [response.layer for response in mixed.positions]


def test_tables_are_aligned(mixed: ModulationAnalysis) -> None:
    layers, nearest, positions = text_tables(mixed)
    lines = layers.plain().splitlines()
    assert lines[0] == layers.title and len(lines) == 2 + len(mixed.layers)
    assert len({len(line) for line in lines[1:]}) == 1
    assert len(nearest.rows) == 12 and len(positions.rows) == len(mixed.positions)
    for table in (layers, nearest, positions):
        rows = [line for line in table.markdown().splitlines() if line.startswith("|")]
        assert {row.count("|") for row in rows} == {len(table.header) + 1}


def test_skipped_norms_are_named(mixed: ModulationAnalysis) -> None:
    assert skipped_sentence(mixed) == ""
    other = ModulationAnalysis(**{**vars(mixed), "skipped": ("blocks.0.norm_0", "blocks.1.norm_0")})
    assert "blocks.0.norm_0, blocks.1.norm_0" in skipped_sentence(other)


@pytest.mark.parametrize(("classes", "more"), [(LEGEND, []), (LEGEND + 5, ["and 5 smaller"])])
def test_a_legend_names_the_largest_classes(classes: int, more: list[str]) -> None:
    """Class k has classes - k pixels, so the largest come first; class 99 is nowhere."""
    label_map = torch.arange(classes).repeat_interleave(torch.arange(classes, 0, -1))[None, None]
    figure, _ = new_figure()
    class_legend(figure, [Layout(label_map, LabelSet.numbered(100))], 4)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*(f"class {k}" for k in range(LEGEND)), *more]
