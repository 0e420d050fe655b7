"""`segscape segmenter`: train a network that segments photographs, and find out how well one does."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segscape.cli.options import check_folder, parse_label_set, parse_size
from segscape.errors import EvaluationError, TrainingError

if TYPE_CHECKING:
    from segscape.evaluation.agreement.confusion import Agreement
    from segscape.labels import LabelSet

app = typer.Typer(no_args_is_help=True, help="Train and score the networks that judge generated pictures.")


class EncoderChoice(str, Enum):
    """What the U-Net looks with."""

    plain = "plain"
    lite0 = "efficientnet-lite0"


class Split(str, Enum):
    """The part of the data."""

    train = "train"
    val = "val"


DataOption = Annotated[Path, typer.Option(help="Folder of a dataset, as for `segscape dataset inspect`.")]
LabelsOption = Annotated[str, typer.Option(metavar="SET", help="Label set: its name, a JSON file, or a number.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")]


@app.command()
def train(
    data: DataOption,
    labels: LabelsOption,
    out: Annotated[Path, typer.Option(help="Run folder; the segmenter is OUT/model.")],
    encoder: Annotated[
        EncoderChoice, typer.Option(help="plain, or one that starts from ImageNet weights.")
    ] = EncoderChoice.lite0,
    images: Annotated[int, typer.Option(min=1, help="Length of the run in pictures.")] = 10_000,
    batch_size: Annotated[int, typer.Option(min=2, help="Pictures per step.")] = 8,
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Resize photos to this: the size of the pictures to judge.")
    ] = "256x256",
    learning_rate: Annotated[float, typer.Option(min=0, help="The highest one.")] = 3e-3,
    balance: Annotated[
        float, typer.Option(min=0, max=1, help="0: all pixels alike; 1: rare classes weigh most.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed trains the same network (on the CPU).")] = 0,
    device: DeviceOption = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a run that exists.")] = False,
) -> None:
    """Train a U-Net to segment photographs, on pairs of the classes that pictures are generated in.

    With a val/ folder it is scored at the end. Ctrl-C saves what there is.
    """
    pictures = parse_size(size)
    if (out / "model").exists() and not force:
        raise TrainingError(f"{out} holds a segmenter already: choose another --out, or add --force to replace it.")
    check_folder(out)

    from segscape.data.open import has_splits, open_pairs
    from segscape.inference.pipeline import choose_device
    from segscape.training.segmenter import train_segmenter

    label_set = parse_label_set(labels)
    dataset = open_pairs(data, label_set, "train")
    val = open_pairs(data, label_set, "val") if has_splits(data) else None
    folder = train_segmenter(
        dataset,
        out,
        val=val,
        encoder=encoder.value,
        size=pictures,
        images=images,
        batch_size=batch_size,
        learning_rate=learning_rate,
        balance=balance,
        seed=seed,
        device=choose_device(device),
    )
    if val is not None:
        print((out / "scores.json").read_text(encoding="utf-8"))
    print(f"segmenter in {folder.resolve()}")


@app.command()
def score(
    data: DataOption,
    segmenter: Annotated[
        str | None,
        typer.Option(help="Folder or Hugging Face id of a segmenter; for camvid the shipped one by default."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="SET", help="Label set of the data; by default the segmenter's own.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Which part of the data.")] = Split.val,
    mapping: Annotated[
        Path | None, typer.Option(help='JSON of {"segmenter class name or id": "label set class name"}.')
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Resize photos and label maps first.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure a segmenter on real photographs: the ceiling of what generated pictures can reach."""
    wanted = None if size is None else parse_size(size)

    from segscape.data.open import open_pairs
    from segscape.evaluation.agreement.mapping import ClassMapping
    from segscape.evaluation.agreement.segmenters import UNetSegmenter, agreement_on_photographs, open_segmenter

    given = None if labels is None else parse_label_set(labels)
    judge = open_segmenter(segmenter or _shipped(given), device)
    label_set = given or (judge.model.config.labels if isinstance(judge, UNetSegmenter) else None)
    if label_set is None:
        raise EvaluationError(f"the label maps of {data} need a label set: give --labels.")
    dataset = open_pairs(data, label_set, split.value)
    classes = ClassMapping.of(judge.classes, label_set, mapping)
    agreement = agreement_on_photographs(judge, classes, dataset, wanted)
    print(
        f"{len(dataset)} photographs, {size or 'their own size'}; segmenter: {judge.description}; {classes.describe()}"
    )
    if classes.unmatched:
        print(classes.remark())
    _print_agreement(agreement, label_set)


def _shipped(labels: LabelSet | None) -> Path:
    """The folder of the shipped segmenter, for its classes or where no label set is given."""
    from segscape.evaluation.agreement.segmenters import default_segmenter
    from segscape.labels import LABEL_SETS

    folder = default_segmenter(labels or LABEL_SETS["camvid"])
    if folder is None:
        name = labels.name if labels else "camvid"
        raise EvaluationError(f"there is no shipped segmenter for label set {name!r}: give one with --segmenter.")
    return folder


def _print_agreement(agreement: Agreement, labels: LabelSet) -> None:
    print(f"mIoU      {agreement.mean_iou:7.2%}")
    print(f"accuracy  {agreement.accuracy:7.2%}  of {agreement.pixels:,} pixels")
    print(f"{'index':>5}  {'IoU':>7}  {'share':>7}  class")
    shares = agreement.counts.sum(1).double() / max(1, agreement.pixels)
    rows = zip(labels.names, agreement.iou.tolist(), shares.tolist(), strict=True)
    for index, (name, iou, share) in enumerate(rows):
        shown = "-" if iou != iou else f"{iou:.2%}"  # nan: not scored
        print(f"{index:>5}  {shown:>7}  {share:>7.2%}  {name}")
