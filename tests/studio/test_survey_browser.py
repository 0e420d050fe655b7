"""The page of the study in a real Chromium, with mouse and keys."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from segscape.studio.study import Study
from segscape.studio.survey import create_app
from segscape.studio.votes import Votes
from tests.studio.conftest import COLOURS
from tests.studio.studio_page import browser, needs_chromium, serving

__all__ = ["browser"]
pytestmark = needs_chromium

REFUSED = "status of 418"  # what one test answers on purpose


@pytest.fixture
def address(study: Study) -> Iterator[str]:
    """Where the study is served from a thread."""
    with serving(create_app(study.folder)) as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A fresh page at the address; whatever it complains about or asks of other hosts fails the test."""
    context = browser.new_context(viewport={"width": 1000, "height": 700})
    page = context.new_page()
    page.set_default_timeout(10_000)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: request.url.startswith(address) or trouble.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert [line for line in trouble if REFUSED not in line] == []


def enter(page: Any, name: str = "Anna") -> None:
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Start").click()


def wait_for(page: Any, progress: str) -> None:
    page.get_by_role("status").get_by_text(progress, exact=True).wait_for()


def colour_of(page: Any, side: str) -> str:
    """Which of a and b is on one side, by the colour of the picture there."""
    address = page.locator(f"#{side} img").evaluate("picture => picture.src")
    pixel = np.asarray(Image.open(io.BytesIO(urlopen(address).read())).convert("RGB"))[0, 0]
    return next(name for name, colour in COLOURS.items() if colour == tuple(pixel.tolist()))


def choices(study: Study, rater: str = "Anna") -> list[str]:
    return [vote.choice for vote in Votes(study.votes_path).done(rater)]


def test_a_rater_from_first_to_last_pair(page: Any, study: Study) -> None:
    enter(page)
    expected = []
    for number in range(6):
        wait_for(page, f"{number + 1} of 6")
        side = ("left", "right")[number % 2]
        expected.append(colour_of(page, side))
        if number < 3:
            page.keyboard.press(f"Arrow{side.capitalize()}")
        else:
            page.locator(f"#{side}").click()
    page.get_by_text("All 6 votes are saved, Anna.").wait_for()
    assert choices(study) == expected
    assert all(0 <= vote.seconds < 60 for vote in Votes(study.votes_path).all())


def test_back_changes_a_vote(page: Any, study: Study) -> None:
    enter(page)
    wait_for(page, "1 of 6")
    first = colour_of(page, "left")
    page.keyboard.press("ArrowLeft")
    wait_for(page, "2 of 6")
    page.get_by_role("button", name="Back").click()
    wait_for(page, "1 of 6")
    assert colour_of(page, "left") == first
    assert "chosen" in page.locator("#left").get_attribute("class")
    page.get_by_role("button", name="Keep").click()
    wait_for(page, "2 of 6")
    assert choices(study) == [first]
    page.keyboard.press("Backspace")
    wait_for(page, "1 of 6")
    page.keyboard.press("ArrowRight")
    wait_for(page, "2 of 6")
    assert choices(study) == ["b" if first == "a" else "a"]


def test_a_reload_goes_on_where_it_was(page: Any, study: Study) -> None:
    enter(page)
    for number in (1, 2):
        wait_for(page, f"{number} of 6")
        page.keyboard.press("ArrowLeft")
    wait_for(page, "3 of 6")
    shown = page.locator("#left img").get_attribute("src")
    page.reload()
    wait_for(page, "3 of 6")
    assert page.locator("#left img").get_attribute("src") == shown
    page.get_by_role("button", name="Back").click()
    wait_for(page, "2 of 6")
    assert len(choices(study)) == 2


def test_a_skipped_pair_comes_last(page: Any, study: Study) -> None:
    enter(page)
    wait_for(page, "1 of 6")
    skipped = page.locator("#left img").get_attribute("src")
    page.get_by_role("button", name="Skip").click()
    page.wait_for_function("src => document.querySelector('#left img').getAttribute('src') !== src", arg=skipped)
    assert choices(study) == []
    for number in range(1, 6):
        wait_for(page, f"{number} of 6")
        page.keyboard.press("ArrowLeft")
    wait_for(page, "6 of 6")
    assert page.locator("#left img").get_attribute("src") == skipped
    assert page.get_by_role("button", name="Skip").is_disabled()
    page.keyboard.press("ArrowRight")
    page.get_by_text("All 6 votes").wait_for()
    page.get_by_role("button", name="Back to the last pair").click()
    wait_for(page, "6 of 6")


def test_the_next_rater_starts_anew(page: Any, study: Study) -> None:
    enter(page)
    wait_for(page, "1 of 6")
    page.keyboard.press("ArrowLeft")
    wait_for(page, "2 of 6")
    page.get_by_role("button", name="Not you?").click()
    page.keyboard.press("ArrowLeft")  # in the field for the name: no vote
    enter(page, "Ben")
    wait_for(page, "1 of 6")
    page.keyboard.press("ArrowRight")
    wait_for(page, "2 of 6")
    assert (len(choices(study)), len(choices(study, "Ben"))) == (1, 1)


def test_the_layout_is_shown_on_request(page: Any) -> None:
    enter(page)
    wait_for(page, "1 of 6")
    assert not page.locator("#layout").is_visible()
    page.get_by_label("Show the layout").check()
    first = page.locator("#layout img").get_attribute("src")
    page.keyboard.press("ArrowLeft")
    wait_for(page, "2 of 6")
    assert page.locator("#layout img").get_attribute("src") != first
    page.get_by_label("Show the layout").uncheck()
    assert not page.locator("#layout").is_visible()


@pytest.mark.parametrize("size", [(320, 568), (390, 844), (844, 390), (1280, 800)], ids=str)
def test_a_pair_fits_on_the_screen(page: Any, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    enter(page)
    wait_for(page, "1 of 6")
    for _ in range(2):
        boxes = [page.locator(f"#{side}").bounding_box() for side in ("left", "right")]
        assert boxes[0]["width"] == pytest.approx(boxes[1]["width"])
        for box in boxes:
            assert box["width"] / box["height"] == pytest.approx(36 / 24, rel=0.02) and box["height"] >= 40
            assert box["x"] >= 0 and box["x"] + box["width"] <= size[0]
            assert box["y"] >= 0 and box["y"] + box["height"] <= size[1]
        page.get_by_label("Show the layout").check()
    page.wait_for_selector("#layout img")


def test_everything_can_be_reached_by_key_and_has_a_name(page: Any) -> None:
    enter(page)
    wait_for(page, "1 of 6")
    page.keyboard.press("ArrowLeft")
    wait_for(page, "2 of 6")
    page.evaluate("document.activeElement.blur()")
    names = []
    for _ in range(6):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert names == ["left", "right", "back", "skip", "show-layout", "Not you?"]
    assert page.get_by_role("button", name="First picture").count() == 1
    assert page.get_by_role("button", name="Second picture").count() == 1


def test_a_vote_that_cannot_be_saved_is_not_lost_silently(page: Any, study: Study) -> None:
    enter(page)
    wait_for(page, "1 of 6")
    page.route("**/api/votes", lambda route: route.fulfill(status=418, json={"error": "The disk is full."}))
    page.keyboard.press("ArrowLeft")
    page.get_by_role("alert").get_by_text("Your vote was not saved. The disk is full.").wait_for()
    assert page.get_by_role("status").inner_text() == "1 of 6"
    page.unroute("**/api/votes")
    page.keyboard.press("ArrowLeft")
    wait_for(page, "2 of 6")
    assert not page.get_by_role("alert").is_visible()
    assert len(choices(study)) == 1
