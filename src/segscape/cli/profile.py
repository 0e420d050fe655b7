"""`segscape profile`: what models cost: parameters, multiply-accumulates, run time, memory."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segscape.cli.options import parse_labels, parse_size, require_writable
from segscape.errors import EvaluationError
from segscape.extras import require

if TYPE_CHECKING:
    from segscape.evaluation.cost.complexity import Complexity
    from segscape.evaluation.cost.published import Reproduction
    from segscape.evaluation.cost.timing import Spread, Timing
    from segscape.models.generator import Generator

FIGURES = (".png", ".svg", ".pdf")
TIMING_OPTIONS = ("--threads", "--repetitions", "--batch-size")
DEFAULT_SETTING = "ade20k"
COLUMN = 26
"""Characters of a model's column."""
LINE = 118
LAYER_NOTES = (
    "M: parameters in millions, G: plain MACs.",
    "eq.: by equations 3 to 17 of the CLADE paper: all kernels 3x3, no biases, one operation per value from a table.",
    "The paper's averages on ADE20K: SPADE 39.21 % of the parameters and 234.73 % of the MACs, CLADE 4.57 % and 0.07 %,"
    " CLADE-ICPE 0.14 % of the MACs; the last two figures of MACs are half of what its equations give.",
)


@dataclass(frozen=True)
class Profile:
    """What was found out about one model; `timing` is None if it was not timed."""

    name: str
    labels: str
    complexity: Complexity
    timing: Timing | None


def profile(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FOLDER", help="A system, or a saved model's folder or id; several side by side."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="SETTING|SET|N",
            help="For a system: a published setting (ade20k, ade20k-outdoor, coco-stuff, cityscapes, celebamask-hq, "
            "deepfashion), a label set, a JSON file, or a number of classes. Default: ade20k.",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Height and width; default: the setting's or the model's.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; 1 is Table II of the CLADE paper.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    repetitions: Annotated[int, typer.Option(min=1, help="Timed passes; medians are printed.")] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per timed pass.")] = 1,
    layers: Annotated[bool, typer.Option("--layers", help="Print every norm beside the convolution after it.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the layers as Figure 5 of the paper does.")
    ] = None,
    no_timing: Annotated[bool, typer.Option("--no-timing", help="Count only.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON.")] = None,
    table1: Annotated[
        bool, typer.Option("--table1", help="Count all our models in the paper's settings, beside its figures.")
    ] = False,
) -> None:
    """Count what models cost, and time them: in total, in the backbone, in the conditional norms."""
    _check(model, table1, no_timing, plot, json_file, _given(context))
    if table1:
        _table1(json_file)
        return

    from segscape.evaluation.cost.complexity import count, plot_layers
    from segscape.evaluation.cost.timing import machine, measure
    from segscape.inference.pipeline import choose_device

    wanted = None if size is None else parse_size(size)
    target = choose_device(device)
    _check_labels(model or [], labels)
    profiles = []
    for name in model or []:
        generator = _open(name, labels, wanted, weights=not no_timing)
        complexity = count(generator, wanted)
        if not no_timing:
            print(f"{name}: timing, 3 x {repetitions} passes after the warm-up", file=sys.stderr, flush=True)
        timing = None if no_timing else measure(
            generator, wanted, device=target, threads=threads, repetitions=repetitions, batch_size=batch_size
        )  # fmt: skip
        profiles.append(Profile(_shorten(name), _describe_labels(generator), complexity, timing))
    computer = {**machine(target), **({"threads": threads} if threads else {})}
    _print_profiles(profiles, computer)
    if layers:
        for entry in profiles:
            _print_layers(entry)
        _print_notes(*LAYER_NOTES)
    if plot is not None:
        plot_layers({entry.name: entry.complexity for entry in profiles}, plot)
        print(f"\nplot in {plot.resolve()}")
    if json_file is not None:
        _write(json_file, computer, models=[_as_json(entry) for entry in profiles])


def _given(context: typer.Context) -> list[str]:
    """The options on the command line, in the order of the help."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    return [parameter.opts[0] for parameter in context.command.params if parameter.name in given]


def _check(
    model: Sequence[str] | None,
    table1: bool,
    no_timing: bool,
    plot: Path | None,
    json_file: Path | None,
    given: Sequence[str],
) -> None:
    """Refuse what cannot be done, and what would be ignored, before anything is computed."""
    idle = [option for option in given if option not in ("--table1", "--json")]
    if table1 and idle:
        raise EvaluationError(f"--table1 counts all models in the published settings: leave out {', '.join(idle)}.")
    idle = [option for option in given if option in TIMING_OPTIONS]
    if no_timing and idle:
        raise EvaluationError(f"--no-timing counts only: leave out {', '.join(idle)}.")
    if not table1 and not model:
        raise EvaluationError("no model to profile: give --model NAME or FOLDER (several if you like), or --table1.")
    if plot is not None and plot.suffix not in FIGURES:
        raise EvaluationError(f"--plot {plot}: a figure is written as one of {', '.join(FIGURES)}.")
    if plot is not None:
        require("matplotlib", "eval")
    require_writable("--plot", plot)
    require_writable("--json", json_file)


def _check_labels(model: Sequence[str], labels: str | None) -> None:
    """Refuse labels that nothing asks for."""
    from segscape.models import list_models

    if labels is not None and not set(model) & set(list_models()):
        raise EvaluationError(f"--labels {labels}: a saved model has labels of its own; leave out --labels.")


def _open(name: str, labels: str | None, size: tuple[int, int] | None, *, weights: bool) -> Generator:
    """The model of a name or folder; without `weights` a system of the registry takes no memory."""
    import torch

    from segscape.evaluation.cost.published import SETTINGS
    from segscape.models import create_model, list_models, load_model

    if name not in list_models():
        return load_model(name)
    wanted = DEFAULT_SETTING if labels is None else labels
    published = SETTINGS.get(wanted.lower())
    options: dict[str, Any] = {"labels": parse_labels(wanted)} if published is None else published.options(name)
    if size is not None:
        options["image_size"] = size
    with torch.device("cpu" if weights else "meta"):
        return create_model(name, **options)


def _describe_labels(generator: Generator) -> str:
    config = generator.config
    return f"{config.labels.num_classes} classes{', instances' if config.use_instances else ''}"


def _shorten(name: str) -> str:
    """The end of a name that is wider than a column."""
    return name if len(name) < COLUMN else f"…{name[2 - COLUMN :]}"


def _print_profiles(profiles: Sequence[Profile], machine: dict[str, Any]) -> None:
    from segscape.evaluation.cost.complexity import PAPER_RULE, PLAIN_RULE
    from segscape.evaluation.cost.timing import TIME_RULE

    _print_row("", [entry.name for entry in profiles])
    _print_row("labels", [entry.labels for entry in profiles])
    _print_row("size", [f"{entry.complexity.size[0]}x{entry.complexity.size[1]}" for entry in profiles])
    counts = [entry.complexity for entry in profiles]
    _print_parts("parameters", counts, lambda cost: f"{cost.parameters:,}")
    _print_parts("MACs, plain (G)", counts, lambda cost: f"{cost.macs / 1e9:,.3f}")
    _print_parts("MACs, paper's rule (G)", counts, lambda cost: f"{cost.paper_macs / 1e9:,.3f}")
    if any(entry.complexity.encoder_parameters for entry in profiles):
        _print_row("not counted: encoder", [f"{entry.complexity.encoder_parameters:,}" for entry in profiles])
    timings = [entry.timing for entry in profiles if entry.timing is not None]
    if timings:
        _print_parts("run time (s)", timings, _format_spread)
        _print_row("  total, maps ready", [_format_spread(timing.ready) for timing in timings])
        memory = [timing.memory for timing in timings]
        _print_row("peak memory (MB)", [f"{part.peak / 1e6:,.1f}" for part in memory])
        _print_row("  backbone", [f"{part.backbone / 1e6:,.1f}" for part in memory])
        _print_row("  norms", [f"{part.norms / 1e6:,.1f}" for part in memory])
    print()
    _print_notes(
        f"MACs, plain: {PLAIN_RULE}.",
        f"MACs, paper's rule: {PAPER_RULE}.",
        "Norms: with the weights of convolutions that read a channel which a norm appends; backbone: all the rest.",
    )
    if timings:
        first = timings[0]
        _print_notes(
            f"Run time: {TIME_RULE}; quartiles in brackets; {first.repetitions} repetitions after {first.warmup}; "
            f"{first.batch_size} per pass; backbone and norms in repetitions of their own.",
            f"Peak memory: {first.memory.rule}; the most while the backbone or a norm runs.",
            "Machine: " + ", ".join(f"{key} {value}" for key, value in machine.items()),
        )


def _print_notes(*notes: str) -> None:
    for note in notes:
        print(textwrap.fill(note, LINE, subsequent_indent="  "))


def _print_row(title: str, cells: Sequence[str]) -> None:
    print(f"{title:<24}" + "".join(f"{cell:>{COLUMN}}" for cell in cells))


def _print_parts(title: str, models: Sequence[Any], text: Callable[[Any], str]) -> None:
    """Three rows: the `total`, `backbone` and `norms` of each model."""
    for row, part in ((title, "total"), ("  backbone", "backbone"), ("  norms", "norms")):
        _print_row(row, [text(getattr(model, part)) for model in models])


def _format_spread(spread: Spread) -> str:
    return f"{spread.median:.4f} [{spread.lower_quartile:.4f} {spread.upper_quartile:.4f}]"


def _print_layers(entry: Profile) -> None:
    from segscape.evaluation.cost.complexity import average

    print(f"\n{entry.name}: each norm beside the convolution after it, from deep to shallow")
    heads = ("norm", "size", "norm M", "conv M", "ratio %", "norm G", "conv G", "ratio %", "eq. par %", "eq. MAC %")
    widths = (22, 9, 9, 9, 9, 9, 9, 9, 11, 11)
    print("".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    for layer in entry.complexity.layers:
        counted, equations = layer.counted, layer.equations
        print(
            f"{layer.name:>22}{'x'.join(map(str, layer.resolution)):>9}"
            f"{counted.norm.parameters / 1e6:>9.3f}{counted.convolution.parameters / 1e6:>9.3f}"
            f"{100 * counted.parameter_ratio:>9.2f}"
            f"{counted.norm.macs / 1e9:>9.3f}{counted.convolution.macs / 1e9:>9.3f}{100 * counted.mac_ratio:>9.2f}"
            f"{100 * equations.parameter_ratio:>11.2f}{100 * equations.mac_ratio:>11.2f}"
        )
    if entry.complexity.layers:
        whole = average(layer.equations for layer in entry.complexity.layers)
        print(f"Average by the equations: parameters {whole.parameter_ratio:.2%}, MACs {whole.mac_ratio:.2%}.")


def _table1(json_file: Path | None) -> None:
    from segscape.evaluation.cost.complexity import PAPER_RULE, PLAIN_RULE
    from segscape.evaluation.cost.published import PAPER, REMARKS, reproduce_costs
    from segscape.evaluation.cost.timing import machine

    counted = ("table", "dataset", "model", "params M", "paper", "", "MACs G", "FLOPs G", "paper", "")
    print(_TABLE1_ROW.format(*counted, "paper s", "paper, training GB"))
    rows = []
    for row in reproduce_costs():
        rows.append(row)
        print(_TABLE1_ROW.format(*_table1_cells(row)))
    agreements = [agrees for row in rows for agrees in (row.parameters_agree, row.flops_agree) if agrees is not None]
    print()
    _print_notes(
        f"{sum(agreements)} of {len(agreements)} figures agree to the printed digit.",
        *(f"{model}, {dataset}: {remark}." for (dataset, model), remark in REMARKS.items()),
        "Table VIII leaves the tables of CLADE out of its parameters; so does the comparison with it, not 'params M'.",
        f"MACs: {PLAIN_RULE}.",
        f"FLOPs: {PAPER_RULE}.",
        f"Columns 'paper' quote the {PAPER}: s is the run time on a Titan XP, training GB the memory of training with "
        "one image, which compares with no memory of inference.",
    )
    if json_file is not None:
        _write(json_file, machine(), rows=[asdict(row) for row in rows])


_TABLE1_ROW = "{:<6}{:<16}{:<17}{:>9}{:>8} {:<8}{:>9}{:>9}{:>8} {:<8}{:>8}{:>20}"


def _table1_cells(row: Reproduction) -> tuple[str, ...]:
    published, total = row.published, row.counted.total
    words = {True: "agrees", False: "differs", None: ""}
    return (
        published.table,
        published.dataset,
        published.model,
        f"{total.parameters / 1e6:.3f}",
        _figure(published.parameters, 1),
        words[row.parameters_agree],
        f"{total.macs / 1e9:.3f}",
        f"{total.paper_macs / 1e9:.3f}",
        _figure(published.flops, 1),
        words[row.flops_agree],
        _figure(published.seconds, 3),
        _figure(published.training_memory, 2),
    )


def _figure(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _as_json(entry: Profile) -> dict[str, Any]:
    timing = entry.timing
    scores = [*entry.complexity.scores(), *(timing.scores() if timing else [])]
    return {**asdict(entry), "scores": [asdict(score) for score in scores]}


def _write(path: Path, machine: dict[str, Any], **content: Any) -> None:
    """Write JSON with the machine and the rules of counting."""
    from segscape.evaluation.cost.complexity import PAPER_RULE, PLAIN_RULE
    from segscape.files import write_text

    rules = {"macs": PLAIN_RULE, "paper_macs": PAPER_RULE}
    write_text(path, json.dumps({"machine": machine, "rules": rules, **content}, indent=1) + "\n")
    print(f"\nfigures in {path.resolve()}")
