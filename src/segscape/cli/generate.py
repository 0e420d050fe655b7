"""`segscape generate`: label maps in, pictures out."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segscape.cli.options import parse_size, prepare_folder, report
from segscape.errors import ConfigError, DataError, SegscapeError

if TYPE_CHECKING:
    from PIL import Image

    from segscape.inference.inputs import LayoutArrays
    from segscape.layout import Layout

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff", ".webp"})
"""What counts as a label map in a folder (JPEG files too: they are refused by name, not passed over)."""


def generate(
    layouts: Annotated[list[str], typer.Argument(metavar="LAYOUT", help="Label maps: files, folders, or globs.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder or Hugging Face id of a model, or an exported .onnx file; the shipped one by default."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Of the random style, for models that have styles.")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Resize the layouts first, e.g. 256x512.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    instances: Annotated[
        Path | None, typer.Option(help="Instance map, or a folder of them with the layouts' names.")
    ] = None,
    fast: Annotated[
        str | None, typer.Option(metavar="PRECISION", help="Fold the model for speed: float32, bfloat16 or float16.")
    ] = None,
    style: Annotated[Path | None, typer.Option(help="Photo whose style the pictures take.")] = None,
    colour_preview: Annotated[
        bool, typer.Option("--colour-preview", help="Put the coloured layout to the left of each picture.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace pictures that exist.")] = False,
) -> None:
    """Turn label maps into photographs.

    The picture of a layout NAME.png is OUT/NAME.png, of the same size. A file that fails is reported and the
    rest goes on; the exit code is then 2.
    """
    wanted = None if size is None else parse_size(size)
    paths = find_layouts(layouts)
    partners = find_instances(paths, instances)
    prepare_folder(out)
    taken = {path.resolve() for path in paths}

    from tqdm import tqdm

    from segscape.files import write_atomically

    pipeline = _open_pipeline(model, device, fast)
    look = None if style is None else pipeline.encode(style)
    failed = 0
    for path in tqdm(paths, unit="picture", disable=None):
        target = out / f"{path.stem}.png"
        try:
            _require_free(target, taken, force)
            layout = pipeline.read_layout(path, partners[path])
            picture = pipeline(layout, seed=seed, style=look, size=wanted)[0]
            if colour_preview:
                picture = _beside(_colours(layout, picture.size), picture)
            write_atomically(target, partial(picture.save, format="PNG"))
        except (SegscapeError, OSError) as error:
            failed += 1
            report(path, error)
    _summarize(out, len(paths), failed)


def _open_pipeline(model: str | None, device: str, fast: str | None) -> Any:
    """A `Pipeline`, or an `OnnxPipeline`, which needs no torch."""
    if model is not None and Path(model).suffix == ".onnx":
        from segscape.inference import OnnxPipeline

        if fast is not None or device not in ("auto", "cpu"):
            raise ConfigError(
                f"{model} is an exported model, which runs on the CPU as it is: omit --fast and --device."
            )
        return OnnxPipeline(model)
    from segscape.inference import Pipeline

    return Pipeline.from_pretrained(model, device, accelerate=fast)  # type: ignore[arg-type]


def find_layouts(inputs: Sequence[str]) -> list[Path]:
    """The label map files that files, folders (not their subfolders) and globs name, in order, each once.

    A file that does not exist is kept, so that it is reported like every other bad file.

    Raises:
        DataError: a folder or glob without label maps, or two files whose pictures would have one name.
    """
    paths = {path.resolve(): path for item in inputs for path in _expand(item)}
    by_stem: dict[str, Path] = {}
    for path in paths.values():
        first = by_stem.setdefault(path.stem, path)
        if first is not path:
            raise DataError(f"{first} and {path} would both be written to {path.stem}.png: rename one.")
    return list(paths.values())


def _expand(item: str) -> Iterator[Path]:
    path = Path(item)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if _is_label_map(file))
        if not found:
            raise DataError(f"{path} holds no label maps: give a folder with {', '.join(sorted(SUFFIXES))} files.")
        yield from found
    elif not path.exists() and glob.has_magic(item):
        matches = sorted(Path(match) for match in glob.glob(item, recursive=True))
        if not any(match.is_file() for match in matches):
            raise DataError(f"no file matches {item!r}: check the pattern and the folder.")
        yield from (match for match in matches if match.is_file())
    else:
        yield path


def _is_label_map(file: Path) -> bool:
    return file.is_file() and file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def find_instances(paths: Sequence[Path], instances: Path | None) -> dict[Path, Path | None]:
    """The instance map of each layout: none, one file for one layout, or the one of its name in a folder.

    Raises:
        DataError: nothing is there, or one file for several layouts.
    """
    if instances is None:
        return dict.fromkeys(paths)
    if instances.is_dir():
        by_stem = {file.stem: file for file in sorted(instances.iterdir()) if _is_label_map(file)}
        # a partner that is not there is reported with its layout, when it is read
        return {path: by_stem.get(path.stem, instances / f"{path.stem}.png") for path in paths}
    if not instances.exists():
        raise DataError(f"--instances {instances} does not exist: give an instance map or a folder of them.")
    if len(paths) > 1:
        raise DataError(f"--instances {instances} is one file for {len(paths)} layouts: give a folder of them.")
    return dict.fromkeys(paths, instances)


def _require_free(target: Path, inputs: set[Path], force: bool) -> None:
    if target.resolve() in inputs:
        raise DataError(f"the picture {target} would replace a layout: choose another --out.")
    if target.exists() and not force:
        raise DataError(f"{target} exists already: add --force to replace it.")


def _colours(layout: Layout | LayoutArrays, size: tuple[int, int]) -> Image.Image:
    """The layout in its classes' colours, at a (width, height) as PIL has it."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(layout.labels.colorize(np.asarray(layout.label_map[0])))
    return picture.resize(size, Image.Resampling.NEAREST)


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    from PIL import Image

    both = Image.new("RGB", (left.width + right.width, right.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


def _summarize(out: Path, count: int, failed: int) -> None:
    written = count - failed
    if written:
        print(f"{written} picture{'s' * (written != 1)} in {out.resolve()}")
    if failed:
        print(f"{failed} of {count} layouts failed")
        raise typer.Exit(2)
