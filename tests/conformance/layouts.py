"""Adapters of what a layout derives: edges, semantic map, positional encoding."""

from __future__ import annotations

import torch
from torch import Tensor

from segscape.layout import Layout, instance_edges
from segscape.position import intra_class_position

from .options import labels_of
from .vector import Vector


def edges(vector: Vector) -> dict[str, Tensor]:
    return {
        name.replace("inst", "edge"): instance_edges(instance_map.squeeze(1).long())
        for name, instance_map in vector.inputs.items()
    }


def semantics(vector: Vector) -> dict[str, Tensor]:
    instance = vector.inputs.get("instance")
    layout = Layout(
        vector.inputs["label"].squeeze(1).long(),
        labels_of(vector.config),
        None if instance is None else instance.squeeze(1).long(),
    )
    return {"semantics": layout.semantic_map(edges=not vector.config["no_instance"])}


def positional_encoding(vector: Vector) -> dict[str, Tensor]:
    """`norm{i}` and `raw{i}` of each `map{i}`."""
    assert vector.config["skip_label"] == 0, "the official rule skips label 0"
    found = {}
    for name, label_map in vector.inputs.items():
        for kind, normalize in (("norm", True), ("raw", False)):
            encoded = intra_class_position(label_map.numpy(), "official", normalize)
            found[name.replace("map", kind)] = torch.from_numpy(encoded)
    return found
