"""What a recipe's section `speed` does to the networks; it changes how a step is computed and not what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from segscape.models.ca2_sis import DecoderBlock
from segscape.nn.residual import ResidualBlock
from segscape.nn.spade import SPADE
from segscape.training.recipe import SpeedSection

Say = Callable[[str], None]


def arrange(generator: nn.Module, speed: SpeedSection) -> None:
    """Choose, in place, how the layers of a generator compute: the path of SPADE, and what blocks keep."""
    for layer in generator.modules():
        if isinstance(layer, SPADE):
            layer.path = speed.spade_path
        elif isinstance(layer, (ResidualBlock, DecoderBlock)):
            layer.recomputed = speed.checkpoint_activations == "blocks"


def compile_networks(networks: dict[str, nn.Module | None], say: Say) -> None:
    """Compile networks, in place, at their first forward; one that cannot be compiled stays as it is, with a warning.

    Args:
        networks: by the name to use in warnings; None is left out.
        say: is told of warnings.
    """
    for name, network in networks.items():
        if network is not None:
            _compile(network, name, say)


def _compile(network: nn.Module, name: str, say: Say) -> None:
    from torch._dynamo.exc import TorchDynamoException

    network.compile(dynamic=False)  # one or two batch sizes occur; a compilation for all of them can fail
    compiled: Any = network._compiled_call_impl
    buffers = list(network.buffers())

    def call(*args: Any, **kwargs: Any) -> Any:
        kept = [buffer.clone() for buffer in buffers]  # what is compiled in pieces may fail after the first ones ran
        try:
            return compiled(*args, **kwargs)
        except TorchDynamoException as error:
            network._compiled_call_impl = None
            with torch.no_grad():
                for buffer, value in zip(buffers, kept, strict=True):
                    buffer.copy_(value)
            cause = " ".join(str(error).split())[:200]
            say(f"warning: speed.compile: the {name} cannot be compiled ({cause}); it goes on without.")
            return network(*args, **kwargs)

    network._compiled_call_impl = call
