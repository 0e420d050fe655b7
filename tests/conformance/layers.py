"""Adapters of single layers: the conditional norms and the residual block."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from segscape.layout import Layout
from segscape.models.conversion.official import rename
from segscape.models.conversion.spade import BLOCK_KEYS, NORM_KEYS
from segscape.nn import CLADE, SPADE, ConditionalNorm, ResidualBlock

from .options import labels_of, layout_of, layout_of_semantic_map, norm_text
from .vector import Vector, by_official_key


def spade_norm(vector: Vector) -> dict[str, Tensor]:
    """`label_nc_total` counts the channels of the semantic map, so the edge is one of them."""
    config = vector.config
    instances = not config["no_instance"]
    classes = config["label_nc_total"] - int(instances)
    _, statistics, kernel_size = norm_text(config["config_text"])
    norm = SPADE(config["norm_nc"], classes, instances=instances, statistics=statistics, kernel_size=kernel_size)
    return _layer(vector, norm, NORM_KEYS, layout_of_semantic_map(vector.inputs["seg"], classes, None))


def clade_norm(vector: Vector) -> dict[str, Tensor]:
    """`label_nc_total` counts the classes, without the edge."""
    config = vector.config
    classes = config["label_nc_total"]
    _, statistics, _ = norm_text(config["config_text"])
    norm = CLADE(
        config["norm_nc"],
        classes,
        instances=not config["no_instance"],
        position="modulation" if config["add_dist"] else None,
        statistics=statistics,
    )
    layout = layout_of_semantic_map(vector.inputs["seg"], classes, vector.inputs.get("dist"))
    return _layer(vector, norm, NORM_KEYS, layout)


def residual_block(vector: Vector) -> dict[str, Tensor]:
    config, labels = vector.config, labels_of(vector.config)
    spectral, statistics, kernel_size = norm_text(config["norm_G"])
    common: dict[str, Any] = {
        "num_classes": labels.num_classes, "instances": not config["no_instance"], "statistics": statistics
    }  # fmt: skip
    if config["norm_mode"] == "spade":
        norm: partial[ConditionalNorm] = partial(SPADE, **common, kernel_size=kernel_size)
    else:
        norm = partial(CLADE, **common, position="modulation" if config["add_dist"] else None)
    block = ResidualBlock(config["fin"], config["fout"], norm, spectral=spectral)
    return _layer(vector, block, BLOCK_KEYS, layout_of(vector, labels))


def _layer(vector: Vector, layer: torch.nn.Module, keys: dict[str, str], layout: Layout) -> dict[str, Tensor]:
    """Run `y = layer(x, layout)`, and backward from `sum(y * grad_output)` if the vector has one."""
    layer.load_state_dict(rename(vector.state, keys))
    layer.train(vector.training)
    x = vector.leaf("x")
    y = layer(x, layout)
    found = {"y": y}
    if "grad_output" in vector.inputs:
        (y * vector.inputs["grad_output"]).sum().backward()
        assert x.grad is not None
        found["grad.x"] = x.grad
    return found | by_official_key(vector, layer, keys)
