"""A study whose sides can be told apart by machine: A's pictures are red, B's are blue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.label_files import write_label_map
from segscape.labels import LabelSet
from segscape.studio.study import Study, StudyRequest, prepare_study

COLOURS = {"a": (200, 30, 30), "b": (30, 30, 200)}
NAMES = tuple(f"town/{number:02d}" for number in range(8))
SIZE = (24, 36)


def write_picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), colour).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with `data` (8 pairs of two classes), and `a` and `b`, the pictures of two other codes."""
    labels = LabelSet.numbered(2)
    for number, name in enumerate(NAMES):
        write_picture(tmp_path / "data" / "images" / f"{name}.png", (90, 90, 90))
        label_map = np.zeros(SIZE, dtype=np.int64)
        label_map[number:] = 1
        (tmp_path / "data" / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        write_label_map(tmp_path / "data" / "labels" / f"{name}.png", label_map, labels)
        for side, colour in COLOURS.items():
            write_picture(tmp_path / side / f"{name}.png", colour)
    return tmp_path


@pytest.fixture
def request_of_six(pictures: Path) -> StudyRequest:
    """Six of the eight layouts, a against b."""
    return StudyRequest(str(pictures / "a"), str(pictures / "b"), pictures / "data", items=6, labels=2)


@pytest.fixture
def study(pictures: Path, request_of_six: StudyRequest) -> Study:
    """The study of that request, ready for votes."""
    folder = pictures / "study"
    folder.mkdir()
    return prepare_study(folder, request_of_six)
