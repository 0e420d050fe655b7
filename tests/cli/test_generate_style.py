"""`segscape generate` with styles: which files it writes, and which options it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segscape.inference import Pipeline, Reference
from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS
from segscape.models import create_model
from segscape.style import Style
from tests.cli.conftest import Run

CAMVID = LABEL_SETS["camvid"]
SEAN = {"base_channels": 1, "hidden_channels": 4, "style_dim": 4, "encoder_channels": 2}


@pytest.fixture(scope="session")
def sean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SEAN whose styles show."""
    torch.manual_seed(0)
    model = create_model("sean", labels="camvid", image_size=(32, 32), **SEAN)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "style" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    folder = tmp_path_factory.mktemp("sean")
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def place(workplace: Path, sean: Path, street: np.ndarray) -> Path:
    """The workplace with two photos, their label map, and the model `sean`."""
    (workplace / "sean").symlink_to(sean, target_is_directory=True)
    for name, seed in (("a", 1), ("b", 2)):
        noise = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(noise).save(workplace / f"{name}.png")
    write_label_map("map.png", street[:, ::-1].copy(), CAMVID)
    write_label_map("other.png", street, CAMVID)
    return workplace


def generate(run: Run, model: str, *options: object, layouts: tuple[str, ...] = ("street.png",)) -> set[str]:
    """The names in the folder `out` after a successful run."""
    where = ("--model", f"models/{model}" if model != "sean" else "sean", "--out", "out", "--device", "cpu")
    result = run("generate", *layouts, *where, *options)
    assert result.code == 0, result.err
    names = {path.name for path in Path("out").iterdir()}
    assert f"{len(names)} picture{'s' * (len(names) != 1)} in" in result.out
    return names


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_samples_are_numbered_and_repeatable(run: Run, place: Path) -> None:
    names = generate(run, "styles", "--samples", 3, "--seed", 5, layouts=("street.png", "other.png"))
    assert names == {f"{stem}-0{number}.png" for stem in ("street", "other") for number in (1, 2, 3)}
    pictures = Pipeline.from_pretrained("models/styles", "cpu")("street.png", seed=5, samples=3)
    for number, picture in enumerate(pictures, 1):
        assert np.array_equal(pixels(f"out/street-0{number}.png"), np.asarray(picture))


def test_a_photo_and_its_label_map_say_the_style_however_they_are_written(run: Run, place: Path) -> None:
    first = generate(run, "sean", "--seed", 0, "--style", "a.png:map.png", "--save-style", "look.safetensors")
    assert first == {"street.png"}
    pictures = [pixels("out/street.png")]
    for options in (("--style", "a.png", "--style-layout", "map.png"), ("--style", "look.safetensors")):
        generate(run, "sean", "--seed", 0, "--force", *options)
        pictures.append(pixels("out/street.png"))
    (expected,) = Pipeline.from_pretrained("sean", "cpu")("street.png", style=Reference("a.png", "map.png"), seed=0)
    assert all(np.array_equal(picture, np.asarray(expected)) for picture in pictures)
    generate(run, "sean", "--seed", 0, "--force", "--style", "b.png:map.png")
    assert not np.array_equal(pictures[0], pixels("out/street.png"))


def test_several_styles_give_several_pictures(run: Run, place: Path) -> None:
    names = generate(
        run, "sean", "--style", "a.png:map.png", "--style", "b.png:map.png", "--save-style", "s.safetensors"
    )
    assert names == {"street-01.png", "street-02.png"}
    assert Style.load("s.safetensors").count == 2


def test_classes_take_their_style_from_other_photos(run: Run, place: Path) -> None:
    options = ("--style", "a.png:map.png", "--class-style", "road=b.png:map.png", "--save-style", "s.safetensors")
    generate(run, "sean", *options)
    pipeline = Pipeline.from_pretrained("sean", "cpu")
    a, b = (pipeline.style(Reference(f"{name}.png", "map.png")) for name in "ab")
    expected = a.replace_classes(b, [CAMVID.index("road")])
    torch.testing.assert_close(Style.load("s.safetensors").values, expected.values)
    generate(run, "sean", "--class-style", "road=s.safetensors", "--seed", 0, "--force")
    (picture,) = pipeline("street.png", style={"road": b}, seed=0)
    assert np.array_equal(pixels("out/street.png"), np.asarray(picture))


@pytest.mark.parametrize(
    ("animation", "names"),
    [
        (None, {"street.gif"}),
        ("webp", {"street.webp"}),
        ("strip", {"street.png"}),
        ("files", {f"street-0{number}.png" for number in (1, 2, 3, 4)}),
    ],
)
def test_frames_of_an_interpolation(run: Run, place: Path, animation: str | None, names: set[str]) -> None:
    options = () if animation is None else ("--animation", animation)
    assert generate(run, "styles", "--interpolate", "a.png", "b.png", "--frames", 4, *options) == names
    ends = Pipeline.from_pretrained("models/styles", "cpu")
    (last,) = ends("street.png", style="b.png")
    if animation == "strip":
        strip = pixels("out/street.png")
        assert strip.shape == (40, 4 * 56 + 3 * 4, 3) and np.array_equal(strip[:, -56:], np.asarray(last))
    elif animation == "files":
        assert np.array_equal(pixels("out/street-04.png"), np.asarray(last))
    else:
        with Image.open(f"out/{names.pop()}") as file:
            assert (file.n_frames, file.size) == (4, (56, 40))


def test_a_walk_is_an_animation(run: Run, place: Path) -> None:
    assert generate(run, "styles", "--walk", "--frames", 6, "--colour-preview") == {"street.gif"}
    with Image.open("out/street.gif") as file:
        assert (file.n_frames, file.size) == (6, (112, 40))


def test_a_grid_is_one_picture(run: Run, place: Path) -> None:
    assert generate(run, "styles", "--grid", "--samples", 3, "--seed", 1, layouts=("street.png", "other.png")) == {
        "grid.png"
    }
    grid = pixels("out/grid.png")
    assert grid.shape == (2 * 40 + 4, 4 * 56 + 3 * 4, 3)
    pictures = Pipeline.from_pretrained("models/styles", "cpu")("other.png", seed=1, samples=3)
    assert np.array_equal(grid[-40:, -56:], np.asarray(pictures[-1]))
    assert run("generate", "street.png", "--model", "models/styles", "--out", "out", "--grid").code == 2


@pytest.mark.parametrize(
    ("model", "options", "found"),
    [
        ("models/styles", "--style a.png --samples 2", "--style and --samples both say"),
        ("models/styles", "--interpolate a.png b.png --walk", "--interpolate and --walk both say"),
        ("models/styles", "--frames 5", "--frames goes with --interpolate or --walk"),
        ("models/styles", "--animation gif", "--animation goes with"),
        ("models/styles", "--style-layout map.png", "--style-layout is the label map of the one photo"),
        ("sean", "--style a.png:map.png --style-layout map.png", "--style-layout is the label map of the one photo"),
        ("models/styles", "--grid --colour-preview", "--colour-preview does not go with it"),
        ("models/styles", "--grid --walk --animation gif", "--animation does not go with it"),
        ("models/styles", "--save-style look.png", "ends in .safetensors"),
        ("models/styles", "--walk --frames 3", "4 or more"),
        ("models/styles", "--class-style road=a.png", "no style of its own for each class"),
        ("models/styles", "--style none.safetensors", "none.safetensors does not exist"),
        ("models/styles", "--style a.png:b.png:c.png:d.png", "too many parts"),
        ("models/plain", "--samples 2", "takes no style"),
        ("models/plain", "--style a.png", "takes no style"),
        ("models/plain", "--walk", "no random styles"),
        ("models/plain", "--save-style s.safetensors", "takes no style"),
        ("sean", "--samples 2", "no random styles"),
        ("sean", "--walk", "no random styles"),
        ("sean", "--style a.png", "a photo needs its label map"),
        ("sean", "--class-style road", "is not CLASS=PHOTO:MAP"),
        ("sean", "--class-style road=a.png:map.png --class-style road=b.png:map.png", "two styles for 'road'"),
        ("sean", "--class-style raod=a.png:map.png", "no class 'raod'"),
        ("sean", "--class-style person=a.png:map.png", "has no"),
    ],
)
def test_wrong_combinations_are_one_sentence(run: Run, place: Path, model: str, options: str, found: str) -> None:
    result = run("generate", "street.png", "--model", model, "--out", "out", "--device", "cpu", *options.split())
    assert result.code == 2
    assert len(result.errors) == 1 and found in result.errors[0]
    assert not list(Path("out").glob("*"))


def test_a_saved_style_belongs_to_one_layout(run: Run, place: Path) -> None:
    options = ("--model", "models/styles", "--out", "out", "--device", "cpu", "--save-style", "s.safetensors")
    result = run("generate", "street.png", "other.png", *options)
    assert result.code == 2 and "keeps the styles of one layout, found 2" in result.errors[0]
    assert run("generate", "street.png", *options, "--samples", 2, "--seed", 3).code == 0
    expected = Style.sample(2, 4, torch.Generator().manual_seed(3))
    torch.testing.assert_close(Style.load("s.safetensors").values, expected.values)
    result = run("generate", "street.png", *options, "--samples", 2, "--seed", 3)
    assert result.code == 2 and "add --force" in result.errors[0]
