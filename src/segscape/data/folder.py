"""Datasets of files: any listed one (`FileDataset`), and your own folders (`FolderDataset`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segscape.data.listing import Array, Listing, Problem, SampleFiles
from segscape.data.published.kind import DatasetKind, Files
from segscape.data.published.pairing import MAP_SUFFIXES, find_files
from segscape.data.sample import Sample
from segscape.errors import DataError
from segscape.label_files import read_image, read_instance_map
from segscape.labels import LabelSet

LISTED = 5  # problems quoted in a message before "and N more"


class FileDataset:
    """The samples of a listing, read when they are asked for.

    Everything is paired when the dataset is made, not in the middle of an epoch; sizes are compared, too, in folders of
    your own (published files are known to agree, and there are many), and again whenever a sample is read.

    Args:
        listing: the files; see `segscape.data.open.find_listing`.
        check: raise if something is wrong with the files; else it shows when such a sample is read.

    Attributes:
        listing: as given.
        labels: the vocabulary of the label maps.
        names: of the samples, in order.

    Raises:
        DataError: if something is wrong with the files, there are none, or no label set is known.
    """

    labels: LabelSet

    def __init__(self, listing: Listing, *, check: bool = True) -> None:
        if listing.labels is None:
            raise DataError(f"{listing.root} does not tell its classes: name its label set or give its JSON file.")
        sizes = _compare_sizes(listing.samples) if check and listing.kind == "folder" else []
        if check and (problems := [*listing.problems, *sizes]):
            raise DataError(_summary(listing, problems))
        if not listing.samples:
            raise DataError(f"{listing.root} holds no samples of the split {listing.split!r}: give another folder.")
        self.listing = listing
        self.labels = listing.labels
        self.names: tuple[str, ...] = tuple(files.name for files in listing.samples)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def image_files(self) -> dict[str, Path]:
        """The photographs' files by name, in the order of the samples; empty if there are none."""
        return {files.name: files.image for files in self.listing.samples if files.image is not None}

    def sample(self, index: int) -> Sample:
        """Read sample number `index`, in the order of the names.

        Raises:
            DataError: if a file cannot be read, or its size is not that of the label map.
            LabelMapError: if the label map does not fit the label set.
        """
        files = self.listing.samples[index]
        label_map = self.listing.read_label_map(files.label_maps, self.labels)
        return Sample(
            image=None if files.image is None else self._read_image(files.image, label_map),
            label_map=label_map,
            instance_map=None if files.instance_map is None else _read_instances(files.instance_map, label_map),
            name=files.name,
        )

    def _read_image(self, path: Path, label_map: Array) -> Array:
        image: Array = read_image(path)
        height, width = label_map.shape
        if self.listing.larger_images and image.shape[0] * width == image.shape[1] * height:
            return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
        _require_size(path, image.shape[:2], label_map.shape)
        return image


class FolderDataset(FileDataset):
    """Pairs files of two or three folders by their path below the folder, without suffix.

    So ``images/a/001.jpg`` belongs to ``labels/a/001.png``.

    Args:
        images: folder of photographs, or None for layouts without photographs.
        labels_dir: folder of label maps.
        labels: the vocabulary of the label maps.
        instances: folder of instance maps, or None.

    Raises:
        DataError: if a folder is missing or empty, a file has no partner or several, or sizes differ.
    """

    def __init__(
        self,
        images: Path | str | None,
        labels_dir: Path | str,
        labels: LabelSet,
        instances: Path | str | None = None,
    ) -> None:
        files = Files(
            label_maps=find_files(_folder(labels_dir, "label map"), "label map", MAP_SUFFIXES),
            images=None if images is None else find_files(_folder(images, "photograph"), "photograph"),
            instance_maps=None
            if instances is None
            else find_files(_folder(instances, "instance map"), "instance map", MAP_SUFFIXES),
        )
        super().__init__(files.paired(KIND.name, Path(labels_dir).parent, "", labels))


def files_by_name(folder: Path | str, kind: str) -> dict[str, Path]:
    """The pictures of a folder and its subfolders by relative path without suffix, sorted; hidden ones are passed over.

    Args:
        folder: where to look.
        kind: what the files are, for messages.

    Raises:
        DataError: no folder, no pictures in it, two of one name, or links that lead nowhere.
    """
    found = find_files(_folder(folder, kind), kind)
    if found.problems:
        raise DataError(_quoted(found.problems))
    return dict(sorted(found.files.items()))


def _folder(path: Path | str, what: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"The {what} folder {folder} {found}: give the folder that holds the {what}s")
    return folder


def _read_instances(path: Path, label_map: Array) -> Array:
    instances = read_instance_map(path)
    _require_size(path, instances.shape, label_map.shape)
    return instances


def _require_size(path: Path, size: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if size != expected:
        raise DataError(
            f"{path} is {size[0]}x{size[1]}, but its label map is {expected[0]}x{expected[1]} (height x width): resize "
            "the label map with nearest neighbour, or find the right pair."
        )


def _compare_sizes(samples: Sequence[SampleFiles]) -> list[Problem]:
    """Problems `size` and `unreadable`, from the headers of the files."""
    problems: list[Problem] = []
    for files in samples:
        partners = [path for path in (files.image, files.instance_map) if path is not None]
        try:
            expected = stored_size(files.label_maps[0]) if partners else (0, 0)
            for path in partners:
                _require_size(path, stored_size(path), expected)
        except DataError as error:
            problems.append(Problem(partners[0], error.kind or "size", str(error)))
    return problems


def stored_size(path: Path) -> tuple[int, int]:
    """(height, width) from a file's header; raises DataError if it has none."""
    try:
        if path.suffix.lower() == ".npy":
            height, width = np.load(path, mmap_mode="r", allow_pickle=False).shape[:2]
            return height, width
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image or array: replace the file or remove it.") from error


def _summary(listing: Listing, problems: Sequence[Problem]) -> str:
    count = "1 file of" if len(problems) == 1 else f"{len(problems)} files of"
    split = f" ({listing.split})" if listing.split else ""
    return f"{count} {listing.root}{split} must be mended: {_quoted(problems)}"


def _quoted(problems: Iterable[Problem]) -> str:
    """The first messages, and how many more there are."""
    messages = [problem.message.rstrip(".") for problem in problems]
    rest = len(messages) - LISTED
    more = f"; and {rest} more, which `segscape dataset inspect` lists" if rest > 0 else ""
    return "; ".join(messages[:LISTED]) + f"{more}."


def _find_splits(root: Path) -> tuple[str, ...]:
    splits = sorted(path.parent.name for path in root.glob("*/labels") if path.is_dir())
    if splits:
        return tuple(splits)
    return ("",) if (root / "labels").is_dir() or _only_label_maps(root) else ()


def _only_label_maps(root: Path) -> bool:
    """Whether a folder holds nothing but files that can be label maps."""
    entries = [entry for entry in root.iterdir() if not entry.name.startswith(".")] if root.is_dir() else []
    lossless = MAP_SUFFIXES - {".jpg", ".jpeg", ".webp"}
    return bool(entries) and all(entry.is_file() and entry.suffix.lower() in lossless for entry in entries)


def _find_pairs(root: Path, split: str) -> Files:
    home = root / split
    if not (home / "labels").is_dir():
        return Files(label_maps=find_files(home, "label map", MAP_SUFFIXES))
    images, instances = home / "images", home / "instances"
    return Files(
        label_maps=find_files(home / "labels", "label map", MAP_SUFFIXES),
        images=find_files(images, "photograph") if images.is_dir() else None,
        instance_maps=find_files(instances, "instance map", MAP_SUFFIXES) if instances.is_dir() else None,
    )


KIND = DatasetKind(
    name="folder",
    layout="it needs images and labels (and, if you have them, instances), either directly or in train and val",
    find_splits=_find_splits,
    find_files=_find_pairs,
)
