"""`segscape evaluate`: fidelity, agreement, diversity and cost of a model, or of pictures in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segscape.cli.options import check_folder, parse_label_set, parse_size, prepare_folder
from segscape.errors import EvaluationError, SegscapeError

if TYPE_CHECKING:
    import torch

    from segscape.data.folder import FileDataset
    from segscape.evaluation.evaluate import DiversityPlan, Judge
    from segscape.evaluation.fidelity.extractors import Extractor
    from segscape.evaluation.protocol import Protocol
    from segscape.evaluation.score import Score
    from segscape.evaluation.sources import PictureSource
    from segscape.inference import Pipeline
    from segscape.labels import LabelSet
    from segscape.layout import Size

TIMED = 5
"""Timed repetitions; `segscape profile` measures cost at length."""


def evaluate(
    data: Annotated[
        Path,
        typer.Option(help="Folder of a dataset, published or images/ and labels/ (or the same in train/ and val/)."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.json, report.html and their pictures.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hugging Face id of a model; the shipped one by default.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Evaluate the pictures in this folder (named as the label maps), not a model.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="SET", help="With --images: label set (name, JSON file, or a number).")
    ] = None,
    split: Annotated[str, typer.Option(help="The split whose layouts are generated.")] = "val",
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="train|val|DIR|NPZ", help="Real images of the fidelity scores; the protocol's by default."
        ),
    ] = None,
    protocol: Annotated[str, typer.Option(help="clade, validation, product; see docs/evaluation.md.")] = "clade",
    size: Annotated[str | None, typer.Option(metavar="HxW", help="The model's training size by default.")] = None,
    features: Annotated[
        str, typer.Option(help="inception, efficientnet-lite0, none, or auto: inception if its weights are at hand.")
    ] = "auto",
    features_path: Annotated[Path | None, typer.Option(help="File of the Inception weights.")] = None,
    segmenter: Annotated[
        str | None,
        typer.Option(help="Folder of a trained segmenter, a transformers folder or id, or none; CamVid has its own."),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="JSON file: segmenter's class -> label set's class; by name by default.")
    ] = None,
    diversity: Annotated[
        str, typer.Option(metavar="LAYOUTSxPICTURES", help="For multi-modal models; 0x0 leaves it out.")
    ] = "20x5",
    distance: Annotated[str, typer.Option(help="Of the diversity: lpips, efficientnet-lite0, or auto.")] = "auto",
    distance_path: Annotated[Path | None, typer.Option(help="File of the AlexNet weights of LPIPS.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the styles; the protocol's (0) by default.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time; changes no score.")] = 4,
    cost: Annotated[bool, typer.Option(help="Also count and time the model.")] = True,
    save_images: Annotated[
        bool, typer.Option("--save-images", help="Keep the generated pictures in OUT/images.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps features of real images.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a report that exists.")] = False,
) -> None:
    """Measure a model on photos and label maps: one row of the CLADE paper's tables.

    Starts under torchrun, too: the processes share the pictures and give the same scores.
    """
    if images is not None and model is not None:
        raise EvaluationError("--model and --images are two sources of pictures: give one of them.")
    wanted = None if size is None else parse_size(size)
    plan_numbers = _parse_plan(diversity)
    if (out / "report.json").exists() and not force:
        raise EvaluationError(f"{out} holds a report already: choose another --out, or add --force.")
    check_folder(out)

    from segscape.data.open import open_pairs
    from segscape.evaluation.cost.timing import machine
    from segscape.evaluation.evaluate import evaluate as measure
    from segscape.evaluation.fidelity.reference import open_reference
    from segscape.evaluation.processes import joined_processes
    from segscape.evaluation.protocol import find_protocol
    from segscape.evaluation.report.report import screen_table, write_report
    from segscape.inference.pipeline import choose_device

    rules = find_protocol(protocol)
    changes = {"seed": seed, "reference": reference}
    rules = rules.model_copy(update={name: value for name, value in changes.items() if value is not None})
    with joined_processes() as processes:
        place = choose_device(device)
        pipeline = None if images is not None else _pipeline(model, place)
        label_set = _label_set(pipeline, labels)
        dataset = open_pairs(data, label_set, split)
        target = _size(pipeline, wanted)
        source = _source(pipeline, model, images, dataset, target, rules)
        extractor = _extractor(features, features_path, place)
        judge = _judge(segmenter, mapping, label_set, place)
        plan = _plan(plan_numbers, distance, distance_path, place) if source.multimodal else None
        if extractor is None and judge is None and plan is None and not (cost and pipeline):
            raise EvaluationError("there is nothing to measure: leave out one of the options that switch scores off.")
        real = None if extractor is None else open_reference(rules.reference, data, label_set)
        if processes.first:
            prepare_folder(out)
        further = _cost(pipeline, target) if cost and pipeline and processes.first else []
        evaluation = measure(
            source,
            dataset,
            protocol=rules,
            size=target,
            reference=real,
            extractor=extractor,
            judge=judge,
            diversity=plan,
            further=further,
            machine=machine(place),
            batch_size=batch_size,
            processes=processes,
            cache=cache,
            keep=out / "images" if save_images else None,
        )
        if evaluation is not None:
            shown = {"grid": evaluation.grid, "worst": evaluation.worst, "best": evaluation.best}
            try:
                write_report(evaluation.report, out, samples=evaluation.samples, **shown)
            finally:  # the numbers are not lost if OUT cannot be written
                print(screen_table(evaluation.report))
            print(f"report: {(out / 'report.html').resolve()}")


def _parse_plan(text: str) -> tuple[int, int]:
    """`LAYOUTSxPICTURES`, for example 20x5."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise SegscapeError(f"--diversity {text!r} is not LAYOUTSxPICTURES: write it like 20x5, or 0x0 for none.")
    layouts, pictures = (int(part) for part in parts)
    if layouts and pictures < 2:
        raise SegscapeError(f"--diversity {text!r} compares pictures of one layout with each other: give 2 or more.")
    return layouts, pictures


def _pipeline(model: str | None, device: torch.device) -> Pipeline:
    from segscape.inference import Pipeline

    return Pipeline.from_pretrained(model, device)


def _label_set(pipeline: Pipeline | None, labels: str | None) -> LabelSet:
    """The model's label set; that of --labels for pictures in a folder."""
    if pipeline is not None:
        if labels is not None:
            raise EvaluationError("--labels goes with --images: a model brings its own label set.")
        return pipeline.labels
    if labels is None:
        raise EvaluationError(
            "--images needs --labels SET: the label set of the data (a name, a JSON file, or a number)."
        )
    return parse_label_set(labels)


def _size(pipeline: Pipeline | None, wanted: Size | None) -> Size:
    if wanted is not None:
        return wanted
    if pipeline is None:
        raise EvaluationError(
            "--images needs --size HxW, to which pictures and photos are resized (256x256 in most papers)."
        )
    size: Size = pipeline.model.config.image_size
    return size


def _source(
    pipeline: Pipeline | None,
    model: str | None,
    images: Path | None,
    dataset: FileDataset,
    size: Size,
    rules: Protocol,
) -> PictureSource:
    from segscape.evaluation.sources import FolderPictures, ModelPictures
    from segscape.inference.pipeline import model_title

    if pipeline is None:
        assert images is not None
        return FolderPictures(images, dataset.names, size)
    source = ModelPictures(pipeline, rules, model_title(model))
    source.require_size(size)
    return source


def _cost(pipeline: Pipeline, size: Size) -> list[Score]:
    from segscape.evaluation.cost.complexity import count
    from segscape.evaluation.cost.timing import measure

    timing = measure(pipeline.model, size, device=pipeline.device, repetitions=TIMED)
    return [*count(pipeline.model, size).scores(), *timing.scores()]


def _extractor(name: str, path: Path | None, device: torch.device) -> Extractor | None:
    from segscape.evaluation.fidelity.extractors import open_extractor

    return None if name == "none" else open_extractor(name, path, device)


def _judge(name: str | None, mapping: Path | None, labels: LabelSet, device: torch.device) -> Judge | None:
    """The segmenter that --segmenter names, else the one that comes with the label set, if any."""
    from segscape.evaluation.agreement.mapping import ClassMapping
    from segscape.evaluation.agreement.segmenters import default_segmenter, open_segmenter
    from segscape.evaluation.evaluate import Judge

    where = default_segmenter(labels) if name is None else None if name == "none" else name
    if where is None:
        if mapping is not None:
            raise EvaluationError("--mapping goes with --segmenter: name the segmenter whose classes it maps.")
        return None
    segmenter = open_segmenter(where, device)
    return Judge(segmenter, ClassMapping.of(segmenter.classes, labels, mapping))


def _plan(numbers: tuple[int, int], distance: str, path: Path | None, device: torch.device) -> DiversityPlan | None:
    from segscape.evaluation.diversity.lpips import open_distance
    from segscape.evaluation.evaluate import DiversityPlan

    layouts, pictures = numbers
    if not layouts:
        return None
    return DiversityPlan(open_distance(distance, device, alexnet=path), layouts, pictures)
