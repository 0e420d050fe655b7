"""What styles are for, learnt in seconds: pictures follow a reference's colours, and one class changes alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.style import measure, reconstructed
from segscape.data.procedural import ProceduralScenes
from segscape.data.sample import Sample

SIDE, LEARNT, HELD_OUT = 32, 96, 12
TINT = 110
"""Grey levels by which the colours of a class differ between scenes, at most."""
IMAGES = 540
NARROW = {"base_channels": 4, "hidden_channels": 8, "encoder_channels": 4, "style_dim": 16}


def tinted_scenes(count: int, seed: int) -> list[Sample]:
    """Scenes in which each class has a tint of its own, drawn anew for each scene: what a layout cannot tell."""
    scenes, rng = ProceduralScenes(count, size=(SIDE, SIDE), seed=seed), np.random.default_rng(seed)
    found = []
    for scene in map(scenes.sample, range(count)):
        tints = rng.uniform(-TINT, TINT, (scenes.labels.num_classes, 3))
        image = np.clip(scene.image + tints[scene.label_map], 0, 255).astype(np.uint8)
        found.append(dataclasses.replace(scene, image=image))
    return found


@pytest.mark.slow
def test_pictures_of_sean_follow_the_style() -> None:
    """Measured on scenes that were not learnt, in the styles of other scenes; see `benchmarks/style.py`.

    GroupDNet is left to that script: of a training of this length its codes are still weak (its encoder normalises the
    colours of each class's image away, but for their signs) and its groups have not yet learnt to stay in their region.
    """
    pipeline = reconstructed("sean", tinted_scenes(LEARNT, 0), IMAGES, batch=4, learning_rate=8e-3, **NARROW)
    found = measure(pipeline, tinted_scenes(HELD_OUT, 7))
    assert found["samples"] > 2, found  # grey levels
    assert found["colours"] > 0.15 and found["colours"] - found["exchanged"] > 0.2, found
    assert found["inside"] > 3 * found["outside"] and found["inside"] > 3, found
