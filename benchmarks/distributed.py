"""What it costs on a CPU that two processes train one model: their time over that of the arithmetic alone.

Each process has one thread and half of the batch. Three ways take turns, step by step, so that whatever else the
machine does meets all of them: `alone`, one process takes its half while the other waits; `apart`, both take theirs at
once without a word to each other; `together`, as `segscape train` does it, with synchronised statistics and summed
gradients. `apart` over `alone` is what the processes cost each other in memory and caches, and no program's doing;
`together` over `apart` is what working together costs, of which the processor's own time is the part without waiting
for the other process (on a busy machine, the only part that means anything). `--quick` takes a small network.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing
from torch.optim import Adam

from segscape.discriminators import MultiScaleDiscriminator
from segscape.evaluation.cost.timing import machine
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.nn.synchronized import SynchronizedBatchNorm2d
from segscape.training.parts import add_up, sum_gradients, total
from segscape.training.recipe import Objective
from segscape.training.steps import (
    StyledGenerator,
    discriminator_step_losses,
    generate_fake,
    generator_step_losses,
)

CLASSES = 151
WAYS = ("alone", "apart", "together")
Seconds = tuple[float, float]
"""Of a step: by the clock, and of the first process's processor."""


def main() -> None:
    """Measure each model, print a line for it, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64x64 pixels and base width 16, not 256x256 and 64")
    parser.add_argument("--models", nargs="+", default=["spade", "clade", "clade-icpe"], metavar="MODEL")
    parser.add_argument("--batch", type=int, default=4, help="images of both processes (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each way (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    options = parser.parse_args()
    computer = machine()
    print(", ".join(f"{key} {value}" for key, value in computer.items()))
    results = {model: measure(model, options) for model in options.models}
    if options.json:
        options.json.write_text(json.dumps({"machine": computer, "quick": options.quick, "results": results}) + "\n")


def measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds per step of each way; prints medians."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(partial(one_process, folder=folder, model=model, options=options), nprocs=2)
        seconds: dict[str, list[Seconds]] = json.loads((Path(folder) / "seconds.json").read_text())
    alone, apart, together = (statistics.median(wall for wall, _ in seconds[way]) for way in WAYS)
    own = {way: statistics.median(processor for _, processor in seconds[way]) for way in WAYS}
    over = {
        "alone": together / alone - 1,
        "apart": together / apart - 1,
        "apart_processor": own["together"] / own["apart"] - 1,
    }
    print(
        f"{model:<12} alone {alone:6.2f} s   apart {apart:6.2f} s   together {together:6.2f} s per step   over alone "
        f"{over['alone']:+.1%}, over apart {over['apart']:+.1%} (processor time {over['apart_processor']:+.1%})",
        flush=True,
    )
    return {"seconds": seconds, "over": over}


def one_process(rank: int, *, folder: str, model: str, options: argparse.Namespace) -> None:
    """Take steps in turns of the three ways; the first process notes the time from start to end of both."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    step = Step(model, 64 if options.quick else 256, 16 if options.quick else 64, options.batch // 2)
    seconds: dict[str, list[Seconds]] = {way: [] for way in WAYS}
    for number in range(options.rounds + 1):
        for way in WAYS:
            distributed.barrier()
            wall, processor = time.perf_counter(), time.process_time()
            if way != "alone" or rank == 0:
                step(together=way == "together")
            distributed.barrier()
            if number:  # the first round warms up
                seconds[way].append((time.perf_counter() - wall, time.process_time() - processor))
    if rank == 0:
        (Path(folder) / "seconds.json").write_text(json.dumps(seconds))
    distributed.barrier()
    os._exit(0)  # an interpreter with process groups may abort when it exits


class Step:
    """A training step of a model on random pictures with labels in blocks, without the perceptual loss.

    Args:
        model: its name.
        size: height and width.
        base_channels: of the generator and the discriminator.
        batch_size: images of a process.
    """

    def __init__(self, model: str, size: int, base_channels: int, batch_size: int) -> None:
        torch.manual_seed(0)
        labels, sides = LabelSet.numbered(CLASSES), (size, size)
        generator = create_model(model, labels=labels, image_size=sides, base_channels=base_channels)
        self.generator = generator.to(memory_format=torch.channels_last).train()
        discriminator = MultiScaleDiscriminator(CLASSES, base_channels=base_channels)
        self.discriminator = discriminator.to(memory_format=torch.channels_last)
        self.optimizers = [Adam(network.parameters(), betas=(0.0, 0.9)) for network in (generator, discriminator)]
        blocks = torch.randint(0, CLASSES, (batch_size, size // 16, size // 16))
        self.labels, self.label_map = labels, blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
        self.images = torch.rand(batch_size, 3, *sides) * 2 - 1

    def __call__(self, together: bool) -> None:
        """Take it, with another process or not."""
        for layer in self.generator.modules():
            if isinstance(layer, SynchronizedBatchNorm2d):
                layer.synchronized = together
        layout, objective, styled = Layout(self.label_map, self.labels), Objective(), StyledGenerator(self.generator)
        self.discriminator.requires_grad_(False)
        losses = generator_step_losses(styled, self.discriminator, layout, self.images, objective=objective)[0]
        self._update(0, losses, together)
        self.discriminator.requires_grad_(True)
        fake = generate_fake(styled, layout, self.images, None)
        losses = discriminator_step_losses(self.discriminator, layout, self.images, fake, objective=objective)[0]
        self._update(1, losses, together)

    def _update(self, which: int, losses: dict[str, torch.Tensor], together: bool) -> None:
        network = (self.generator, self.discriminator)[which]
        self.optimizers[which].zero_grad()
        total(losses).backward()
        if together:
            sum_gradients(network)
            add_up([losses])
        self.optimizers[which].step()


if __name__ == "__main__":
    main()
