"""The real images that generated ones are compared with, and the cache of their features."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tqdm import tqdm

from segscape.data.folder import files_by_name
from segscape.data.open import has_splits, open_pairs
from segscape.errors import DataError, EvaluationError
from segscape.evaluation.fidelity.distances import FeatureStatistics
from segscape.evaluation.fidelity.extractors import Extractor
from segscape.evaluation.processes import Processes
from segscape.files import write_atomically
from segscape.label_files import read_image
from segscape.labels import LabelSet
from segscape.layout import Size

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A set of real image files.

    Attributes:
        name: `train`, `val`, or the folder's name.
        files: the images, in order.
    """

    name: str
    files: tuple[Path, ...]

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits of a SHA-256 over the contents of the files, in order; names and places do not matter."""
        total = hashlib.sha256()
        for file in self.files:
            total.update(hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()[:12]

    def describe(self) -> str:
        """Text for protocols."""
        return f"{len(self.files)} real images of {self.name!r} (sha256 {self.fingerprint})"


def open_reference(where: str, data: Path | str, labels: LabelSet) -> Reference | FeatureStatistics:
    """Find what `--reference` names.

    Args:
        where: `train` or `val` of the data; a folder of images; or an `.npz` file of statistics (`mu`, `sigma`) that
            Segscape, pytorch-fid or clean-fid has written.
        data: the evaluated data, see `open_pairs`.
        labels: its label set.

    Raises:
        DataError: nothing there, or no images in it.
        EvaluationError: a split of data that have none, or a file without statistics.
    """
    if where in ("train", "val"):
        if not has_splits(data):
            raise EvaluationError(
                f"{data} has no {where} split to compare with (train/images and val/images): give the folder of the "
                "real images with --reference DIR."
            )
        files = open_pairs(data, labels, where).image_files
        return Reference(where, tuple(files.values()))
    path = Path(where)
    if path.suffix == ".npz":
        return FeatureStatistics.load(path)
    if not path.is_dir():
        raise DataError(
            f"--reference {where} is neither train, val, a folder of images nor an .npz file of statistics."
        )
    return Reference(path.resolve().name, tuple(files_by_name(path, "real image").values()))


def cache_folder() -> Path:
    """Where reference features are kept: `$SEGSCAPE_CACHE`, else `segscape` in the user's cache folder."""
    own = os.environ.get("SEGSCAPE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segscape"


def reference_features(
    reference: Reference,
    size: Size,
    extractor: Extractor,
    *,
    batch_size: int,
    processes: Processes,
    cache: Path | None = None,
) -> Features:
    """Features of the real images at the size of the evaluation, from the cache or computed and kept there.

    Args:
        reference: the images.
        size: (height, width) to which each is resized first (bicubic), as in the protocol.
        extractor: the network.
        batch_size: images at a time.
        processes: who shares the work.
        cache: folder of the cache; `cache_folder()` by default. A file is keyed by the contents of the images, the
            size and the extractor, so nothing in it grows old.

    Returns:
        float32 `[images, D]`, in the order of the files.
    """
    key = hashlib.sha256(f"{reference.fingerprint} {size[0]}x{size[1]} {extractor.description}".encode()).hexdigest()
    path = (cache or cache_folder()) / "features" / f"{key[:32]}.npy"
    kept = processes.agree(
        _read_features(path, (len(reference.files), extractor.dimensions)) if processes.first else None
    )
    if kept is not None:
        return kept
    share = processes.share(len(reference.files))
    own: list[tuple[int, Features]] = []
    for start in tqdm(range(0, len(share), batch_size), desc="real images", disable=None if processes.first else True):
        numbers = share[start : start + batch_size]
        found = extract([read_resized(reference.files[number], size) for number in numbers], extractor)
        own += [(number, vector) for number, vector in zip(numbers, found, strict=True)]
    features = np.stack(processes.gather(own))
    if processes.first:
        _keep_features(path, features)
    return features


def extract(images: Sequence[npt.NDArray[np.uint8]], extractor: Extractor) -> Features:
    """Features `[N, D]` of uint8 images `[H, W, 3]` of one size."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    features: Features = extractor(batch).float().cpu().numpy()
    return features


def read_resized(file: Path, size: Size) -> npt.NDArray[np.uint8]:
    """An image file as uint8 `[H, W, 3]` of `size`, bicubic where it has another."""
    image = read_image(file)
    if image.shape[:2] != size:
        image = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return image


def _read_features(path: Path, shape: tuple[int, int]) -> Features | None:
    """What the cache holds; nothing if the file is missing, broken or of another shape."""
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return features if isinstance(features, np.ndarray) and features.shape == shape else None


def _keep_features(path: Path, features: Features) -> None:
    """Write to the cache; a cache that cannot be written costs time, not the evaluation."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, features)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
    except OSError as error:
        tqdm.write(f"the features of the real images are not kept: {path.parent} cannot be written ({error.strerror}).")
