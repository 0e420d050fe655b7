"""`segscape reshape`: the picture of the library, and frames side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segscape.inference import Pipeline
from segscape.inference.shapes import edit_shapes
from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS
from tests.cli.conftest import Run
from tests.zoo import build


def test_a_layout_with_the_shapes_of_another(run: Run, workplace: Path, street: np.ndarray) -> None:
    build("ca2-sis", labels="camvid").save_pretrained("ca2")
    write_label_map(Path("own.png"), street, LABEL_SETS["camvid"])
    write_label_map(Path("other.png"), np.roll(street, 9, axis=1), LABEL_SETS["camvid"])
    command = ("reshape", "own.png", "--shapes", "other.png", "--model", "ca2", "--device", "cpu")
    result = run(*command, "--classes", "car,road", "--out", "out/one.png")
    assert result.code == 0, result.err
    expected = edit_shapes(Pipeline.from_pretrained("ca2", "cpu"), "own.png", "other.png", classes=["car", "road"])[0]
    assert np.array_equal(np.asarray(Image.open("out/one.png")), np.asarray(expected))
    assert run(*command, "--frames", 3, "--out", "out/strip.png").code == 0
    assert Image.open("out/strip.png").width == 3 * expected.width + 2 * 4
    again = run(*command, "--out", "out/one.png")
    assert again.code == 2 and "add --force" in again.err
