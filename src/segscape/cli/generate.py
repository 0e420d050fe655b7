"""`segscape generate`: label maps in, pictures out."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segscape.cli.options import check_folder, parse_size, prepare_folder, report
from segscape.cli.styles import FRAMES, Animation, StyleOptions
from segscape.errors import ConfigError, DataError, SegscapeError

if TYPE_CHECKING:
    from PIL import Image

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
        str | None,
        typer.Option(metavar="PRECISION", help="Fold the model for speed: float32, bfloat16, float16, or compiled."),
    ] = None,
    style: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PHOTO[:MAP]", help="Photo whose style the pictures take, with its label map; or a saved style."
        ),
    ] = None,
    style_layout: Annotated[
        Path | None, typer.Option(metavar="MAP", help="Label map of the --style photo, instead of PHOTO:MAP.")
    ] = None,
    class_style: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=PHOTO:MAP", help="Take one class's style from a photo or a saved style."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Pictures of each layout, in random styles.")] = 1,
    interpolate: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="From one style to another; each like --style."),
    ] = None,
    walk: Annotated[bool, typer.Option("--walk", help="A round trip through random styles.")] = False,
    frames: Annotated[int | None, typer.Option(min=2, help=f"Of --interpolate or --walk; {FRAMES} by default.")] = None,
    animation: Annotated[Animation | None, typer.Option(help="What becomes of the frames; gif by default.")] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="One picture: a row for each layout, a column for each style.")
    ] = False,
    save_style: Annotated[
        Path | None, typer.Option(metavar="FILE.safetensors", help="Keep the styles, for --style.")
    ] = None,
    colour_preview: Annotated[
        bool, typer.Option("--colour-preview", help="Put the coloured layout to the left of each picture.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace pictures that exist.")] = False,
) -> None:
    """Turn label maps into photographs.

    The picture of a layout NAME.png is OUT/NAME.png, of the same size; several pictures of it (--samples, more than one
    --style, --animation files) are OUT/NAME-01.png and so on, frames OUT/NAME.gif, NAME.webp or, as a strip, NAME.png.
    --grid writes OUT/grid.png alone. A file that fails is reported and the rest goes on; the exit code is then 2.
    """
    wanted = None if size is None else parse_size(size)
    options = StyleOptions(
        styles=tuple(style or ()),
        layout=style_layout,
        by_class=tuple(class_style or ()),
        samples=samples,
        ends=interpolate,
        walk=walk,
        frames=frames,
        animation=animation,
        grid=grid,
        save=save_style,
    )
    options.check(colour_preview, force)
    paths = find_layouts(layouts)
    partners = find_instances(paths, instances)
    check_folder(out)
    taken = {path.resolve() for path in paths}

    from tqdm import tqdm

    from segscape.inference.sheets import coloured, paste_grid

    pipeline = _open_pipeline(model, device, fast)
    styles = options.open(pipeline)
    styles.require_one(len(paths))
    if grid:
        _require_free([out / "grid.png"], taken, force)
    failed, written, rows = 0, 0, []
    for path in tqdm(paths, unit="layout", disable=None):
        try:
            layout = pipeline.read_layout(path, partners[path])
            look = styles.of(layout, seed)
            count = styles.count(look)
            targets = [out / name for name in _names(path.stem, count, options)]
            if not grid:
                _require_free(targets, taken, force)
            drawn = samples if look is None or isinstance(look, dict) else 1
            pictures = pipeline(layout, seed=seed, style=look, size=wanted, samples=drawn)
            if grid:
                rows.append([coloured(layout, pictures[0].size), *pictures])
            else:
                if colour_preview:
                    pictures = [paste_grid([[coloured(layout, one.size), one]], gap=0) for one in pictures]
                _write(pictures, targets)
                written += len(targets)
            styles.save(look)
        except (SegscapeError, OSError) as error:
            failed += 1
            report(path, error)
    if rows:
        _write([paste_grid(rows)], [out / "grid.png"])
        written = 1
    _summarize(out, written, len(paths), failed)


def _names(stem: str, count: int, options: StyleOptions) -> list[str]:
    """The files of `count` pictures of a layout."""
    if options.moving and options.animation is not Animation.FILES:
        suffix = "png" if options.animation is Animation.STRIP else (options.animation or Animation.GIF).value
        return [f"{stem}.{suffix}"]
    if count == 1:
        return [f"{stem}.png"]
    digits = max(2, len(str(count)))
    return [f"{stem}-{number:0{digits}}.png" for number in range(1, count + 1)]


def _write(pictures: Sequence[Image.Image], targets: Sequence[Path]) -> None:
    """Write each picture into its file, or all into one: an animation or a strip."""
    from segscape.files import write_png
    from segscape.inference.sheets import ANIMATIONS, paste_grid, save_animation

    prepare_folder(targets[0].parent)
    if targets[0].suffix in ANIMATIONS:
        return save_animation(pictures, targets[0])
    if len(targets) < len(pictures):
        pictures = [paste_grid([pictures])]
    for picture, target in zip(pictures, targets, strict=True):
        write_png(target, picture)


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


def _require_free(targets: Sequence[Path], inputs: set[Path], force: bool) -> None:
    for target in targets:
        if target.resolve() in inputs:
            raise DataError(f"the picture {target} would replace a layout: choose another --out.")
        if target.exists() and not force:
            raise DataError(f"{target} exists already: add --force to replace it.")


def _summarize(out: Path, written: int, layouts: int, failed: int) -> None:
    if written:
        print(f"{written} picture{'s' * (written != 1)} in {out.resolve()}")
    if failed:
        print(f"{failed} of {layouts} layouts failed")
        raise typer.Exit(2)
