"""What the pixels of CA2-SIS looked at: which class's style code, in every block, as numbers and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segscape.errors import ConfigError
from segscape.evaluation.modulation.figures import (
    Figure,
    class_legend,
    colour_bar,
    draw_layout,
    panel,
    saved,
    size_text,
)
from segscape.evaluation.plotting import new_figure
from segscape.files import write_text
from segscape.layout import Layout, Size
from segscape.models.ca2_sis import CA2SISGenerator
from segscape.models.generator import Generator
from segscape.style import Style

SHOWN = 20
"""Classes on a sheet at most: those looked at most."""
COLUMNS = 5


@dataclass(frozen=True)
class BlockAttention:
    """How much the pixels of one image looked at the code of each class, in one block.

    Attributes:
        weights: after the softmax over classes, averaged over heads: float32 `[C, h, w]`, which sums to 1 over C.
        label_map: the layout at the block's size, `[h, w]`.
    """

    weights: NDArray[np.float32]
    label_map: NDArray[np.int64]

    @property
    def size(self) -> Size:
        """(height, width) of the block's features."""
        return self.weights.shape[1], self.weights.shape[2]

    @property
    def favourite(self) -> NDArray[np.int64]:
        """The class at whose code each pixel looked most, `[h, w]`."""
        favourite: NDArray[np.int64] = self.weights.argmax(axis=0)
        return favourite

    @property
    def own_weight(self) -> float:
        """The weight that a pixel's own class has, averaged over pixels."""
        return float(np.take_along_axis(self.weights, self.label_map[None], axis=0).mean())

    @property
    def own_share(self) -> float:
        """The share of the pixels that looked most at the code of their own class."""
        return float((self.favourite == self.label_map).mean())


def analyse_attention(model: Generator, layout: Layout, style: Style | None = None) -> list[BlockAttention]:
    """Look into every cross-attention while the first image of a layout is made, from the smallest features on.

    Args:
        model: a generator of CA2-SIS.
        layout: on the model's device, at its size.
        style: codes; None takes the neutral ones.

    Raises:
        ConfigError: the model has no cross-attention.
        LayoutError, StyleError: what does not fit the model.
    """
    if not isinstance(model, CA2SISGenerator):
        raise ConfigError(f"this {model.config.model} model has no attention over classes: give a ca2-sis model.")
    with torch.no_grad():
        blocks = model.attention(layout, style)
    return [
        BlockAttention(
            weights[0].float().cpu().numpy(), layout.at((weights.shape[2], weights.shape[3]))[0].cpu().numpy()
        )
        for weights in blocks
    ]


def write_attention(blocks: Sequence[BlockAttention], layout: Layout, folder: Path) -> list[Figure]:
    """Write `attention.png` (all blocks), `attention-{block}.png` (its classes) and `attention.json`.

    Raises DependencyError if matplotlib is not installed.
    """
    figures = [draw_favourites(blocks, layout, folder / "attention.png")]
    for number, block in enumerate(blocks):
        figures.append(draw_classes(block, layout, folder / f"attention-{number}.png", f"block {number}"))
    text = json.dumps(as_json(blocks, layout), indent=1, ensure_ascii=False)
    write_text(folder / "attention.json", text + "\n")
    return figures


def as_json(blocks: Sequence[BlockAttention], layout: Layout) -> dict[str, Any]:
    """The numbers: per block the size, the two shares, and the mean weight of every class by name."""
    names = layout.labels.names
    rows = [
        {
            "size": list(block.size),
            "own_weight": block.own_weight,
            "own_share": block.own_share,
            "mean_weight": dict(zip(names, block.weights.mean(axis=(1, 2)).tolist(), strict=True)),
        }
        for block in blocks
    ]
    return {"labels": layout.labels.name, "blocks": rows}


def draw_favourites(blocks: Sequence[BlockAttention], layout: Layout, path: Path) -> Figure:
    """The layout, and for each block the classes looked at most, in their colours."""
    height, width = panel(layout.size, 2.0)
    columns = 1 + len(blocks)
    figure, axes = new_figure(1, columns, width=columns * width, height=height + 1.3)
    draw_layout(axes[0, 0], layout)
    axes[0, 0].set_title("layout", fontsize=9)
    looked_at = [Layout(torch.from_numpy(block.favourite[None]), layout.labels, check=False) for block in blocks]
    for number, (axis, block, favourite) in enumerate(zip(axes[0, 1:], blocks, looked_at, strict=True)):
        draw_layout(axis, favourite)
        axis.set_title(f"block {number}, {size_text(block.size)}\nown class {block.own_share:.0%}", fontsize=9)
    class_legend(figure, [layout, *looked_at], columns)
    return saved(
        figure,
        path,
        "The class at whose style code each pixel looked most, block by block, beside the layout; the softmax over "
        "classes, averaged over heads. Below the size, the share of pixels that looked most at their own class.",
    )


def draw_classes(block: BlockAttention, layout: Layout, path: Path, name: str) -> Figure:
    """How much each pixel looked at the codes of single classes: those that were looked at most, on one scale."""
    means = block.weights.mean(axis=(1, 2))
    chosen = np.sort(np.argsort(-means, kind="stable")[:SHOWN])
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    height, width = panel(block.size, 1.6)
    figure, axes = new_figure(rows, columns, width=columns * width + 0.8, height=rows * (height + 0.3))
    top = float(block.weights[chosen].max())
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, index in zip(axes.flat, chosen, strict=False):
        image = axis.imshow(block.weights[index], cmap="viridis", vmin=0, vmax=top, interpolation="nearest")
        axis.set_title(f"{layout.labels.names[index]}  {means[index]:.1%}", fontsize=8)
    colour_bar(figure, image, axes, "weight")
    more = len(means) - len(chosen)
    rest = f" {more} classes that were looked at less are left out." if more else ""
    return saved(
        figure,
        path,
        f"How much each pixel looked at the style code of each class in {name} ({size_text(block.size)}), averaged "
        f"over heads; beside the name the mean.{rest}",
    )
