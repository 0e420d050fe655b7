"""Images per second and peak memory of whole training iterations: the reference path against the fast one, in one run.

An iteration is a generator step and a discriminator step with Adam, and the update of the averaged weights. `reference`
is the published algorithm as one would write it down: SPADE by convolutions over the one-hot map, CLADE's operations
one by one, another generated image for the discriminator step, real images in the same pass as generated ones, float32,
features in the usual order. `fast` is what `segscape train` does with `objective.fresh_fake: false` and the default
`speed` section, in bfloat16 on a GPU; `lean` also recomputes the residual blocks. Weights are random, those of VGG-19,
too, unless they are in the torch-hub cache. Memory is the most bytes of tensors alive, without workspaces inside
kernels, on the CPU, and what PyTorch allocated at most on a GPU. `processor` is the ratio of processor times, which
other work on the machine disturbs less. `--quick` takes narrow networks at 64x64.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Adam

from segscape.discriminators import MultiScaleDiscriminator
from segscape.evaluation.cost.timing import LiveTensors, machine, regions, thread_count
from segscape.features import VGG19Features, vgg19_cache
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.losses import PerceptualLoss
from segscape.models import create_model
from segscape.nn.conditional import LayoutModulatedNorm
from segscape.training import steps
from segscape.training.ema import make_average
from segscape.training.memory import kept_memory
from segscape.training.parts import total
from segscape.training.recipe import Objective, SpeedSection
from segscape.training.speed import arrange, compile_networks

LABELS: Final = LabelSet.numbered(151)
PAPER: Final = {"spade": 4.36, "clade": 3.68, "clade-icpe": 4.00}
"""GB of training with one image of ADE20K per GPU (Tan et al., TPAMI 2021)."""


class Way(NamedTuple):
    """A way to compute the iteration."""

    speed: SpeedSection
    published: bool = False


PATHS: Final = {
    "reference": Way(SpeedSection(spade_path="dense"), published=True),
    "dense": Way(SpeedSection(spade_path="dense")),
    "fast": Way(SpeedSection()),
    "lean": Way(SpeedSection(checkpoint_activations="blocks")),
    "compiled": Way(SpeedSection(compile=True)),
}


def main() -> None:
    """Measure, print the rows, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="base widths 8 at 64x64")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="images per iteration (default 1)")
    parser.add_argument("--models", nargs="+", default=list(PAPER), choices=PAPER)
    parser.add_argument("--paths", nargs="+", default=["reference", "fast", "lean"], choices=PATHS)
    parser.add_argument("--repetitions", type=int, default=3, help="timed iterations, of which the median counts")
    parser.add_argument("--device", default="cpu", help="where to run (default cpu)")
    parser.add_argument("--data", type=Path, help="folder of label maps (index PNGs); else regions are drawn")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with thread_count(options.threads):
        computer = machine(options.device)
        print(", ".join(f"{key} {value}" for key, value in computer.items()))
        weights = f"of {vgg19_cache()}" if vgg19_cache().is_file() else "random, which costs the same"
        print(f"weights of VGG-19: {weights}")
        if options.quick:
            print("quick: small networks and pictures, so that the paper's figures beside them say nothing")
        heads = ("images/s", "ratio", "processor", "GB", "ratio", "paper GB")
        print(f"{'model':<12}{'batch':>5}  {'path':<11}{'precision':<10}" + "".join(f"{head:>10}" for head in heads))
        for model in options.models:
            for batch in options.batch:
                rows += compare(model, batch, options)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": computer, "quick": options.quick, "rows": rows}, indent=1) + "\n"
        )


def compare(model: str, batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every path on the same pictures; a path at a time, since two of them may not fit into memory."""
    rows: list[dict[str, Any]] = []
    for name in options.paths:
        path = PATHS[name]
        precision = "bfloat16" if options.device.startswith("cuda") and not path.published else "float32"
        with published() if path.published else kept_memory():
            seconds, processor, peak = measure(Iteration(model, batch, path, precision, options), options)
        row = {"model": model, "batch_size": batch, "path": name, "precision": precision, "device": options.device}
        row |= {"threads": torch.get_num_threads(), "seconds": seconds, "images_per_second": batch / seconds}
        row |= {"processor_seconds": processor}
        row |= {"peak_bytes": peak, "paper_gigabytes": PAPER[model] if batch == 1 else None}
        first = rows[0] if rows else row
        row["speed_ratio"] = row["images_per_second"] / first["images_per_second"]
        row["processor_ratio"] = first["processor_seconds"] / processor
        row["memory_ratio"] = row["peak_bytes"] / first["peak_bytes"]
        rows.append(row)
        figures = (
            row["images_per_second"],
            row["speed_ratio"],
            row["processor_ratio"],
            peak / 1e9,
            row["memory_ratio"],
        )
        quoted = row["paper_gigabytes"] or float("nan")
        print(f"{model:<12}{batch:>5}  {name:<11}{precision:<10}", end="")
        print("".join(f"{figure:>10.3f}" for figure in (*figures, quoted)), flush=True)
    return rows


@contextmanager
def published() -> Iterator[None]:
    """Inside the block, norms are computed operation by operation, and real images are judged with a graph."""
    unfused = patch.object(LayoutModulatedNorm, "fuses", False)
    together = patch.object(steps, "_judge_beside_constant", steps._judge_pair)
    with unfused, together:
        yield


class Iteration:
    """Networks and optimisers, and one training iteration of them on always the same pictures.

    Args:
        model: its name.
        batch: images.
        path: how to compute.
        precision: `float32`, or another that the forward passes run in.
        options: of the command line.
    """

    def __init__(self, model: str, batch: int, path: Way, precision: str, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        size, width = (64, 8) if options.quick else (256, 64)
        order = torch.contiguous_format if path.published else torch.channels_last
        place = {"device": torch.device(options.device), "memory_format": order}
        generator = create_model(model, labels=LABELS, image_size=(size, size), base_channels=width).train()
        arrange(generator, path.speed)
        self.generator = generator.to(**place)
        self.discriminator = MultiScaleDiscriminator(LABELS.num_classes, base_channels=width).to(**place)
        known = vgg19_cache().is_file() and not options.quick
        features = VGG19Features.from_file() if known else VGG19Features(8 if options.quick else 1)
        self.perceptual = PerceptualLoss(features).to(**place)
        self.styled = steps.StyledGenerator(self.generator)
        self.average = make_average(self.generator, 10_000, batch)
        networks: tuple[nn.Module, nn.Module] = (self.generator, self.discriminator)
        self.optimizers = [
            Adam(n.parameters(), lr=r, betas=(0.0, 0.9)) for n, r in zip(networks, (1e-4, 4e-4), strict=True)
        ]
        if path.speed.compile:
            compile_networks({"perceptual network": self.perceptual}, print)
        self.objective = Objective(fresh_fake=path.published)
        label_map = (
            read(options.data, size, batch) if options.data else regions(LABELS, (size, size), count=batch).label_map
        )
        self.label_map = label_map.to(options.device)
        self.images = torch.rand(batch, 3, size, size, device=options.device) * 2 - 1
        half = getattr(torch, precision)
        self.autocast = torch.autocast(place["device"].type, half, enabled=half != torch.float32)

    def __call__(self) -> None:
        """Take it; the layout's maps are derived anew, as they are for every batch."""
        layout = Layout(self.label_map, LABELS, check=False)
        given: dict[str, Any] = {"objective": self.objective}
        self.discriminator.requires_grad_(False)
        with self.autocast:
            losses, fake = steps.generator_step_losses(
                self.styled, self.discriminator, layout, self.images, perceptual=self.perceptual, **given
            )
        self._update(self.optimizers[0], losses)
        self.discriminator.requires_grad_(True)
        with self.autocast:
            fake = fake.detach()
            if self.objective.fresh_fake:
                fake = steps.generate_fake(self.styled, layout, self.images, None)
            losses, _ = steps.discriminator_step_losses(self.discriminator, layout, self.images, fake, **given)
        self._update(self.optimizers[1], losses)
        self.average.update_parameters(self.generator)

    def _update(self, optimizer: Adam, losses: dict[str, Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        total(losses).backward()
        optimizer.step()

    def tensors(self) -> Iterator[Tensor]:
        """All that lives between iterations."""
        for network in (self.average, self.generator, self.discriminator, self.perceptual):
            yield from (*network.parameters(), *network.buffers())
        for optimizer in self.optimizers:
            yield from (t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor))


def measure(iteration: Iteration, options: argparse.Namespace) -> tuple[float, float, int]:
    """Seconds of an iteration by the clock and of the processor, and the most memory; Adam's moments exist by then."""
    iteration()
    peak = live_bytes(iteration) if options.device == "cpu" else 0
    if options.device != "cpu":
        torch.cuda.reset_peak_memory_stats(options.device)
    times, processor = [], []
    for _ in range(options.repetitions):
        start, worked = now(options.device), process_time()
        iteration()
        times.append(now(options.device) - start)
        processor.append(process_time() - worked)
    return (
        statistics.median(times),
        statistics.median(processor),
        peak or torch.cuda.max_memory_allocated(options.device),
    )


def live_bytes(iteration: Iteration) -> int:
    """The most bytes of tensors alive in an iteration."""
    with LiveTensors() as tensors:
        for tensor in iteration.tensors():
            tensors.add(tensor)
        iteration()
    return tensors.peak


def now(device: str) -> float:
    """Seconds of a clock, once the device has done what it was given."""
    if device != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()


def read(folder: Path, size: int, count: int) -> Tensor:
    """Label maps evenly spread over a folder, by nearest neighbour; values are folded into the number of classes."""
    files = sorted(folder.glob("*.png"))
    chosen = [files[place * len(files) // count] for place in range(count)]
    maps = [np.asarray(Image.open(file).resize((size, size), Image.Resampling.NEAREST)) for file in chosen]
    return torch.from_numpy(np.stack(maps).astype(np.int64) % LABELS.num_classes)


if __name__ == "__main__":
    main()
