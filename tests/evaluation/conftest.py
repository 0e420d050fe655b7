"""Small pairs to evaluate on: drawn streets in two splits, as a user's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.data.procedural import ProceduralScenes
from segscape.label_files import write_label_map


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train` (7 scenes) and `val` (6 scenes), 48 x 64, of the label set `scenes`."""
    root = tmp_path_factory.mktemp("pairs")
    for split, count, seed in (("train", 7, 1), ("val", 6, 2)):
        write_scenes(root / split, ProceduralScenes(count, size=(48, 64), seed=seed))
    return root


def write_scenes(folder: Path, scenes: ProceduralScenes) -> None:
    """Write scenes as `images` and `labels`."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for index in range(len(scenes)):
        sample = scenes.sample(index)
        Image.fromarray(np.asarray(sample.image)).save(folder / "images" / f"{index}.png")
        write_label_map(folder / "labels" / f"{index}.png", sample.label_map, scenes.labels)
