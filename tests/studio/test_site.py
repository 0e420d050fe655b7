"""The studio as a static site: complete, without a server's addresses, and with the model's own pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.errors import ConfigError
from segscape.inference import OnnxPipeline, Pipeline
from segscape.models import create_model
from segscape.studio.site import PAGE, write_site
from tests.inference.tiny import tiny
from tests.studio.studio_requests import street

ASSETS = Path(__file__).parents[2] / "src" / "segscape" / "studio" / "assets"


@pytest.mark.slow
@pytest.mark.skipif(not (ASSETS / PAGE).is_file(), reason="the page was not built (npm run build in frontend/)")
def test_a_site(tmp_path: Path) -> None:
    model, site = tiny(latent_dim=3, position="modulation"), tmp_path / "site"
    (site / "assets").mkdir(parents=True)
    (site / "index.html").write_text("an earlier site")
    write_site(model, site, "tiny")

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
    assert described["labels"]["classes"][8]["name"] == "car"
    examples = json.loads((site / "examples.json").read_text())
    assert len(examples) == 5
    for example in examples:
        assert np.asarray(Image.open(site / example["url"])).max() < 12

    layout = street().astype(int)
    [found], [wanted] = OnnxPipeline(site / "model.onnx")(layout, seed=1), Pipeline(model, "cpu")(layout, seed=1)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(wanted).astype(int)).max() <= 1


def test_styles_that_need_an_encoder_are_refused(tmp_path: Path) -> None:
    options = {"base_channels": 2, "style_dim": 4, "encoder_channels": 4, "hidden_channels": 4}
    model = create_model("sean", labels="camvid", image_size=(32, 32), **options)
    with pytest.raises(ConfigError, match="segscape studio"):
        write_site(model, tmp_path / "site", "sean")
    assert not (tmp_path / "site").exists()
