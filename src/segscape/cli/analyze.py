"""`segscape analyze`: look into a trained model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segscape.cli.options import check_folder, prepare_folder
from segscape.errors import DataError, SegscapeError

if TYPE_CHECKING:
    from segscape.data.folder import FileDataset
    from segscape.evaluation.modulation.analysis import ModulationAnalysis
    from segscape.labels import LabelSet
    from segscape.layout import Layout

analyze = typer.Typer(name="analyze", no_args_is_help=True, help="Look into a trained model: what its layers learned.")


@analyze.callback()
def _analyze() -> None:
    """Look into a trained model: what its layers learned."""


@analyze.command()
def modulation(
    data: Annotated[Path, typer.Option(help="Folder of a dataset (photographs are not needed), or of label maps.")],
    out: Annotated[Path, typer.Option(help="Folder for report.md, analysis.json and the figures.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hugging Face id of a model; the shipped one by default.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which part of the data: train, val.")] = "val",
    images: Annotated[int, typer.Option(min=1, help="How many label maps at most, spread over the data.")] = 100,
    classes: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Classes of the histograms; the five most frequent by default."),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(metavar="I,J,...", help="Channels to map; the three that vary most by default.")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Name of a norm to map beside the highest SPADE one; repeatable.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print analysis.json in place of the tables.")] = False,
) -> None:
    """Measure how far the class alone determines gamma and beta in every norm, and draw what the norms learned.

    Figures 2 and 3 of the CLADE paper for SPADE; tables and nearest classes for CLADE; the response to the position
    for CLADE-ICPE.
    """
    wanted = _channels(channels)
    check_folder(out)

    from segscape.data.open import open_pairs
    from segscape.evaluation.modulation.analysis import analyse_modulation
    from segscape.evaluation.modulation.report import write_report
    from segscape.extras import require
    from segscape.inference import Pipeline

    require("matplotlib", "eval")  # before the work, not after it
    pipeline = Pipeline.from_pretrained(model, device)
    chosen = None if classes is None else _classes(pipeline.labels, classes)
    dataset = open_pairs(data, pipeline.labels, split)
    if pipeline.model.config.reads_instances and dataset.sample(0).instance_map is None:
        raise DataError(f"the model needs instance maps and {data} has none: put them into instances, beside labels.")
    count = min(images, len(dataset))
    analysis = analyse_modulation(
        pipeline.model,
        _layouts(dataset, count),
        layers=layer or (),
        channels=wanted,
        examples=(0, count // 2),
    )
    title = f"Modulation of {pipeline.model.config.model} on {data.name}"
    prepare_folder(out)
    figures = write_report(analysis, out, title, analysis.frequent_classes() if chosen is None else chosen)
    _print(analysis, as_json)
    if not as_json:
        print(f"\n{len(figures)} figures, analysis.json and report.md in {out.resolve()}")


@analyze.command()
def attention(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder or Hugging Face id of a ca2-sis model.")],
    layout: Annotated[Path, typer.Argument(metavar="LAYOUT", help="A label map.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures and attention.json.")],
    photo: Annotated[
        Path | None, typer.Option(help="Photo whose styles are looked at; without it, all classes have a neutral one.")
    ] = None,
    photo_layout: Annotated[
        Path | None, typer.Option(help="Label map of the photo, where it is not the photo of LAYOUT.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print attention.json in place of the table.")] = False,
) -> None:
    """Draw at which class's style code each pixel looked, in every block of a CA2-SIS model."""
    if photo_layout is not None and photo is None:
        raise SegscapeError("--photo-layout is the label map of a photo: give --photo, too.")
    check_folder(out)

    from segscape.evaluation.modulation.attention import analyse_attention, write_attention
    from segscape.evaluation.modulation.attention import as_json as numbers
    from segscape.extras import require
    from segscape.inference import Pipeline

    require("matplotlib", "eval")
    pipeline = Pipeline.from_pretrained(model, device)
    shown = pipeline.read_layout(layout).resize(pipeline.model.config.image_size).to(pipeline.device)
    style = None if photo is None else pipeline.encode(photo, photo_layout or layout).to(pipeline.device)
    blocks = analyse_attention(pipeline.model, shown, style)
    prepare_folder(out)
    figures = write_attention(blocks, shown, out)
    if as_json:
        print(json.dumps(numbers(blocks, shown), indent=1, ensure_ascii=False))
        return
    print("block  size     weight on own class  looks most at own class")
    for number, block in enumerate(blocks):
        size = f"{block.size[0]}x{block.size[1]}"
        print(f"{number:<7}{size:<9}{block.own_weight:<21.1%}{block.own_share:.1%}")
    print(f"\n{len(figures)} figures and attention.json in {out.resolve()}")


def _layouts(dataset: FileDataset, count: int) -> Iterator[Layout]:
    """`count` layouts, evenly spread over the data."""
    from tqdm import tqdm

    from segscape.layout import Layout

    for place in tqdm(range(count), unit="layout", disable=None):
        sample = dataset.sample(place * len(dataset) // count)
        yield Layout.from_array(sample.label_map, dataset.labels, sample.instance_map)


def _classes(labels: LabelSet, names: str) -> tuple[int, ...]:
    return tuple(labels.index(name.strip()) for name in names.split(","))


def _channels(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise SegscapeError(f"--channels {text!r} is no list of channels: write it like 0,3,7.")
    return [int(part) for part in parts]


def _print(analysis: ModulationAnalysis, as_json: bool) -> None:
    from segscape.evaluation.modulation.report import as_json as numbers
    from segscape.evaluation.modulation.report import skipped_sentence, text_tables

    if as_json:
        print(json.dumps(numbers(analysis), indent=1, ensure_ascii=False))
        return
    parts = [table.plain() for table in text_tables(analysis)]
    print("\n\n".join([*parts, *filter(None, [skipped_sentence(analysis)])]))
