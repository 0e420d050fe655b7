"""Figures in one style, without a display: matplotlib's object interface, never `pyplot`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from segscape.extras import require
from segscape.files import write_atomically

INK = "#333333"


def new_figure(rows: int = 1, columns: int = 1, *, width: float = 6.4, height: float = 4.0) -> tuple[Any, Any]:
    """A matplotlib figure of `width` x `height` inches and its axes, an array `[rows, columns]`.

    Raises DependencyError if matplotlib is not installed.
    """
    require("matplotlib.backends.backend_agg", "eval")
    figure = require("matplotlib.figure", "eval").Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
        axis.title.set_fontsize(9)
        axis.xaxis.label.set_fontsize(9)
        axis.yaxis.label.set_fontsize(9)
    return figure, axes


def save_figure(figure: Any, path: Path, *, dots_per_inch: int = 130) -> None:
    """Write a figure as PNG, SVG or PDF, by the suffix of `path`; nothing of the writing date enters the file."""
    kind = path.suffix.lstrip(".")
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    write_atomically(path, partial(figure.savefig, format=kind, dpi=dots_per_inch, metadata=metadata))
