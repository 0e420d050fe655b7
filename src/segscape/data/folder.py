"""A dataset of image, label and (optionally) instance files in folders, paired by file name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from segscape.data.sample import Sample
from segscape.errors import DataError
from segscape.label_files import read_image, read_instance_map, read_label_map
from segscape.labels import LabelSet

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAP_SUFFIXES = IMAGE_SUFFIXES | {".npy"}
LISTED = 5  # names quoted in a message before "and N more"


class FolderDataset:
    """Pairs files of two or three folders by their path below the folder, without suffix.

    So ``images/a/001.jpg`` belongs to ``labels/a/001.png``. Everything is paired, and the sizes compared,
    when the dataset is made, not in the middle of an epoch.

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
        self.labels = labels
        self._label_files = files_by_name(labels_dir, "label map", MAP_SUFFIXES)
        self._image_files = {} if images is None else files_by_name(images, "image")
        self._instance_files = {} if instances is None else files_by_name(instances, "instance map", MAP_SUFFIXES)
        self.names: tuple[str, ...] = tuple(sorted(self._label_files))
        partners = {"image": self._image_files, "instance map": self._instance_files}
        given = {kind: files for kind, files in partners.items() if files}
        for kind, files in given.items():
            _require_pairs(self._label_files, files, kind)
        _require_same_sizes(self._label_files, given)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def image_files(self) -> dict[str, Path]:
        """The photographs' files by name, in the order of the samples; empty if there is no image folder."""
        return {name: self._image_files[name] for name in self.names} if self._image_files else {}

    def sample(self, index: int) -> Sample:
        """Read sample number `index`, in the order of the names.

        Raises:
            DataError: if a file cannot be read.
            LabelMapError: if the label map does not fit the label set.
        """
        name = self.names[index]
        image, instances = self._image_files.get(name), self._instance_files.get(name)
        return Sample(
            image=None if image is None else read_image(image),
            label_map=read_label_map(self._label_files[name], self.labels),
            instance_map=None if instances is None else read_instance_map(instances),
            name=name,
        )


def files_by_name(folder: Path | str, kind: str, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The files of a folder and its subfolders by relative path without suffix, sorted; hidden ones are passed over.

    Args:
        folder: where to look.
        kind: what the files are, for messages.
        suffixes: in lower case; the file types to take.

    Raises:
        DataError: no folder, no such files in it, or two of one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"The {kind} folder {folder} {found}: give the folder that holds the {kind}s")
    files: dict[str, Path] = {}
    duplicates: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith(".") or not path.is_file():
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in files:
            duplicates.append(f"{files[stem].name} and {path.name}")
        files.setdefault(stem, path)
    if duplicates:
        raise DataError(f"Two {kind}s share a name in {folder}: {_listing(duplicates)}; remove one of each")
    if not files:
        raise DataError(f"No {kind} is in {folder}: it needs files ending in {', '.join(sorted(suffixes))}")
    return files


def _require_pairs(label_files: Mapping[str, Path], partners: Mapping[str, Path], kind: str) -> None:
    without_partner = [label_files[stem].name for stem in sorted(label_files.keys() - partners.keys())]
    without_label = [partners[stem].name for stem in sorted(partners.keys() - label_files.keys())]
    problems = []
    if without_partner:
        problems.append(f"{len(without_partner)} label maps have no {kind} ({_listing(without_partner)})")
    if without_label:
        problems.append(f"{len(without_label)} {kind}s have no label map ({_listing(without_label)})")
    if problems:
        raise DataError(f"{' and '.join(problems)}: partners must have the same name apart from the suffix")


def _require_same_sizes(label_files: Mapping[str, Path], partners: Mapping[str, Mapping[str, Path]]) -> None:
    different = []
    for stem, label_file in label_files.items():
        size = _stored_size(label_file) if partners else None
        for kind, files in partners.items():
            other = _stored_size(files[stem])
            if other != size:
                different.append(f"{label_file.name} {size} but {kind} {other}")
    if different:
        raise DataError(
            f"{len(different)} label maps and partners differ in (height, width): {_listing(different)}; "
            "resize the maps with nearest neighbour, or find the right pairs"
        )


def _stored_size(path: Path) -> tuple[int, int]:
    """(height, width) from a file's header."""
    try:
        if path.suffix.lower() == ".npy":
            height, width = np.load(path, mmap_mode="r", allow_pickle=False).shape[:2]
            return height, width
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a readable image or array: replace the file or remove it.") from error


def _listing(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")
