"""The quick-start recipe learns: what it draws can be told apart by colour as the layout says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segscape.data.procedural import ProceduralScenes
from segscape.data.sample import Sample, collate, image_array
from segscape.models.registry import create_model, load_model
from segscape.training.loop import train
from segscape.training.recipe import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "quickstart.yaml"
UNSEEN = 1_000  # seed of scenes that the recipe does not train on


class ColourClassifier:
    """One Gaussian in RGB per class; all classes equally likely beforehand."""

    def __init__(self, samples: list[Sample], classes: int) -> None:
        pixels = np.concatenate([sample.image.reshape(-1, 3) for sample in samples if sample.image is not None])
        labels = np.concatenate([sample.label_map.reshape(-1) for sample in samples])
        self.classes = [label for label in range(classes) if (labels == label).sum() > 100]
        self.means = [pixels[labels == label].mean(0) for label in self.classes]
        self.covariances = [np.cov(pixels[labels == label].T) + 25 * np.eye(3) for label in self.classes]

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        scores = []
        for mean, covariance in zip(self.means, self.covariances, strict=True):
            offset = images.reshape(-1, 3) - mean
            distance = np.einsum("ni,ij,nj->n", offset, np.linalg.inv(covariance), offset)
            scores.append(-0.5 * (distance + np.linalg.slogdet(covariance)[1]))
        return np.array(self.classes)[np.argmax(scores, axis=0)].reshape(images.shape[:-1])

    def agreement(self, images: NDArray[np.uint8], label_map: NDArray[np.int64]) -> float:
        """Recall averaged over the classes that are there; chance is one over their number."""
        found = self(images)
        return float(np.mean([(found == label)[label_map == label].mean() for label in np.unique(label_map)]))


@pytest.mark.slow
def test_quickstart_learns_the_colours_of_its_classes(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, ["images=400", "optimizer.decay_images=200", "snapshot_images=400", "log_images=80"])
    model = load_model(train(recipe, tmp_path / "run"))
    size = model.config.image_size
    known = ProceduralScenes(60, size=size)
    unseen = [ProceduralScenes(24, size=size, seed=UNSEEN).sample(index) for index in range(24)]
    batch = collate(unseen, known.labels)
    label_map = batch.layout.label_map.numpy()
    classify = ColourClassifier([known.sample(index) for index in range(60)], known.labels.num_classes)

    torch.manual_seed(0)
    fresh = create_model(recipe.model.name, labels=known.labels, **recipe.model.options)
    with torch.no_grad():
        learned = classify.agreement(image_array(model(batch.layout)), label_map)
        before = classify.agreement(image_array(fresh(batch.layout)), label_map)
    real = classify.agreement(image_array(batch.images), label_map)
    chance = 1 / len(np.unique(label_map))
    print(f"agreement by colour: real {real:.2f}, trained {learned:.2f}, untrained {before:.2f}, chance {chance:.2f}")
    assert learned > 2 * chance
    assert learned > before + 0.1
    assert learned > 0.6 * real

    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["generator/perceptual"] < 0.85 * lines[0]["generator/perceptual"]
