"""The Triton kernels in Triton's interpreter against the eager steps, and whether they compile for a GPU.

The interpreter is chosen when Triton is imported. So pytest runs this file once more in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from segscape.nn import modulated_activation as operation
from segscape.nn import modulated_activation_eager as eager

triton = pytest.importorskip("triton")
kernels: ModuleType = pytest.importorskip("segscape.nn.modulated_activation_triton")

Size = tuple[int, int, int, int, int]
"""Images, channels, height, width, classes."""

SIZES: dict[str, Size] = {
    "one": (1, 1, 1, 1, 1),
    "odd": (2, 5, 3, 7, 4),
    "one class": (1, 7, 20, 20, 1),
    "two blocks of channels": (1, 130, 3, 5, 3),
    "more classes than pixels": (1, 16, 4, 4, 40),
}
TOLERANCE = {torch.float32: (2e-5, 2e-5), torch.bfloat16: (2**-7, 1e-3), torch.float16: (2**-10, 1e-3)}


def arguments(size: Size, factors: bool, dtype: torch.dtype) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Index; features, tables, and factors if wanted."""
    batch, channels, height, width, classes = size
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width) * 2 + 1
    tables = [torch.randn(classes, channels) for _ in range(2)]
    pair = [torch.randn(batch, 1, height, width) for _ in range(2 * factors)]
    values = tuple(value.requires_grad_() for value in (x.to(dtype), *tables, *pair))
    return torch.randint(0, classes, (batch, height, width)), values


def everything(index: Tensor, values: tuple[Tensor, ...], own: bool, slope: float) -> tuple[Tensor, ...]:
    """The result and all gradients."""
    x, gamma, beta, *factors = values
    channels = x.shape[1]
    given = operation.ChannelStatistics(torch.linspace(-1, 2, channels), torch.linspace(0.5, 2, channels))
    found = operation.channel_statistics(x) if own else given
    pair = (factors[0], factors[1]) if factors else None
    y = operation.modulated_activation(x, index, gamma, beta, found, slope=slope, factors=pair)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return (y, *torch.autograd.grad(y, values, direction))


if os.environ.get("TRITON_INTERPRET") == "1":

    @pytest.mark.parametrize("factors", [False, True])
    @pytest.mark.parametrize(
        ("size", "own", "slope", "dtype"),
        [
            *((size, size != "one", 0.2, torch.float32) for size in SIZES),
            *(("odd", own, slope, torch.bfloat16) for own, slope in ((True, 0.2), (False, 0.2), (True, 1.0))),
            ("odd", False, 1.0, torch.float16),
        ],
    )
    def test_as_eager(
        monkeypatch: pytest.MonkeyPatch, size: str, own: bool, slope: float, factors: bool, dtype: torch.dtype
    ) -> None:
        index, values = arguments(SIZES[size], factors, dtype)
        expected = everything(index, values, own, slope)
        monkeypatch.setattr(operation, "_steps", lambda _: kernels)
        found = everything(index, values, own, slope)
        relative, absolute = TOLERANCE[dtype]
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype and one.shape == other.shape
            absolute_here = absolute + relative * other.detach().abs().max().item()
            torch.testing.assert_close(one, other, rtol=relative, atol=absolute_here)

    @pytest.mark.parametrize("stripes", [1, 2, 3, 512])
    def test_statistics_of_many_tiles(monkeypatch: pytest.MonkeyPatch, stripes: int) -> None:
        monkeypatch.setattr(kernels, "TILE", 32)
        monkeypatch.setattr(kernels, "STRIPES", stripes)
        rows = torch.randn(53, 5) + torch.tensor([0, 1, 10, 50, 100])
        mean, variance = kernels.mean_and_variance(rows)
        torch.testing.assert_close(mean.double(), rows.double().mean(0), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(variance.double(), rows.double().var(0, correction=0), rtol=2e-5, atol=0)

    def test_sums_of_many_programs(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kernels, "TILE", 32)
        monkeypatch.setattr(kernels, "SHARERS", 4)  # so that the fourteen programs fill three copies of the tables
        index, values = arguments((1, 8, 5, 11, 5), True, torch.float32)
        expected = everything(index, values, True, 0.2)
        monkeypatch.setattr(operation, "_steps", lambda _: kernels)
        torch.testing.assert_close(everything(index, values, True, 0.2), expected, rtol=1e-4, atol=1e-4)

else:

    def test_in_the_interpreter() -> None:
        environment = {**os.environ, "TRITON_INTERPRET": "1"}
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command = [sys.executable, "-m", "pytest", __file__, *options]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
        assert "passed" in done.stdout

    @pytest.mark.parametrize("name", ["_statistics", "_value", "_sums", "_input_gradient"])
    def test_compiles_for_a_gpu(name: str) -> None:
        compiler: Any = pytest.importorskip("triton.compiler")
        target = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 80, 32)
        kernel = getattr(kernels, name)
        for fixed in (
            {},
            {"count": 1, "channels": 1, "num_rows": 1, "copies": 1, "stripe": 1},
        ):  # 1 is a case of its own
            constants = {"BLOCK_ROWS": 32, "BLOCK_CHANNELS": 64, "HAS_FACTORS": not fixed, **fixed}
            signature = {argument: kind_of(argument, constants) for argument in kernel.arg_names}
            used = {key: value for key, value in constants.items() if key in signature}
            source = compiler.ASTSource(fn=kernel, signature=signature, constexprs=used)
            assert "cubin" in triton.compile(source, target=target).asm

    def kind_of(argument: str, constants: dict[str, Any]) -> str:
        """The type with which a kernel gets an argument."""
        kinds = {"rows": "*bf16", "gradient": "*bf16", "out": "*bf16", "index": "*i64", "slope": "fp32"}
        kinds |= dict.fromkeys(("count", "channels", "num_rows", "copies", "stripe"), "i32")
        return "constexpr" if argument in constants else kinds.get(argument, "*fp32")

    def test_eager_steps_were_taken_here() -> None:
        assert operation._steps(torch.randn(1, 2, 3, 4)) is eager
