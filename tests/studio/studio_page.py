"""The studio in a real Chromium: a page at a server of tiny models, and what the tests do with it."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

from benchmarks.studio import CHROMIUM, FLAGS
from segscape.models import load_model
from segscape.studio.engine import load_engine
from segscape.studio.server import create_studio, listen
from tests.studio.studio_requests import CAMVID, save_models

EXPECTED = "the server responded with a status of"  # what Chromium says of the refusals that some tests are about
MARGIN = 8  # pixels around the layout when it fits the canvas

needs_chromium = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


NEVER_SEEN = "fence"
"""A class that the model `instances` never saw in training."""


def make_models_differ(path: Path) -> None:
    """Changes a model without training.

    Its encoder tells photos apart, its noise (that of `codes`) is seen, its pictures are not all 0 or 255; `instances`
    never saw a class.
    """
    model = load_model(path)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in ("encoder.mean.weight", "style_encoder.to_style.weight"):
                weight *= 500
            if name.startswith("to_rgb") and model.config.model == "sean":
                weight *= 1e-12  # its untrained blocks grow by a factor each
            if name.endswith("noise.weight"):
                weight += 1e-4
            if name.endswith("beta") and path.name == "instances":
                weight[index(NEVER_SEEN)] = 0
    model.save_pretrained(path)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serves an application from a thread; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The studio with all tiny models."""
    paths = save_models(tmp_path_factory.mktemp("models"))
    for path in paths:
        make_models_differ(Path(path))
    engine = load_engine(paths, "cpu")
    with serving(create_studio(engine)) as address:
        yield address


@pytest.fixture
def studio(browser: Any, address: str) -> Iterator[Studio]:
    """A fresh page; whatever it complains about or asks of other hosts fails the test."""
    with opened(browser, address) as studio:
        yield studio


@contextmanager
def opened(browser: Any, address: str, *, closed: bool = False, **options: Any) -> Iterator[Studio]:
    """A page in a new profile, once its first photo is there; `closed` lets no request to other addresses out."""
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 760}, **options})
    context.set_default_timeout(15_000)
    if closed:
        context.route(lambda url: not url.startswith(address), lambda route: route.abort())
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: request.url.startswith((address, "blob:")) or trouble.append(request.url))
    page.goto(address)
    studio = Studio(page)
    studio.wait_for_photo()
    yield studio
    context.close()
    assert [line for line in trouble if EXPECTED not in line] == []


class Studio:
    """What a person does on the page.

    Args:
        page: of Playwright, at the studio.
    """

    def __init__(self, page: Any) -> None:
        self.page = page

    def wait_for_photo(self) -> None:
        """Until a photo is shown and none is under way."""
        self.page.locator("#latency:has-text('ms')").wait_for()
        self.page.locator("#busy").wait_for(state="hidden")

    def photo(self, canvas: str = "photo-main") -> np.ndarray:
        """The photo as shown, uint8 `[H, W, 3]`."""
        address = self.page.evaluate(f"document.getElementById('{canvas}').toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Polls, because a photo comes when it comes."""
        end = time.monotonic() + 15
        while not holds():
            assert time.monotonic() < end, what
            self.page.wait_for_timeout(50)

    def changed_photo(self, before: np.ndarray, canvas: str = "photo-main") -> np.ndarray:
        """The next photo that differs from an earlier one."""
        self.wait_until(lambda: not np.array_equal(self.photo(canvas), before), "the photo stays as it was")
        self.wait_for_photo()
        return self.photo(canvas)

    def same_photo(self, wanted: np.ndarray) -> None:
        """Waits for a photo that is that one, pixel by pixel."""
        self.wait_until(lambda: np.array_equal(self.photo(), wanted), "the photo is another")

    def layout(self) -> np.ndarray:
        """The layout as a person would save it: class indices `[H, W]`."""
        return np.asarray(Image.open(self.save("Layout (PNG)")))

    def save(self, what: str) -> Path:
        self.page.locator("#save summary").click()
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name=what).click()
        return Path(download.value.path())

    def choose_class(self, name: str) -> None:
        self.page.locator("#classes").get_by_text(name, exact=True).click()

    def choose_tool(self, name: str) -> None:
        self.page.locator(f".tool:has([value='{name}'])").click()

    def new(self, width: int = 64, height: int = 48) -> None:
        """An empty layout, all of it unknown."""
        self.page.locator("#start").click()
        self.page.get_by_label("Width").fill(str(width))
        self.page.get_by_label("Height").fill(str(height))
        self.page.get_by_role("button", name="Create").click()
        self.page.locator("#place").get_by_text(f"{width} × {height} pixels").wait_for()
        self.wait_for_photo()
        self.size = (width, height)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the layout that `new` made is on the screen, while all of it is shown."""
        box = self.page.locator("#canvas").bounding_box()
        width, height = self.size
        scale = min((box["width"] - 2 * MARGIN) / width, (box["height"] - 2 * MARGIN) / height, 64)
        left = box["x"] + (box["width"] - width * scale) / 2
        top = box["y"] + (box["height"] - height * scale) / 2
        return left + x * scale, top + y * scale

    def click(self, x: float, y: float, **options: Any) -> None:
        self.page.mouse.click(*self.at(x, y), **options)

    def drag(self, *points: tuple[float, float]) -> None:
        """Press at the first point of the layout, go over the others, and let go."""
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=4)
        self.page.mouse.up()

    def brush(self, size: int) -> None:
        """A brush of about that many pixels, by keys."""
        self.page.locator("#canvas").focus()
        text = self.page.locator("#brush-size-text")
        while int(text.inner_text().split()[0]) != size:
            smaller = int(text.inner_text().split()[0]) > size
            self.page.keyboard.press("[" if smaller else "]")

    def give(self, button: str, *files: tuple[str, bytes]) -> None:
        """Presses a button and gives the file that it asks for."""
        with self.page.expect_file_chooser() as chooser:
            self.page.locator(button).click()
        chooser.value.set_files([{"name": name, "mimeType": "", "buffer": content} for name, content in files])


def index(name: str) -> int:
    """Of a class of the models here."""
    return CAMVID.index(name)
