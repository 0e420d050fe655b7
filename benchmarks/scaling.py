"""How time and memory of the reference path and the fast path grow with resolution, number of classes and batch.

The label maps are 40 drawn regions, each of a random class. Weights are random. Every row changes one thing of the
ADE20K setting (151 classes, 256x256, batch 1, width 64). `--quick` takes width 8 and small sizes.
"""

from __future__ import annotations

import argparse
import copy
import json
from functools import partial
from pathlib import Path

import torch
from inference import measured, run, settled

from segscape.evaluation.cost.timing import machine, regions, thread_count
from segscape.inference import accelerate
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.generator import Generator

MODELS = ("spade", "clade", "clade-icpe")
RESOLUTIONS = (128, 256, 512, 1024)
CLASSES = (10, 30, 100, 300, 1000)
BATCHES = (1, 2, 4)
CLASSES_OF_ADE20K = 151
REGIONS = 40


def main() -> None:
    """Measure, print the rows, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--largest", type=int, default=1024, help="largest side (default 1024)")
    parser.add_argument("--quick", action="store_true", help="width 8, sides to 256, batch to 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    options = parser.parse_args()
    rows = []
    with thread_count(options.threads):
        computer = machine()
        print(", ".join(f"{key} {value}" for key, value in computer.items()))
        print(f"{'model':<12}{'varied':<12}{'value':>6}{'path':>11}{'s':>8}{'ratio':>8}{'MB':>8}")
        for name in options.models:
            for varied, value, size, classes, batch in cases(options.quick, options.largest):
                model = build(name, size, classes, options.quick)
                layout = drawn(size, classes, batch)
                rows += compare(model, layout, {"model": name, "varied": varied, "value": value})
    if options.json:
        content = {"machine": computer, "quick": options.quick, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def cases(quick: bool, largest: int) -> list[tuple[str, int, int, int, int]]:
    """What is varied and its value, then (side, classes, batch)."""
    largest, side = (min(largest, 256), 64) if quick else (largest, 256)
    batches = BATCHES[:2] if quick else BATCHES
    found = [("resolution", value, value, CLASSES_OF_ADE20K, 1) for value in RESOLUTIONS if value <= largest]
    found += [("classes", value, side, value, 1) for value in CLASSES]
    return found + [("batch", value, side, CLASSES_OF_ADE20K, value) for value in batches]


def build(name: str, side: int, classes: int, quick: bool) -> Generator:
    """A generator with running statistics that fit its features."""
    torch.manual_seed(0)
    model = create_model(name, labels=classes, image_size=(side, side), base_channels=8 if quick else 64)
    return settled(model)


def drawn(side: int, classes: int, batch: int) -> Layout:
    """The same regions whatever the number of classes, each of a random class."""
    shapes = regions(LabelSet.numbered(REGIONS), (side, side), count=batch)
    chosen = torch.randint(0, classes, (REGIONS,), generator=torch.Generator().manual_seed(0))
    return Layout(chosen[shapes.label_map], LabelSet.numbered(classes))


def compare(model: Generator, layout: Layout, case: dict[str, object]) -> list[dict[str, object]]:
    """One row for the reference path, one for the fast path."""
    rows: list[dict[str, object]] = []
    reference = None
    for path, make in (("reference", partial(copy.deepcopy, model)), ("fast", partial(accelerate, model))):
        network, megabytes = measured(make, layout)
        seconds, _ = run(network, [layout])
        reference = reference or seconds
        ratio = seconds / reference
        rows.append({**case, "path": path, "seconds": seconds, "ratio_to_reference": ratio, "peak_mb": megabytes})
        print(
            f"{case['model']:<12}{case['varied']:<12}{case['value']:>6}{path:>11}{seconds:>8.3f}{ratio:>8.3f}"
            f"{megabytes or float('nan'):>8.0f}",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    main()
