"""The studio as a static site: complete, without a server's addresses, with the model's own pictures, in a Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segscape.inference import OnnxPipeline, Pipeline
from segscape.studio.site import PAGE, STYLES, stored_styles, write_site
from segscape.style import Style
from tests.inference.tiny import CAMVID, Tiny, tiny
from tests.studio.studio_page import Studio, browser, index, needs_chromium, opened
from tests.studio.studio_requests import png, street
from tests.zoo import build, build_settled

__all__ = ["browser"]
ASSETS = Path(__file__).parents[2] / "src" / "segscape" / "studio" / "assets"
pytestmark = [
    pytest.mark.xdist_group("site"),  # one process writes the sites
    pytest.mark.skipif(not (ASSETS / PAGE).is_file(), reason="the page was not built (npm run build in frontend/)"),
]
SIZE = (48, 64)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sites")


@pytest.fixture(scope="module")
def latent(sites: Path) -> Tiny:
    """The model of the site in `latent`, which takes the place of an earlier one."""
    model = tiny(latent_dim=3, position="modulation", image_size=SIZE)
    (sites / "latent" / "assets").mkdir(parents=True)
    (sites / "latent" / "index.html").write_text("an earlier site")
    write_site(model, sites / "latent", "tiny")
    return model


PAINTS_CODES = """
<ir_version: 8, opset_import: ["": 17]>
paint (int64[1,h,w] label_map, int64[1,h,w] instance_map, float[1,c,3] style) => (float[1,3,h,w] image) {
    first = Constant<value_ints = [0]>()
    table = Squeeze(style, first)
    classes = Squeeze(label_map, first)
    places = Gather<axis = 0>(table, classes)
    planes = Transpose<perm = [2, 0, 1]>(places)
    picture = Unsqueeze(planes, first)
    second = Constant<value_ints = [1]>()
    objects = Unsqueeze(instance_map, second)
    numbers = Cast<to = 1>(objects)
    part = Constant<value_float = 0.02>()
    shade = Mul(numbers, part)
    image = Add(picture, shade)
}
"""
"""A network that shows what it is given: the three numbers of a class's code, and more for each object's number."""


@pytest.fixture(scope="module")
def codes(sites: Path, latent: Tiny) -> np.ndarray:
    """The styles that are stored in the site in `codes`, whose model shows them: float32 `[3, classes + 1, 3]`."""
    parse_model = pytest.importorskip("onnx.parser").parse_model
    shutil.copytree(sites / "latent", sites / "codes")
    (sites / "codes" / "model.onnx").write_bytes(parse_model(PAINTS_CODES).SerializeToString())
    stored = np.random.default_rng(0).uniform(-0.8, 0.5, (3, CAMVID.num_classes + 1, 3)).astype("<f4")
    (sites / "codes" / STYLES).write_bytes(stored.tobytes())
    described = json.loads((sites / "codes" / "model.json").read_text())
    inputs = {"inputs": ["label_map", "instance_map", "style"], "position_rule": None, "style_shape": stored.shape[1:]}
    styles = {"style": {"kind": "codes", "random": True}, "stored_styles": len(stored)}
    (sites / "codes" / "model.json").write_text(json.dumps({**described, **inputs, **styles}))
    return stored


@pytest.fixture(scope="module")
def server(sites: Path) -> Iterator[str]:
    """The address of Python's own file server, which knows nothing of Segscape."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(sites)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = re.search(r"port (\d+)", process.stdout.readline())
        assert port is not None
        yield f"http://127.0.0.1:{port[1]}"
        process.terminate()


@pytest.mark.slow
def test_a_site(sites: Path, latent: Tiny) -> None:
    site = sites / "latent"
    page = (site / "index.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert addresses and all((site / address).is_file() for address in addresses), "relative, and all there"
    assert not re.search(r"https?://(?!www\.w3\.org)", page) and "Content-Security-Policy" in page
    assert {path.name for path in site.iterdir()} >= {"model.onnx", "model.json", "examples.json", "examples"}
    assert not [path for path in site.rglob("*") if path.name in (PAGE, "manifest.json") or path.suffix == ".part"]
    assert list((site / "assets").glob("*.wasm")), "onnxruntime-web"

    described = json.loads((site / "model.json").read_text())
    assert described["inputs"] == ["label_map", "position", "style"]
    assert (described["position_rule"], described["style_shape"]) == ("official", [3])
    assert described["style"] == {"kind": "latent", "random": True} and described["segmenter"] is False
    assert described["stored_styles"] == 0 and not (site / STYLES).exists()
    assert described["labels"]["classes"][8]["name"] == "car"
    examples = json.loads((site / "examples.json").read_text())
    assert len(examples) == 5
    for example in examples:
        assert np.asarray(Image.open(site / example["url"])).max() < 12

    layout = street().astype(int)
    [found], [wanted] = OnnxPipeline(site / "model.onnx")(layout, seed=1), Pipeline(latent, "cpu")(layout, seed=1)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(wanted).astype(int)).max() <= 1


class TestInABrowser:
    """With the network closed but for the file server."""

    pytestmark = needs_chromium

    def test_painting(self, browser: Any, server: str, latent: Tiny) -> None:
        with opened(browser, f"{server}/latent/", closed=True) as studio:
            studio.new()
            before = studio.photo()
            studio.choose_class("car")
            studio.drag((20, 24), (44, 24))
            after = studio.changed_photo(before)
            assert (studio.layout()[20:28, 22:42] == index("car")).all()
            studio.page.keyboard.press("Control+z")
            studio.same_photo(before)
            studio.page.keyboard.press("Control+y")
            studio.same_photo(after)
            assert not studio.page.locator("#style").is_visible(), "there is no encoder for photos"
            _tries_styles(studio, after)
            studio.page.reload()
            studio.wait_for_photo()
            studio.same_photo(after)

    def test_stored_codes_and_objects(self, browser: Any, server: str, codes: np.ndarray) -> None:
        layout = street(SIZE).astype(int)
        wanted = [np.rint((style[layout] + 0.02 * layout[..., None] + 1) * 127.5) for style in codes[1:]]
        with opened(browser, f"{server}/codes/", closed=True) as studio:
            before = studio.photo()
            studio.page.locator("#start").click()
            studio.give("#open-layout", ("street.png", png(street(SIZE))))
            first = studio.changed_photo(before)
            studio.page.get_by_label("Seed").fill("3")
            studio.page.keyboard.press("Enter")
            second = studio.changed_photo(first)
        assert np.abs(first - wanted[0]).max() <= 1 and np.abs(second - wanted[1]).max() <= 1


def _tries_styles(studio: Studio, first: np.ndarray) -> None:
    """Rolls another style, goes back to the first one, and asks for two."""
    studio.page.get_by_role("button", name="Another random style").click()
    studio.changed_photo(first)
    studio.page.get_by_label("Seed").fill("0")
    studio.page.keyboard.press("Enter")
    studio.same_photo(first)
    studio.page.locator("#samples").select_option("2")
    studio.page.get_by_role("radiogroup", name="Samples").locator("label").nth(1).wait_for()
    studio.same_photo(first)
    studio.page.locator("#samples").select_option("1")


def test_the_mean_codes_are_stored() -> None:
    model = build("sean")
    mean = torch.arange(52.0).view(1, 13, 4)  # one for the edges of objects
    model.fit_mean_codes([Style(mean)])
    assert torch.equal(stored_styles(model), mean)


def test_random_styles_of_classes_are_stored() -> None:
    model = build_settled("ca2-sis", random_styles=True)
    found = stored_styles(model)
    assert found.shape == (17, *model.config.style_shape)
    assert torch.equal(found[0], model.neutral_style(1).values[0]) and len(found[1:].unique(dim=0)) > 8
    assert all((codes != 0).any(dim=1).all() for codes in found[1:]), "each class has one"


def test_clusters_of_a_map_are_stored_by_class() -> None:
    model = build("pix2pixhd")
    assert stored_styles(model).tolist() == np.zeros((1, 12, 2)).tolist()
    model.cluster_counts[:] = 2
    model.cluster_centres[:, :2] = torch.arange(48.0).view(12, 2, 2)
    found = stored_styles(model)
    assert found.shape == (17, 12, 2)
    for number, codes in enumerate(found[1:, 5]):
        assert codes.tolist() in model.cluster_centres[5, :2].tolist(), number


@pytest.mark.parametrize("name", ["clade", "groupdnet"])
def test_other_styles_are_drawn_in_the_browser(name: str) -> None:
    assert stored_styles(build(name)) is None
