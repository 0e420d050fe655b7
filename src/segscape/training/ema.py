"""Exponential moving average of a generator, with batch-norm statistics of its own.

Averaged weights need statistics measured with those weights: with the training network's they give the washed-out
samples that users of these models report. So `estimate_statistics` measures them before the average is used.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from segscape.layout import Layout
from segscape.nn.synchronized import SynchronizedBatchNorm2d
from segscape.style import Style
from segscape.training.freeze import frozen_layers

Tensors = tuple[Tensor, ...] | list[Tensor]


def make_average(generator: nn.Module, half_life_images: int, batch_size: int) -> AveragedModel:
    """An average whose old weights count half after `half_life_images` images.

    It warms up: early on it averages over the run so far, or the random start would linger for a long time.
    """
    slowest = 0.5 ** (batch_size / half_life_images)

    def update(averages: Tensors, currents: Tensors, updates: Tensor | int) -> None:
        decay = min(slowest, (1 + int(updates)) / (10 + int(updates)))
        with torch.no_grad():
            torch._foreach_lerp_(list(averages), list(currents), 1 - decay)

    return AveragedModel(generator, multi_avg_fn=update)


@torch.no_grad()
def estimate_statistics(
    generator: nn.Module, inputs: Iterable[tuple[Layout, Style | None]], frozen: Sequence[str] = ()
) -> None:
    """Set the batch-norm statistics of a generator, in place, to the averages over the given batches.

    Only the batch norms are put in training mode, so that nothing else (spectral norm) moves. The network ends in
    evaluation mode. One process may do this by itself. Parts that match the patterns `frozen` keep their statistics.
    """
    generator.eval()
    kept = frozen_layers(generator, frozen)
    norms = [layer for layer in generator.modules() if isinstance(layer, _BatchNorm) and layer not in kept]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
        _synchronize(norm, False)
    for layout, style in inputs:
        generator(layout, style)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        _synchronize(norm, True)


def _synchronize(norm: _BatchNorm, wanted: bool) -> None:
    if isinstance(norm, SynchronizedBatchNorm2d):
        norm.synchronized = wanted


def averaged_generator(
    average: AveragedModel, inputs: Iterable[tuple[Layout, Style | None]], frozen: Sequence[str] = ()
) -> nn.Module:
    """A copy of the averaged network in evaluation mode, its statistics as `estimate_statistics` sets them."""
    generator: nn.Module = copy.deepcopy(average.module)
    estimate_statistics(generator, inputs, frozen)
    return generator
