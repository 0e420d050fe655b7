"""Walks through styles, and pictures of them: strips, grids (layouts by styles) and animations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from PIL import Image

from segscape.errors import StyleError
from segscape.files import write_atomically
from segscape.inference.pipeline import LayoutLike, Pipeline
from segscape.style import Style

STOPS: Final = 4
"""Styles that a random walk passes through."""

ANIMATIONS: Final = {".gif": "GIF", ".webp": "WEBP"}
"""File types that move, as Pillow calls them."""


def interpolated(first: Style, last: Style, frames: int) -> Style:
    """Styles on the straight line from one to the other, both included.

    Args:
        first, last: of one image each.
        frames: how many, 2 or more.

    Raises:
        StyleError: fewer frames, styles for several images, or such as do not fit each other.
    """
    _require_frames(frames, least=2)
    for style in (first, last):
        if style.count != 1:
            raise StyleError(f"an interpolation goes from one style to another; found one for {style.count} images.")
    return Style.stack(first.interpolate(last, frame / (frames - 1)) for frame in range(frames))


def random_walk(pipeline: Pipeline, layout: LayoutLike, frames: int, seed: int | None = None) -> Style:
    """Styles on a round trip through `STOPS` random ones, so that an animation of them has no jump.

    Between styles from N(0, 1) the way is not the straight line, whose middle is too near to zero: every style on it is
    as likely as a random one.

    Args:
        pipeline: of a model that draws styles.
        layout: what they are drawn for.
        frames: how many, one or more for each stop.
        seed: repeats the walk.

    Raises:
        StyleError: a model that draws none, or fewer frames.
    """
    _require_frames(frames, least=STOPS)
    stops = pipeline.random_style(layout, STOPS, seed)
    normal = pipeline.model.config.variational
    places = (frame * STOPS / frames for frame in range(frames))
    return Style.stack(
        _between(stops[int(place)], stops[(int(place) + 1) % STOPS], place % 1, normal) for place in places
    )


def _between(first: Style, last: Style, amount: float, normal: bool) -> Style:
    mixed = first.interpolate(last, amount)
    if not normal:
        return mixed
    deviation = ((1 - amount) ** 2 + amount**2) ** 0.5  # of the mixture of two independent values from N(0, 1)
    return Style(mixed.values / deviation, mixed.present)


def _require_frames(frames: int, least: int) -> None:
    if frames < least:
        raise StyleError(f"{frames} frames are too few: give {least} or more.")


def paste_grid(rows: Sequence[Sequence[Image.Image]], gap: int = 4) -> Image.Image:
    """Pictures in rows and columns on white; each cell has the size of the largest picture.

    Args:
        rows: one picture or more, rows as long as they like.
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
    pipeline: Pipeline, layouts: Sequence[LayoutLike], styles: Style, *, size: tuple[int, int] | None = None
) -> Image.Image:
    """A row for each layout, with its colours first, then the picture in each style.

    Args:
        pipeline: of a model with styles.
        layouts: one map each.
        styles: for S images: the columns.
        size: (height, width) of the pictures; by default those of the layouts.

    Raises what `Pipeline` raises.
    """
    rows = []
    for item in layouts:
        layout = pipeline.read_layout(item)
        pictures = pipeline(layout, style=styles, size=size, seed=0)
        colours = Image.fromarray(layout.labels.colorize(layout.label_map[0].cpu().numpy()))
        rows.append([colours.resize(pictures[0].size, Image.Resampling.NEAREST), *pictures])
    return paste_grid(rows)


def save_animation(pictures: Sequence[Image.Image], path: str | Path, frames_per_second: float = 10) -> None:
    """Write pictures of one size as an endless animation, GIF or WebP by the file's suffix.

    Raises StyleError if the suffix is another one.
    """
    path = Path(path)
    kind = ANIMATIONS.get(path.suffix.lower())
    if kind is None:
        raise StyleError(f"{path} is no animation: give a name that ends in {' or '.join(ANIMATIONS)}.")
    first, *others = pictures
    save = partial(
        first.save,
        format=kind,
        save_all=True,
        append_images=others,
        duration=round(1000 / frames_per_second),
        loop=0,
        **({"quality": 90} if kind == "WEBP" else {}),
    )
    write_atomically(path, save)


