"""Datasets of image and label map pairs, the transforms that keep them in step, and the training order."""

from __future__ import annotations

from segscape.data.augmentation import Augmentation
from segscape.data.folder import FileDataset, FolderDataset
from segscape.data.inspection.inspection import Inspection, inspect_dataset
from segscape.data.listing import Listing, Problem, SampleFiles
from segscape.data.open import find_listing, list_splits
from segscape.data.procedural import ProceduralScenes
from segscape.data.published.ade20k import ADE20K
from segscape.data.published.camvid import CamVid
from segscape.data.published.celebamask import CelebAMaskHQ
from segscape.data.published.cityscapes import Cityscapes
from segscape.data.published.coco_stuff import COCOStuff
from segscape.data.published.deepfashion import DeepFashion
from segscape.data.sample import Batch, Dataset, Sample, collate
from segscape.data.shards.dataset import ShardDataset
from segscape.data.transforms import Placement, Preprocess
from segscape.data.view import TrainingOrder, TrainingView

__all__ = [
    "ADE20K",
    "Augmentation",
    "Batch",
    "COCOStuff",
    "CamVid",
    "CelebAMaskHQ",
    "Cityscapes",
    "Dataset",
    "DeepFashion",
    "FileDataset",
    "FolderDataset",
    "Inspection",
    "Listing",
    "Placement",
    "Preprocess",
    "Problem",
    "ProceduralScenes",
    "Sample",
    "SampleFiles",
    "ShardDataset",
    "TrainingOrder",
    "TrainingView",
    "collate",
    "find_listing",
    "inspect_dataset",
    "list_splits",
]
