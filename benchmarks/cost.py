"""Tables II and III of the CLADE paper, measured: SPADE against CLADE and CLADE-ICPE on this machine, in one run.

The paper's times are those of one thread of a Xeon Gold 6148 (Table II) and of a Titan XP (Table III), so that only
ratios can be compared. `--quick` measures small images of one dataset and says nothing about the paper.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from segscape.evaluation.cost.complexity import count
from segscape.evaluation.cost.published import COSTS, SETTINGS, TABLE_III
from segscape.evaluation.cost.timing import Timing, machine, measure, thread_count
from segscape.layout import Size
from segscape.models import create_model

MODELS = ("spade", "clade", "clade-icpe")
DATASETS = ("ade20k", "coco-stuff", "cityscapes")
NORMS_OF = {"spade": "spade", "clade": "clade"}
"""Which norms Table III has, by model."""


def main() -> None:
    """Measure, print both tables, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64x64, ADE20K only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1, as Table II)")
    parser.add_argument("--repetitions", type=int, default=5, help="timed passes of each kind (default 5)")
    options = parser.parse_args()
    with thread_count(options.threads):
        computer = machine()
    print(", ".join(f"{key} {value}" for key, value in computer.items()))
    size = (64, 64) if options.quick else None
    if size:
        print("quick: 64x64 pixels, so that the paper's figures beside them say nothing")
    results = {
        dataset: {model: run(model, dataset, options.threads, options.repetitions, size) for model in MODELS}
        for dataset in (DATASETS[:1] if options.quick else DATASETS)
    }
    print_table_2(results)
    print_table_3(results)
    if options.json:
        figures = {d: {m: asdict(timing) for m, timing in models.items()} for d, models in results.items()}
        content = {"machine": computer, "quick": options.quick, "results": figures}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def run(model: str, dataset: str, threads: int, repetitions: int, size: Size | None) -> Timing:
    """Time one system in one published setting."""
    generator = create_model(model, **SETTINGS[dataset].options(model))
    timing = measure(generator, size, threads=threads, warmup=1, repetitions=repetitions)
    macs = count(generator, size).total.macs / 1e9
    print(f"  {dataset} {model}: {timing.total.median:.3f} s, {macs / timing.total.median:.1f} GMAC/s", flush=True)
    return timing


def print_table_2(results: dict[str, dict[str, Timing]]) -> None:
    """Run time of a pass, and how much faster than SPADE, beside the paper's Table II."""
    paper = {(row.dataset, row.model): row.seconds for row in COSTS if row.table == "II"}
    print("\nTable II: run time (s), and SPADE's over it")
    heads = ("median", "fastest", "processor", "ready", "ratio", "processor", "the paper", "ratio")
    print(f"{'dataset':<12}{'model':<12}" + "".join(f"{head:>11}" for head in heads))
    for dataset, models in results.items():
        base, printed_base = models["spade"], paper[dataset, "spade"]
        for model, timing in models.items():
            printed = paper.get((dataset, model))
            figures = (
                timing.total.median,
                timing.total.minimum,
                timing.processor.median,
                timing.ready.median,
                base.total.median / timing.total.median,
                base.processor.median / timing.processor.median,
                printed,
                None if printed is None or printed_base is None else printed_base / printed,
            )
            print(f"{dataset:<12}{model:<12}" + "".join("" if f is None else f"{f:>11.3f}" for f in figures))
    print("processor: time that the processor worked, which other work on the machine disturbs less; ready: with the")
    print("layout's maps derived before, as when a data loader makes them.")


def print_table_3(results: dict[str, dict[str, Timing]]) -> None:
    """Run time of backbone and norms, and the norms' share of the pass, beside the paper's Table III."""
    print("\nTable III: run time (s) of backbone and norms")
    print(f"{'dataset':<12}{'model':<12}{'backbone':>10}{'norms':>9}{'norms/backbone':>16}{'the paper':>11}", end="")
    print(f"{'SPADE norms/norms':>20}{'the paper':>11}")
    for dataset, models in results.items():
        printed = TABLE_III[dataset].seconds
        for model, timing in models.items():
            share, gain = (
                timing.norms.median / timing.backbone.median,
                models["spade"].norms.median / timing.norms.median,
            )
            norms = printed.get(NORMS_OF.get(model, ""))
            quoted = (
                ("-", "-")
                if norms is None
                else (f"{norms / printed['backbone']:.2f}", f"{printed['spade'] / norms:.2f}")
            )
            print(f"{dataset:<12}{model:<12}{timing.backbone.median:>10.3f}{timing.norms.median:>9.3f}", end="")
            print(f"{share:>16.2f}{quoted[0]:>11}{gain:>20.2f}{quoted[1]:>11}")
    print("Norms include deriving the maps of the layout, of which the first norm at a size asks for them.")


if __name__ == "__main__":
    main()
