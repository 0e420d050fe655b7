"""Which files make up a dataset (`Listing`), and what is wrong with them (`Problem`), before any of them is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from segscape.labels import LabelSet

Array = npt.NDArray[Any]
ReadLabelMap = Callable[[tuple[Path, ...], LabelSet], Array]
"""Reads the label map of one sample from its files: int64 ``[H, W]`` in the indices of the label set.

Raises LabelMapError or DataError.
"""


@dataclass(frozen=True)
class SampleFiles:
    """The files of one sample.

    Attributes:
        name: unique in its split; the path below the split's folder, with `/` and without suffix.
        image: the photograph, or None where only the layout is known.
        label_maps: one file, or the masks of the parts that are merged into one map.
        instance_map: an id per object, or None.
    """

    name: str
    image: Path | None
    label_maps: tuple[Path, ...]
    instance_map: Path | None = None


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file.

    Attributes:
        path: the file or folder.
        kind: one short stable word, for example `no-partner`, `two-of-one-name`, `bad-link` or `empty`.
        message: one sentence that says what was found and how to mend it.
    """

    path: Path
    kind: str
    message: str


@dataclass(frozen=True)
class Listing:
    """The files of one split of a dataset. Making it raises nothing about single files: those are `problems`.

    Attributes:
        kind: `ade20k`, `coco-stuff`, `cityscapes`, `celebamask-hq`, `deepfashion`, `camvid` or `folder`.
        root: the folder of the dataset.
        split: for example `train` or `val`; empty where a folder has no splits.
        labels: the label set; None for a plain folder whose label set nobody named.
        samples: the complete ones, sorted by name. A split without any photograph has samples without one.
        problems: orphans, two files of one name, links that lead nowhere or in circles.
        read_label_map: how the label map of a sample is read.
        larger_images: photographs are stored larger than their label maps (CelebAMask-HQ: 1024 x 1024 and 512 x 512),
            and are resized to them (bicubic) when they are read.
    """

    kind: str
    root: Path
    split: str
    labels: LabelSet | None
    samples: tuple[SampleFiles, ...]
    problems: tuple[Problem, ...]
    read_label_map: ReadLabelMap
    larger_images: bool = False

    def without_instances(self) -> Listing:
        """The same without instance maps, for models that do not use them."""
        return replace(self, samples=tuple(replace(files, instance_map=None) for files in self.samples))
