"""`segscape fit-styles`: the mean codes and clusters of a dataset, computed again here; what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segscape.inference import Pipeline, Reference
from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS
from segscape.models import load_model
from tests.cli.conftest import Run
from tests.zoo import build

CAMVID = LABEL_SETS["camvid"]


@pytest.fixture
def data(workplace: Path, street: np.ndarray) -> Path:
    """Three pairs in train/, one of them without a car."""
    for kind in ("images", "labels"):
        (workplace / "data" / "train" / kind).mkdir(parents=True)
    for number in range(3):
        labels = np.where(street == 8, 3, street) if number == 2 else np.roll(street, 4 * number, axis=1)
        noise = np.random.default_rng(number).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(noise).save(workplace / "data" / "train" / "images" / f"{number}.png")
        write_label_map(workplace / "data" / "train" / "labels" / f"{number}.png", labels, CAMVID)
    return workplace / "data" / "train"


def test_the_mean_codes_of_sean(run: Run, data: Path) -> None:
    build("sean", use_instances=False).save_pretrained("sean", card="my card")
    result = run("fit-styles", "sean", "--data", "data", "--out", "fitted", "--batch-size", 2, "--device", "cpu")
    assert result.code == 0, result.err
    assert f"styles of 3 photos; the model is in {Path('fitted').resolve()}" in result.out
    assert Path("fitted/README.md").read_text() == "my card"
    fitted, pipeline = load_model("fitted"), Pipeline.from_pretrained("sean", "cpu")
    references = [Reference(data / "images" / f"{n}.png", data / "labels" / f"{n}.png") for n in range(3)]
    codes = [pipeline.style(one).values[0] for one in references]
    assert fitted.code_counts[[0, 3, 8, 1]].tolist() == [3, 3, 2, 0]
    torch.testing.assert_close(fitted.mean_codes[0], torch.stack(codes)[:, 0].mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fitted.mean_codes[8], torch.stack(codes)[:2, 8].mean(0), atol=1e-5, rtol=1e-4)
    assert not fitted.mean_codes[1].any()


def test_the_clusters_of_pix2pixhd(run: Run, data: Path) -> None:
    options = {"feature_regions": "class", "num_clusters": 3, "use_instances": False}
    build("pix2pixhd", **options).save_pretrained("p")
    assert run("generate", "street.png", "--model", "p", "--out", "out", "--samples", 2, "--device", "cpu").code == 2
    result = run("fit-styles", "p", "--data", "data", "--out", "p", "--device", "cpu", "--force")
    assert result.code == 0, result.err
    fitted, pipeline = load_model("p"), Pipeline(build("pix2pixhd", **options), "cpu")
    assert fitted.cluster_counts[[0, 3, 8, 1]].tolist() == [3, 3, 2, 0]
    height, width = pipeline.model.config.image_size
    found = []
    for number in range(3):  # as many clusters as photos: each is the mean over the sky of one
        style = pipeline.encode(data / "images" / f"{number}.png", data / "labels" / f"{number}.png")
        found.append(style.values[0, :, height // 8, width - 2])
    stored = fitted.cluster_centres[0]
    for sky in found:
        assert (stored - sky).abs().amax(1).min() < 1e-4
    assert run("generate", "street.png", "--model", "p", "--out", "out", "--samples", 2, "--device", "cpu").code == 0


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("models/styles --data data --out out", "there is nothing to fit"),
        ("models/plain --data data --out models/plain", "add --force"),
        ("sean --data nowhere --out out", "nowhere does not exist"),
        ("sean --data data --out out --split val", "val"),
        ("edges --data data --out out", "instance map"),
    ],
)
def test_refusals(run: Run, data: Path, arguments: str, found: str) -> None:
    build("sean", use_instances=False).save_pretrained("sean")
    build("sean", use_instances=True).save_pretrained("edges")
    result = run("fit-styles", *arguments.split(), "--device", "cpu")
    assert result.code == 2
    assert len(result.errors) == 1 and found in result.errors[0]
    assert not Path("out").exists()
