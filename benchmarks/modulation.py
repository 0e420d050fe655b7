"""How far the class alone determines SPADE's modulation, by resolution: the claim behind CLADE, measured.

Trains `recipes/quickstart.yaml` with SPADE and, for comparison, with CLADE (whose share within classes is 0 by
construction and is measured like SPADE's), then measures gamma and beta on other drawn scenes. `--quick` trains for 64
pictures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from segscape.data.procedural import ProceduralScenes
from segscape.evaluation.cost.timing import machine, thread_count
from segscape.evaluation.modulation.analysis import ModulationAnalysis, analyse_modulation
from segscape.evaluation.modulation.report import as_json, text_tables, write_report
from segscape.layout import Layout
from segscape.models import load_model
from segscape.training.loop import train
from segscape.training.recipe import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
MODELS = ("spade", "clade")
LAYOUTS, SEED = 40, 7
"""How many scenes are measured, and their seed, which training does not use."""


def main() -> None:
    """Train, measure, print the tables, and write the JSON file and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="train for 64 pictures only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="draw SPADE's figures there")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    options = parser.parse_args()
    with thread_count(options.threads):
        computer = machine()
        print(", ".join(f"{key} {value}" for key, value in computer.items()))
        analyses = {model: run(model, options.quick) for model in MODELS}
    for model, analysis in analyses.items():
        print(f"\n{model}\n{text_tables(analysis)[0].plain()}")
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        spade = analyses["spade"]
        write_report(spade, options.figures, "Modulation of spade on drawn scenes", spade.frequent_classes())
    if options.json:
        results = {model: as_json(analysis) for model, analysis in analyses.items()}
        options.json.write_text(json.dumps({"machine": computer, "quick": options.quick, "results": results}) + "\n")


def run(model: str, quick: bool) -> ModulationAnalysis:
    """Train one system on drawn scenes and measure it on others."""
    changes = [f"model.name={model}", *(["model.position_rule=official"] if model == "spade" else [])]
    recipe = load_recipe(RECIPE, [*changes, *(["images=64", "optimizer.decay_images=0"] if quick else [])])
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trained = load_model(train(recipe, Path(folder) / model))
    scenes = ProceduralScenes(LAYOUTS, size=(256, 256), seed=SEED)
    samples = (scenes.sample(index) for index in range(LAYOUTS))
    layouts = (Layout.from_array(sample.label_map, scenes.labels) for sample in samples)
    return analyse_modulation(trained, layouts, examples=(0, LAYOUTS // 2))


if __name__ == "__main__":
    main()
