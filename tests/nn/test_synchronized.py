"""Batch norm over two processes against `nn.BatchNorm2d` over the joined batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn import CLADE, SPADE
from segscape.nn.conditional import parameter_free_norm
from segscape.nn.synchronized import SynchronizedBatchNorm2d, process_sum
from segscape.training.ema import estimate_statistics

SHARES = (slice(0, 3), slice(3, 4))
"""Of four images, three belong to the first process and one to the second."""

LABELS = LabelSet.numbered(5)


def features() -> Tensor:
    return torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(0)) * 3 + 100


def direction() -> Tensor:
    return torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(1))


def layout(part: slice) -> Layout:
    return Layout(torch.randint(0, 5, (4, 6, 5), generator=torch.Generator().manual_seed(2))[part], LABELS)


def networks(kind: type[nn.BatchNorm2d]) -> dict[str, nn.Module]:
    """A norm with scale and shift, and SPADE and CLADE around one without."""
    torch.manual_seed(3)
    norm = kind(3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    around = {"spade": SPADE(3, 5, hidden_channels=4), "clade": CLADE(3, 5)}
    for layer in around.values():
        layer.statistics = kind(3, affine=False)
    return {"norm": norm, **around}


def results(kind: type[nn.BatchNorm2d], part: slice) -> dict[str, dict[str, Tensor]]:
    """Output, gradient of the input, gradients of the parameters and buffers, after a forward without gradients too."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, network in networks(kind).items():
        x = features()[part].requires_grad_()
        more = () if name == "norm" else (layout(part),)
        with torch.no_grad():
            network(x * 2, *more)
        y = network(x, *more)
        y.backward(direction()[part])
        assert x.grad is not None
        gradients = {f"gradient.{key}": p.grad for key, p in network.named_parameters() if p.grad is not None}
        found[name] = {"y": y.detach(), "x": x.grad} | gradients | dict(network.named_buffers())
    return found


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    found: dict[str, Any] = results(SynchronizedBatchNorm2d, SHARES[rank])
    if rank == 0:  # alone: the other process does not answer
        network = networks(SynchronizedBatchNorm2d)["clade"]
        estimate_statistics(network, [(features(), layout(slice(0, 4)))])  # type: ignore[list-item]
        found["alone"] = dict(network.named_buffers())
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.barrier()
    os._exit(0)  # an interpreter with process groups may abort when it exits


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("two")
    multiprocessing.spawn(one_of_two, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", ["norm", "spade", "clade"])
def test_two_processes_equal_one(two: list[dict[str, dict[str, Tensor]]], name: str) -> None:
    expected = results(nn.BatchNorm2d, slice(0, 4))[name]
    for key, value in expected.items():
        parts = [found[name][key] for found in two]
        if key in ("y", "x"):
            together = torch.cat(parts)
        elif key.startswith("gradient."):
            together = parts[0] + parts[1]
        else:
            assert torch.equal(parts[0], parts[1]), key
            together = parts[0]
        assert torch.allclose(together, value, rtol=1e-5, atol=1e-5 * float(value.abs().max())), key


def test_one_process_can_work_alone(two: list[dict[str, dict[str, Tensor]]]) -> None:
    alone = two[0]["alone"]
    assert torch.allclose(alone["statistics.running_mean"], features().mean((0, 2, 3)))
    assert torch.allclose(alone["statistics.running_var"], features().var((0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_one_process_is_pytorchs_batch_norm_to_the_bit(training: bool) -> None:
    ours, theirs = networks(SynchronizedBatchNorm2d)["norm"], networks(nn.BatchNorm2d)["norm"]
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for norm in (ours, theirs):
        norm(features())
    ours.train(training)
    theirs.train(training)
    assert torch.equal(ours(features()), theirs(features()))
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


def test_only_a_synchronised_norm_among_several_processes_sums() -> None:
    assert process_sum(parameter_free_norm("sync-batch", 3)) is None
