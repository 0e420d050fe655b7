"""The photo's side of the studio in a real Chromium: styles, samples, comparing, sizes, and a server in trouble."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.studio.studio_page import Studio, address, browser, index, needs_chromium, studio
from tests.studio.studio_requests import CAMVID, photo, png, street

__all__ = ["address", "browser", "studio"]
pytestmark = needs_chromium


def stripes(across: bool) -> bytes:
    """A photo whose style is far from that of noise."""
    wave = np.indices((48, 64))[int(across)] // 6 % 2 * 200
    return png(np.stack([wave, 255 - wave, wave * 0], axis=2).astype(np.uint8))


def choose_model(studio: Studio, name: str) -> np.ndarray:
    """The photo of that model."""
    before = studio.photo()
    studio.page.locator("#model").select_option(name)
    return studio.changed_photo(before)


def test_a_photo_lends_its_style(studio: Studio) -> None:
    plain = choose_model(studio, "latent")
    studio.give("#style-photo", ("style.jpg", photo(seed=1)))
    styled = studio.changed_photo(plain)
    studio.page.get_by_role("button", name="No photo for: Whole picture").click()
    studio.same_photo(plain)
    studio.give("#style-photo", ("other.png", stripes(across=True)))
    assert (studio.changed_photo(plain) != styled).any()


def test_each_class_may_have_its_own_photo(studio: Studio, tmp_path: Path) -> None:
    plain = choose_model(studio, "codes")
    with studio.page.expect_file_chooser() as chooser:
        studio.page.locator("#style-photo").click()
    chooser.value.set_files([{"name": "style.jpg", "mimeType": "image/jpeg", "buffer": photo(seed=1)}])
    studio.page.get_by_role("button", name="The painted layout").click()
    whole = studio.changed_photo(plain)
    studio.choose_class("road")
    with studio.page.expect_file_chooser() as chooser:
        studio.page.get_by_role("button", name="Photo for road").click()
    chooser.value.set_files([{"name": "road.png", "mimeType": "image/png", "buffer": stripes(across=True)}])
    studio.give("#reference-file", ("layout.png", png(street())))
    both = studio.changed_photo(whole)
    studio.page.get_by_role("button", name="No photo for: road").click()
    studio.same_photo(whole)
    assert (both != whole).any()


def test_seeds_and_samples(studio: Studio) -> None:
    first = choose_model(studio, "latent")
    studio.page.get_by_label("Seed").fill("7")
    studio.page.keyboard.press("Enter")
    seventh = studio.changed_photo(first)
    studio.page.get_by_role("button", name="Another random style").click()
    studio.changed_photo(seventh)
    assert studio.page.get_by_label("Seed").input_value() != "7"
    studio.page.get_by_label("Seed").fill("7")
    studio.page.keyboard.press("Enter")
    studio.same_photo(seventh)
    studio.page.locator("#samples").select_option("4")
    samples = studio.page.get_by_role("radiogroup", name="Samples").locator("label")
    samples.nth(3).wait_for()
    shown = studio.photo()
    samples.nth(2).click()
    assert (studio.changed_photo(shown) != shown).any()


def test_seeds_are_offered_where_they_change_the_photo(studio: Studio) -> None:
    page = studio.page
    random, roll, samples = page.locator("#random"), page.locator("#roll"), page.locator("#samples")
    assert not random.is_visible(), "neither styles nor noise"
    noisy = choose_model(studio, "codes")
    roll.click()
    studio.changed_photo(noisy)
    assert not samples.is_visible(), "noise is the same in all samples"
    plain = choose_model(studio, "latent")
    assert roll.is_enabled() and samples.is_enabled()
    studio.give("#style-photo", ("style.jpg", photo(seed=1)))
    studio.changed_photo(plain)
    assert roll.is_disabled() and page.get_by_label("Seed").is_disabled() and samples.is_disabled()
    page.locator("#model").select_option("plain")
    random.wait_for(state="hidden")
    page.get_by_label("Compare with").select_option("codes")
    random.wait_for()
    assert roll.is_enabled(), "of the model beside it"


def test_two_models_side_by_side(studio: Studio) -> None:
    page = studio.page
    page.get_by_label("Compare with").select_option("instances")
    page.locator("#split-row").wait_for()
    main, other = studio.photo(), studio.photo("photo-other")
    assert main.shape == other.shape and (main != other).any()
    clip = "getComputedStyle(document.getElementById('photo-other')).clipPath"
    half = page.evaluate(clip)
    page.locator("#split").focus()
    page.keyboard.press("End")
    assert page.evaluate(clip) != half
    assert page.locator("#names span").all_inner_texts() == ["plain", "instances"]
    studio.choose_class("bicyclist")
    page.locator("#canvas").click()
    studio.changed_photo(main)
    studio.changed_photo(other, "photo-other")
    page.get_by_label("Compare with").select_option("nothing")
    page.locator("#split-row").wait_for(state="hidden")


def test_sizes_are_those_of_the_photo(studio: Studio) -> None:
    for name in ("double", "layout", "model"):
        before = studio.photo()
        studio.page.locator("#resolution").select_option(name)
        after = studio.changed_photo(before)
        text = studio.page.locator(f"#resolution option[value='{name}']").inner_text()
        assert text.endswith(f"{after.shape[1]} × {after.shape[0]}")


def test_the_overlay_lies_over_the_photo(studio: Studio) -> None:
    assert not studio.page.locator("#photo-overlay").is_visible()
    studio.page.locator("#canvas").focus()
    studio.page.keyboard.press("o")
    overlay = studio.page.locator("#photo-overlay")
    overlay.wait_for()
    assert overlay.evaluate("canvas => getComputedStyle(canvas).opacity") == "0.5"
    colours = {tuple(colour) for colour in studio.photo("photo-overlay").reshape(-1, 3).tolist()}
    assert colours <= {tuple(entry.color) for entry in CAMVID.classes} and len(colours) > 3


def test_what_is_downloaded_is_what_is_shown(studio: Studio) -> None:
    with studio.page.expect_download() as download:
        studio.page.get_by_role("button", name="Download PNG").click()
    for path in (download.value.path(), studio.save("Result (PNG)")):
        assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), studio.photo())


def test_python_is_copied_that_makes_the_photo_again(studio: Studio, tmp_path: Path) -> None:
    studio.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    studio.page.get_by_role("button", name="Copy Python").click()
    studio.page.get_by_role("status").get_by_text("Copied").wait_for()
    program = studio.page.evaluate("navigator.clipboard.readText()")
    compile(program, "snippet", "exec")
    assert "Pipeline.from_pretrained(" in program and "'layout.png'" in program


def test_a_busy_server_is_asked_again(studio: Studio) -> None:
    answers = iter([429, 429])
    before = studio.photo()

    def refuse(route: object) -> None:
        status = next(answers, None)
        if status is None:
            route.continue_()  # type: ignore[attr-defined]
        else:
            route.fulfill(status=status, headers={"Retry-After": "0"}, json={"error": "The queue is full."})  # type: ignore[attr-defined]

    studio.page.route("**/api/generate", refuse)
    studio.choose_class("bicyclist")
    studio.page.locator("#canvas").click()
    studio.changed_photo(before)
    assert not studio.page.get_by_role("alert").is_visible()


def test_trouble_is_said_and_goes(studio: Studio) -> None:
    before = studio.photo()
    body = json.dumps({"error": "It took too long."})
    studio.page.route("**/api/generate", lambda route: route.fulfill(status=503, body=body))
    studio.choose_class("bicyclist")
    studio.page.locator("#canvas").click()
    studio.page.get_by_role("alert").get_by_text("It took too long.").wait_for()
    assert np.array_equal(studio.photo(), before)
    studio.page.unroute("**/api/generate")
    studio.page.keyboard.press("Control+z")
    studio.page.get_by_role("alert").wait_for(state="hidden")


def test_only_the_newest_photo_is_shown(studio: Studio) -> None:
    """The first answer comes late: it must not replace that of a later change."""
    studio.new()
    empty = studio.photo()
    held: list[object] = []

    def hold_first(route: object) -> None:
        if held:
            route.continue_()  # type: ignore[attr-defined]
        else:
            held.append(route)

    studio.page.route("**/api/generate", hold_first)
    studio.choose_class("car")
    studio.click(20, 20)
    studio.wait_until(lambda: bool(held), "no request")
    studio.page.keyboard.press("Control+z")
    studio.wait_for_photo()
    assert np.array_equal(studio.photo(), empty)
    assert held[0].request.failure is not None, "the request that is no longer of use is cancelled"  # type: ignore[attr-defined]
    assert (studio.layout() == index("unlabelled")).all()
