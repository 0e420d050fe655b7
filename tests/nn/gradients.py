"""Gradients of a conditional norm against finite differences."""

from __future__ import annotations

import torch
from torch import Tensor

from segscape.layout import Layout
from segscape.nn import ConditionalNorm


def gradients_agree(norm: ConditionalNorm, layout: Layout) -> bool:
    """`gradcheck` over the input and every parameter, in float64; `norm` must have float64 parameters."""
    names, values = zip(*norm.named_parameters(), strict=True)
    leaves = [value.detach().clone().requires_grad_() for value in values]
    size = (layout.batch_size, norm.channels, *layout.size)
    x = torch.randn(*size, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *leaves: Tensor) -> Tensor:
        return torch.func.functional_call(norm, dict(zip(names, leaves, strict=True)), (x, layout))

    return torch.autograd.gradcheck(run, (x, *leaves))
