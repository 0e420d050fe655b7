"""The studio as a static site: the same page, with the model in the browser instead of a server."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from segscape.errors import ExportError
from segscape.files import write_atomically
from segscape.inference.export import Export, export_onnx
from segscape.layout import Layout
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

STYLES = "styles.bin"
"""The stored styles of the site, float32, as `stored_styles` gives them."""

DRAWN_STYLES = 16
"""How many random styles are stored, of a model whose random styles are not N(0, 1)."""


def write_site(model: Generator, folder: Path, name: str) -> Export:
    """Write a site that any file server can serve; it runs with no server at all behind it, and offline.

    Args:
        model: as for `export_onnx`. Styles are drawn in the browser if they are N(0, 1), else stored.
        folder: is made; files of an earlier site are replaced.
        name: what people call the model.

    Raises:
        ConfigError: the model was accelerated.
        DependencyError: onnx, onnxscript or onnxruntime is not installed.
        ExportError: the exported file does not give the model's pictures, or this Segscape has no built page.
    """
    assets = files("segscape.studio").joinpath("assets")
    if not assets.joinpath(PAGE).is_file():
        raise ExportError("this Segscape has no built page: run npm ci and npm run build in frontend/.")
    folder.mkdir(parents=True, exist_ok=True)
    exported = export_onnx(model, folder / "model.onnx")
    _copy(assets, folder)
    (folder / PAGE).replace(folder / "index.html")
    styles = stored_styles(model)
    if styles is not None:
        _write(folder / STYLES, styles.numpy().astype("<f4").tobytes())
    _write_json(folder / "model.json", _description(model, name, exported, 0 if styles is None else len(styles)))
    _write_examples(model, folder)
    return exported


def stored_styles(model: Generator) -> Tensor | None:
    """Styles of classes for a page that cannot draw them: the neutral ones, then random ones if the model has any.

    Returns:
        float32 `[1 + S, codes, D]`, also for a model whose style is a map, where all of a class is alike; None where
        there are no styles, or any N(0, 1) is one.
    """
    config = model.config
    if config.style_kind is None or config.variational:
        return None
    classes = torch.arange(config.labels.num_classes).view(1, 1, -1)
    layout = Layout(classes, config.labels, classes).to(next(model.parameters()).device)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        drawn = [model.sample_style(layout, source) for _ in range(DRAWN_STYLES if model.random_styles else 0)]
        neutral = model.neutral_style(1).values
    if neutral.ndim == 4:  # a map, alike everywhere; those that are drawn have a place for each class
        neutral = neutral[:, :, :1, :1].expand(-1, -1, 1, config.labels.num_classes)
    found = torch.cat([neutral, *(style.values for style in drawn if style is not None)])
    return (found if found.ndim == 3 else found[:, :, 0].transpose(1, 2)).float().cpu()


def _description(model: Generator, name: str, exported: Export, styles: int) -> dict[str, object]:
    """What `/api/models` would say, what the file reads, and how many styles are stored."""
    signature = exported.signature.model_dump(mode="json", include={"inputs", "position_rule", "style_shape"})
    described = describe(model, "model", name, unseen=unseen_classes(model))  # an exported model adds no noise
    return {**described.model_dump(mode="json"), **signature, "stored_styles": styles}


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
