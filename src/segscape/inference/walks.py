"""Walks through styles: from one to another, or a round trip through random ones."""

from __future__ import annotations

import math
from typing import Final

from segscape.errors import StyleError
from segscape.inference.pipeline import LayoutLike, Pipeline
from segscape.style import Style

STOPS: Final = 4
"""Styles that a random walk passes through."""


def interpolated(first: Style, last: Style, frames: int) -> Style:
    """Styles on the straight line from one to the other, both included, as one `Style` for `frames` images.

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
    """Styles on a round trip through `STOPS` random ones, as one `Style` for `frames` images.

    The last one leads to the first. Between styles from N(0, 1) the way is an arc: on the straight line the middle
    would be nearer to zero than a random style ever is.

    Args:
        pipeline: of a model that draws styles.
        layout: what they are drawn for, one map.
        frames: how many, one or more for each stop.
        seed: repeats the walk.

    Raises:
        StyleError: a model that draws none, or fewer frames.
    """
    _require_frames(frames, least=STOPS)
    stops = pipeline.random_style(layout, STOPS, seed)
    normal = pipeline.model.config.variational
    places = [frame * STOPS / frames for frame in range(frames)]
    return Style.stack(_between(stops, int(place), place % 1, normal) for place in places)


def _between(stops: Style, stop: int, amount: float, normal: bool) -> Style:
    """The style at `amount` between a stop and the next one."""
    first, last = stops[stop], stops[(stop + 1) % STOPS]
    if not normal:
        return first.interpolate(last, amount)
    angle = amount * math.pi / 2
    return Style(math.cos(angle) * first.values + math.sin(angle) * last.values)


def _require_frames(frames: int, least: int) -> None:
    if frames < least:
        raise StyleError(f"{frames} frames are too few: give {least} or more.")
