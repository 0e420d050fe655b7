"""Bringing a dataset into another form: label maps renamed, pictures resized, written as folders or for shards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from PIL import Image

from segscape.data.conversion.remap import Remap
from segscape.data.folder import FileDataset
from segscape.data.listing import Problem
from segscape.data.open import find_listing, list_splits
from segscape.data.published.kind import LABEL_SET_FILE
from segscape.data.sample import Array, Dataset, Sample
from segscape.data.shards import storage
from segscape.data.shards.dataset import ShardDataset
from segscape.data.shards.index import INDEX, PackedSample
from segscape.data.shards.writing import OnProblems, PackedSamples, problem_of
from segscape.data.transforms import resize
from segscape.data.workers import in_workers
from segscape.errors import DataError, SegscapeError
from segscape.label_files import encode_instance_map, encode_label_map
from segscape.labels import LabelSet
from segscape.layout import Size

JPEG_QUALITY = 95
"""Of photographs that were JPEG files and are resized; others stay lossless."""

FOLDERS = {"label.png": "labels", "instance.png": "instances"}
"""Where the files of a sample go in a folder, by the end of their names; the others are images."""


class Conversion:
    """A dataset as the files that its samples become.

    Args:
        source: the samples. Photographs of a `FileDataset` or `ShardDataset` that are JPEG or PNG and keep their size
            are taken as they are, byte by byte.
        remap: from classes of the source to those of another label set.
        size: new (height, width), or the new short side with the aspect kept; None keeps the size.
    """

    def __init__(self, source: Dataset, *, remap: Remap | None = None, size: Size | int | None = None) -> None:
        self.source = source
        self.remap = remap
        self.size = size

    @property
    def labels(self) -> LabelSet:
        """The label set of the results."""
        return self.source.labels if self.remap is None else self.remap.labels

    @property
    def fingerprint(self) -> str:
        """A digest of the source's files (by name, size and time of change) and of the options."""
        remap = None if self.remap is None else repr((self.remap.values, self.remap.colors, self.remap.others))
        content = [_fingerprint(self.source), self.labels.model_dump_json(), remap, self.size]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.source)

    def packed(self, index: int) -> PackedSample:
        """The files of sample number `index`; raises DataError or LabelMapError if it is broken."""
        sample, photograph = _read(self.source, index)
        if self.remap is not None:
            sample = replace(sample, label_map=self.remap(sample.label_map, self.where(index)))
        smaller = resize(sample, self._new_size(sample.size))
        members = {} if smaller.image is None else _encode(smaller.image, photograph, keep=smaller is sample)
        members["label.png"] = encode_label_map(smaller.label_map, self.labels)
        if smaller.instance_map is not None:
            members["instance.png"] = encode_instance_map(smaller.instance_map)
        return PackedSample(sample.name or f"{index:08d}", members)

    def where(self, index: int) -> str:
        """The file that sample number `index` comes from, for messages."""
        if isinstance(self.source, FileDataset):
            return str(self.source.listing.samples[index].label_maps[0])
        return self.source.where(index) if isinstance(self.source, ShardDataset) else f"sample {index}"

    def _new_size(self, size: Size) -> Size:
        if not isinstance(self.size, int):
            return self.size or size
        height, width = (max(1, round(side * self.size / min(size))) for side in size)
        return height, width


def open_conversion(
    path: Path | str,
    split: str | None = None,
    *,
    kind: str | None = None,
    labels: LabelSet | None = None,
    remap: str | None = None,
    size: Size | int | None = None,
) -> tuple[Conversion, tuple[Problem, ...]]:
    """Open a dataset to convert it.

    Args:
        path: folder or URL of shards, or the folder of any other dataset that Segscape knows.
        split: as in `find_listing`.
        kind: as in `find_listing`.
        labels: the label set of the results; by default that of the dataset.
        remap: a table as `Remap.parse` reads it: about the classes of the dataset, or, in a plain folder, about the
            values or colours in its files.
        size: as in `Conversion`.

    Returns:
        The samples, and what is wrong with files that belong to none.

    Raises:
        DataError: nothing there that Segscape knows, no such split, or no label set is known.
        LabelMapError: the table is wrong.
    """
    source: Dataset
    problems: tuple[Problem, ...] = ()
    if storage.is_remote(str(path)) or is_shards(path, split):
        source = ShardDataset(storage.join(str(path), split or ""))
    else:
        listing = find_listing(path, split, kind, None if remap else labels)
        problems = listing.problems
        if remap and listing.labels is None:
            table = Remap.parse(remap, _named(labels, path))
            remap, listing = None, replace(listing, labels=table.labels, read_label_map=table.read)
        source = FileDataset(listing, check=False)
    if remap:
        return Conversion(source, remap=Remap.parse(remap, labels or source.labels, source.labels), size=size), problems
    if labels is not None and labels != source.labels:
        raise DataError(
            f"{path} has the label set {source.labels.name!r}: --labels needs --remap to rename its classes."
        )
    return Conversion(source, size=size), problems


def find_splits(path: Path | str, kind: str | None = None) -> tuple[str, ...]:
    """The splits that a dataset has; one nameless if it has none.

    Args:
        path: as in `open_conversion`.
        kind: as in `open_conversion`.

    Raises:
        DataError: the kind is none that Segscape knows, or a file is no list.
    """
    if is_shards(path):
        return ("",)
    shards = tuple(name for name in storage.names(str(path)) if "." not in name and is_shards(path, name))
    if shards:
        return shards
    return list_splits(path, kind) or ("",)


def is_shards(path: Path | str, split: str | None = None) -> bool:
    """Whether a folder or URL (or the folder of a split in it) holds shards with their index."""
    return storage.exists(storage.join(storage.join(str(path), split or ""), INDEX))


def write_folders(
    splits: Mapping[str, PackedSamples], out: Path, *, workers: int = 0, report: OnProblems | None = None
) -> list[Problem]:
    """Write samples as plain folders `OUT/SPLIT/{images,labels,instances}`; broken ones are left out.

    Everything is written to a folder beside `out` that takes its name when it is whole.

    Args:
        splits: the samples by the name of their split; the name is empty where there are no splits.
        out: a new or empty folder.
        workers: processes that read and write; 0 works in this one.
        report: called after each sample with what is wrong with it.

    Returns:
        The problems of all samples.

    Raises:
        DataError: `out` is not empty, or no sample is sound.
    """
    out = Path(os.path.abspath(out))
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(f"{out} is not empty: choose a new folder.")
    unfinished = out.with_name(f".{out.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    found: list[Problem] = []
    for split, samples in splits.items():
        before = len(found)
        for problems in in_workers(_FolderWriter(samples, unfinished / split), range(len(samples)), workers):
            found += problems
            if report is not None:
                report(problems)
        if len(found) - before == len(samples):
            raise DataError(f"none of the {len(samples)} samples could be written to {out / split}: mend them first.")
        samples.labels.save(unfinished / LABEL_SET_FILE)
    if out.is_dir():
        out.rmdir()
    unfinished.rename(out)
    return found


@dataclass(frozen=True)
class _FolderWriter:
    """Writes the files of sample number n."""

    samples: PackedSamples
    folder: Path

    def __call__(self, index: int) -> list[Problem]:
        try:
            packed = self.samples.packed(index)
        except SegscapeError as error:
            return [problem_of(error, self.samples.where(index))]
        for suffix, content in packed.members.items():
            folder, ending = FOLDERS.get(suffix, "images"), suffix.rpartition(".")[2]
            path = self.folder / folder / f"{packed.name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return []


def _read(source: Dataset, index: int) -> tuple[Sample, bytes | None]:
    """A sample, and its photograph as it is stored, if it is stored in this size."""
    if isinstance(source, ShardDataset):
        packed = source.packed(index)
        return source.unpack(packed, source.where(index)), source.photograph(packed)
    sample = source.sample(index)
    if not isinstance(source, FileDataset) or source.listing.larger_images:
        return sample, None
    path = source.listing.samples[index].image
    return sample, None if path is None else path.read_bytes()


def _encode(image: Array, photograph: bytes | None, *, keep: bool) -> dict[str, bytes]:
    """A photograph as a file: as it was stored if `keep` and it is JPEG or PNG, else encoded."""
    stored = None if photograph is None else Image.open(BytesIO(photograph)).format
    suffix = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png"}.get(stored or "")
    if keep and photograph is not None and suffix is not None:
        return {suffix: photograph}
    buffer = BytesIO()
    if suffix == "jpg":
        Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
        return {"jpg": buffer.getvalue()}
    Image.fromarray(image).save(buffer, "PNG")
    return {"png": buffer.getvalue()}


def _fingerprint(source: Dataset) -> object:
    """What tells one source from another; nothing does for samples that are computed."""
    if isinstance(source, ShardDataset):
        return source.fingerprint
    if not isinstance(source, FileDataset):
        return uuid.uuid4().hex
    return [
        [files.name, *map(_state, (files.image, *files.label_maps, files.instance_map))]
        for files in source.listing.samples
    ]


def _state(path: Path | None) -> object:
    if path is None or not path.exists():
        return None
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _named(labels: LabelSet | None, path: Path | str) -> LabelSet:
    if labels is None:
        raise DataError(f"{path} does not tell its classes: name the label set of the results with --labels.")
    return labels
