"""What 8 bits cost and save: the shipped model plain, as ONNX in float32 and as ONNX in 8 bits, on CamVid.

Quality is that of `quality.py`: the same protocol, features and segmenter, on the validation layouts. Times are medians
over these layouts of one picture, on `--threads` threads. Calibration takes training layouts, spread evenly. `--quick`
takes eight layouts of each split, so that its numbers only show that the script works.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

from quality import first_pairs, judged

from segscape.data.folder import FileDataset
from segscape.data.open import open_pairs
from segscape.evaluation.cost.timing import machine, thread_count
from segscape.evaluation.sources import FolderPictures
from segscape.inference import SHIPPED_MODEL, OnnxPipeline, Pipeline
from segscape.inference.export import export_onnx
from segscape.inference.quantize import quantize
from segscape.layout import Layout

CALIBRATION_LAYOUTS = 32
MEGABYTE = 2**20


def main() -> None:
    """Draw, measure, print the rows, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CamVid: ROOT/{train,val}/{images,labels}")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--quick", action="store_true", help="eight layouts of each split")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, thread_count(options.threads):
        folder = Path(name)
        data = first_pairs(options.data, folder / "data") if options.quick else options.data
        computer = machine()
        print(", ".join(f"{key} {value}" for key, value in computer.items()))
        rows = compare(data, folder, options.threads)
    if options.json:
        content = {"machine": computer, "quick": options.quick, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def compare(data: Path, folder: Path, threads: int) -> list[dict[str, object]]:
    """One row for each form of the model."""
    plain = Pipeline.from_pretrained(device="cpu")
    single, small = folder / "float32.onnx", folder / "int8.onnx"
    export_onnx(plain.model, single)
    train = open_pairs(data, plain.labels, "train")
    step = math.ceil(len(train) / CALIBRATION_LAYOUTS)
    quantize(single, small, [layout_of(train, place) for place in range(0, len(train), step)])
    forms = {
        "torch float32": (plain, SHIPPED_MODEL / "model.safetensors"),
        "onnx float32": (OnnxPipeline(single, threads=threads), single),
        "onnx int8": (OnnxPipeline(small, threads=threads), small),
    }
    rows: list[dict[str, object]] = []
    for form, (pipeline, file) in forms.items():
        pictures = folder / form.replace(" ", "-")
        seconds = draw(pipeline, open_pairs(data, plain.labels, "val"), pictures, plain.model.config.image_size)
        scores = score(plain, data, pictures, folder)
        ratio = seconds / float(str(rows[0]["seconds"])) if rows else 1.0
        size = file.stat().st_size / MEGABYTE
        rows.append({"form": form, "seconds": seconds, "ratio_to_torch": ratio, "file_mb": size, "scores": scores})
        shown = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        print(f"{form:<15}{seconds:>8.3f} s{ratio:>7.2f}{size:>8.1f} MB   {shown}", flush=True)
    return rows


def layout_of(dataset: FileDataset, place: int) -> Layout:
    """The layout of a sample."""
    return Layout.from_array(dataset.sample(place).label_map, dataset.labels)


def draw(pipeline: Pipeline | OnnxPipeline, dataset: FileDataset, folder: Path, size: tuple[int, int]) -> float:
    """Write the pictures of all layouts; the median time of one."""
    folder.mkdir()
    times = []
    for place, name in enumerate(dataset.names):
        layout = layout_of(dataset, place)
        start = time.perf_counter()
        [picture] = pipeline(layout, size=size)
        times.append(time.perf_counter() - start)
        picture.save(folder / f"{name}.png")
    return statistics.median(times)


def score(plain: Pipeline, data: Path, pictures: Path, cache: Path) -> dict[str, float]:
    """Distance to the training photographs and agreement with the layouts."""
    size, names = plain.model.config.image_size, open_pairs(data, plain.labels, "val").names
    report = judged(FolderPictures(pictures, names, size), data, plain.labels, size, cache)
    wanted = ("FD-EfficientNetLite0", "mIoU", "accuracy")
    return {score.name: score.value for score in report.scores if score.name in wanted}


if __name__ == "__main__":
    main()
