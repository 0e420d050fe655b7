"""`compile_generator`: a generator compiled by `torch.compile`, for GPUs above all.

What is compiled is the traced generator (`tracing.py`), whose input are label indices: another layout runs the same
code, and so does another size, after at most two more compilations. On a GPU a model of fixed size becomes one CUDA
graph. On a CPU `accelerate` is faster (one thread, CLADE at 256x256: 0.65 s against 1.0 s), since its convolutions are.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.inference.acceleration import AcceleratedGenerator, Precision, require_plain
from segscape.inference.export import sign
from segscape.inference.tracing import trace
from segscape.layout import Layout, Size
from segscape.models.generator import Generator
from segscape.style import Style


class CompiledGenerator(AcceleratedGenerator):
    """A generator for inference only; made by `compile_generator`, called like any other.

    Args:
        model: the plain generator, which encodes photos; it is set to evaluation mode.
        precision: of features and weights.
    """

    def __init__(self, model: Generator, precision: Precision) -> None:
        super().__init__(model)
        device = next(model.parameters()).device
        graph = trace(model, sign(model), getattr(torch, precision), device).module()
        on_gpu = device.type == "cuda"
        fixed = model.config.fixed_size
        # a list, so that the module tree, and with it `to` and `parameters`, stays that of the plain model
        self._compiled: list[Any] = [
            torch.compile(graph, dynamic=not fixed, mode="reduce-overhead" if on_gpu and fixed else None)
        ]

    @torch.no_grad()
    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """As the plain generator; float32 `[N, 3, H, W]` whatever the precision inside."""
        self.network.check(layout, style)
        config = self.config
        if style is None and config.style_kind is not None:
            style = self.network.neutral_style(layout.batch_size)
        inputs = {
            "label_map": layout.label_map,
            "instance_map": layout.instance_map if config.reads_instances else None,
            "position": layout.position(rule=config.encoding_rule) if config.encoding_rule else None,
            "style": None if style is None else _at_size(style, layout.size),
        }
        given = {name: value for name, value in inputs.items() if value is not None}
        return cast(Tensor, self._compiled[0](**given)).clone()  # a CUDA graph reuses its output


def _at_size(style: Style, size: Size) -> Tensor:
    """The values of a style; those of a map at the size of the layout, as the graph reads them."""
    return F.interpolate(style.values, size=size, mode="nearest") if style.kind == "map" else style.values


def compile_generator(model: Generator, precision: Precision = "float32") -> CompiledGenerator:
    """Compile a generator for inference; the first picture of a size takes a minute or so, and is kept by PyTorch's
    cache on disk for the next process. The model itself stays as it is. Noise (SEAN) is left out.

    Args:
        model: any generator, on the device where it will run. A C++ compiler is needed, on a GPU Triton.
        precision: of features and weights.

    Raises:
        ConfigError: an unknown precision, or a model that is accelerated already.
    """
    require_plain(model, precision)
    return CompiledGenerator(copy.deepcopy(model), precision)
