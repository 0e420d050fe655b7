"""A picture of a dataset: photographs beside their label maps, in the classes' colours laid over them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segscape.data.inspection.examination import Color
from segscape.data.listing import Listing, SampleFiles
from segscape.data.sample import Array
from segscape.errors import SegscapeError
from segscape.label_files import read_image
from segscape.labels import LabelSet

TILE = (144, 192)  # (height, width) of a photograph, and of its overlay beside it
COLUMNS = 3
MARGIN, CAPTION, FONT = 8, 18, 11
OPACITY = 0.6  # of the colours over the photograph
MOST_CLASSES = 48  # in the legend
SWATCH = 150  # width of an entry of the legend


def contact_sheet(listings: Sequence[Listing], labels: LabelSet, count: int = 12) -> Image.Image:
    """Draw samples from everywhere in a dataset, and the colours of the classes that they show.

    Args:
        listings: its splits. Samples that cannot be read are passed over.
        labels: the classes, where a listing has none of its own.
        count: how many samples at most.

    Returns:
        An RGB picture; with a legend only where no sample could be read.
    """
    tiles = list(_tiles(listings, labels, count))
    shown = np.zeros(labels.num_classes, dtype=np.int64)
    for _, _, label_map in tiles:
        shown += np.bincount(label_map.ravel(), minlength=labels.num_classes)
    frequent = [int(index) for index in np.argsort(-shown, kind="stable") if shown[index]][:MOST_CLASSES]
    cell = (TILE[0] + CAPTION + MARGIN, 2 * TILE[1] + 2 * MARGIN)
    width = COLUMNS * cell[1] + MARGIN
    per_row = width // SWATCH
    grid = math.ceil(len(tiles) / COLUMNS) * cell[0]
    sheet = Image.new("RGB", (width, grid + math.ceil(len(frequent) / per_row) * CAPTION + 2 * MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (name, picture, label_map) in enumerate(tiles):
        y, x = MARGIN + place // COLUMNS * cell[0], MARGIN + place % COLUMNS * cell[1]
        sheet.paste(picture, (x, y))
        sheet.paste(_overlay(picture, labels.colors[label_map]), (x + TILE[1] + 2, y))
        draw.text((x, y + TILE[0] + 2), _fitted(name, 2 * TILE[1]), fill="black", font=_font())
    for place, index in enumerate(frequent):
        y, x = grid + MARGIN + place // per_row * CAPTION, MARGIN + place % per_row * SWATCH
        entry = labels.classes[index]
        _swatch(draw, (x, y), entry.color, f"{index} {entry.name}")
    return sheet


def _tiles(listings: Sequence[Listing], labels: LabelSet, count: int) -> Iterator[tuple[str, Image.Image, Array]]:
    """Name, photograph and label map ``[TILE]`` of evenly spread samples that can be read."""
    everything = [(listing, files) for listing in listings for files in listing.samples]
    step = max(1, len(everything) / count)
    for place in range(min(count, len(everything))):
        listing, files = everything[int(place * step)]
        try:
            label_map = listing.read_label_map(files.label_maps, listing.labels or labels)
            picture = _photo(files)
        except (SegscapeError, OSError):
            continue
        small = Image.fromarray(label_map.astype(np.int32)).resize(TILE[::-1], Image.Resampling.NEAREST)
        yield "/".join(filter(None, (listing.split, files.name))), picture, np.asarray(small)


def _photo(files: SampleFiles) -> Image.Image:
    if files.image is None:
        return Image.new("RGB", TILE[::-1], "white")
    return Image.fromarray(read_image(files.image)).resize(TILE[::-1], Image.Resampling.BICUBIC)


def _overlay(picture: Image.Image, colors: Array) -> Image.Image:
    return Image.blend(picture, Image.fromarray(colors), OPACITY)


def _swatch(draw: ImageDraw.ImageDraw, corner: tuple[int, int], color: Color, text: str) -> None:
    x, y = corner
    draw.rectangle((x, y, x + 12, y + 12), fill=color, outline="black")
    draw.text((x + 18, y), _fitted(text, SWATCH - 22), fill="black", font=_font())


def _fitted(text: str, width: int) -> str:
    """The end of a text that fits, in letters that every font has."""
    plain = text.encode("ascii", "replace").decode()
    most = width * 2 // FONT
    return plain if len(plain) <= most else "..." + plain[3 - most :]


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT)
