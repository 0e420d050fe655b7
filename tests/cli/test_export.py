"""`segscape export`, and `segscape generate` with what it wrote, end to end on tiny random models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS
from tests.cli.conftest import Run
from tests.zoo import build

CAMVID = LABEL_SETS["camvid"]
MODEL = ("--model", "small")


@pytest.fixture
def workplace(workplace: Path) -> Path:
    """The working directory, with the model whose export is the shortest."""
    build("pix2pixhd", enhancers=0, feature_channels=None, use_instances=False).save_pretrained(workplace / "small")
    return workplace


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_export_and_generate(run: Run, workplace: Path) -> None:
    result = run("export", *MODEL, "--out", "files", "--size", "64x64")
    assert (result.code, result.errors) == (0, [])
    assert "label_map     int64 [N, 64, 64]" in result.out and "image         float32 [N, 3, 64, 64]" in result.out
    assert str(workplace / "files" / "small.onnx") in result.out
    for model, out in (("small", "out"), ("files/small.onnx", "onnx")):
        made = run("generate", "street.png", "--model", model, "--out", out, "--size", "64x64", "--colour-preview")
        assert made.code == 0, made.err
    assert np.abs(pixels("out/street.png") - pixels("onnx/street.png")).max() <= 1
    assert pixels("onnx/street.png").shape == (64, 128, 3)
    for option, value in (("--fast", "float32"), ("--device", "cuda"), ("--style", "street.png")):
        refused = run("generate", "street.png", "--model", "files/small.onnx", "--out", "out", option, value)
        assert refused.code == 2 and len(refused.errors) == 1, f"{option} has no meaning for an exported model"


def test_a_model_is_called_as_its_folder(run: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("small")
    assert run("export", "--model", ".", "--out", "../x", "--size", "64x64").code == 0
    assert [path.name for path in Path("../x").iterdir()] == ["small.onnx"]


@pytest.mark.slow
def test_8_bits(run: Run, workplace: Path, street: np.ndarray) -> None:
    Path("maps").mkdir()
    for number in range(3):
        write_label_map(f"maps/{number}.png", np.roll(street, 9 * number, axis=1), CAMVID)
    result = run("export", *MODEL, "--out", "int8.onnx", "--size", "64x64", "--int8", "--calibrate", "maps")
    assert result.code == 0, result.err
    assert "8 bits" in result.out and "int8.onnx" in result.out
    assert sorted(path.name for path in workplace.iterdir()) == ["int8.onnx", "maps", "models", "small", "street.png"]
    assert run("generate", "street.png", "--model", "int8.onnx", "--out", "out").code == 0
    assert pixels("out/street.png").shape == (40, 56, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("format", "files"), [("pt2", ["small.pt2"]), ("openvino", ["small.bin", "small.xml"])])
def test_other_formats(run: Run, workplace: Path, format: str, files: list[str]) -> None:
    result = run("export", *MODEL, "--out", "files", "--size", "64x64", "--format", format)
    assert result.code == 0, result.err
    assert sorted(file.name for file in Path("files").iterdir()) == files


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--out", "x.onnx", "--format", "torchscript"], "onnx, openvino, pt2"),
        (["--out", "x.pt2"], ".onnx"),
        (["--out", "x.onnx", "--size", "30x30"], "30x30"),
        (["--out", "x.onnx", "--int8"], "--calibrate"),
        (["--out", "x.onnx", "--calibrate", "street.png"], "--int8"),
        (["--out", "x.pt2", "--format", "pt2", "--int8", "--calibrate", "street.png"], "--format onnx"),
        (["--out", "x.onnx", "--int8", "--calibrate", "nothing*.png"], "nothing"),
        (["--out", "x.onnx", "--model", "models/none"], "models/none"),
    ],
)
def test_what_is_refused(run: Run, workplace: Path, options: list[str], found: str) -> None:
    result = run("export", *MODEL, *options)
    assert result.code == 2 and len(result.errors) == 1 and found in result.errors[0]
    assert not list(workplace.glob("x.*"))
