"""Tables I, VI and VII of the CLADE paper in miniature: every system, one budget on CamVid, one protocol of evaluation.

The budget is a number of images shown, the same for all, at one size and batch, with the same perceptual features and,
where a system has none of its own, the same discriminator. Widths are cut so that a CPU can do it: the costs beside the
scores are those of the networks that were trained. Runs stay in the folder `--out`, and what is finished there is not
done again, so a table can be filled over several calls; an interrupted run is resumed. Each holds a `report.json`, so
`segscape table OUT/*/report.json` writes the table in other forms. Fidelity and agreement take the style from the photo
of the layout, where a model takes one; diversity draws it. `--curves FILE.png` draws the generators' losses,
`--pictures FILE.png` what each system makes of our example layouts. `--quick` is short and only shows that the script
works.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image, ImageDraw
from quality import PROTOCOL, judged

from segscape.data.open import open_pairs
from segscape.evaluation.cost.complexity import count
from segscape.evaluation.cost.timing import machine, measure, thread_count
from segscape.evaluation.diversity.lpips import lite0_distance
from segscape.evaluation.evaluate import DiversityPlan, evaluate
from segscape.evaluation.plotting import new_figure, save_figure
from segscape.evaluation.protocol import PROTOCOLS
from segscape.evaluation.report.report import REPORT_FILE, Report
from segscape.evaluation.report.table import score_table
from segscape.evaluation.sources import FolderPictures, ModelPictures
from segscape.inference import Pipeline
from segscape.inference.sheets import paste_grid
from segscape.label_files import read_label_map
from segscape.labels import LABEL_SETS
from segscape.models.clade import mixed_norms
from segscape.training.loop import train
from segscape.training.recipe import parse_recipe
from segscape.training.report import read_curves

FREELY: Final = PROTOCOLS["product"]  # styles from the prior
PLAN: Final = DiversityPlan(lite0_distance(torch.device("cpu")), layouts=10, pictures=4)
METRICS: Final = (
    *("FD-EfficientNetLite0", "mIoU", "accuracy"),
    *(f"{what} (PD-EfficientNetLite0)" for what in ("diversity", "mCSD", "mOCD")),
    *("Parameters", "MACs", "Run time", "Peak memory"),
)
SIZE: Final = (96, 128)
CAMVID: Final = LABEL_SETS["camvid"]
EXAMPLES: Final = Path(__file__).parents[1] / "examples" / "layouts"
ICPE: Final = {"name": "clade", "base_channels": 16, "position_rule": "official-all"}  # in the ways of Table VII
FEATURE_PYRAMID: Final = {"kind": "feature-pyramid", "base_channels": 16}
THREE_LAYERS: Final = {"num_layers": 3, "last_stride": 2}
LEAST_SQUARES: Final = {"gan_mode": "least-squares", "adversarial": 2.0}

SYSTEMS: Final[dict[str, dict[str, Any]]] = {
    "spade": {"model": {"name": "spade", "base_channels": 16, "hidden_channels": 32}},
    "spade-light": {"model": {"name": "spade", "base_channels": 6, "hidden_channels": 32}},
    "clade": {"model": {"name": "clade", "base_channels": 16}},
    "clade-icpe": {"model": {**ICPE, "position": "modulation"}},
    "clade-input": {"model": {**ICPE, "position": "input"}},
    "clade-feature": {"model": {**ICPE, "position": "feature"}},
    "mixed-2": {"model": {"name": "clade", "base_channels": 16, "hidden_channels": 32, "norm": mixed_norms(2)}},
    "mixed-5": {"model": {"name": "clade", "base_channels": 16, "hidden_channels": 32, "norm": mixed_norms(5)}},
    "pix2pixhd": {
        "model": {"name": "pix2pixhd", "base_channels": 16},
        "discriminator": {"spectral": False, "bias": True},
        "objective": LEAST_SQUARES,
        "optimizer": {"generator_lr": 2e-4, "discriminator_lr": 2e-4, "betas": [0.5, 0.999]},
    },
    "cc-fpse": {
        "model": {"name": "cc-fpse", "base_channels": 8, "hidden_channels": 16, "latent_dim": 16},
        "discriminator": FEATURE_PYRAMID,
    },
    "dagan": {"model": {"name": "dagan", "base_channels": 16, "hidden_channels": 32}},
    "clade-vae": {"model": {"name": "clade", "base_channels": 16, "latent_dim": 16}},
    "sean": {
        "model": {"name": "sean", "base_channels": 16, "hidden_channels": 32, "style_dim": 64, "encoder_channels": 8},
        "discriminator": THREE_LAYERS,
    },
    "sean-clade": {
        "model": {"name": "sean-clade", "base_channels": 16, "style_dim": 64, "encoder_channels": 8},
        "discriminator": THREE_LAYERS,
    },
    "groupdnet": {"model": {"name": "groupdnet", "base_channels": 24, "upsampling": "normal", "encoder_channels": 4}},
    "groupdnet-clade": {
        "model": {"name": "groupdnet-clade", "base_channels": 24, "upsampling": "normal", "encoder_channels": 4}
    },
    "ca2-sis": {
        "model": {
            "name": "ca2-sis", "base_channels": 16, "norm_groups": 8, "head_channels": 16, "last_head_channels": 16,
            "style_features": 2, "style_channels": 32, "mask_size": 64, "mapping_dim": None,
        },
        "discriminator": THREE_LAYERS,
    },
}  # fmt: skip
"""The recipes, as far as they differ; name in the table -> sections."""


def main() -> None:
    """Train what is missing, measure, print the table, and write the files that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CamVid: ROOT/{train,val}/{images,labels}")
    parser.add_argument("--out", type=Path, default=Path("out/table1"), help="folder of the runs (default out/table1)")
    parser.add_argument("--models", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--images", type=int, default=4000, help="images shown in training (default 4000)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--quick", action="store_true", help="16 images, two systems")
    parser.add_argument("--curves", type=Path, metavar="FILE.png")
    parser.add_argument("--pictures", type=Path, metavar="FILE.png")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    names = ["clade", "sean"] if options.quick else options.models
    images = 16 if options.quick else options.images
    print(", ".join(f"{key} {value}" for key, value in {**machine(), "threads": options.threads}.items()))
    print(f"{images} images shown, batch {options.batch}, {SIZE[0]}x{SIZE[1]}; {PROTOCOL.describe(SIZE)}")
    with thread_count(options.threads):
        runs = {name: _trained(name, options.data, options.out, images, options.batch) for name in names}
        reports = [_bounds(options.data, options.out)]
        reports += [_report(name, run, options.data) for name, run in runs.items()]
    known = {score.name for report in reports for score in report.scores}
    table = score_table([(report.title, report) for report in reports], [name for name in METRICS if name in known])
    print(table.to_text(), end="\n\n")
    for name, run in runs.items():
        print(f"{name}: {_losses(run)}")
    if options.curves:
        _draw_curves(runs, options.curves)
    if options.pictures:
        _draw_pictures(runs, options.pictures)
    if options.json:
        content = {"machine": machine(), "quick": options.quick, "images": images, "table": json.loads(table.to_json())}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def _trained(name: str, data: Path, out: Path, images: int, batch: int) -> Path:
    """The folder of the finished run of a system."""
    height, width = SIZE
    common = {
        "data": {"kind": "camvid", "root": str(data)},
        "preprocess": {
            "mode": "resize_and_crop",
            "load_size": [height + 12, width + 16],
            "crop_size": SIZE,
            "flip": True,
        },
        "images": images,
        "batch_size": batch,
        "log_images": max(batch, images // 100),
        "snapshot_images": max(batch, images // 4),
        "trackers": [],
        "ema": {"half_life_images": max(batch, images // 10), "statistics_batches": 10},
        "samples": 2,
    }
    system = SYSTEMS[name]
    content = common | {
        "model": {"image_size": SIZE, **system["model"]},
        "discriminator": {"base_channels": 16, **system.get("discriminator", {})},
        "objective": {"features": "efficientnet-lite0", "fresh_fake": False, **system.get("objective", {})},
        "optimizer": {"decay_images": images // 2, **system.get("optimizer", {})},
    }
    run = out / f"{name}-{images}"
    if (run / "model" / "config.json").is_file() and f'"images": {images}' in _last_line(run / "metrics.jsonl"):
        print(f"{name}: trained before, in {run}")
        return run
    print(f"{name}: training", flush=True)
    train(parse_recipe(content, name), run, resume=any((run / "checkpoints").glob("*.pt")))
    return run


def _last_line(path: Path) -> str:
    return path.read_text().rstrip().rpartition("\n")[2] if path.is_file() else ""


def _report(name: str, run: Path, data: Path) -> Report:
    """What a system scores and costs; kept beside its run."""
    kept = run / REPORT_FILE
    if not kept.is_file():
        pipeline = Pipeline.from_pretrained(run / "model", device="cpu")
        further = [*count(pipeline.model).scores(), *measure(pipeline.model, threads=1, repetitions=5).scores()]
        drawn = ModelPictures(pipeline, FREELY, name)
        if drawn.multimodal:
            dataset = open_pairs(data, CAMVID, "val")
            found = evaluate(drawn, dataset, protocol=FREELY, size=SIZE, diversity=PLAN)
            assert found is not None  # one process
            further += found.report.scores
        judged(ModelPictures(pipeline, PROTOCOL, name), data, CAMVID, SIZE, run.parent, further).save(kept)
    return Report.load(kept)


def _bounds(data: Path, out: Path) -> Report:
    """The real photographs, as if a system had made them."""
    kept = out / "real" / REPORT_FILE
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        dataset = open_pairs(data, CAMVID, "val")
        real = FolderPictures(data / "val" / "images", dataset.names, SIZE)
        real.title = "real photographs"
        judged(real, data, CAMVID, SIZE, out).save(kept)
    return Report.load(kept)


def _losses(run: Path) -> str:
    """What the losses fell by: their means over the first and the last tenth of the run."""
    curves = read_curves(run / "metrics.jsonl")
    falls = []
    for loss in ("perceptual", "feature_matching", "attention"):
        if curve := curves.get(f"generator/{loss}"):
            share = max(1, len(curve) // 10)
            first, last = (np.mean([value for _, value in part]) for part in (curve[:share], curve[-share:]))
            falls.append(f"{loss.replace('_', ' ')} {first:.2f} -> {last:.2f}")
    return ", ".join(falls)


def _draw_curves(runs: dict[str, Path], path: Path) -> None:
    """The generators' losses against the images shown, smoothed over five points."""
    figure, axes = new_figure(1, 3, width=13, height=4)
    for axis, loss in zip(axes[0], ("gan", "feature_matching", "perceptual"), strict=True):
        for number, (name, run) in enumerate(runs.items()):
            images, values = zip(*read_curves(run / "metrics.jsonl")[f"generator/{loss}"], strict=True)
            smooth = np.convolve(np.pad(values, 2, mode="edge"), np.ones(5) / 5, mode="valid")
            style = "-" if number < 10 else "--"
            axis.plot(images, smooth, style, label=name, linewidth=1, color=f"C{number % 10}")
        axis.set_title(loss.replace("_", " "), fontsize=9)
        axis.set_xlabel("images shown")
    axes[0][2].legend(fontsize=6, frameon=False, ncol=2)
    save_figure(figure, path)


def _draw_pictures(runs: dict[str, Path], path: Path) -> None:
    """Our example layouts in colour, and below what each system makes of them, after its name."""
    height, width = SIZE
    layouts = sorted(EXAMPLES.glob("*.png"))
    colours = [CAMVID.colorize(read_label_map(layout, CAMVID)) for layout in layouts]
    shown = [Image.fromarray(one).resize((width, height), Image.Resampling.NEAREST) for one in colours]
    rows = [[_name("layout"), *shown]]
    for name, run in runs.items():
        pipeline = Pipeline.from_pretrained(run / "model", device="cpu")
        rows.append([_name(name), *pipeline([*layouts], size=SIZE, seed=0)])
    path.parent.mkdir(parents=True, exist_ok=True)
    paste_grid(rows).save(path)


def _name(text: str) -> Image.Image:
    tile = Image.new("RGB", (SIZE[1], SIZE[0]), "white")
    ImageDraw.Draw(tile).text((4, SIZE[0] // 2 - 6), text, fill="black")
    return tile


if __name__ == "__main__":
    main()
