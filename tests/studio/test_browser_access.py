"""Whoever paints: by keys alone, by touch, on small and large screens, in light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.studio.studio_page import Studio, address, browser, index, needs_chromium, opened, studio

__all__ = ["address", "browser", "studio"]
pytestmark = needs_chromium

SCREENS = {"telephone": (360, 740), "laptop": (1280, 800), "4k": (3840, 2160)}

CONTRASTS = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number)
  const linear = (c) => c <= 10.3 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4
  const light = ([r, g, b]) => [r, g, b].map(linear)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0)
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor)
      if (colour.length < 4 || colour[3] > 0) return colour
    }
    return [255, 255, 255]
  }
  const found = []
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
    if (!own || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue
    if (element.closest(':disabled, canvas, noscript, #names')) continue
    const [a, b] = [light(channels(getComputedStyle(element).color)), light(ground(element))]
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    if (ratio < 4.5) found.push(`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`)
  }
  return found
}"""

NAMELESS = """() => [...document.querySelectorAll('button, input, select, summary, [role=application]')]
  .filter((element) => element.checkVisibility() && !element.labels?.[0]?.textContent.trim()
    && !element.getAttribute('aria-label') && !element.textContent.trim())
  .map((element) => element.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_everything_is_on_the_screen(browser: Any, address: str, screen: str, scheme: str, tmp_path: Path) -> None:
    width, height = SCREENS[screen]
    with opened(browser, address, viewport={"width": width, "height": height}, color_scheme=scheme) as studio:
        page = studio.page
        page.locator("#model").select_option("latent")
        studio.wait_for_photo()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in ("#canvas", "#photo", "#tools", "#controls", "#start", "#help"):
            box = page.locator(name).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width + 0.5, name
        stage, photo = (page.locator(name).bounding_box() for name in ("#stage", "#photo"))
        if screen == "telephone":
            assert photo["y"] + photo["height"] <= height * 1.25, "layout and photo are nearly on one screen"
        else:
            assert (stage["y"], stage["height"]) == pytest.approx((photo["y"], photo["height"]), abs=1.5)
            assert page.evaluate("document.documentElement.scrollHeight") <= height
            assert stage["width"] * stage["height"] > 0.25 * width * height * 0.7
        assert page.evaluate(CONTRASTS) == []
        page.screenshot(path=tmp_path / f"{screen}-{scheme}.png")


def test_everything_has_a_name(studio: Studio) -> None:
    studio.page.locator("#model").select_option("codes")
    assert studio.page.evaluate(NAMELESS) == []
    studio.page.locator("#start").click()
    studio.page.locator("#examples button").first.wait_for()
    assert studio.page.evaluate(NAMELESS) == []
    assert studio.page.evaluate(CONTRASTS) == []


def test_the_focus_goes_everywhere_and_is_seen(studio: Studio) -> None:
    page = studio.page
    page.evaluate("document.activeElement.blur()")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "document.activeElement.id || document.activeElement.name || document.activeElement.tagName"
        )
        if place == "BODY":
            break
        seen.append(place)
        ring = "e => [e, e.closest('label')].some((at) => at && getComputedStyle(at).outlineStyle === 'solid')"
        assert page.evaluate(f"({ring})(document.activeElement)"), place
    wanted = [
        "start",
        "model",
        "theme",
        "help",
        "search",
        "class",
        "tool",
        "brush-size",
        "canvas",
        "overlay",
        "download",
    ]
    assert [name for name in seen if name in wanted] == wanted


def test_painting_by_keys_alone(studio: Studio) -> None:
    studio.new()
    before = studio.photo()
    studio.choose_class("car")
    studio.choose_tool("line")
    studio.brush(1)
    page = studio.page
    page.locator("#canvas").focus()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    studio.changed_photo(before)
    layout = studio.layout()
    assert (layout[24, 32:53] == index("car")).all() and (layout == index("car")).sum() == 21


def test_the_help_sheet_lists_the_keys(studio: Studio) -> None:
    studio.page.locator("#canvas").focus()
    studio.page.keyboard.press("?")
    sheet = studio.page.get_by_role("dialog", name="Keys and help")
    sheet.wait_for()
    keys = sheet.locator("kbd").all_inner_texts()
    assert {"B", "E", "F", "Ctrl+Z", "?", "[ ]"} <= set(keys) and len(keys) == len(set(keys))
    studio.page.keyboard.press("Escape")
    sheet.wait_for(state="hidden")


def test_letters_in_a_field_are_letters(studio: Studio) -> None:
    studio.page.get_by_label("Search classes").fill("")
    studio.page.keyboard.type("fence")
    assert studio.page.get_by_role("radio", name="Brush").is_checked()


def test_the_theme_is_kept(studio: Studio) -> None:
    page = studio.page
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    for _ in range(2):
        page.get_by_role("button", name="Colours of the page").click()
    dark = page.evaluate(ground)
    assert dark != before
    page.reload()
    studio.wait_for_photo()
    assert page.evaluate(ground) == dark


def test_a_pen_paints_and_its_other_end_erases(studio: Studio) -> None:
    studio.new()
    studio.choose_class("car")
    pen = """([x, y, button]) => ['pointerdown', 'pointerup'].forEach((kind) => {
      const canvas = document.getElementById('canvas')
      canvas.setPointerCapture = () => undefined // the browser knows of no such pen
      const where = { clientX: x, clientY: y, button, buttons: kind === 'pointerdown' ? 1 : 0 }
      canvas.dispatchEvent(new PointerEvent(kind, { pointerType: 'pen', pointerId: 9, bubbles: true, ...where }))
    })"""
    for x in (20, 40):
        studio.page.evaluate(pen, [*studio.at(x, 20), 0])
    assert (studio.layout()[20, [20, 40]] == index("car")).all()
    studio.page.evaluate(pen, [*studio.at(40, 20), 5])
    assert studio.layout()[20, [20, 40]].tolist() == [index("car"), index("unlabelled")]


def test_one_finger_paints_and_two_zoom(browser: Any, address: str) -> None:
    with opened(browser, address, has_touch=True, viewport={"width": 400, "height": 800}) as studio:
        studio.new()
        studio.choose_class("car")
        touch = studio.page.context.new_cdp_session(studio.page)

        def send(kind: str, *points: tuple[float, float]) -> None:
            fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(studio.at(*p) for p in points)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

        send("touchStart", (20, 20))
        send("touchMove", (30, 20))
        send("touchEnd")
        painted = studio.layout()
        assert painted[20, 25] == index("car")
        zoom = studio.page.locator("#zoom").inner_text()
        send("touchStart", (30, 30))
        send("touchStart", (30, 30), (34, 34))
        for step in range(1, 6):
            send("touchMove", (30 - 3 * step, 30 - 3 * step), (34 + 3 * step, 34 + 3 * step))
        send("touchEnd")
        assert studio.page.locator("#zoom").inner_text() != zoom
        assert np.array_equal(studio.layout(), painted), "a pinch paints nothing"
