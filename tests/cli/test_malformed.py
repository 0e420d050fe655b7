"""Malformed inputs of every kind: one sentence that names the file and the remedy, exit code 2, no traceback.

Each row of the table writes its input into the working directory (see the fixture `workplace`) and runs a command.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import Run


@dataclass(frozen=True)
class Case:
    """A malformed input.

    Attributes:
        name: of the test.
        command: the command line; `GENERATE` stands before the options that every `generate` needs.
        found: what the error line must name.
        remedy: what else it must say.
        write: makes the input, in the working directory.
    """

    name: str
    command: str
    found: str
    remedy: str
    write: Callable[[], object] = lambda: None


OPTIONS = "--model models/plain --out out --device cpu"


def photo(height: int = 40, width: int = 56) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    return Image.fromarray((noise + np.stack([rows * 3, columns * 2, rows + columns], -1)).astype(np.uint8))


def grey(*values: int, mode: str = "uint8") -> Image.Image:
    return Image.fromarray(np.resize(np.array(values, dtype=mode), (40, 56)))


def truncate(path: str, source: str, share: float = 0.5) -> None:
    content = Path(source).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * share)])


def truncated_photo() -> None:
    photo().save("whole.png")
    truncate("photo.png", "whole.png")


def unknown_colour() -> None:
    pixels = np.zeros((40, 56, 3), dtype=np.uint8) + np.array([128, 64, 128], dtype=np.uint8)
    pixels[3, 7] = (128, 64, 129)
    Image.fromarray(pixels).save("colours.png")


def changed_model(change: Callable[[Path], object]) -> Callable[[], None]:
    def write() -> None:
        shutil.copytree("models/plain", "changed")
        change(Path("changed"))

    return write


def weights_of_another_model(folder: Path) -> None:
    shutil.copy("models/instances/model.safetensors", folder / "model.safetensors")


def unknown_option(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["config"]["base_chanels"] = 4
    (folder / "config.json").write_text(json.dumps(content))


def one_in_two_folders() -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        shutil.copy("street.png", f"{folder}/street.png")


def taken() -> None:
    Path("out").mkdir()
    Path("out/street.png").write_bytes(b"a picture")


def recipe(text: str) -> Callable[[], object]:
    return lambda: Path("recipe.yaml").write_text(text)


GOOD_RECIPE = "data: {kind: scenes}\nmodel: {name: clade}\nimages: 4\n"


def unpaired(home: str = "pairs") -> None:
    for folder in ("images", "labels"):
        Path(home, folder).mkdir(parents=True)
    photo().save(f"{home}/images/a.jpg")
    shutil.copy("street.png", f"{home}/labels/b.png")


CASES = [
    # label maps
    Case("missing file", f"generate gone.png {OPTIONS}", "gone.png", "does not exist"),
    Case("folder for a file", f"generate street.png folder.png {OPTIONS}", "folder.png", "give a folder with",
         lambda: Path("folder.png").mkdir()),
    Case("empty folder", f"generate empty {OPTIONS}", "empty", "holds no label maps", lambda: Path("empty").mkdir()),
    Case("glob without matches", f"generate maps/*.png {OPTIONS}", "maps/*.png", "check the pattern"),
    Case("empty file", f"generate empty.png {OPTIONS}", "empty.png", "write it again", Path("empty.png").touch),
    Case("truncated PNG", f"generate cut.png {OPTIONS}", "cut.png", "export it again",
         lambda: truncate("cut.png", "street.png", 0.6)),
    Case("text with a PNG name", f"generate text.png {OPTIONS}", "text.png", "give a PNG",
         lambda: Path("text.png").write_text("a street")),
    Case("RGB photo as a label map", f"generate photo.png {OPTIONS}", "photo.png", "looks like a photo",
         lambda: photo().save("photo.png")),
    Case("grey photo as a label map", f"generate photo.png {OPTIONS}", "photo.png", "grey photo",
         lambda: photo().convert("L").save("photo.png")),
    Case("JPEG label map", f"generate map.jpg {OPTIONS}", "map.jpg", "save a PNG", lambda: grey(0, 3).save("map.jpg")),
    Case("index 200 of 12 classes", f"generate map.png {OPTIONS}", "200", "allows 0 to 11",
         lambda: grey(0, 3, 200).save("map.png")),
    Case("indices from 1", f"generate map.png {OPTIONS}", "map.png", "subtract 1",
         lambda: grey(*range(1, 13)).save("map.png")),
    Case("0/255 mask", f"generate mask.png {OPTIONS}", "mask.png", "0/255 mask",
         lambda: grey(0, 255).save("mask.png")),
    Case("16 bit scaled indices", f"generate map.png {OPTIONS}", "map.png", "divide",
         lambda: grey(0, 257, 514, mode="uint16").save("map.png")),
    Case("colour not in the palette", f"generate colours.png {OPTIONS}", "(128, 64, 129) in 1 pixel", "row 3, column 7",
         unknown_colour),
    Case("float .npy", f"generate map.npy {OPTIONS}", "map.npy", "astype(int)",
         lambda: np.save("map.npy", np.zeros((8, 8)))),
    Case("3-d .npy", f"generate map.npy {OPTIONS}", "map.npy", "[H, W]",
         lambda: np.save("map.npy", np.zeros((8, 8, 3), dtype=np.uint8))),
    Case("pickled .npy", f"generate map.npy {OPTIONS}", "map.npy", "save it again",
         lambda: np.save("map.npy", np.array([{}], dtype=object), allow_pickle=True)),
    # instance maps, styles, sizes, devices
    Case("no instance map", "generate street.png --model models/instances --out out", "street.png", "--instances"),
    Case("instance map of another size",
         "generate street.png --model models/instances --out out --instances ids.png", "street.png", "40, 56",
         lambda: Image.new("L", (30, 20)).save("ids.png")),
    Case("missing instance folder", "generate street.png --model models/instances --out out --instances ids", "ids",
         "give an instance map or a folder"),
    Case("style for a model without", f"generate street.png {OPTIONS} --style photo.png", "takes no style",
         "one picture per layout", lambda: photo().save("photo.png")),
    Case("truncated reference photo", "generate street.png --model models/styles --out out --style photo.png",
         "photo.png", "export it again", truncated_photo),
    Case("wrong size string", f"generate street.png {OPTIONS} --size 256", "'256'", "write it like 256x512"),
    Case("size zero", f"generate street.png {OPTIONS} --size 0x64", "'0x64'", "1 to"),
    Case("unknown device", "generate street.png --model models/plain --out out --device gpu", "'gpu'", "use auto, cpu"),
    # outputs
    Case("output exists", f"generate street.png {OPTIONS}", "out/street.png", "--force", taken),
    Case("two layouts of one name", f"generate a b {OPTIONS}", "a/street.png and b/street.png", "rename one",
         one_in_two_folders),
    Case("--out is a file", f"generate street.png {OPTIONS}", "--out out", "choose another",
         lambda: Path("out").write_text("a file")),
    # models
    Case("missing model", "generate street.png --model ./nothing --out out", "./nothing", "config.json"),
    Case("folder without a model", "generate street.png --model . --out out", "config.json", "not a saved"),
    Case("JSON that is no configuration", "generate street.png --model changed --out out", "changed/config.json",
         "damaged or foreign", changed_model(lambda folder: (folder / "config.json").write_text('{"a": [1]}'))),
    Case("broken JSON", "generate street.png --model changed --out out", "changed/config.json", "damaged",
         changed_model(lambda folder: (folder / "config.json").write_text('{"format": 1, '))),
    Case("unknown option in config.json", "generate street.png --model changed --out out", "base_chanels",
         "base_channels", changed_model(unknown_option)),
    Case("corrupted safetensors", "generate street.png --model changed --out out", "changed/model.safetensors",
         "copy or download it again",
         changed_model(lambda folder: truncate(f"{folder}/model.safetensors", f"{folder}/model.safetensors"))),
    Case("checkpoint of another model", "generate street.png --model changed --out out", "changed/model.safetensors",
         "check the model name", changed_model(weights_of_another_model)),
    # training, conversion, datasets
    Case("missing recipe", "train gone.yaml", "gone.yaml", "give a YAML file"),
    Case("recipe with a typo", "train recipe.yaml --dry-run", "recipe.yaml", "did you mean 'batch_size'?",
         recipe(GOOD_RECIPE + "batch_sise: 2\n")),
    Case("recipe that is no YAML", "train recipe.yaml", "recipe.yaml", "not valid YAML", recipe("data: [1,\nmodel: {")),
    Case("override with a typo", "train recipe.yaml --dry-run --set optimizer.generator_rl=1", "generator_rl",
         "did you mean 'generator_lr'?", recipe(GOOD_RECIPE)),
    Case("official file that is none", "convert net_G.pth --labels 12 --out model", "net_G.pth", "damaged",
         lambda: Path("net_G.pth").write_bytes(b"no weights")),
    Case("official file of another network", "convert net_G.pth --labels 12 --out model", "net_G.pth", "_net_G.pth",
         lambda: torch.save({"layer.weight": torch.zeros(2, 2)}, "net_G.pth")),
    Case("unknown label set", "dataset inspect . --labels camvidd", "'camvidd'", "known are"),
    Case("no dataset", "dataset inspect .", ". is no dataset", "it needs images and labels"),
    Case("missing dataset", "dataset inspect gone", "gone does not exist", "give the folder"),
    Case("unknown split", "dataset inspect pairs --split test", "'test'", "it has train",
         lambda: unpaired("pairs/train")),
    Case("contact sheet of another format", "dataset inspect pairs --sheet sheet.gif", "sheet.gif", ".jpg", unpaired),
    Case("draft over a draft", "dataset init pairs --name old", "old.json", "--force", Path("old.json").touch),
    Case("draft without a pair", "dataset init pairs", "pairs has no label map", "dataset inspect", unpaired),
    Case("scenes over scenes", "scenes --out here --count 1", "here", "--force",
         lambda: (Path("here/labels").mkdir(parents=True), Path("here/labels/a.png").touch())),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_malformed(case: Case, run: Run, workplace: Path) -> None:
    case.write()
    result = run(*case.command.split())
    assert result.code == 2
    assert len(result.errors) == 1, result.err
    assert case.found in result.errors[0] and case.remedy in result.errors[0]
    assert "Traceback" not in result.out + result.err
