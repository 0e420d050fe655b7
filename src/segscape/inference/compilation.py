"""`compile_generator`: a generator compiled by `torch.compile`, for GPUs above all.

What is compiled is the generator as a function of tensors (`export.GeneratorOfTensors`): folded, with label indices as
its input, so that another layout of the same size runs the same code. On a GPU the whole pass becomes one CUDA graph. On
a CPU `accelerate` is faster (one thread, CLADE at 256x256: 0.65 s against 1.0 s), since its convolutions are.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from segscape.errors import ConfigError
from segscape.inference.acceleration import AcceleratedGenerator, Precision
from segscape.inference.export import GeneratorOfTensors, fold
from segscape.layout import Layout
from segscape.models.generator import Generator
from segscape.style import Style, StyleDistribution


class CompiledGenerator(AcceleratedGenerator):
    """A generator for inference only; made by `compile_generator`, called like any other.

    Args:
        model: the plain generator, which encodes photos.
        precision: of features and weights.
    """

    def __init__(self, model: Generator, precision: Precision) -> None:
        super().__init__(model)
        device = next(model.parameters()).device
        folded = fold(model).to(device)  # `fold` works on the CPU
        network = GeneratorOfTensors(folded.to(getattr(torch, precision))).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # a list, so that the module tree, and with it `to` and `parameters`, stays that of the plain model
        self._compiled: list[Any] = [
            torch.compile(network, fullgraph=True, mode="reduce-overhead" if device.type == "cuda" else None)
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
            "instance_map": layout.instance_map if config.use_instances else None,
            "position": layout.position(rule=config.encoding_rule) if config.encoding_rule else None,
            "style": None if style is None else style.values,
        }
        given = {name: value for name, value in inputs.items() if value is not None}
        return cast(Tensor, self._compiled[0](**given)).float().clone()  # a CUDA graph reuses its output

    def encode(self, image: Tensor, layout: Layout) -> StyleDistribution:
        """As the plain generator."""
        return self.network.encode(image, layout)


def compile_generator(model: Generator, precision: Precision = "float32") -> CompiledGenerator:
    """Compile a generator for inference; the first picture of a size takes a minute or so, and is kept by PyTorch's
    cache on disk for the next process. The model itself stays as it is.

    Args:
        model: any generator, on the device where it will run. A C++ compiler is needed, on a GPU Triton.
        precision: of features and weights.

    Raises:
        ConfigError: a model that is accelerated already.
    """
    if isinstance(model, AcceleratedGenerator):
        raise ConfigError("this model is accelerated already.")
    return CompiledGenerator(model.eval(), precision)
