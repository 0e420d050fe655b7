"""How many images per second the data loader reads, from files and from shards, beside what a trainer consumes.

A sample is decoded, resized to 286x286, cropped to 256x256, maybe mirrored, and gets its positional encoding, all in
worker processes: `read_batches` of the training loop, as it runs. Where the machine does other work meanwhile, the
figures per second of processor time say more than the clock. What a trainer consumes is measured on this machine's
processor, and for a GPU worked out from the counted operations of a training step and an assumed speed
(`--teraflops`), or given (`--consumption`).
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from segscape.data.conversion.layouts import open_conversion
from segscape.data.sample import Batch, Dataset, collate
from segscape.data.shards.dataset import ShardDataset
from segscape.data.shards.writing import write_shards
from segscape.data.transforms import Preprocess
from segscape.data.view import TrainingView
from segscape.discriminators.multiscale import MultiScaleDiscriminator
from segscape.evaluation.cost.timing import machine, thread_count
from segscape.models import create_model
from segscape.models.generator import Generator
from segscape.position import intra_class_position
from segscape.training.reading import PREFETCH, read_batches
from segscape.training.recipe import Objective, parse_recipe
from segscape.training.steps import StyledGenerator, discriminator_step_losses, generate_fake, generator_step_losses

PREPROCESS = Preprocess(mode="resize_and_crop", load_size=286, crop_size=256, flip=True)
BATCH_SIZE = 8


def main() -> None:
    """Measure, print, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="a dataset, for example CamVid")
    parser.add_argument("--quick", action="store_true", help="few images and a small network")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--images", type=int, default=800, help="images per measurement (default 800)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="data processes (default 1 2 4)")
    parser.add_argument("--consumption", type=float, help="images per second that your trainer consumes")
    parser.add_argument(
        "--teraflops",
        type=float,
        default=50.0,
        help="what a GPU sustains in training, 10^12 per second (default 50)",
    )
    options = parser.parse_args()
    computer = machine()
    print(", ".join(f"{key} {value}" for key, value in computer.items()))
    if options.quick:
        print("quick: a network of an eighth of the channels, so that what the trainer consumes says nothing")
    images = 64 if options.quick else options.images
    with tempfile.TemporaryDirectory() as folder, thread_count(1):
        conversion, _ = open_conversion(options.data)
        write_shards(conversion, folder, samples_per_shard=100)
        places = {"files": conversion.source, "shards": ShardDataset(folder)}
        stages = {place: measure_stages(dataset, 16 if options.quick else 100) for place, dataset in places.items()}
        print_stages(stages)
        speeds = {
            place: {workers: loader_speed(dataset, images, workers) for workers in options.workers}
            for place, dataset in places.items()
        }
        step = measure_step(conversion.source, base_channels=8 if options.quick else 64)
    step["gpu_images_per_second"] = options.consumption or options.teraflops * 1e12 / step["flops_per_image"]
    given = "given" if options.consumption else f"assumed: {options.teraflops:g} TFLOP/s"
    print_speeds(speeds, step, given)
    if options.json:
        content = {"machine": computer, "quick": options.quick, "stages": stages, "speeds": speeds, "trainer": step}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def view_of(dataset: Dataset) -> TrainingView:
    """The dataset as a model with positional encoding is trained on it."""
    return TrainingView(dataset, PREPROCESS, "official")


def loader_speed(dataset: Dataset, images: int, workers: int) -> dict[str, float]:
    """Images per second that arrive in the training process, and per second that the workers' processors worked.

    The first, which come while the workers start and have work in advance, do not count.
    """
    started = max(1, workers) * PREFETCH
    settings = {"batch_size": BATCH_SIZE, "workers": workers, "images": images + started * BATCH_SIZE}
    recipe = parse_recipe({"data": {"kind": "scenes"}, "model": {"name": "clade-icpe"}} | settings, "benchmark")
    one_process = SimpleNamespace(num_processes=1, process_index=0, device=torch.device("cpu"))
    batches = read_batches(recipe, view_of(dataset), 0, one_process, lambda _, sentence: print(sentence))
    for _ in islice(batches, started):
        pass
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    count = sum(len(batch.names) for batch in batches)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # of workers that have ended now
    return {"per_second": count / seconds, "per_processor_second": (count + started * BATCH_SIZE) / processor}


def measure_stages(dataset: Dataset, count: int) -> dict[str, float]:
    """Median milliseconds of processor time per image of each stage, in this process."""
    times: dict[str, list[float]] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        times.setdefault(stage, []).append(1000 * (time.process_time() - start))
        return result

    for number in range(count):
        index, rng = number * len(dataset) // count, np.random.default_rng(number)
        sample = timed("read and decode", partial(dataset.sample, index))
        position = timed("positional encoding", partial(intra_class_position, sample.label_map))
        placement = PREPROCESS.draw(sample.size, rng)
        final = timed("resize, crop, flip", partial(PREPROCESS.apply, replace(sample, position=position), placement))
        timed("collate", partial(collate, [final], dataset.labels))
    return {stage: median(values) for stage, values in times.items()}


def measure_step(dataset: Dataset, base_channels: int) -> dict[str, float]:
    """Processor seconds and operations per image of a training step of CLADE-ICPE without a perceptual loss."""
    generator = create_model("clade-icpe", labels=dataset.labels, image_size=(256, 256), base_channels=base_channels)
    discriminator = MultiScaleDiscriminator(dataset.labels.num_classes, base_channels=base_channels)
    view = view_of(dataset)
    batch = collate([view[0, 0], view[1, 1]], dataset.labels)
    with FlopCounterMode(display=False) as counter:
        train_step(generator, discriminator, batch)
    start = time.process_time()
    train_step(generator, discriminator, batch)
    seconds = (time.process_time() - start) / len(batch.names)
    return {"seconds_per_image": seconds, "flops_per_image": counter.get_total_flops() / len(batch.names)}


def train_step(generator: Generator, discriminator: MultiScaleDiscriminator, batch: Batch) -> None:
    """Both halves of a training step, without the update of the weights."""
    objective, styled = Objective(perceptual=0), StyledGenerator(generator)
    losses, _ = generator_step_losses(
        styled, discriminator, batch.layout, batch.images, objective=objective, perceptual=None, noise=None
    )
    torch.stack(list(losses.values())).sum().backward()
    fake = generate_fake(styled, batch.layout, batch.images, None)
    losses, _ = discriminator_step_losses(discriminator, batch.layout, batch.images, fake, objective=objective)
    torch.stack(list(losses.values())).sum().backward()


def print_stages(stages: dict[str, dict[str, float]]) -> None:
    """Milliseconds per image and stage."""
    print("\nMilliseconds of processor time per image")
    names = list(next(iter(stages.values())))
    print(f"{'':<10}" + "".join(f"{name:>22}" for name in names) + f"{'together':>12}")
    for place, times in stages.items():
        together = sum(times.values())
        print(f"{place:<10}" + "".join(f"{times[name]:>22.2f}" for name in names) + f"{together:>12.2f}")


def print_speeds(speeds: dict[str, dict[int, dict[str, float]]], step: dict[str, float], given: str) -> None:
    """Images per second by number of workers, and how many workers a trainer needs."""
    titles = {
        "per_second": "Images per second",
        "per_processor_second": "Images per second that a worker's core worked",
    }
    counts = list(next(iter(speeds.values())))
    for key, title in titles.items():
        print(f"\n{title}\n{'':<10}" + "".join(f"{f'{count} workers':>12}" for count in counts))
        for place, by_workers in speeds.items():
            print(f"{place:<10}" + "".join(f"{by_workers[count][key]:>12.1f}" for count in counts))
    print(
        f"\nA training step of CLADE-ICPE at 256x256 has {step['flops_per_image'] / 1e12:.2f}e12 operations per image."
    )
    print(f"It consumes {1 / step['seconds_per_image']:.2f} images/s on one core of this processor (measured), and")
    print(f"{step['gpu_images_per_second']:.0f} images/s on a GPU ({given}): for that it needs")
    for place, by_workers in speeds.items():
        one = median(speed["per_processor_second"] for speed in by_workers.values())
        print(f"  {step['gpu_images_per_second'] / one:.1f} workers with a core each, from {place}")


if __name__ == "__main__":
    main()
