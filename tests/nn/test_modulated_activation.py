from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn import CLADE, ResidualBlock, modulated_activation_eager
from segscape.nn.modulated_activation import (
    ChannelStatistics,
    batch_statistics,
    channel_statistics,
    modulated_activation,
)

CLASSES = 6
Leaves = tuple[Tensor, ...]


def leaves(factors: bool, dtype: torch.dtype = torch.float64, size: tuple[int, ...] = (2, 3, 4, 5)) -> Leaves:
    """Features, gamma, beta, and the two factors if wanted."""
    torch.manual_seed(0)
    batch, channels, height, width = size
    shapes = [size, (CLASSES, channels), (CLASSES, channels), *[(batch, 1, height, width)] * (2 * factors)]
    values = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    values[0] = values[0] * 2 + 1
    return tuple(value.to(dtype).requires_grad_() for value in values)


def classes(size: tuple[int, ...] = (2, 3, 4, 5)) -> Tensor:
    """Classes of which the last one does not occur."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, CLASSES - 1, (size[0], *size[2:]), generator=generator)


def given() -> ChannelStatistics:
    return ChannelStatistics(torch.tensor([0.5, -1, 2]).double(), torch.tensor([0.5, 1, 3]).double())


def fused(index: Tensor, statistics: ChannelStatistics | None, slope: float) -> Callable[..., Tensor]:
    def run(x: Tensor, gamma: Tensor, beta: Tensor, *factors: Tensor) -> Tensor:
        found = statistics or channel_statistics(x)
        pair = (factors[0], factors[1]) if factors else None
        return modulated_activation(x, index, gamma, beta, found, slope=slope, factors=pair)

    return run


def spelt_out(index: Tensor, statistics: ChannelStatistics | None, slope: float) -> Callable[..., Tensor]:
    def run(x: Tensor, gamma: Tensor, beta: Tensor, *factors: Tensor) -> Tensor:
        mean = statistics.mean if statistics else x.mean((0, 2, 3))
        variance = statistics.variance if statistics else x.var((0, 2, 3), correction=0)
        normalised = (x - mean.view(1, -1, 1, 1)) / (variance.view(1, -1, 1, 1) + 1e-5).sqrt()
        scale, shift = gamma[index].permute(0, 3, 1, 2), beta[index].permute(0, 3, 1, 2)
        if factors:
            scale, shift = scale * factors[0], shift * factors[1]
        return F.leaky_relu(normalised * scale + shift, slope)

    return run


def gradients(run: Callable[..., Tensor], arguments: Leaves) -> tuple[Tensor, ...]:
    """The result, and its gradients in a random direction."""
    y = run(*arguments)
    direction = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    return (y, *torch.autograd.grad(y, arguments, direction))


@pytest.mark.parametrize("slope", [1.0, 0.2])
@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("statistics", [None, given()], ids=["own", "given"])
def test_gradients(statistics: ChannelStatistics | None, factors: bool, slope: float) -> None:
    index, arguments = classes(), leaves(factors)
    torch.testing.assert_close(
        gradients(fused(index, statistics, slope), arguments), gradients(spelt_out(index, statistics, slope), arguments)
    )
    assert torch.autograd.gradcheck(fused(index, statistics, slope), arguments)


@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("chunk", [1, 256, 1000, 1 << 20])
def test_the_pieces_of_a_pass_do_not_show(monkeypatch: pytest.MonkeyPatch, chunk: int, factors: bool) -> None:
    size = (3, 5, 7, 11)
    index, arguments = classes(size), leaves(factors, size=size)
    expected = gradients(spelt_out(index, None, 0.2), arguments)
    monkeypatch.setattr(modulated_activation_eager, "CHUNK_BYTES", chunk)
    torch.testing.assert_close(gradients(fused(index, None, 0.2), arguments), expected)


def test_any_order_in_memory() -> None:
    index, (x, *tables) = classes(), leaves(False)
    expected = gradients(spelt_out(index, None, 0.2), (x, *tables))
    wide = torch.randn(2, 8, 4, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    wide[:, 2:5] = x.detach()
    for other in (x.detach().contiguous(memory_format=torch.channels_last), wide[:, 2:5]):
        found = gradients(fused(index, None, 0.2), (other.requires_grad_(), *tables))
        assert found[0].is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected)
    total = fused(index, None, 0.2)(x, *tables).sum()  # whose gradient is one number, expanded
    assert torch.autograd.grad(total, x)[0].shape == x.shape


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_halves_are_rounded_at_the_end(dtype: torch.dtype, rounding: float) -> None:
    index, (x, *tables) = classes(), leaves(True, torch.float32)
    rounded = (x * 3 + 20).detach().to(dtype).requires_grad_()
    factors = tuple(factor.detach().to(dtype).requires_grad_() for factor in tables[2:])
    found = gradients(fused(index, None, 0.2), (rounded, *tables[:2], *factors))
    exact = tuple(value.detach().double().requires_grad_() for value in (rounded, *tables[:2], *factors))
    expected = gradients(spelt_out(index, None, 0.2), exact)
    assert [value.dtype for value in found] == [dtype, dtype, torch.float32, torch.float32, dtype, dtype]
    torch.testing.assert_close(found[0].double(), expected[0], rtol=rounding, atol=1e-5)
    for one, other in zip(found[1:], expected[1:], strict=True):
        # the direction is rounded, too, and the gradient of the features on the way
        assert (one.double() - other).norm() < 3 * rounding * other.norm()


def test_statistics_are_those_of_wide_arithmetic() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 40, 50) * torch.tensor([1, 0.1, 5]).view(3, 1, 1) + torch.tensor([0, 30, 100]).view(3, 1, 1)
    for features in (x, x.bfloat16(), x.half(), x.double()):
        found, wide = channel_statistics(features), features.double()
        assert found.mean.dtype == torch.promote_types(features.dtype, torch.float32) and found.count == 4000
        torch.testing.assert_close(found.mean.double(), wide.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.variance.double(), wide.var((0, 2, 3), correction=0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("factors", [False, True])
def test_keeps_only_its_input(factors: bool) -> None:
    index, arguments = classes(), leaves(factors)
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = fused(index, None, 0.2)(*arguments)
    known = {tensor.data_ptr() for tensor in (index, *arguments)}
    assert all(tensor.data_ptr() in known or tensor.shape == (3,) for tensor in kept)
    assert y.requires_grad and arguments[0].data_ptr() in {tensor.data_ptr() for tensor in kept}


class Exchange:
    """A sum over threads, each of which plays one process."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=20)
        self.sums: dict[int, Tensor] = {}

    def reduce(self, sums: Tensor) -> Tensor:
        self.sums[threading.get_ident()] = sums.clone()
        self.barrier.wait()
        total = torch.stack(list(self.sums.values())).sum(0)
        self.barrier.wait()
        return total


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3)], ids=["halves", "uneven"])
@pytest.mark.parametrize("factors", [False, True])
def test_processes_share_their_statistics(factors: bool, sizes: tuple[int, int]) -> None:
    size = (4, 3, 4, 5)
    whole, index = leaves(factors, size=size), classes(size)
    expected = gradients(spelt_out(index, None, 0.2), whole)
    direction = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    exchange, results = Exchange(2), {}

    def process(number: int) -> None:
        part = slice(0, sizes[0]) if number == 0 else slice(sizes[0], None)
        x, gamma, beta, *pair = (value.detach().clone() for value in whole)
        own = tuple(value.requires_grad_() for value in (x[part], gamma, beta, *(factor[part] for factor in pair)))
        found = channel_statistics(own[0], exchange.reduce)
        y = modulated_activation(
            own[0], index[part], own[1], own[2], found, slope=0.2, factors=own[3:] or None, reduce=exchange.reduce
        )
        results[number] = (found.count, y.detach(), *torch.autograd.grad(y, own, direction[part]))

    threads = [threading.Thread(target=process, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = results[0], results[1]
    assert first[0] == second[0] == 4 * 4 * 5
    for place in (1, 2, *range(5, len(first))):  # maps: y, features, factors
        torch.testing.assert_close(torch.cat([first[place], second[place]]), expected[place - 1])
    for place in (3, 4):  # tables
        torch.testing.assert_close(first[place] + second[place], expected[place - 1])


def test_a_large_mean_survives_the_exchange() -> None:
    x = torch.randn(2, 3, 30, 30) + 3000
    found, wide = channel_statistics(x, lambda sums: sums * 2), x.double()
    torch.testing.assert_close(found.variance.double(), wide.var((0, 2, 3), correction=0), rtol=1e-4, atol=0)
    assert found.count == 2 * 1800


@pytest.mark.parametrize("momentum", [0.1, None])
def test_moves_running_statistics_as_batch_norm_does(momentum: float | None) -> None:
    ours, theirs = (nn.BatchNorm2d(3, affine=False, momentum=momentum) for _ in range(2))
    for scale in (1, 2, 3):
        x = torch.randn(2, 3, 4, 5) * scale + scale
        batch_statistics(ours, x), theirs(x)
    assert ours.num_batches_tracked == 3
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    found = batch_statistics(ours.eval(), x)
    assert found.mean is ours.running_mean and found.variance is ours.running_var and found.count is None


def test_one_value_has_no_variance() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        batch_statistics(nn.BatchNorm2d(3, affine=False), torch.randn(1, 3, 1, 1))


def test_can_be_checkpointed() -> None:
    index, arguments = classes(), leaves(True)
    run = fused(index, None, 0.2)
    found = gradients(lambda *values: checkpoint(run, *values, use_reentrant=False), arguments)
    torch.testing.assert_close(found, gradients(run, arguments), rtol=0, atol=0)


LABELS = LabelSet.numbered(CLASSES)


def training_layout() -> Layout:
    label_map = torch.randint(0, CLASSES, (2, 8, 12), generator=torch.Generator().manual_seed(0))
    return Layout(label_map, LABELS, label_map * 7)


@pytest.mark.parametrize("position", [None, "feature", "modulation"])
@pytest.mark.parametrize("instances", [False, True])
@pytest.mark.parametrize("slope", [1.0, 0.2])
def test_clade_trains_as_if_spelt_out(slope: float, instances: bool, position: str | None) -> None:
    torch.manual_seed(0)
    norm = CLADE(3, CLASSES, instances=instances, position=position, statistics="batch")  # type: ignore[arg-type]
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    other, layout = copy.deepcopy(norm), training_layout()
    x = (torch.randn(2, 3, 4, 6) * 3 + 1).requires_grad_()
    found, twin = norm.activated(x, layout, None, slope), x.detach().clone().requires_grad_()
    assert norm.fuses
    gamma, beta = other.modulation(layout, (4, 6))
    maps = [other.statistics(twin) * gamma + beta]
    maps += [other.edge(layout.edges((4, 6)))] if instances else []
    maps += [other.position_feature(layout.position((4, 6)))] if position == "feature" else []
    expected = F.leaky_relu(torch.cat(maps, dim=1), slope)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(found)
    found.backward(direction), expected.backward(direction)
    torch.testing.assert_close(x.grad, twin.grad)
    torch.testing.assert_close(norm.state_dict(), other.state_dict())
    for (name, one), (_, two) in zip(norm.named_parameters(), other.named_parameters(), strict=True):
        assert one.grad is not None, name
        torch.testing.assert_close(one.grad, two.grad)


def test_a_block_keeps_two_maps_per_norm_and_convolution() -> None:
    norm_sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() and tensor.ndim == 4 and tensor.shape[0] == 2:
            norm_sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    block = ResidualBlock(3, 3, lambda channels: CLADE(channels, CLASSES), spectral=False)
    x = torch.randn(2, 3, 4, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = block.to(memory_format=torch.channels_last)(x, training_layout())
    # input of each norm, and of each convolution
    assert sum(norm_sizes.values()) == 4 * x.nbytes and y.requires_grad


def test_without_gradients_the_norm_is_called_as_always() -> None:
    norm, seen = CLADE(3, CLASSES), []
    norm.statistics.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 3, 4, 6)
    with torch.no_grad():
        norm(x, training_layout())
    norm.eval()(x, training_layout())
    assert len(seen) == 2
