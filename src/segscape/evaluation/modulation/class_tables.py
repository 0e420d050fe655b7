"""What CLADE norms learned: the tables, how alike the classes are in them, and the response to the position.

Source: Tan et al., "Efficient Semantic Image Synthesis via Class-Adaptive Normalization", TPAMI 2021,
arXiv 2012.04644: equations 6 (tables) and 15 (positional factors).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from segscape.evaluation.modulation.class_moments import Floats
from segscape.layout import Layout, Size
from segscape.nn.clade import CLADE
from segscape.position import PositionRule


@dataclass(frozen=True)
class ClassTable:
    """The tables of one CLADE norm.

    Attributes:
        layer: the name of the norm.
        gamma, beta: float64 `[K, C]`, before any positional factor.
    """

    layer: str
    gamma: Floats
    beta: Floats

    @classmethod
    def of(cls, layer: str, norm: CLADE) -> ClassTable:
        """The tables of the norm called `layer`."""
        return cls(layer, as_array(norm.gamma), as_array(norm.beta))


@dataclass(frozen=True)
class PositionFactor:
    """`1 + vertical * d_vertical + horizontal * d_horizontal + bias`, by which a class's gamma or beta is multiplied.

    Attributes:
        vertical, horizontal, bias: the learned weights; d is in [-1, 1].
    """

    vertical: float
    horizontal: float
    bias: float

    @classmethod
    def of(cls, conv: nn.Conv2d, rule: PositionRule) -> PositionFactor:
        """The factor that a 1x1 convolution over the positional encoding makes."""
        assert conv.bias is not None
        first, second = conv.weight.flatten().tolist()
        vertical, horizontal = (second, first) if rule == "paper" else (first, second)
        return cls(vertical, horizontal, conv.bias.item())

    def at(self, vertical: Floats, horizontal: Floats) -> Floats:
        """The factor at offsets of any shape."""
        return 1 + self.vertical * vertical + self.horizontal * horizontal + self.bias


@dataclass(frozen=True)
class PositionResponse:
    """What the norm of one layer learned about the place of a pixel in its object (CLADE-ICPE).

    Attributes:
        layer: the name of the norm.
        size: (height, width) at which it works.
        rule: of the positional encoding.
        gamma, beta: the factors.
    """

    layer: str
    size: Size
    rule: PositionRule
    gamma: PositionFactor
    beta: PositionFactor

    @classmethod
    def of(cls, layer: str, norm: CLADE, size: Size) -> PositionResponse:
        """What the norm called `layer`, with `position="modulation"`, learned; it works at `size`."""
        factors = (PositionFactor.of(conv, norm.position_rule) for conv in (norm.position_gamma, norm.position_beta))
        return cls(layer, size, norm.position_rule, *factors)


def position_channels(layout: Layout, size: Size, rule: PositionRule) -> tuple[Floats, Floats]:
    """The positional encoding of the first map at a size: vertical and horizontal offset, each `[h, w]`."""
    first, second = as_array(layout.position(size, rule))[0]
    return (second, first) if rule == "paper" else (first, second)


class Neighbour(NamedTuple):
    """A class near another one.

    Attributes:
        class_index: which.
        distance: as `class_distances` gives it.
    """

    class_index: int
    distance: float


def class_distances(tables: Sequence[Floats]) -> Floats:
    """Distances between classes over the columns of one or more tables, such as the gamma and beta of every layer.

    Every column is standardised over the classes (mean 0, variance 1), so that no layer or channel outweighs the
    others, and a distance is the root of the mean squared difference: 0 between equal rows, some 1.4 between
    classes that have nothing to do with each other. Columns with one value for all classes do not count.

    Args:
        tables: `[K, C]` each, of the same classes.

    Returns:
        Symmetric `[K, K]`; zeros if no column counts.
    """
    columns = np.concatenate(tables, axis=1)
    columns = columns[:, np.ptp(columns, axis=0) > 0]
    classes = len(columns)
    if not columns.size:
        return np.zeros((classes, classes))
    standard = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    distances = [np.sqrt(np.square(standard - row).mean(axis=1)) for row in standard]
    return np.stack(distances)


def table_distances(tables: Sequence[ClassTable], quantities: Sequence[str] = ("gamma", "beta")) -> Floats:
    """`class_distances` over the gamma and beta tables of some norms, or over one of the two."""
    return class_distances([getattr(table, quantity) for table in tables for quantity in quantities])


def nearest_classes(distances: Floats, count: int = 3) -> list[list[Neighbour]]:
    """The nearest other classes of every class, the nearest first; of equals that with the lower index.

    Args:
        distances: `[K, K]`.
        count: how many of each, at most K - 1.
    """
    nearest = []
    for index, row in enumerate(distances):
        order = [other for other in np.argsort(row, kind="stable").tolist() if other != index]
        nearest.append([Neighbour(other, float(row[other])) for other in order[:count]])
    return nearest


def as_array(values: Tensor) -> Floats:
    """The values as float64 in numpy."""
    array: Floats = values.detach().cpu().double().numpy()
    return array
