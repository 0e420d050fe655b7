"""The model that comes with the package: small enough, of the right classes, and it draws streets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segscape.inference import Pipeline
from segscape.inference.pipeline import SHIPPED_MODEL
from segscape.label_files import read_label_map
from segscape.labels import LABEL_SETS

LAYOUTS = sorted((Path(__file__).parents[2] / "examples" / "layouts").glob("*.png"))
CAMVID = LABEL_SETS["camvid"]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_pretrained(device="cpu")


def brightness(picture: NDArray[np.uint8], label_map: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    return picture[label_map == CAMVID.index(name)].mean(-1)


def test_it_fits_into_the_package(pipeline: Pipeline) -> None:
    assert sum(file.stat().st_size for file in SHIPPED_MODEL.iterdir()) < 36e6
    assert pipeline.labels == CAMVID
    assert "CamVid" in (SHIPPED_MODEL / "README.md").read_text()


def test_there_are_example_layouts() -> None:
    assert len(LAYOUTS) >= 3


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_it_draws_a_street(pipeline: Pipeline, path: Path) -> None:
    label_map = read_label_map(path, CAMVID)
    picture = np.asarray(pipeline(path)[0])
    assert picture.shape == (*label_map.shape, 3)
    sky, road, building = (brightness(picture, label_map, name) for name in ("sky", "road", "building"))
    assert sky.mean() > road.mean() + 10, "the sky is brighter than the road"
    assert building.std() > road.std() * 0.5, "buildings have windows and walls"
    assert 20 < picture.mean() < 235 and picture.std() > 25, "the picture is neither black, white nor grey"


def test_the_same_layout_gives_the_same_picture(pipeline: Pipeline) -> None:
    first, second = (np.asarray(pipeline(LAYOUTS[0], size=(96, 128))[0]) for _ in range(2))
    assert np.array_equal(first, second)
