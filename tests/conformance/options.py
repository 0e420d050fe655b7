"""The options of the official code in the terms of Segscape, and the layouts of vectors."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn.conditional import Statistics

from .vector import Vector

STATISTICS: dict[str, Statistics] = {"syncbatch": "sync-batch", "batch": "batch", "instance": "instance"}
DOUBLINGS = {"normal": 5, "more": 6, "most": 7}


def labels_of(config: dict[str, Any]) -> LabelSet:
    """`label_nc` classes and, with `contain_dontcare_label`, an unknown one after them."""
    known = config["label_nc"]
    if config.get("contain_dontcare_label"):
        return LabelSet.numbered(known + 1, unknown=known)
    return LabelSet.numbered(known)


def image_size(config: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of a generator's images: a start of crop_size // 2^u by its rounded aspect, doubled u times."""
    multiple = 2 ** DOUBLINGS[config["num_upsampling_layers"]]
    width = config["crop_size"] // multiple
    return round(width / config["aspect_ratio"]) * multiple, width * multiple


def norm_text(text: str) -> tuple[bool, Statistics, int]:
    """`[spectral]spade{norm}{k}x{k}` -> spectral norm on the convolutions, statistics, kernel size."""
    match = re.fullmatch(r"(spectral)?spade([a-z]+)(\d+)x\3", text)
    assert match, f"unknown norm {text!r}"
    return bool(match[1]), STATISTICS[match[2]], int(match[3])


def layout_of(vector: Vector, labels: LabelSet, *, position_is_official: bool = False) -> Layout:
    """The layout of `input.label`, `.instance`, `.edge` and `.dist`, with what is given checked against what we derive.

    Args:
        position_is_official: the vector's positional encoding is that of its label map by the official rule.
    """
    label_map = vector.inputs["label"].squeeze(1).long()
    edges, position = vector.inputs.get("edge"), vector.inputs.get("dist")
    instance = vector.inputs.get("instance")
    derived = Layout(label_map, labels, None if instance is None else instance.squeeze(1).long())
    if edges is not None and instance is not None:
        assert torch.equal(derived.edges(), edges.float()), "the edges differ from those of the instance map"
    if position is not None and position_is_official:
        torch.testing.assert_close(derived.position(), position, rtol=0, atol=1e-5)
    return Layout(label_map, labels, derived.instance_map, edges=edges, position=position)


def layout_of_semantic_map(semantic: Tensor, classes: int, position: Tensor | None) -> Layout:
    """The layout whose semantic map is `[N, classes (+ 1 for edges), H, W]`.

    A layout holds indices, so the map must be one-hot: a failure here means that it is not, and that no layout can
    say the same.
    """
    one_hot, edges = semantic[:, :classes], semantic[:, classes:]
    layout = Layout(
        one_hot.argmax(dim=1),
        LabelSet.numbered(classes),
        edges=edges if edges.shape[1] else None,
        position=position,
    )
    assert torch.equal(layout.semantic_map(edges=bool(edges.shape[1])), semantic), "input.seg is not one-hot"
    return layout
