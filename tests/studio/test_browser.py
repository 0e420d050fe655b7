"""Painting in a real Chromium: tools, history, files, and what a reload brings back."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.label_files import read_label_map, write_label_map
from tests.studio.studio_page import NEVER_SEEN, Studio, address, browser, index, needs_chromium, studio
from tests.studio.studio_requests import CAMVID, png, street

__all__ = ["address", "browser", "studio"]
pytestmark = needs_chromium
UNKNOWN = index("unlabelled")


def file_of(label_map: np.ndarray, path: Path) -> bytes:
    write_label_map(path, label_map, CAMVID)
    return path.read_bytes()


def test_the_page_begins_with_an_example_and_its_photo(studio: Studio) -> None:
    first = studio.photo()
    assert np.ptp(first) > 20, "a flat picture would prove nothing"
    examples = sorted(Path("examples/layouts").glob("*.png"))
    assert any(np.array_equal(studio.layout(), np.asarray(Image.open(path))) for path in examples)
    assert studio.page.get_by_role("button", name="Undo").is_disabled()


def test_painting_changes_the_photo_and_undo_brings_it_back(studio: Studio) -> None:
    studio.new()
    empty, before = studio.layout(), studio.photo()
    assert (empty == UNKNOWN).all() and empty.shape == (48, 64)
    studio.choose_class("car")
    studio.drag((20, 24), (44, 24))
    after = studio.changed_photo(before)
    painted = studio.layout()
    assert set(np.unique(painted)) == {index("car"), UNKNOWN}, "the edges are hard"
    assert (painted[20:28, 22:42] == index("car")).all()
    changed = (after != before).any(axis=2)
    height, width = changed.shape
    inside = changed[height * 21 // 48 : height * 27 // 48, width * 22 // 64 : width * 42 // 64]
    assert inside.mean() > 0.5, "where it was painted"
    studio.page.keyboard.press("Control+z")
    studio.same_photo(before)
    assert (studio.layout() == empty).all()
    studio.page.get_by_role("button", name="Redo").click()
    studio.same_photo(after)
    assert (studio.layout() == painted).all()


def test_the_photo_follows_while_the_brush_is_down(studio: Studio) -> None:
    studio.new()
    before = studio.photo()
    studio.choose_class("car")
    studio.page.mouse.move(*studio.at(20, 24))
    studio.page.mouse.down()
    studio.page.mouse.move(*studio.at(40, 24), steps=4)
    during = studio.changed_photo(before)
    studio.page.mouse.move(*studio.at(40, 40), steps=4)
    studio.page.mouse.up()
    assert (studio.changed_photo(during) != during).any()


def test_a_round_and_a_square_brush(studio: Studio) -> None:
    studio.new()
    studio.choose_class("car")
    studio.brush(5)
    studio.click(10.5, 10.5)
    studio.page.get_by_role("button", name="Square").click()
    studio.click(40.5, 10.5)
    painted = studio.layout() == index("car")
    assert painted[8:13, 38:43].all() and painted[:, 30:].sum() == 25
    assert painted[10, 8:13].all() and painted[8:13, 10].all() and painted[:, :30].sum() == 21, "without its corners"


def test_an_example_is_chosen(studio: Studio) -> None:
    before = studio.photo()
    studio.page.locator("#start").click()
    studio.page.get_by_role("button", name="tree lined road").click()
    studio.changed_photo(before)
    assert np.array_equal(studio.layout(), np.asarray(Image.open("examples/layouts/tree-lined-road.png")))


def test_a_class_that_was_never_seen_in_training_is_warned_of(studio: Studio) -> None:
    page, warning = studio.page, studio.page.locator("#unseen")
    studio.new()
    page.locator("#model").select_option("instances")
    studio.wait_for_photo()
    marked = page.locator("#classes label").filter(has_text="never seen")
    assert marked.locator("span:not([aria-hidden])").first.inner_text() == NEVER_SEEN and marked.count() == 1
    assert not warning.is_visible()
    studio.choose_class(NEVER_SEEN)
    page.get_by_text(f"The model never saw {NEVER_SEEN} in training").wait_for()
    studio.click(30, 20)
    studio.choose_class("car")
    assert warning.is_visible(), "it is in the layout"
    page.locator("#canvas").focus()
    page.keyboard.press("Control+z")
    warning.wait_for(state="hidden")
    page.keyboard.press("Control+y")
    warning.wait_for()
    page.locator("#model").select_option("plain")
    warning.wait_for(state="hidden")


def test_undo_has_no_limit(studio: Studio) -> None:
    studio.new()
    studio.brush(1)
    studio.choose_class("road")
    for number in range(60):
        studio.click(number + 0.5, 10.5)
    assert (studio.layout()[10, :60] == index("road")).all()
    for _ in range(60):
        studio.page.keyboard.press("Control+z")
    assert (studio.layout() == UNKNOWN).all()


def test_fill_rectangle_line_and_polygon(studio: Studio) -> None:
    studio.new()
    studio.choose_class("sky")
    studio.choose_tool("rectangle")
    studio.drag((8.5, 8.5), (31.5, 23.5))
    layout = studio.layout()
    assert (layout[8:24, 8:32] == index("sky")).all() and (layout == index("sky")).sum() == 16 * 24
    studio.choose_class("tree")
    studio.choose_tool("fill")
    studio.click(12, 12)
    assert (studio.layout()[8:24, 8:32] == index("tree")).all()
    studio.choose_class("road")
    studio.click(60, 40)
    assert set(np.unique(studio.layout())) == {index("tree"), index("road")}
    studio.brush(1)
    studio.choose_class("pole")
    studio.choose_tool("line")
    studio.drag((40.5, 4.5), (40.5, 43.5))
    assert (studio.layout()[4:44, 40] == index("pole")).all() and (studio.layout() == index("pole")).sum() == 40
    studio.choose_class("car")
    studio.choose_tool("polygon")
    for corner in ((46, 30), (60, 30), (60, 44)):
        studio.click(*corner)
    studio.click(46, 30)
    layout = studio.layout()
    assert layout[31, 58] == index("car") and layout[43, 48] == index("road")


def test_eraser_eyedropper_and_lasso(studio: Studio) -> None:
    studio.new()
    studio.choose_class("building")
    studio.choose_tool("rectangle")
    studio.drag((10.5, 10.5), (19.5, 19.5))
    studio.choose_class("sky")
    studio.choose_tool("picker")
    studio.click(15, 15)
    assert studio.page.get_by_role("radio", name="building").is_checked()
    studio.choose_tool("lasso")
    studio.drag((8, 8), (22, 8), (22, 22), (8, 22), (8, 9))
    studio.drag((15, 15), (45, 25))
    layout = studio.layout()
    assert (layout[20:30, 40:50] == index("building")).all() and (layout == index("building")).sum() == 100
    studio.choose_tool("eraser")
    studio.drag((45, 25), (46, 25))
    assert (studio.layout() == UNKNOWN).all()


def test_the_class_under_the_pointer_is_named(studio: Studio) -> None:
    studio.new()
    studio.page.mouse.move(*studio.at(5.5, 7.5))
    studio.page.locator("#place").get_by_text("unlabelled").wait_for()
    assert studio.page.locator("#place").inner_text().split()[-2:] == ["5,", "7"]


def test_search_and_recent_classes(studio: Studio) -> None:
    page = studio.page
    page.keyboard.press("/")
    page.keyboard.type("cyc")
    assert page.locator("#classes label").all_inner_texts() == ["bicyclist"]
    page.keyboard.press("Enter")
    assert page.get_by_role("radio", name="bicyclist").is_checked()
    page.get_by_label("Search classes").fill("")
    studio.choose_class("tree")
    recent = page.get_by_role("group", name="Recent classes").get_by_role("button")
    assert [button.get_attribute("aria-label") for button in recent.all()][:2] == ["tree", "bicyclist"]
    page.locator("#canvas").focus()
    page.keyboard.press("x")
    assert page.get_by_role("radio", name="bicyclist").is_checked()


@pytest.mark.parametrize("kind", ["grey", "palette", "colours"])
def test_a_layout_is_opened(studio: Studio, tmp_path: Path, kind: str) -> None:
    before, wanted = studio.photo(), street()
    colours = CAMVID.colorize(wanted)
    content = {"grey": png(wanted), "palette": file_of(wanted, tmp_path / "a.png"), "colours": png(colours)}[kind]
    studio.page.locator("#start").click()
    studio.give("#open-layout", ("street.png", content))
    studio.changed_photo(before)
    assert (studio.layout() == wanted).all()


def test_a_file_that_is_no_layout_is_refused_in_a_sentence(studio: Studio) -> None:
    before = studio.layout()
    studio.page.locator("#start").click()
    studio.give("#open-layout", ("wrong.png", png(np.full((8, 8), 99, dtype=np.uint8))))
    studio.page.get_by_role("status").get_by_text("99").wait_for()
    studio.page.keyboard.press("Escape")
    assert (studio.layout() == before).all()


def test_both_is_a_folder_of_a_dataset(studio: Studio) -> None:
    studio.page.locator("#start").click()
    studio.give("#open-layout", ("my street.png", png(street())))
    studio.page.locator("#place").get_by_text("56 × 40 pixels").wait_for()
    studio.wait_for_photo()
    with zipfile.ZipFile(studio.save("Both (ZIP)")) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["images/my street.png", "labels/my street.png"]
        labels = read_label_map("saved", CAMVID, archive.read("labels/my street.png"))
        picture = np.asarray(Image.open(io.BytesIO(archive.read("images/my street.png"))).convert("RGB"))
    assert (labels == street()).all()
    assert (picture == studio.photo()).all()


def test_a_reload_brings_the_work_back(studio: Studio) -> None:
    studio.new()
    studio.choose_class("car")
    before = studio.photo()
    studio.drag((20, 24), (44, 24))
    after, painted = studio.changed_photo(before), studio.layout()
    studio.choose_tool("rectangle")
    studio.page.wait_for_timeout(600)
    studio.page.reload()
    studio.wait_for_photo()
    studio.same_photo(after)
    assert (studio.layout() == painted).all()
    assert studio.page.get_by_role("radio", name="car").is_checked()
    assert studio.page.get_by_role("radio", name="Rectangle").is_checked()


def test_a_photo_becomes_a_layout(studio: Studio) -> None:
    before = studio.layout()
    rows = np.linspace(0, 255, 90, dtype=np.uint8)[:, None, None]
    picture = np.broadcast_to(rows, (90, 120, 3)).copy()
    studio.page.locator("#start").click()
    studio.give("#open-photo", ("photo.png", png(picture)))
    studio.wait_until(lambda: studio.page.locator("#under").is_visible(), "no photo lies under the layout")
    found = studio.layout()
    assert found.shape != before.shape and found.shape[1] / found.shape[0] == pytest.approx(4 / 3, rel=0.1)


def test_zooming_and_moving_the_view_paint_nothing(studio: Studio) -> None:
    studio.new()
    page = studio.page
    page.mouse.move(*studio.at(32, 24))
    page.mouse.wheel(0, -600)
    studio.wait_until(lambda: page.locator("#zoom").inner_text() != "100 %", "no zoom")
    near = page.locator("#zoom").inner_text()
    studio.choose_tool("hand")
    studio.drag((32, 24), (40, 30))
    assert page.locator("#zoom").inner_text() == near
    page.keyboard.press("0")
    assert (studio.layout() == UNKNOWN).all()
    studio.choose_tool("brush")
    studio.brush(1)
    studio.click(3.5, 4.5)
    assert studio.layout()[4, 3] != UNKNOWN
