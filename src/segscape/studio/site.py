"""The studio as a static site: the same page, with the model in the browser instead of a server."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from segscape.errors import ConfigError, ExportError
from segscape.files import write_atomically
from segscape.inference.export import Export, export_onnx
from segscape.models.generator import Generator
from segscape.studio.description import describe
from segscape.studio.engine import unseen_classes
from segscape.studio.example_layouts import example_layouts, has_examples

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PAGE = "static.html"
"""The page of the site in the package's assets; it becomes `index.html`."""

UNUSED = frozenset({"index.html", "manifest.json"})
"""Assets that only the server or the build needs."""


def write_site(model: Generator, folder: Path, name: str) -> Export:
    """Write a site that any file server can serve; it runs with no server at all behind it, and offline.

    Args:
        model: as for `export_onnx`; without styles, or with a latent.
        folder: is made; files of an earlier site are replaced.
        name: what people call the model.

    Raises:
        ConfigError: the model was accelerated, or has styles that need an encoder.
        DependencyError: onnx, onnxscript or onnxruntime is not installed.
        ExportError: the exported file does not give the model's pictures, or this Segscape has no built page.
    """
    if model.config.style_kind not in (None, "latent"):
        raise ConfigError(
            f"this {model.config.model} model takes its styles from photos, which a page without a server cannot "
            "encode: use segscape studio, or a model without styles or with a latent."
        )
    assets = files("segscape.studio").joinpath("assets")
    if not assets.joinpath(PAGE).is_file():
        raise ExportError("this Segscape has no built page: run npm ci and npm run build in frontend/.")
    folder.mkdir(parents=True, exist_ok=True)
    exported = export_onnx(model, folder / "model.onnx")
    _copy(assets, folder)
    (folder / PAGE).replace(folder / "index.html")
    _write_json(folder / "model.json", _description(model, name, exported))
    _write_examples(model, folder)
    return exported


def _description(model: Generator, name: str, exported: Export) -> dict[str, object]:
    """What `/api/models` would say, and what the file reads."""
    signature = exported.signature.model_dump(mode="json", include={"inputs", "position_rule", "style_shape"})
    return {**describe(model, "model", name, unseen_classes(model), False).model_dump(mode="json"), **signature}


def _copy(source: Traversable, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _copy(entry, target / entry.name)
        elif entry.name not in UNUSED:
            _write(target / entry.name, entry.read_bytes())


def _write_examples(model: Generator, folder: Path) -> None:
    layouts = example_layouts() if has_examples(model.config.labels) else {}
    (folder / "examples").mkdir(exist_ok=True)
    for name, content in layouts.items():
        _write(folder / "examples" / f"{name}.png", content)
    _write_json(folder / "examples.json", [{"name": name, "url": f"examples/{name}.png"} for name in layouts])


def _write_json(path: Path, content: object) -> None:
    _write(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda part: part.write_bytes(content))
