from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.nn.conditional_convolution import CCBlock, ConditionalConvolution, MapSPADE, conditional_convolution


def unfolded(x: Tensor, kernels: Tensor) -> Tensor:
    """By nine shifted copies at once, as the official code has it."""
    count, channels, height, width = x.shape
    windows = F.unfold(x, 3, padding=1).view(count, channels, 9, height, width)
    return (windows * kernels.view_as(windows)).sum(2)


def operands(*, dtype: torch.dtype = torch.float32, channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, channels, 5, 4), (2, 9 * channels, 5, 4))
    x, kernels = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
    return x.requires_grad_(), kernels.requires_grad_()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_the_sum_over_unfolded_windows(memory_format: torch.memory_format) -> None:
    x, kernels = (value.detach().contiguous(memory_format=memory_format) for value in operands())
    torch.testing.assert_close(conditional_convolution(x, kernels), unfolded(x.contiguous(), kernels.contiguous()))


def test_the_same_kernel_everywhere_is_a_depthwise_convolution() -> None:
    x, _ = operands()
    weight = torch.randn(3, 1, 3, 3)
    kernels = weight.view(1, 27, 1, 1).expand(2, 27, 5, 4)
    torch.testing.assert_close(conditional_convolution(x, kernels), F.conv2d(x, weight, padding=1, groups=3))


def test_gradients_by_finite_differences() -> None:
    assert torch.autograd.gradcheck(conditional_convolution, operands(dtype=torch.float64))


@pytest.mark.parametrize("wanted", [0, 1])
def test_one_gradient_alone(wanted: int) -> None:
    both, one = operands(), operands()
    conditional_convolution(*both).square().sum().backward()
    one[1 - wanted].requires_grad_(False)
    conditional_convolution(*one).square().sum().backward()
    assert one[1 - wanted].grad is None
    torch.testing.assert_close(one[wanted].grad, both[wanted].grad)


def test_only_the_arguments_are_kept_for_the_gradients() -> None:
    x, kernels = operands()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        conditional_convolution(x, kernels)
    assert sorted(value.data_ptr() for value in kept) == sorted([x.data_ptr(), kernels.data_ptr()])


def test_features_take_the_type_of_the_kernels() -> None:
    x, kernels = operands()
    assert conditional_convolution(x, kernels.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("channels", [1, 3, 8, 9])
def test_kernels_in_parts_are_the_kernels(channels: int) -> None:
    torch.manual_seed(0)
    layer = ConditionalConvolution(channels, 4, 6)
    x, conditions = torch.randn(2, channels, 5, 4), torch.randn(2, 4, 5, 4)
    with torch.no_grad():
        in_parts = layer(x, conditions)
    torch.testing.assert_close(in_parts, layer(x, conditions))
    torch.testing.assert_close(in_parts, unfolded(x, layer.predictor(conditions)))


def test_map_spade_without_gamma_and_beta_is_batch_norm() -> None:
    norm = MapSPADE(3, 2, 4)
    for layer in (norm.gamma, norm.beta):
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, 0.5)
    x = torch.randn(2, 3, 5, 4)
    expected = 1.5 * F.batch_norm(x, None, None, training=True) + 0.5
    torch.testing.assert_close(norm(x, torch.randn(2, 2, 5, 4)), expected)


@pytest.mark.parametrize(("in_channels", "out_channels"), [(4, 4), (6, 4)])
def test_a_block_spelt_out(in_channels: int, out_channels: int) -> None:
    torch.manual_seed(0)
    block = CCBlock(in_channels, out_channels, 3, 5).eval()
    x, conditions = torch.randn(2, in_channels, 6, 5), torch.randn(2, 3, 6, 5)
    y = unfolded(block.norm_1(x), block.depthwise_1.predictor(conditions))
    y = F.leaky_relu(block.pointwise_1(y) * torch.sigmoid(block.gate_1(conditions)), 0.2)
    y = unfolded(block.norm_2(y), block.depthwise_2.predictor(conditions))
    y = F.leaky_relu(block.pointwise_2(y) * torch.sigmoid(block.gate_2(conditions)), 0.2)
    shortcut = x if in_channels == out_channels else block.conv_s(block.norm_s(x, conditions))
    torch.testing.assert_close(block(x, conditions), shortcut + y)


def test_a_block_learns_everything_but_the_norms_that_it_does_not_use() -> None:
    block = CCBlock(6, 4, 3, 5)
    block(torch.randn(2, 6, 6, 5), torch.randn(2, 3, 6, 5)).square().sum().backward()
    still = {name.split(".")[0] for name, parameter in block.named_parameters() if parameter.grad is None}
    assert still == {"unused"}


def test_a_block_cannot_widen() -> None:
    with pytest.raises(ValueError, match="cannot widen: 4 channels in, 6 out"):
        CCBlock(4, 6, 3)
