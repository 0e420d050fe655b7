"""Time and memory of the reference path and the fast paths of each model, on real layouts and on noise, in one run.

The reference is the plain model as it is trained: spectral normalisation computed in every pass, SPADE by convolutions
over the one-hot map, features in the usual order. `onnx` and `int8` run the exported model in onnxruntime. `--data`
names datasets, whose validation layouts are resized to the model's size; values above the number of classes are folded
into it. Weights are random and the running statistics those of one layout, which costs what trained ones cost. Memory
is the process's: what the network takes when it is made, and the peak of a pass above that (Linux only). `--quick`
takes a narrow network at 64x64.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from segscape.data.folder import FileDataset
from segscape.data.open import find_listing
from segscape.evaluation.cost.published import SETTINGS
from segscape.evaluation.cost.timing import machine, thread_count
from segscape.inference import accelerate
from segscape.inference.export import export_onnx
from segscape.inference.onnx import OnnxPipeline
from segscape.inference.quantize import quantize
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.clade import mixed_norms
from segscape.models.generator import Generator

MODELS = ("spade", "clade", "clade-icpe", "mixed")
PATHS = {
    "reference": ("reference", "float32"),
    "fast": ("fast", "float32"),
    "bfloat16": ("fast", "bfloat16"),
    "onnx": ("onnx", "float32"),
    "int8": ("int8", "int8"),
}
Network = Callable[[Layout], torch.Tensor]
LAYOUTS = 4
"""Real layouts, spread over the folders."""


def main() -> None:
    """Measure, print the rows, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="roots of datasets")
    parser.add_argument("--setting", default="ade20k", choices=sorted(SETTINGS), help="classes and size (ade20k)")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=PATHS, help="reference is always run")
    parser.add_argument("--quick", action="store_true", help="base width 8 at 64x64")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    options = parser.parse_args()
    rows = []
    with thread_count(options.threads):
        computer = machine()
        print(", ".join(f"{key} {value}" for key, value in computer.items()))
        print(f"{'model':<12}{'layouts':<8}{'path':<15}{'s':>8}{'ratio':>8}{'MB':>8}{'difference':>12}")
        for name in options.models:
            model = build(name, options.setting, options.quick)
            real = [fitted(label_map, model) for label_map in spread(options.data)]
            torch.manual_seed(1)
            noise = torch.randint(0, model.config.labels.num_classes, (1, *model.config.image_size))
            for kind, layouts in (("real", real), ("noise", [with_instances(noise, model)])):
                rows += compare(model, name, kind, layouts, options.threads, options.paths)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": computer, "quick": options.quick, "rows": rows}, indent=1) + "\n"
        )


def build(name: str, setting: str, quick: bool) -> Generator:
    """A generator of the published size."""
    torch.manual_seed(0)
    known = "clade" if name == "mixed" else name
    changes: dict[str, object] = {"norm": mixed_norms(2)} if name == "mixed" else {}
    changes |= {"image_size": (64, 64), "base_channels": 8, "upsampling": "normal"} if quick else {}
    return settled(create_model(known, **{**SETTINGS[setting].options(known), **changes}))


def settled(model: Generator) -> Generator:
    """The model in evaluation mode, with running statistics that fit its features."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    height, width = model.config.image_size
    blocks = torch.randint(0, model.config.labels.num_classes, (1, -(-height // 32), -(-width // 32)))
    with torch.no_grad():
        model.train()(
            with_instances(blocks.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, :height, :width], model)
        )
    return model.eval()


def spread(roots: list[Path]) -> list[np.ndarray]:
    """A few label maps, evenly spread over the datasets and inside each."""
    share = -(-LAYOUTS // len(roots))
    datasets = [FileDataset(find_listing(root, "val").without_instances()) for root in roots]
    found = [data.sample(place * len(data) // share).label_map for data in datasets for place in range(share)]
    return found[:LAYOUTS]


def fitted(label_map: np.ndarray, model: Generator) -> Layout:
    """A layout at the model's size, by nearest neighbour."""
    indices = torch.from_numpy(label_map % model.config.labels.num_classes)[None]
    return with_instances(Layout(indices, model.config.labels).resize(model.config.image_size).label_map, model)


def with_instances(label_map: torch.Tensor, model: Generator) -> Layout:
    """A layout whose instances are its regions, where the model reads any."""
    return Layout(label_map, model.config.labels, label_map if model.config.use_instances else None)


def compare(
    model: Generator, name: str, kind: str, layouts: list[Layout], threads: int, paths: list[str]
) -> list[dict[str, object]]:
    """Time every path on the same layouts; the differences are those of pictures in [-1, 1]."""
    rows: list[dict[str, object]] = []
    wanted: list[torch.Tensor] = []
    for key in ["reference", *(path for path in paths if path != "reference")]:
        path, precision = PATHS[key]
        with tempfile.TemporaryDirectory() as folder:
            network, peak = measured(maker(model, key, layouts, threads, Path(folder)), layouts[0])
        seconds, pictures = run(network, layouts)
        wanted = wanted or pictures
        difference = max(float((a - b).abs().max()) for a, b in zip(pictures, wanted, strict=True))
        ratio = seconds / float(str(rows[0]["seconds"])) if rows else 1.0
        rows.append(
            {
                "model": name,
                "path": path,
                "precision": precision,
                "threads": threads,
                "layouts": kind,
                "seconds": seconds,
                "ratio_to_reference": ratio,
                "peak_mb": peak,
                "max_difference": difference,
            }
        )
        shown = "-" if peak is None else f"{peak:.0f}"
        print(f"{name:<12}{kind:<8}{key:<15}{seconds:>8.3f}{ratio:>8.3f}{shown:>8}{difference:>12.1e}", flush=True)
    return rows


def maker(model: Generator, key: str, layouts: list[Layout], threads: int, folder: Path) -> Callable[[], Network]:
    """What makes the network of a path; files that it reads are written to the folder first."""
    path, precision = PATHS[key]
    if path == "reference":
        return partial(copy.deepcopy, model)
    if path == "fast":
        return partial(accelerate, model, precision)  # type: ignore[arg-type]
    file = folder / "model.onnx"
    export_onnx(model, file)
    if path == "int8":
        quantize(file, folder / "int8.onnx", layouts)
        file = folder / "int8.onnx"
    return lambda: partial(generate_onnx, OnnxPipeline(file, threads=threads))


def generate_onnx(pipeline: OnnxPipeline, layout: Layout) -> torch.Tensor:
    """As a generator; the positional encoding is a part of the work."""
    [feeds] = pipeline.inputs(pipeline.read_layout(layout))
    return torch.from_numpy(pipeline.run(feeds))


@torch.no_grad()
def run(network: Network, layouts: list[Layout]) -> tuple[float, list[torch.Tensor]]:
    """The median time of a pass, maps of the layout derived anew, and the pictures."""
    network(fresh(layouts[0]))
    times, pictures = [], []
    for layout in layouts * (3 if len(layouts) == 1 else 1):
        unused = fresh(layout)
        start = time.perf_counter()
        pictures.append(network(unused))
        times.append(time.perf_counter() - start)
    return statistics.median(times), pictures[: len(layouts)]


@torch.no_grad()
def measured(make: Callable[[], Network], layout: Layout) -> tuple[Network, float | None]:
    """A network, and the memory in MB that the process takes for a pass at most; None where there is no /proc."""
    before = resident()
    network = make()
    if before is None:
        return network, None
    ready = resident() or 0.0
    Path("/proc/self/clear_refs").write_text("5")  # begin the peak anew
    network(fresh(layout))
    return network, (ready - before) + (status("VmHWM") - ready)


def resident() -> float | None:
    """The process's memory in MB after what is free was given back to the system."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    ctypes.CDLL(None).malloc_trim(0)
    return status("VmRSS")


def status(key: str) -> float:
    """A number of kB in /proc/self/status, in MB."""
    lines: Iterator[str] = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(next(lines).split()[1]) / 1024


def fresh(layout: Layout) -> Layout:
    """The same layout with nothing derived yet."""
    return Layout(layout.label_map, layout.labels, layout.instance_map, check=False)


if __name__ == "__main__":
    main()
