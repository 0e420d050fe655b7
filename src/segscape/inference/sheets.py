"""Several pictures in one file: a strip, a grid of layouts by styles, an animation. Knows no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from segscape.errors import StyleError
from segscape.files import write_atomically

if TYPE_CHECKING:
    from segscape.inference.inputs import LayoutArrays
    from segscape.inference.pipeline import LayoutLike, Pipeline
    from segscape.layout import Layout
    from segscape.style import Style

ANIMATIONS: Final[dict[str, dict[str, Any]]] = {
    ".gif": {"format": "GIF"},
    ".webp": {"format": "WEBP", "quality": 90},
}
"""File types that move, with what Pillow is told."""


def coloured(layout: Layout | LayoutArrays, size: tuple[int, int] | None = None) -> Image.Image:
    """The first map of a layout in its classes' colours, at a (width, height) as PIL has it; by default its own."""
    picture = Image.fromarray(layout.labels.colorize(np.asarray(layout.label_map[0])))
    return picture if size is None else picture.resize(size, Image.Resampling.NEAREST)


def paste_grid(rows: Sequence[Sequence[Image.Image]], gap: int = 4) -> Image.Image:
    """Pictures in rows and columns on white; each cell has the size of the largest picture.

    Args:
        rows: one picture or more; rows as long as they like.
        gap: pixels between pictures.
    """
    width = max(picture.width for row in rows for picture in row) + gap
    height = max(picture.height for row in rows for picture in row) + gap
    grid = Image.new("RGB", (width * max(map(len, rows)) - gap, height * len(rows) - gap), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            grid.paste(picture, (x * width, y * height))
    return grid


def style_grid(
    pipeline: Pipeline, layouts: Sequence[LayoutLike], styles: Style, size: tuple[int, int] | None = None
) -> Image.Image:
    """A row for each layout, of one map: its colours, then its picture in each style.

    Args:
        pipeline: of a model with styles.
        layouts: the rows.
        styles: for S images, the columns.
        size: (height, width) of the pictures; by default those of the layouts.

    Raises what `Pipeline` raises.
    """
    rows = []
    for layout in map(pipeline.read_layout, layouts):
        pictures = pipeline(layout, style=styles, size=size, seed=0)
        rows.append([coloured(layout.to("cpu"), pictures[0].size), *pictures])
    return paste_grid(rows)


def save_animation(pictures: Sequence[Image.Image], path: str | Path, frames_per_second: float = 10) -> None:
    """Write pictures of one size as an endless animation, GIF or WebP by the file's suffix.

    Raises StyleError if the suffix is another one.
    """
    path = Path(path)
    if path.suffix.lower() not in ANIMATIONS:
        raise StyleError(f"{path} is no animation: give a name that ends in {' or '.join(ANIMATIONS)}.")
    first, *others = pictures
    options = ANIMATIONS[path.suffix.lower()]
    duration = round(1000 / frames_per_second)  # of a frame, in milliseconds
    save = partial(first.save, save_all=True, append_images=others, duration=duration, loop=0, **options)
    write_atomically(path, save)
