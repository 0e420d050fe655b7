"""Finding the files of a dataset and pairing them by name; whatever does not fit becomes a `Problem`."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segscape.data.listing import Array, Problem, SampleFiles
from segscape.label_files import read_label_map
from segscape.labels import LabelSet

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAP_SUFFIXES = IMAGE_SUFFIXES | {".npy"}

NameOf = Callable[[str], str | None]
"""The name of a sample from a file's path below the folder without suffix; None for files of another sort."""


@dataclass
class Found:
    """Files of one sort.

    Attributes:
        what: the sort, for messages, for example `label map`.
        files: by name.
        problems: what is wrong with them.
    """

    what: str
    files: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, name: str, path: Path) -> None:
        """Take a file, or note that there is one of its name already."""
        first = self.files.setdefault(name, path)
        if first != path:
            message = f"{path} and {first.name} are two {self.what}s of one name: remove one of them."
            self.problems.append(Problem(path, "two-of-one-name", message))


def whole_path(path: str) -> str:
    """The name of a sample is the path of its file below the folder, without suffix."""
    return path


def ending(text: str) -> NameOf:
    """The name is the path without this ending; files without it are of another sort."""

    def name(path: str) -> str | None:
        return path.removesuffix(text) if path.endswith(text) else None

    return name


def find_files(folder: Path, what: str, suffixes: frozenset[str] = IMAGE_SUFFIXES, name: NameOf = whole_path) -> Found:
    """The files in a folder and its subfolders by name; hidden ones are passed over, links are followed.

    Names are in Unicode's composed form (NFC), since macOS stores some decomposed.

    Args:
        folder: where to look.
        what: what the files are, for messages.
        suffixes: the file types to take, in lower case; upper case counts the same.
        name: gives each file its name.

    Returns:
        The files. Problems: two of one name, links that lead nowhere or in circles, folders that cannot be read, and a
        folder without any such file.
    """
    found = Found(what)
    for path, below in _walk(folder, "", {os.path.realpath(folder)}, found.problems):
        without, suffix = os.path.splitext(below)
        if suffix.lower() not in suffixes:
            continue
        stem = name(unicodedata.normalize("NFC", without))
        if stem is not None:
            found.add(stem, path)
    if not found.files and not found.problems:
        wanted = ", ".join(sorted(suffixes))
        message = f"{folder} holds no {what}: put the files there (they end in {wanted})."
        found.problems.append(Problem(folder, "empty", message))
    return found


def _walk(folder: Path, below: str, above: set[str], problems: list[Problem]) -> Iterator[tuple[Path, str]]:
    """Every file in a folder, with its path behind `below`; what cannot be followed is added to `problems`."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        message = f"{folder} cannot be read ({error.strerror}): check that it is there and its permissions."
        problems.append(Problem(folder, "unreadable", message))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = folder / entry.name
        kind = _kind(entry)
        if kind == "file":
            yield path, below + entry.name
        elif kind == "folder":
            real = os.path.realpath(path)
            if not any(Path(opened).is_relative_to(real) for opened in above):  # else it contains one of them
                yield from _walk(path, f"{below}{entry.name}/", above | {real}, problems)
                continue
            problems.append(Problem(path, "bad-link", f"{path} links to a folder that contains it: remove the link."))
        elif entry.is_symlink():
            problems.append(Problem(path, "bad-link", f"{path} is a link that leads nowhere: mend or remove it."))


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # a link to itself
        return ""


def pair(
    label_maps: Mapping[str, tuple[Path, ...]], **partners: Found | None
) -> tuple[tuple[SampleFiles, ...], tuple[Problem, ...]]:
    """Put the files of each name together.

    Args:
        label_maps: the files of each sample's label map.
        partners: `image` and `instance_map`; None where the dataset has none of these.

    Returns:
        The samples that have everything, sorted by name, and a problem `no-partner` for each other name.
    """
    kept = {role: found for role, found in partners.items() if found is not None}
    names = set(label_maps).union(*(found.files for found in kept.values()))
    samples, problems = [], []
    for name in sorted(names):
        files = {role: found.files[name] for role, found in kept.items() if name in found.files}
        missing = ["label map"] if name not in label_maps else []
        missing += [found.what for found in kept.values() if name not in found.files]
        if missing:
            present = [*label_maps.get(name, ())[:1], *files.values()]
            problems.append(_no_partner(present[0], missing, name))
        else:
            samples.append(SampleFiles(name, label_maps=label_maps[name], **{"image": None, **files}))
    return tuple(samples), tuple(problems)


def _no_partner(path: Path, missing: list[str], name: str) -> Problem:
    message = f"{path} has no {' and no '.join(missing)} of the same name ({name}): add it, or remove this file."
    return Problem(path, "no-partner", message)


def read_one(paths: tuple[Path, ...], labels: LabelSet) -> Array:
    """Read a label map that is one file, as `segscape.label_files.read_label_map` does."""
    return read_label_map(paths[0], labels)
