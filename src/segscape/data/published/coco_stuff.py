"""COCO-Stuff: photographs of COCO with every pixel labelled (Caesar, Uijlings, Ferrari, CVPR 2018).

Two layouts are known: that of the SPADE family, ``{train,val}_{img,label,inst}``; and that of the downloads,
``stuffthingmaps/{train2017,val2017}`` (or ``annotations/...``) beside ``{train2017,val2017}`` (or ``images/...``), to
which `write_instance_maps` adds ``{train,val}_inst``.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from segscape.data.folder import FileDataset
from segscape.data.listing import Array
from segscape.data.published.kind import DatasetKind, Files, existing, first_folder
from segscape.data.published.pairing import MAP_SUFFIXES, find_files
from segscape.errors import DataError
from segscape.extras import require
from segscape.label_files import read_instance_map
from segscape.labels import LABEL_SETS, LabelSet

LABEL_FOLDERS = {
    split: (f"{split}_label", f"stuffthingmaps/{split}2017", f"annotations/{split}2017") for split in ("train", "val")
}
IMAGE_FOLDERS = {split: (f"{split}_img", f"{split}2017", f"images/{split}2017") for split in ("train", "val")}


class COCOStuff(FileDataset):
    """One split of COCO-Stuff: 182 label ids, and 182 for pixels without a label (255 in the files).

    Args:
        root: folder in one of the two layouts; ``{split}_inst`` in it has the instance maps, if there are any.
        split: which split.
        labels: the label set.

    Raises:
        DataError: if the folders are not there, or their files do not pair up.
    """

    def __init__(self, root: Path | str, split: str = "train", labels: LabelSet = LABEL_SETS["coco-stuff"]) -> None:
        super().__init__(KIND.listing(root, split, labels))


def write_instance_maps(root: Path | str, split: str, annotations: Path | str | None = None) -> Path:
    """Make the instance maps of a split from COCO's annotations, as the SPADE family does.

    They are drawn in a hidden folder beside their own, which takes its place when it is whole.

    Args:
        root: folder of the dataset; the maps become its ``{split}_inst``, in place of one that is there.
        split: which split.
        annotations: `instances_{split}2017.json`; by default that in ``annotations``.

    Returns:
        The folder of the maps. They are PNGs of 8 bits, or 16 where ids need them.

    Raises:
        DataError: no COCO-Stuff or no label map there, or annotations that are missing, broken or of another split.
        DependencyError: pycocotools is not installed.
    """
    root = Path(root)
    path = Path(annotations) if annotations is not None else root / "annotations" / f"instances_{split}2017.json"
    KIND.listing(root, split)  # refuses what is no COCO-Stuff
    files = replace(_find_files(root, split), images=None, instance_maps=None)
    listing = files.paired(KIND.name, root, split, LABEL_SETS["coco-stuff"])
    samples = FileDataset(listing, check=False).listing.samples  # refuses what has none
    coco = _read_annotations(path)
    folder = root / f"{split}_inst"
    place = folder.resolve()  # where it is, if it is a link
    unfinished = place.with_name(f".{place.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    for sample in tqdm(samples, desc=folder.name, unit="map", disable=None):
        masks = _polygon_masks(coco, sample.name, path)
        ids = instance_map(read_instance_map(sample.label_maps[0]), masks)
        image = Image.fromarray(ids.astype(np.uint8 if ids.max() < 256 else np.uint16))
        target = unfinished / f"{sample.name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target)
    if place.exists():
        shutil.rmtree(place)
    unfinished.rename(place)
    return folder


def instance_map(label_map: Array, masks: Sequence[NDArray[np.bool_]]) -> Array:
    """The label map with mask number k painted in k, in order.

    An id of an object can be that of a label; only the edges between ids are used.

    Args:
        label_map: ``[H, W]``, the values of the file.
        masks: ``[H, W]`` each.
    """
    ids = label_map.copy()
    for number, mask in enumerate(masks):
        ids[mask] = number
    return ids


def _read_annotations(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"the annotations {path} do not exist: give the file instances_train2017.json or its like.")
    library = require("pycocotools.coco", "data")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
            return library.COCO(str(path))
    except (ValueError, KeyError, TypeError, AssertionError):
        raise DataError(
            f"{path} does not hold annotations of COCO: give instances_train2017.json or its like."
        ) from None


def _polygon_masks(coco: Any, name: str, path: Path) -> list[NDArray[np.bool_]]:
    """The masks of an image's objects that polygons outline; crowds, which are run-length masks, are skipped."""
    number = int(name) if name.isdecimal() else -1
    if number not in coco.imgs:
        raise DataError(f"{path} has no image {name}: give the annotations of this split.")
    annotations = coco.imgToAnns.get(number, [])
    return [coco.annToMask(entry).astype(bool) for entry in annotations if isinstance(entry["segmentation"], list)]


def _find_files(root: Path, split: str) -> Files:
    labels = first_folder(root, *LABEL_FOLDERS[split])
    images = first_folder(root, *IMAGE_FOLDERS[split])
    instances = first_folder(root, f"{split}_inst")
    return Files(
        label_maps=find_files(labels or root, "label map", MAP_SUFFIXES),
        images=None if images is None else find_files(images, "photograph"),
        instance_maps=None if instances is None else find_files(instances, "instance map", MAP_SUFFIXES),
    )


KIND = DatasetKind(
    name="coco-stuff",
    layout="it needs {train,val}_label and {train,val}_img, or stuffthingmaps/{train2017,val2017} and "
    "{train2017,val2017}",
    find_splits=lambda root: existing(root, LABEL_FOLDERS),
    find_files=_find_files,
    label_set="coco-stuff",
    sizes={"train": 118_287, "val": 5_000},
    companions=("annotations/*.json",),
)
