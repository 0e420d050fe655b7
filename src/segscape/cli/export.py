"""`segscape export`: a model as a file for other runtimes."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segscape.cli.generate import find_layouts
from segscape.cli.options import check_folder, parse_size, prepare_folder
from segscape.errors import ConfigError

if TYPE_CHECKING:
    from segscape.inference.export import Export
    from segscape.models.generator import Generator

CALIBRATION = 32
"""Layouts to calibrate on, at most; evenly spread over those that are given."""

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
"""Format -> suffix of its file."""


def export(
    out: Annotated[Path, typer.Option(help="File to write, or a folder for it.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hugging Face id of a model; the shipped one by default.")
    ] = None,
    format: Annotated[
        str, typer.Option(help=f"{', '.join(SUFFIXES)}; or web, a site that paints without a server.")
    ] = "onnx",
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Fix the size of the layouts; without, any size goes.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise to 8 bits for CPUs (onnx); see --calibrate.")] = False,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYOUTS", help="Label maps (folder, file or glob) to calibrate on, 32 at most."),
    ] = None,
) -> None:
    """Write a model for onnxruntime, OpenVINO, torch.export or a browser, with label indices as its input.

    The file is compared with the model before it is kept.
    """
    if format == "web":
        _export_site(out, model, plain=size is None and not int8 and not calibrate)
        return
    target = _target(out, model, format)
    wanted = None if size is None else parse_size(size)
    if int8 and (format != "onnx" or not calibrate):
        raise ConfigError("--int8 goes with --format onnx and --calibrate LAYOUTS (a folder of label maps).")
    if calibrate and not int8:
        raise ConfigError("--calibrate is for 8 bits only: add --int8.")
    layouts = find_layouts(calibrate or [])
    check_folder(target.parent)

    from segscape.inference import Pipeline
    from segscape.inference.export import EXPORTERS, sign

    network = Pipeline.from_pretrained(model, "cpu").model
    sign(network, wanted)  # refuses a size before there is a folder
    prepare_folder(target.parent)
    if int8:
        written, lost = _export_int8(network, target, wanted, layouts)
    else:
        written, lost = EXPORTERS[format](network, target, size=wanted), None
    for name, shape in written.signature.shapes().items():
        print(f"{name:<14}{shape}")
    print(f"{'image':<14}{written.signature.output_shape()}")
    print(f"{'difference':<14}at most {written.difference:.1e} of pixels in [-1, 1] from the model")
    if lost is not None:
        print(f"{'8 bits':<14}{lost:.1e} more on average")
    print(f"{_megabytes(target):.1f} MB in {target.resolve()}")


def _export_site(out: Path, model: str | None, plain: bool) -> None:
    """Write the studio as a static site."""
    if not plain:
        raise ConfigError("--format web takes the model as it is: omit --size, --int8 and --calibrate.")
    check_folder(out)

    from segscape.inference import Pipeline
    from segscape.inference.pipeline import model_title
    from segscape.studio.site import write_site

    written = write_site(Pipeline.from_pretrained(model, "cpu").model, out, model_title(model))
    print(f"{'difference':<14}at most {written.difference:.1e} of pixels in [-1, 1] from the model")
    print(f"the site is in {out.resolve()}; try it with: python -m http.server --directory {shlex.quote(str(out))}")


def _export_int8(
    network: Generator, target: Path, size: tuple[int, int] | None, layouts: list[Path]
) -> tuple[Export, float]:
    """Export by way of a file in float32; also returns the mean difference that 8 bits make."""
    from segscape.inference.export import export_onnx
    from segscape.inference.quantize import quantize

    chosen = layouts[:: -(-len(layouts) // CALIBRATION)]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        written = export_onnx(network, Path(folder) / target.name, size=size)
        drawn = network.config.style_kind is None or network.config.variational
        style = None if drawn else network.neutral_style(1)
        return written, quantize(written.path, target, chosen, style=style).difference


def _target(out: Path, model: str | None, format: str) -> Path:
    """The file to write; raises ConfigError for an unknown format or another format's suffix."""
    if format not in SUFFIXES:
        raise ConfigError(f"--format {format!r} is unknown: use {', '.join(SUFFIXES)}, web.")
    suffix = SUFFIXES[format]
    if out.suffix not in SUFFIXES.values():
        from segscape.inference.pipeline import model_title

        name = "model" if model is None else Path(model_title(model)).name
        return out / f"{name}{suffix}"
    if out.suffix != suffix or out.is_dir():
        raise ConfigError(f"--out {out} is no place for --format {format}: name a file that ends in {suffix}.")
    return out


def _megabytes(path: Path) -> float:
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return sum(file.stat().st_size for file in files) / 1e6
