"""What the datasets have in common: how a folder is recognised, its splits, and how a split is listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segscape.data.listing import Listing, ReadLabelMap
from segscape.data.published.pairing import Found, pair, read_one
from segscape.data.published.subset import Subset
from segscape.errors import DataError
from segscape.labels import LABEL_SETS, LabelSet

LABEL_SET_FILE = "label_set.json"
"""A plain folder can bring its own label set in this file."""


@dataclass(frozen=True)
class Files:
    """What a split's folders hold.

    Attributes:
        label_maps, images, instance_maps: the files; None where the dataset has none of these.
        read_label_map: how the label map of a sample is read.
        parts: several files per label map by sample, in the order of `read_label_map`, in place of `label_maps.files`.
        larger_images: as in `Listing`.
    """

    label_maps: Found
    images: Found | None = None
    instance_maps: Found | None = None
    read_label_map: ReadLabelMap = read_one
    parts: Mapping[str, tuple[Path, ...]] | None = None
    larger_images: bool = False

    def paired(self, kind: str, root: Path, split: str, labels: LabelSet | None) -> Listing:
        """The listing of these files; the arguments are as in `Listing`."""
        label_maps = self.parts or {name: (path,) for name, path in self.label_maps.files.items()}
        samples, unpaired = pair(label_maps, image=self.images, instance_map=self.instance_maps)
        sorts = (self.label_maps, self.images, self.instance_maps)
        problems = [problem for found in sorts if found is not None for problem in found.problems]
        return Listing(
            kind=kind,
            root=root,
            split=split,
            labels=labels,
            samples=samples,
            problems=tuple(dict.fromkeys([*problems, *unpaired])),
            read_label_map=self.read_label_map,
            larger_images=self.larger_images,
        )


@dataclass(frozen=True)
class DatasetKind:
    """One dataset, or the plain folder, as it lies on disk.

    Attributes:
        name: as in recipes and listings.
        layout: what its folder looks like, for messages.
        find_splits: the splits of a folder: none if it is not of this kind, one nameless if it has no splits.
        find_files: the files of a split of a folder of this kind.
        label_set: the published one; None for a plain folder.
        sizes: pairs per split as published.
        unlabelled: splits whose label maps are not public.
        companions: patterns of files that come with the dataset and that nothing here needs.
    """

    name: str
    layout: str
    find_splits: Callable[[Path], tuple[str, ...]]
    find_files: Callable[[Path, str], Files]
    label_set: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()

    def listing(self, root: Path | str, split: str | None = None, labels: LabelSet | None = None) -> Listing:
        """The files of one split.

        Args:
            root: the folder of the dataset, or the list of a part of it (see `segscape.data.published.subset`).
            split: by default `train` if there is one, else the first.
            labels: the label set to read the label maps with; by default the published one, or a `label_set.json` in
                the folder.

        Raises:
            DataError: the folder is not of this kind or has no such split, or the list is no list.
            LabelMapError: the `label_set.json` is none.
        """
        if Path(root).is_file():
            subset = Subset.read(Path(root))
            return subset.restrict(self.listing(subset.root, split, labels))
        root = Path(root)
        place = self._place(root, split)
        return self.find_files(root, place).paired(self.name, root, place, labels or self._labels(root))

    def _labels(self, root: Path) -> LabelSet | None:
        if self.label_set is not None:
            return LABEL_SETS[self.label_set]
        own = root / LABEL_SET_FILE
        return LabelSet.load(own) if own.is_file() else None

    def _place(self, root: Path, split: str | None) -> str:
        splits = self.find_splits(root)
        if not splits:
            raise DataError(f"{root} does not hold {self.name}: {self.layout}.")
        if split is None:
            return "train" if "train" in splits else splits[0]
        if splits == ("",) or split in splits:
            return "" if splits == ("",) else split
        if split in self.unlabelled:
            raise DataError(f"the {split} split of {self.name} has no public label maps: use {' or '.join(splits)}.")
        raise DataError(f"{root} has no split {split!r}: it has {' and '.join(splits)}.")


def existing(root: Path, folders: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The splits for which one of the given folders below `root` exists."""
    return tuple(split for split, paths in folders.items() if any((root / path).is_dir() for path in paths))


def first_folder(root: Path, *paths: str) -> Path | None:
    """The first of these folders below `root` that exists."""
    return next((root / path for path in paths if (root / path).is_dir()), None)
