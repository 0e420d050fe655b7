"""The pictures of a report: grids of cases, and the bars of per-class IoU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segscape.errors import EvaluationError
from segscape.evaluation.plotting import INK, new_figure, save_figure
from segscape.evaluation.report.cases import Case, ClassScore, Pixels
from segscape.files import write_png

FOLDER = "pictures"
"""Where the pictures lie, beside `report.html`."""

SAMPLE = ("layout", "real", "generated")
WITH_PREDICTION = ("layout", "real", "generated", "predicted")
TITLES = {"layout": "layout", "real": "real", "generated": "generated", "predicted": "seen by the segmenter"}
ALTERNATIVES = {
    "layout": "Layout of {}",
    "real": "Real photograph of {}",
    "generated": "Picture generated from the layout of {}",
    "predicted": "What the segmenter sees in the picture generated from the layout of {}",
}
DRAWN = {"layout", "predicted"}
"""Kinds of pictures with flat colours, which are enlarged without smoothing."""

MARGIN = 8
TITLE = 22
CAPTION = 28
LEAST_WIDTH = 96
CLASSES_PER_COLUMN = 40


@dataclass(frozen=True)
class Picture:
    """One picture in a page.

    Attributes:
        source: its file, as seen from the page.
        alternative: what it shows, in words.
        drawn: whether it has flat colours and is enlarged without smoothing.
    """

    source: str
    alternative: str
    drawn: bool


@dataclass(frozen=True)
class Strip:
    """Pictures side by side with a caption; None leaves a place empty."""

    caption: str
    pictures: tuple[Picture | None, ...]


@dataclass(frozen=True)
class Gallery:
    """Strips under common titles.

    Attributes:
        titles: of the columns.
        strips: one per case.
        source: the file that shows all of it as one picture.
    """

    titles: tuple[str, ...]
    strips: tuple[Strip, ...]
    source: str


def grid(cases: Sequence[Case], columns: Sequence[str] = SAMPLE) -> Pixels:
    """All cases as one picture, a row each, with titles and captions; no picture is scaled.

    Args:
        cases: at least one; their sizes may differ.
        columns: names of `Case` fields; those that no case has are left out.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        EvaluationError: there are no cases.
    """
    shown = _filled(cases, columns)
    rows = [[getattr(case, column) for column in shown] for case in cases]
    return compose(rows, [TITLES[column] for column in shown], [caption(case) for case in cases])


def compose(rows: Sequence[Sequence[Pixels | None]], titles: Sequence[str], captions: Sequence[str]) -> Pixels:
    """Pictures in rows and columns on white, with a title over each column and a caption under each row.

    Args:
        rows: at least one; uint8 `[H, W, 3]` of any sizes, or None for an empty place.
        titles: one per column.
        captions: one per row; may be empty.

    Returns:
        uint8 `[H, W, 3]`; every picture is there pixel for pixel.

    Raises:
        EvaluationError: there is nothing to show.
    """
    if not rows or not titles:
        raise EvaluationError("a grid of pictures needs at least one case, but there is none.")
    heights = [max((picture.shape[0] for picture in row if picture is not None), default=0) for row in rows]
    widths = [picture.shape[1] for row in rows for picture in row if picture is not None]
    width = max([LEAST_WIDTH, *widths])
    left = [MARGIN + column * (width + MARGIN) for column in range(len(titles))]
    canvas = Image.new("RGB", (left[-1] + width + MARGIN, MARGIN + TITLE + sum(heights) + CAPTION * len(rows)), "white")
    pen = ImageDraw.Draw(canvas)
    for x, title in zip(left, titles, strict=True):
        _write(pen, (x, MARGIN), title, width)
    y = MARGIN + TITLE
    for row, height, text in zip(rows, heights, captions, strict=True):
        for x, picture in zip(left, row, strict=True):
            if picture is not None:
                canvas.paste(Image.fromarray(picture), (x, y))
        _write(pen, (left[0], y + height + 3), text, canvas.width - 2 * MARGIN)
        y += height + CAPTION
    return np.asarray(canvas)


def caption(case: Case) -> str:
    """The name of a case, and how much of it agrees with its layout, if that is known."""
    known = math.isfinite(case.accuracy)
    return f"{case.name}: {100 * case.accuracy:.1f} % of the pixels agree" if known else case.name


def write_cases(folder: Path, name: str, cases: Sequence[Case], columns: Sequence[str]) -> Gallery | None:
    """Write the pictures of some cases, each by itself and all as one.

    Args:
        folder: of the report; its folder of pictures is there.
        name: what the files' names begin with.
        cases: what to show.
        columns: names of `Case` fields.

    Returns:
        What the page shows; None without cases.
    """
    if not cases:
        return None
    columns = _filled(cases, columns)
    strips = []
    for number, case in enumerate(cases, start=1):
        files = [f"{name}-{number:02}-{column}" for column in columns]
        places = [_place(folder, file, column, case) for file, column in zip(files, columns, strict=True)]
        strips.append(Strip(caption(case), tuple(places)))
    whole = _write_picture(folder, name, grid(cases, columns))
    return Gallery(tuple(TITLES[column] for column in columns), tuple(strips), whole)


def write_samples(folder: Path, samples: Sequence[tuple[Pixels, Sequence[Pixels]]]) -> Gallery | None:
    """Write layouts with several pictures of each, as `write_cases` does."""
    if not samples:
        return None
    most = max(len(generated) for _, generated in samples)
    titles = ("layout", *(f"sample {number}" for number in range(1, most + 1)))
    rows = [[layout, *generated, *[None] * (most - len(generated))] for layout, generated in samples]
    strips = [_sample_strip(folder, number, row, titles) for number, row in enumerate(rows, start=1)]
    whole = _write_picture(folder, "samples", compose(rows, titles, [""] * len(rows)))
    return Gallery(titles, tuple(strips), whole)


def write_bars(folder: Path, classes: Sequence[ClassScore]) -> str | None:
    """Draw the IoU of every class that has one, with the ceiling as a mark.

    The order is by pixels, most first, so that it is the same for all models on one dataset.

    Returns:
        The file as seen from the page; None if no class was scored.
    """
    scored = sorted((entry for entry in classes if entry.iou is not None), key=lambda entry: -entry.pixels)
    if not scored:
        return None
    columns = math.ceil(len(scored) / CLASSES_PER_COLUMN)
    rows = math.ceil(len(scored) / columns)
    drawing, axes = new_figure(1, columns, width=max(7.2, 4.2 * columns), height=0.8 + 0.24 * rows)
    for column in range(columns):
        _draw_bars(axes[0, column], scored[column * rows : (column + 1) * rows], rows)
    handles, names = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles[::-1], names[::-1], loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    save_figure(drawing, folder / FOLDER / "classes.png")
    return f"{FOLDER}/classes.png"


def _draw_bars(axis: Any, classes: Sequence[ClassScore], rows: int) -> None:
    """Draw the bars of some classes from the top, in room for `rows` of them."""
    places = range(len(classes))
    values = [100 * (entry.iou or 0.0) for entry in classes]
    colors = [tuple(channel / 255 for channel in entry.color) for entry in classes]
    axis.barh(places, values, height=0.72, color=colors, edgecolor="#00000055", linewidth=0.6, label="generated")
    known = [
        (100 * entry.ceiling, place) for entry, place in zip(classes, places, strict=True) if entry.ceiling is not None
    ]
    if known:
        x, y = zip(*known, strict=True)
        axis.plot(x, y, "|", color="white", markersize=11, markeredgewidth=5)
        axis.plot(x, y, "|", color=INK, markersize=11, markeredgewidth=2, label="real images")
    for place, value in zip(places, values, strict=True):
        axis.text(103, place, f"{value:.1f}", va="center", fontsize=8, color=INK, clip_on=False)
    axis.set_yticks(places, [_plain(entry.name) for entry in classes])
    axis.set_ylim(rows - 0.4, -0.6)
    axis.set_xlim(0, 100)
    axis.set_xlabel("IoU (%)")


def _sample_strip(folder: Path, number: int, row: Sequence[Pixels | None], titles: Sequence[str]) -> Strip:
    """Write one layout and its samples."""
    places: list[Picture | None] = []
    for column, (pixels, title) in enumerate(zip(row, titles, strict=True)):
        source = None if pixels is None else _write_picture(folder, f"samples-{number:02}-{column:02}", pixels)
        text = f"Layout {number}" if column == 0 else f"Picture from layout {number}, {title}"
        places.append(None if source is None else Picture(source, text, drawn=column == 0))
    return Strip("", tuple(places))


def _place(folder: Path, file: str, column: str, case: Case) -> Picture | None:
    """Write one picture of a case, if it has it."""
    pixels = getattr(case, column)
    if pixels is None:
        return None
    return Picture(_write_picture(folder, file, pixels), ALTERNATIVES[column].format(case.name), column in DRAWN)


def _write_picture(folder: Path, name: str, pixels: Pixels) -> str:
    """Write `pictures/name.png`; the return value is the path as seen from the page."""
    source = f"{FOLDER}/{name}.png"
    write_png(folder / source, Image.fromarray(pixels))
    return source


def _filled(cases: Sequence[Case], columns: Sequence[str]) -> list[str]:
    """The columns that at least one case has a picture for."""
    return [column for column in columns if any(getattr(case, column) is not None for case in cases)]


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int) -> None:
    """Write one line of text, cut to `width` pixels."""
    font = ImageFont.load_default(13)
    text = " ".join(text.split())
    while text and pen.textlength(text, font) > width:
        text = text.removesuffix("…")[:-1] + "…" if len(text) > 1 else ""
    pen.text(place, text, fill=INK, font=font)


def _plain(text: str) -> str:
    """A name in one line that matplotlib does not read as a formula."""
    return " ".join(text.split()).replace("$", r"\$")
