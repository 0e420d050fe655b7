"""Quality of the shipped model on CamVid's validation layouts, between a floor and a ceiling measured in the same run.

The floor is the same network without training and the coloured layouts themselves; the ceiling is the real photographs
of the same layouts. `--quick` takes eight layouts of each split, so that its numbers only show that the script works.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from segscape.data.folder import FileDataset
from segscape.data.open import open_pairs
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.evaluation.agreement.segmenters import default_segmenter, open_segmenter
from segscape.evaluation.cost.timing import machine
from segscape.evaluation.evaluate import Judge, evaluate
from segscape.evaluation.fidelity.extractors import open_extractor
from segscape.evaluation.fidelity.reference import open_reference
from segscape.evaluation.protocol import PROTOCOLS
from segscape.evaluation.report.report import Report
from segscape.evaluation.report.table import score_table
from segscape.evaluation.score import Score
from segscape.evaluation.sources import FolderPictures, ModelPictures, PictureSource
from segscape.inference import Pipeline
from segscape.labels import LabelSet
from segscape.layout import Size

PROTOCOL = PROTOCOLS["clade"]
QUICK = 8


def main() -> None:
    """Measure all sources, print the table, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CamVid: ROOT/{train,val}/{images,labels}")
    parser.add_argument("--quick", action="store_true", help="eight layouts of each split")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every score with its protocol")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = first_pairs(options.data, folder / "data") if options.quick else options.data
        table = score_table([(report.title, report) for report in _reports(data, folder)])
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(table.to_text())
    if options.json:
        content = {"machine": machine(), "quick": options.quick, "table": json.loads(table.to_json())}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def _reports(data: Path, folder: Path) -> list[Report]:
    pipeline = Pipeline.from_pretrained(device="cpu")
    labels, size = pipeline.labels, pipeline.model.config.image_size
    dataset = open_pairs(data, labels, "val")
    reports = []
    for source in _sources(pipeline, dataset, data, folder, size):
        print(source.title, flush=True)
        reports.append(judged(source, data, labels, size, folder))
    return reports


def judged(
    source: PictureSource, data: Path, labels: LabelSet, size: Size, cache: Path, further: Sequence[Score] = ()
) -> Report:
    """Fidelity and agreement of pictures of the validation layouts, by the protocol of this script."""
    where = default_segmenter(labels)
    assert where is not None  # the package has one for CamVid
    segmenter = open_segmenter(where, "cpu")
    found = evaluate(
        source,
        open_pairs(data, labels, "val"),
        protocol=PROTOCOL,
        size=size,
        reference=open_reference(PROTOCOL.reference, data, labels),
        extractor=open_extractor("efficientnet-lite0", None, torch.device("cpu")),
        judge=Judge(segmenter, ClassMapping.by_name(segmenter.classes, labels)),
        further=further,
        machine=machine(),
        cache=cache,
    )
    assert found is not None  # one process
    return found.report


def _sources(
    pipeline: Pipeline, dataset: FileDataset, data: Path, folder: Path, size: tuple[int, int]
) -> list[PictureSource]:
    torch.manual_seed(0)
    untrained = Pipeline(type(pipeline.model)(pipeline.model.config), "cpu")
    real = FolderPictures(data / "val" / "images", dataset.names, size)
    colors = FolderPictures(_write_colors(dataset, folder / "colors"), dataset.names, size)
    real.title, colors.title = "real photos", "coloured layouts"
    return [
        ModelPictures(pipeline, PROTOCOL, "shipped model"),
        ModelPictures(untrained, PROTOCOL, "untrained"),
        colors,
        real,
    ]


def _write_colors(dataset: FileDataset, folder: Path) -> Path:
    """The layouts in their classes' colours, as if they were pictures."""
    folder.mkdir()
    for index, name in enumerate(dataset.names):
        colors = dataset.labels.colorize(dataset.sample(index).label_map)
        Image.fromarray(colors).save(folder / f"{name}.png")
    return folder


def first_pairs(data: Path, folder: Path) -> Path:
    """A copy of the first pairs of each split."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
            for file in sorted((data / split / kind).iterdir())[:QUICK]:
                shutil.copy(file, folder / split / kind / file.name)
    return folder


if __name__ == "__main__":
    main()
