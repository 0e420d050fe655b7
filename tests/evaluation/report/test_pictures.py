"""Grids hold every picture pixel for pixel where it belongs; bars are as long as the IoU says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.errors import EvaluationError
from segscape.evaluation.report.cases import Case, ClassScore
from segscape.evaluation.report.pictures import (
    WITH_PREDICTION,
    caption,
    compose,
    grid,
    write_bars,
    write_cases,
    write_samples,
)


def noise(seed: int, height: int = 20, width: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def places(whole: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
    """Every (top, left) at which `part` lies in `whole`, by trying all of them."""
    height, width, _ = part.shape
    candidates = np.argwhere((whole[: len(whole) - height + 1, : whole.shape[1] - width + 1] == part[0, 0]).all(-1))
    return [(y, x) for y, x in candidates if (whole[y : y + height, x : x + width] == part).all()]


def place(whole: np.ndarray, part: np.ndarray) -> tuple[int, int]:
    (found,) = places(whole, part)
    return found


def case(seed: int, *, real: bool = True, size: tuple[int, int] = (20, 24)) -> Case:
    images = [noise(10 * seed + part, *size) for part in range(4)]
    return Case(f"case {seed}", 0.5, images[0], images[1] if real else None, images[2], images[3])


def test_a_grid_has_a_row_per_case_and_a_column_per_kind() -> None:
    cases = [case(1), case(2, size=(31, 130)), case(3, real=False)]
    whole = grid(cases)
    assert whole.dtype == np.uint8 and whole.shape[2] == 3
    at = {(c.name, kind): place(whole, getattr(c, kind)) for c in cases for kind in ("layout", "generated")}
    at |= {(c.name, "real"): place(whole, c.real) for c in cases[:2]}
    for c in cases:
        assert at[c.name, "layout"][0] == at[c.name, "generated"][0]
    for kind in ("layout", "generated"):
        assert len({at[c.name, kind][1] for c in cases}) == 1
    assert at["case 1", "layout"][1] < at["case 1", "real"][1] < at["case 1", "generated"][1]
    assert at["case 1", "layout"][0] < at["case 2", "layout"][0] < at["case 3", "layout"][0]
    y, x = at["case 3", "layout"]
    between = whole[y : y + 20, x + 24 : at["case 3", "generated"][1]]
    assert (between == 255).all()  # the missing photo leaves white
    assert not places(whole, cases[0].predicted)
    place(grid(cases, WITH_PREDICTION), cases[0].predicted)


def test_a_column_that_no_case_fills_is_left_out() -> None:
    assert grid([case(1, real=False)]).shape[1] < grid([case(1)]).shape[1]


def test_titles_and_captions_are_drawn_outside_the_pictures() -> None:
    picture = noise(0, 40, 120)
    silent, spoken = compose([[picture]], [""], [""]), compose([[picture]], ["title"], ["caption"])
    y = place(spoken, picture)[0]
    changed = np.argwhere((silent != spoken).any(-1))
    assert (changed[:, 0] < y).any() and (changed[:, 0] >= y + 40).any()
    assert not ((changed[:, 0] >= y) & (changed[:, 0] < y + 40)).any()


def test_long_texts_are_cut_to_their_room() -> None:
    whole = compose([[noise(0), noise(1)]], ["long title " * 20, ""], ["caption\nin two lines " * 20])
    assert (whole[:, -8:] == 255).all()
    second = place(whole, noise(1))[1]
    assert (whole[: place(whole, noise(1))[0], second - 8 :] == 255).all()


def test_a_grid_of_nothing_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="at least one case"):
        grid([])


def test_a_caption_without_an_accuracy_is_the_name() -> None:
    images = noise(0), None, noise(1), None
    assert caption(Case("a", 0.8125, *images)) == "a: 81.2 % of the pixels agree"
    assert caption(Case("100%", 1.0, *images)) == "100%: 100.0 % of the pixels agree"
    assert caption(Case("a", math.nan, *images)) == "a"


def test_the_files_of_a_gallery_hold_the_pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    cases = [case(1), case(2, real=False)]
    gallery = write_cases(tmp_path, "worst", cases, WITH_PREDICTION)
    assert gallery is not None
    assert gallery.titles == ("layout", "real", "generated", "seen by the segmenter")
    for strip, shown in zip(gallery.strips, cases, strict=True):
        for kind, picture in zip(WITH_PREDICTION, strip.pictures, strict=True):
            pixels = getattr(shown, kind)
            assert (picture is None) == (pixels is None)
            if picture is not None:
                np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / picture.source)), pixels)
                assert picture.drawn == (kind in ("layout", "predicted"))
                assert shown.name in picture.alternative
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / gallery.source)), grid(cases, WITH_PREDICTION))
    assert write_cases(tmp_path, "best", [], WITH_PREDICTION) is None


def test_samples_stand_beside_their_layout(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    gallery = write_samples(tmp_path, [(noise(0), [noise(1), noise(2)]), (noise(3), [noise(4)])])
    assert gallery is not None
    assert gallery.titles == ("layout", "sample 1", "sample 2")
    assert gallery.strips[1].pictures[2] is None
    second = gallery.strips[0].pictures[2]
    assert second is not None and not second.drawn
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / second.source)), noise(2))
    assert write_samples(tmp_path, []) is None


def test_bars_are_in_proportion_and_in_the_classes_colours(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    classes = [
        ClassScore("small", (200, 30, 40), 0.25, None, 5),
        ClassScore("$\\frac$ large", (30, 40, 200), 0.75, 0.9, 50),
        ClassScore("unscored", (1, 222, 3), None, None, 500),
    ]
    assert write_bars(tmp_path, classes) == "pictures/classes.png"
    pixels = np.asarray(Image.open(tmp_path / "pictures" / "classes.png").convert("RGB"))
    small, large, unscored = ((pixels == np.array(entry.color)).all(-1) for entry in classes)
    lower = small[len(pixels) // 3 :]  # without the legend
    assert large.sum(1).max() / lower.sum(1).max() == pytest.approx(3, rel=0.05)
    assert np.argwhere(large)[:, 0].mean() < np.argwhere(small)[:, 0].mean()  # more pixels, higher up
    assert not unscored.any()


def test_no_bars_without_scored_classes(tmp_path: Path) -> None:
    assert write_bars(tmp_path, [ClassScore("void", (0, 0, 0), None, 0.5, 1)]) is None
    assert write_bars(tmp_path, []) is None


def test_many_classes_are_drawn_in_columns(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    classes = [ClassScore(f"class {i}", (i, 2 * i, 255 - i), i / 100, 0.9, i) for i in range(1, 91)]
    write_bars(tmp_path, classes)
    with Image.open(tmp_path / "pictures" / "classes.png") as drawing:
        assert drawing.width > drawing.height
