"""Time and memory of normalise, modulate and activate in training: PyTorch's operations against the fused one.

One norm of CLADE and the activation after it, forward and backward, at the feature sizes of the ADE20K generator. The
plain path is batch norm, two table look-ups, product, sum and LeakyReLU. Kept is what the graph holds between forward
and backward, features included, tables and label map left out. `--quick` takes small maps.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.evaluation.cost.timing import LiveTensors, machine, regions, thread_count
from segscape.labels import LabelSet
from segscape.nn.modulated_activation import batch_statistics, modulated_activation

LABELS = LabelSet.numbered(151)
SIZES = ((1024, 16), (1024, 32), (512, 64), (256, 128), (128, 256), (64, 256))
QUICK_SIZES = ((64, 16), (16, 32))
"""Channels, and height and width."""

Step = Callable[[Tensor, Tensor, Tensor, Tensor, nn.BatchNorm2d], Tensor]


def main() -> None:
    """Measure, print the rows, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small maps only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--batch-size", type=int, default=1, help="images per step (default 1)")
    parser.add_argument("--repetitions", type=int, default=15, help="timed steps of each path (default 15)")
    parser.add_argument("--device", default="cpu", help="where to run (default cpu)")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of the features")
    options = parser.parse_args()
    rows = []
    with thread_count(options.threads):
        computer = machine(options.device)
        print(", ".join(f"{key} {value}" for key, value in computer.items()))
        print(f"{'features':<14}{'layout':<9}{'path':<7}", end="")
        print("".join(f"{head:>13}" for head in ("forward ms", "backward ms", "ratio", "kept MB", "of x", "peak MB")))
        for channels, size in QUICK_SIZES if options.quick else SIZES:
            for layout in ("regions", "noise"):
                rows += compare(channels, size, layout, options)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": computer, "quick": options.quick, "rows": rows}, indent=1) + "\n"
        )


def compare(channels: int, size: int, layout: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both paths on the same features, their steps by turns."""
    torch.manual_seed(0)
    count, device = options.batch_size, torch.device(options.device)
    index = torch.randint(0, LABELS.num_classes, (count, size, size))
    if layout == "regions":
        index = regions(LABELS, (size, size), count=count).label_map
    x = torch.randn(count, channels, size, size, device=device, dtype=getattr(torch, options.precision))
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    gamma, beta = (torch.rand(LABELS.num_classes, channels, device=device, requires_grad=True) for _ in range(2))
    norm = nn.BatchNorm2d(channels, affine=False, device=device)
    arguments = (x, index.to(device), gamma, beta, norm)
    steps: dict[str, Step] = {"plain": plain, "fused": fused}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(options.repetitions + 2):
        for name, step in steps.items():
            times[name].append(seconds(step, arguments))
    rows: list[dict[str, Any]] = []
    for name, step in steps.items():
        forward, backward = (statistics.median(column) for column in zip(*times[name][2:], strict=True))
        first = rows[0] if rows else {"forward_seconds": forward, "backward_seconds": backward}
        row = {"channels": channels, "size": size, "batch_size": count, "layout": layout, "path": name}
        row |= {"device": str(device), "precision": options.precision, "threads": torch.get_num_threads()}
        row |= {"forward_seconds": forward, "backward_seconds": backward}
        row |= {"ratio_to_plain": (forward + backward) / (first["forward_seconds"] + first["backward_seconds"])}
        row |= {"kept_bytes": kept(step, arguments), "feature_bytes": x.nbytes, "peak_bytes": peak(step, arguments)}
        rows.append(row)
        print(f"{f'{channels}x{size}x{size}':<14}{layout:<9}{name:<7}", end="")
        print(f"{forward * 1e3:>13.2f}{backward * 1e3:>13.2f}{row['ratio_to_plain']:>13.2f}", end="")
        print(f"{row['kept_bytes'] / 1e6:>13.1f}{row['kept_bytes'] / x.nbytes:>13.2f}", end="")
        print(f"{row['peak_bytes'] / 1e6:>13.1f}", flush=True)
    return rows


def plain(x: Tensor, index: Tensor, gamma: Tensor, beta: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """The same spelt out, in the type of the features, as which the convolution after it reads it."""
    scale, shift = (F.embedding(index, table).permute(0, 3, 1, 2) for table in (gamma, beta))
    return F.leaky_relu(norm(x) * scale + shift, 0.2).to(x.dtype)


def fused(x: Tensor, index: Tensor, gamma: Tensor, beta: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """The one operation."""
    return modulated_activation(x, index, gamma, beta, batch_statistics(norm, x), slope=0.2)


def seconds(step: Step, arguments: tuple[Any, ...]) -> tuple[float, float]:
    """Of one forward and one backward pass."""
    x, _, gamma, beta, _ = arguments
    moments = [now(x.device)]
    y = step(*arguments)
    moments.append(now(x.device))
    gradient = torch.ones_like(y)
    moments.append(now(x.device))
    torch.autograd.grad(y, (x, gamma, beta), gradient)
    moments.append(now(x.device))
    return moments[1] - moments[0], moments[3] - moments[2]


def now(device: torch.device) -> float:
    """Seconds of a clock, once the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()


def kept(step: Step, arguments: tuple[Any, ...]) -> int:
    """Bytes that the graph holds after a forward pass, without tables and label map."""
    _, index, gamma, beta, _ = arguments
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = step(*arguments)
    for tensor in (index, gamma, beta):
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    del y
    return sum(storages.values())


def peak(step: Step, arguments: tuple[Any, ...]) -> int:
    """The most bytes of tensors alive in a forward and a backward pass, features and their gradients included."""
    x, _, gamma, beta, _ = arguments
    with LiveTensors() as tensors:
        y = step(*arguments)
        torch.autograd.grad(y, (x, gamma, beta), torch.ones_like(y))
    return tensors.peak


if __name__ == "__main__":
    main()
