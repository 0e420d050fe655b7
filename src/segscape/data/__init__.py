"""Datasets of image and label map pairs, the transforms that keep them in step, and the training order."""

from __future__ import annotations

from segscape.data.camvid import CamVid
from segscape.data.folder import FolderDataset
from segscape.data.procedural import ProceduralScenes
from segscape.data.sample import Batch, Dataset, Sample, collate
from segscape.data.transforms import Placement, Preprocess
from segscape.data.view import TrainingOrder, TrainingView

__all__ = [
    "Batch",
    "CamVid",
    "Dataset",
    "FolderDataset",
    "Placement",
    "Preprocess",
    "ProceduralScenes",
    "Sample",
    "TrainingOrder",
    "TrainingView",
    "collate",
]
