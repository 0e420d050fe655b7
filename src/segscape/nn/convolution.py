"""A convolution whose weight's gradient is nearly as fast over channels-last features as over plain ones.

Features are channels-last in training, which the conditional norms like. The forward pass and the gradient of the
features cost the same in both orders; with the gradient of the weight the backward pass takes up to three times as long
channels-last (measured on an AMD EPYC without AVX-512), far more than the copies that put the features in order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, in every way but the time that its gradient takes on CPUs."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self._reorders(input, weight):
            plain: Tensor = super()._conv_forward(input, weight, bias)
            return plain
        y: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
            input, weight, bias, self.stride, self.padding, self.dilation, self.groups
        )
        return y

    def _reorders(self, input: Tensor, weight: Tensor) -> bool:
        """Whether the gradient of the weight will be asked for, of float32 channels-last features on the CPU."""
        if not torch.is_grad_enabled() or not weight.requires_grad or torch.compiler.is_compiling():
            return False
        known = input.device.type == "cpu" and input.dtype == weight.dtype == torch.float32
        known = known and self.padding_mode == "zeros" and not isinstance(self.padding, str)
        plain = input.is_contiguous() and weight.is_contiguous()
        return known and not plain and not torch.is_autocast_enabled("cpu")


class _Convolution(torch.autograd.Function):
    """`torch.conv2d`, differentiable as often."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options, ctx.bias_sizes = options, None if bias is None else list(bias.shape)
        return torch.conv2d(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        rest = (ctx.bias_sizes, stride, padding, dilation, False, [0, 0], groups)
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        found: list[Tensor | None] = [None, None, None]
        if of_x:
            found[0] = torch.ops.aten.convolution_backward(gradient, x, weight, *rest, [True, False, False])[0]
        if of_weight or of_bias:
            plain = (gradient.contiguous(), x.contiguous(), weight.contiguous())
            found[1:] = torch.ops.aten.convolution_backward(*plain, *rest, [False, of_weight, of_bias])[1:]
        return (*found, None, None, None, None)
