"""`segscape generate`, end to end on tiny random models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS
from tests.cli.conftest import Run

CAMVID = LABEL_SETS["camvid"]
PLAIN = ("--model", "models/plain", "--out", "out", "--device", "cpu")


def test_one_picture_of_the_size_of_its_layout(run: Run, workplace: Path) -> None:
    result = run("generate", "street.png", *PLAIN)
    assert (result.code, result.errors) == (0, [])
    assert f"1 picture in {workplace / 'out'}" in result.out
    with Image.open("out/street.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (56, 40))


def test_files_folders_and_globs_each_once(run: Run, workplace: Path, street: np.ndarray) -> None:
    for name in ("maps/a.png", "maps/b.png", "more/c1.png", "more/c2.png"):
        Path(name).parent.mkdir(exist_ok=True)
        write_label_map(name, street, CAMVID)
    Path("maps/notes.txt").write_text("not a map")
    np.save("maps/d.npy", street)
    result = run("generate", "maps", "maps/a.png", "more/c*.png", "street.png", *PLAIN)
    assert result.code == 0, result.err
    names = {path.name for path in Path("out").iterdir()}
    assert names == {"a.png", "b.png", "c1.png", "c2.png", "d.png", "street.png"}


def test_a_bad_file_is_reported_and_the_rest_goes_on(run: Run, workplace: Path, street: np.ndarray) -> None:
    Path("maps").mkdir()
    write_label_map("maps/a.png", street, CAMVID)
    Path("maps/b.png").write_bytes(b"")
    write_label_map("maps/c.png", street, CAMVID)
    result = run("generate", "maps", *PLAIN)
    assert result.code == 2
    assert len(result.errors) == 1 and "maps/b.png" in result.errors[0]
    assert "2 pictures in" in result.out and "1 of 3 layouts failed" in result.out
    assert {path.name for path in Path("out").iterdir()} == {"a.png", "c.png"}


def test_only_force_replaces_a_picture(run: Run, workplace: Path) -> None:
    Path("out").mkdir()
    Path("out/street.png").write_text("precious")
    assert run("generate", "street.png", *PLAIN).code == 2
    assert Path("out/street.png").read_text() == "precious"
    assert run("generate", "street.png", *PLAIN, "--force").code == 0
    assert Image.open("out/street.png").size == (56, 40)


def test_not_even_force_replaces_a_layout(run: Run, workplace: Path) -> None:
    before = Path("street.png").read_bytes()
    result = run("generate", "street.png", "--model", "models/plain", "--out", ".", "--force")
    assert result.code == 2 and "choose another --out" in result.errors[0]
    assert Path("street.png").read_bytes() == before


def test_size_and_colour_preview(run: Run, workplace: Path, street: np.ndarray) -> None:
    assert run("generate", "street.png", *PLAIN, "--size", "20x28", "--colour-preview").code == 0
    both = np.asarray(Image.open("out/street.png"))
    assert both.shape == (20, 56, 3)
    shrunk = np.asarray(Image.fromarray(street.astype(np.uint8)).resize((28, 20), Image.Resampling.NEAREST))
    assert np.array_equal(both[:, :28], CAMVID.colorize(shrunk))


def test_seeds_and_reference_photos(run: Run, workplace: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)).save("photo.png")
    runs = {"a": ("--seed", 1), "b": ("--seed", 1), "c": ("--seed", 2), "d": ("--style", "photo.png")}
    for out, options in runs.items():
        result = run("generate", "street.png", "--model", "models/styles", "--out", out, *options)
        assert result.code == 0, result.err
    pictures = {out: Path(out, "street.png").read_bytes() for out in runs}
    assert pictures["a"] == pictures["b"]
    assert len(set(pictures.values())) == 3


def test_instance_maps_from_a_file_or_a_folder(run: Run, workplace: Path, street: np.ndarray) -> None:
    Path("ids").mkdir()
    Image.fromarray((street == 8).astype(np.uint16)).save("ids/street.png")
    write_label_map("other.png", street, CAMVID)
    for instances, layouts in (("ids/street.png", ["street.png"]), ("ids", ["street.png", "other.png"])):
        result = run(
            "generate", *layouts, "--model", "models/instances", "--out", instances + "-out", "--instances", instances
        )
        assert result.code == (0 if len(layouts) == 1 else 2)
    assert len(result.errors) == 1 and "ids/other.png" in result.errors[0]
    assert Path("ids-out/street.png").exists()


def test_a_real_process(workplace: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from segscape.cli import main; main()",
        "generate",
        "street.png",
        "no.png",
        *PLAIN,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [
        "error: no.png: this label map does not exist"
    ]
    assert "Traceback" not in done.stderr and Path("out/street.png").exists()
