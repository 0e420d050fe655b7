"""Do pictures follow a style? Trains a CLADE with latents, SEAN and GroupDNet on drawn scenes, and measures on others.

CLADE and SEAN are trained by a recipe, with all losses. GroupDNet learns slower what its codes are for: it is trained
to draw photos again from their styles, which needs no discriminator, so that a CPU has time for enough steps.

Three things. Samples: how far pictures of one layout in different styles are apart (random styles, or those of photos
for SEAN, which has no random ones). Colours: the correlation of a region's mean colour in the picture with that in the
reference photo, each class's own mean taken away, beside the same with the references exchanged. One class: how much
the pictures change inside and outside the region of a class whose style alone is taken from another photo.

All distances are mean absolute differences in grey levels of 8 bits. `--quick` trains for a few steps, so that its
figures only show that the script works.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional as F

from segscape.data.procedural import ProceduralScenes
from segscape.data.sample import Sample, collate
from segscape.evaluation.cost.timing import machine, thread_count
from segscape.inference.pipeline import Pipeline, Reference
from segscape.layout import Layout
from segscape.losses import kl_divergence
from segscape.models import create_model
from segscape.style import Style
from segscape.training.loop import train
from segscape.training.recipe import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
SIDE = 64
MODELS: dict[str, dict[str, Any]] = {
    "clade": {"name": "clade", "latent_dim": 16, "base_channels": 12},
    "sean": {"name": "sean", "base_channels": 8, "hidden_channels": 32, "style_dim": 32, "encoder_channels": 8},
    "groupdnet": {
        "name": "groupdnet",
        "base_channels": 24,
        "widths": [96, 96, 96, 96, 96, 48, 24, 24],
        "groups": [12, 12, 12, 6, 4, 2, 2],
        "upsampling": "normal",
        "encoder_channels": 4,
    },
}
IMAGES = {"clade": 400, "sean": 1600, "groupdnet": 6400}
"""Lengths of the trainings: some minutes each on one slow core."""
RECONSTRUCTED = frozenset({"groupdnet"})
"""Those that are trained by `reconstructed`; the others by a recipe."""
QUICK_IMAGES = 16
LEARNT_SCENES = 96
"""From which `reconstructed` learns."""
SCENES, QUICK_SCENES = 40, 6
SEED = 7
"""Of the scenes that are measured; training does not use it."""
SAMPLES = 5
LEAST_SHARE = 0.02
"""Regions below this share of a picture are not looked at."""

Picture = npt.NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, print the table, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"train for {QUICK_IMAGES} pictures only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--images", type=int, help=f"length of each training (default {IMAGES})")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="which (default all)")
    options = parser.parse_args(arguments)
    with thread_count(options.threads):
        computer = machine()
        print(", ".join(f"{key} {value}" for key, value in computer.items()))
        images = {name: QUICK_IMAGES if options.quick else options.images or IMAGES[name] for name in options.models}
        scenes = list(drawn_scenes(QUICK_SCENES if options.quick else SCENES))
        results = {name: measure(learnt(name, images[name]), scenes) for name in options.models}
    print(f"{'':10} {'samples':>8} {'colours':>8} {'exchanged':>9} {'inside':>7} {'outside':>8}")
    for name, found in results.items():
        one_class = f"{found['inside']:7.2f} {found['outside']:8.2f}" if "inside" in found else ""
        print(f"{name:10} {found['samples']:8.2f} {found['colours']:8.3f} {found['exchanged']:9.3f} {one_class}")
    if options.json:
        content = {"machine": computer, "quick": options.quick, "images": images, "results": results}
        options.json.write_text(json.dumps(content) + "\n")


def drawn_scenes(count: int, seed: int = SEED) -> Iterator[Sample]:
    """Scenes; with the default seed such as no training has seen."""
    scenes = ProceduralScenes(count, size=(SIDE, SIDE), seed=seed)
    return (scenes.sample(index) for index in range(count))


def learnt(name: str, images: int) -> Pipeline:
    """One system, trained for so many images, in the way that is right for it."""
    if name in RECONSTRUCTED:
        return reconstructed(name, list(drawn_scenes(LEARNT_SCENES, seed=0)), images)
    return trained(name, images)


def trained(name: str, images: int) -> Pipeline:
    """One system, trained on drawn scenes by a recipe."""
    model = {"image_size": [SIDE, SIDE], **MODELS[name]}
    changes = [f"model={json.dumps(model)}", f"images={images}", f"optimizer.decay_images={images // 3}"]
    changes += [f"snapshot_images={images}", "objective.kl=0.0005", "ema.statistics_batches=8"]
    with tempfile.TemporaryDirectory() as folder:
        return Pipeline.from_pretrained(train(load_recipe(RECIPE, changes), Path(folder) / name), "cpu")


def reconstructed(
    name: str,
    scenes: Sequence[Sample],
    images: int,
    *,
    batch: int = 4,
    learning_rate: float = 6e-3,
    kl: float = 1e-4,
    **options: Any,
) -> Pipeline:
    """One system, trained to draw photos again from their styles: by the mean absolute difference alone.

    Args:
        name: of the system, a key of `MODELS`.
        scenes: what it learns from, of one size.
        images: length of the training.
        batch: pictures of a step.
        learning_rate: of Adam; in the second half of the training it falls to 0.
        kl: weight of the divergence of the codes, summed over an image, where they are random.
        options: of the model, instead of those in `MODELS`.
    """
    torch.manual_seed(0)
    photos = collate(scenes, ProceduralScenes.labels)
    chosen = {"name": name, **MODELS[name], "image_size": photos.layout.size, "upsampling": "normal", **options}
    model = create_model(labels=ProceduralScenes.labels, **chosen).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.5, 0.99))
    steps, rng = images // batch, np.random.default_rng(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * min(1.0, 2 - 2 * step / steps)
        picked = torch.from_numpy(rng.choice(len(scenes), batch, replace=False))
        layout, wanted = Layout(photos.layout.label_map[picked], photos.layout.labels), photos.images[picked]
        encoded = model.encode(wanted, layout)
        noise = torch.randn(encoded.mean.values.shape) if model.config.variational else None
        loss = F.l1_loss(model(layout, encoded.draw(noise)), wanted)
        if encoded.log_variance is not None:
            loss = loss + kl * kl_divergence(encoded.mean.values, encoded.log_variance) / batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Pipeline(model.eval(), "cpu")


def measure(pipeline: Pipeline, scenes: Sequence[Sample]) -> dict[str, float]:
    """All figures of one model."""
    styles = [pipeline.style(reference(scene)) for scene in scenes]
    found = {"samples": mean_spread(pipeline, scenes, styles)}
    colours = region_colours(pipeline, scenes, styles)
    found["colours"] = correlation(colours, exchanged=False)
    found["exchanged"] = correlation(colours, exchanged=True)
    if pipeline.model.config.style_kind == "codes":
        found["inside"], found["outside"] = one_class_changes(pipeline, scenes, styles)
    return found


def reference(scene: Sample) -> Reference:
    """A scene as what lends its style."""
    return Reference(Image.fromarray(scene.image), scene.label_map, scene.instance_map)


def mean_spread(pipeline: Pipeline, scenes: Sequence[Sample], styles: Sequence[Style]) -> float:
    """Mean distance of two pictures of one layout in different styles."""
    distances = []
    for number, scene in enumerate(scenes):
        if pipeline.model.random_styles:
            shown = pipeline(scene.label_map, seed=number, samples=SAMPLES)
        else:
            others = (styles[(number + step) % len(styles)] for step in range(1, SAMPLES + 1))
            shown = [picture for style in others for picture in pipeline(scene.label_map, style=style, seed=number)]
        distances += [np.abs(a - b).mean() for a, b in combinations(map(pixels, shown), 2)]
    return float(np.mean(distances))


def region_colours(
    pipeline: Pipeline, scenes: Sequence[Sample], styles: Sequence[Style]
) -> list[tuple[int, Picture, Picture]]:
    """For each scene in the style of the next one, and each class in both: class, its colour there, and as drawn."""
    found = []
    for number, scene in enumerate(scenes):
        following = (number + 1) % len(scenes)
        lender = scenes[following]
        picture = pixels(pipeline(scene.label_map, style=styles[following], seed=number)[0])
        for index in classes_in(scene) & classes_in(lender):
            asked = lender.image[lender.label_map == index].mean(0)
            found.append((index, asked, picture[scene.label_map == index].mean(0)))
    return found


def correlation(colours: Sequence[tuple[int, Picture, Picture]], exchanged: bool) -> float:
    """Of what was asked for and what was drawn, each class's mean taken away; or of what another one was asked for."""
    asked, drawn = [], []
    for index in {index for index, _, _ in colours}:
        of_class = [(reference, picture) for other, reference, picture in colours if other == index]
        wanted, got = (np.array(column) for column in zip(*of_class, strict=True))
        wanted = np.roll(wanted, len(wanted) // 2, axis=0) if exchanged else wanted
        asked.append(wanted - wanted.mean(0))
        drawn.append(got - got.mean(0))
    return float(np.corrcoef(np.concatenate(asked).ravel(), np.concatenate(drawn).ravel())[0, 1])


def one_class_changes(pipeline: Pipeline, scenes: Sequence[Sample], styles: Sequence[Style]) -> tuple[float, float]:
    """Mean change inside and outside the region of a class whose style alone comes from the next scene that has it."""
    inside, outside = [], []
    for number, scene in enumerate(scenes):
        lender = (number + 1) % len(scenes)
        before = pixels(pipeline(scene.label_map, style=styles[number], seed=number)[0])
        for index in classes_in(scene) & classes_in(scenes[lender]):
            mixed = styles[number].replace_classes(styles[lender], [index])
            change = np.abs(pixels(pipeline(scene.label_map, style=mixed, seed=number)[0]) - before)
            region = scene.label_map == index
            inside.append(change[region].mean())
            outside.append(change[~region].mean())
    return float(np.mean(inside)), float(np.mean(outside))


def classes_in(scene: Sample) -> set[int]:
    """The classes that fill a fair share of a scene, but not all of it."""
    indices, counts = np.unique(scene.label_map, return_counts=True)
    shares = counts / scene.label_map.size
    return {int(i) for i, share in zip(indices, shares, strict=True) if LEAST_SHARE <= share <= 1 - LEAST_SHARE}


def pixels(picture: Image.Image) -> Picture:
    """Grey levels 0 to 255, `[H, W, 3]`."""
    return np.asarray(picture).astype(np.float64)


if __name__ == "__main__":
    main()
