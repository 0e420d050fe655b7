"""Look through a whole dataset and say what it holds and everything that is wrong with it, in one pass."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segscape.data.inspection.examination import Color, Examination, Value, examine, examine_alone
from segscape.data.listing import Listing, Problem, SampleFiles
from segscape.data.open import KINDS, find_listing, list_splits
from segscape.data.published.pairing import MAP_SUFFIXES
from segscape.labels import LabelSet

SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"})
WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
)
IGNORED = 255  # what most tools write where nobody labelled
AHEAD = 4  # samples per worker that may wait to be read or counted: memory does not grow with the dataset
FEW_MAPS = 8  # with fewer label maps, a label that occurs in one only is no news


@dataclass(frozen=True)
class ClassCount:
    """One label and how often it occurs.

    Attributes:
        value: its index, or its colour where nobody has said what the colours mean.
        name: of the class; empty if it has none.
        pixels: in all label maps.
        maps: label maps in which it occurs.
        first: one of them.
    """

    value: Value
    name: str
    pixels: int
    maps: int
    first: Path | None


@dataclass(frozen=True)
class Inspection:
    """What a dataset holds.

    Attributes:
        root: its folder, or the list of a part of it.
        kind: its layout, as in `Listing`.
        labels: the label set that its maps were read with, if one is known.
        listings: its splits.
        sizes: label maps per (height, width).
        photo_formats, map_formats: files per format, in words.
        palette: the colours that palette images give to labels.
        classes: every class of the label set in its order, seen or not; without a label set, the labels found, sorted.
        problems: what must be mended before training.
        notes: what works but deserves a look.
    """

    root: Path
    kind: str
    labels: LabelSet | None
    listings: tuple[Listing, ...]
    sizes: dict[tuple[int, int], int]
    photo_formats: dict[str, int]
    map_formats: dict[str, int]
    palette: dict[int, Color]
    classes: tuple[ClassCount, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]

    @property
    def samples(self) -> dict[str, int]:
        """Complete samples per split; a dataset without splits has one, called `""`."""
        return {listing.split: len(listing.samples) for listing in self.listings}

    @property
    def never_seen(self) -> tuple[str, ...]:
        """Names of the classes of the label set that no label map holds."""
        return tuple(entry.name for entry in self.classes if not entry.maps)

    def as_json(self) -> dict[str, Any]:
        """Everything, in the types of JSON."""
        pixels = max(1, sum(entry.pixels for entry in self.classes))
        return {
            "root": str(self.root),
            "kind": self.kind,
            "label_set": None if self.labels is None else self.labels.name,
            "splits": self.samples,
            "sizes": [{"height": h, "width": w, "label_maps": count} for (h, w), count in self.sizes.items()],
            "photo_formats": self.photo_formats,
            "map_formats": self.map_formats,
            "classes": [
                {
                    "value": entry.value if isinstance(entry.value, int) else list(entry.value),
                    "name": entry.name,
                    "pixels": entry.pixels,
                    "share": entry.pixels / pixels,
                    "maps": entry.maps,
                }
                for entry in self.classes
            ],
            "never_seen": list(self.never_seen),
            "problems": [_problem_as_json(problem) for problem in self.problems],
            "notes": [_problem_as_json(note) for note in self.notes],
        }


def inspect_dataset(
    root: Path | str,
    *,
    split: str | None = None,
    kind: str | None = None,
    labels: LabelSet | None = None,
    workers: int | None = None,
    on_sample: Callable[[], object] = lambda: None,
) -> Inspection:
    """Read every file of a dataset, in threads, and collect what is there and what is wrong.

    Args:
        root: its folder, or the list of a part of a dataset.
        split: only this one; by default all, and the files that belong to none.
        kind: a key of `segscape.data.open.KINDS`; by default the layout decides.
        labels: the label set of its maps; by default that of the published dataset. Without any, the labels are
            counted as they are.
        workers: threads, one at least; by default one per processor, at most 8.
        on_sample: called after every sample.

    Raises:
        DataError: nothing there that Segscape knows, or no such split. Nothing else raises: it is a problem or note.
    """
    names = (split,) if split is not None else list_splits(root, kind) or ("",)
    listings = [find_listing(root, name or None, kind, labels) for name in names]
    workers = min(8, os.cpu_count() or 1) if workers is None else max(1, workers)
    tally = _Tally(published=KINDS[listings[0].kind].label_set is not None)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")  # Pillow's, about files that are then read or reported
        for listing in listings:
            tally.listed(listing.problems)
            for found in _examinations(pool, listing, AHEAD * workers):
                tally.add(found)
                on_sample()
        tally.alone(pool)
    tally.look_at_names(listings[0].root, listings)
    if Path(root).is_dir():
        tally.compare_with_published(listings)
        if split is None:
            tally.look_for_others(Path(root), listings)
    return tally.result(Path(root), listings)


class _Tally:
    """What has been found so far.

    Args:
        published: the dataset is a published one, in which two equal photographs are as they should be.
    """

    def __init__(self, published: bool) -> None:
        self.published = published
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.photo_formats: Counter[str] = Counter()
        self.map_formats: Counter[str] = Counter()
        self.pixels: Counter[Value] = Counter()
        self.maps: Counter[Value] = Counter()
        self.first: dict[Value, Path] = {}
        self.palette: dict[int, Color] = {}
        self.problems: dict[Problem, None] = {}  # in order, none twice
        self.notes: dict[Problem, None] = {}
        self._photos: dict[bytes, Path] = {}
        self._label_maps: dict[bytes, Path] = {}

    def listed(self, problems: Iterable[Problem]) -> None:
        """Take the problems of a listing, with a hint where names differ only in spelling."""
        alike: dict[tuple[str, str], list[Path]] = {}
        for problem in problems:
            alike.setdefault((problem.kind, _folded(problem.path.stem)), []).append(problem.path)
        for problem in problems:
            twins = [path for path in alike[problem.kind, _folded(problem.path.stem)] if path.stem != problem.path.stem]
            if problem.kind == "no-partner" and twins:
                hint = f"the name of {twins[0]} differs only in capital letters or spaces: rename one of them."
                problem = replace(problem, message=f"{problem.message.rstrip('.')}; {hint}")
            self.problems[problem] = None

    def add(self, found: Examination) -> None:
        """Count one sample."""
        self.problems.update(dict.fromkeys(found.problems))
        self.notes.update(dict.fromkeys(found.notes))
        if found.size is not None:
            self.sizes[found.size] += 1
        self.photo_formats.update(filter(None, [found.photo_format]))
        self.map_formats.update(filter(None, [found.map_format]))
        self.palette = {**found.palette, **self.palette}
        for value, count in found.pixels.items():
            self.pixels[value] += count
            self.maps[value] += 1
            self.first.setdefault(value, found.files.label_maps[0])
        self._look_for_twins(found)

    def _look_for_twins(self, found: Examination) -> None:
        label_map = found.files.label_maps[0]
        other_map = self._label_maps.setdefault(found.map_digest, label_map) if found.map_digest else label_map
        if found.files.image is not None and found.photo_digest:
            other = self._photos.setdefault(found.photo_digest, found.files.image)
            if other != found.files.image:
                message = f"{found.files.image} has the same pixels as {other}: remove one of them."
                remarks = self.notes if self.published else self.problems
                remarks[Problem(found.files.image, "duplicate-photo", message)] = None
                return
        if other_map != label_map and len(found.pixels) != 1:
            message = (
                f"{label_map} has the same pixels as {other_map}, under another photograph; look whether it is right."
            )
            self.notes[Problem(label_map, "duplicate-map", message)] = None

    def alone(self, pool: ThreadPoolExecutor) -> None:
        """Look into the files that have no partner."""
        paths = [problem.path for problem in self.problems if problem.kind in ("no-partner", "two-of-one-name")]
        for problems in pool.map(examine_alone, paths):
            self.problems.update(dict.fromkeys(problems))

    def look_at_names(self, root: Path, listings: Iterable[Listing]) -> None:
        """Note names that other systems do not like."""
        folded: dict[str, Path] = {}
        for path in _paths(listings):
            below = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
            for kind, remark in _remarks_on_name(below):
                self.notes[Problem(path, kind, f"{path} {remark}.")] = None
            other = folded.setdefault(str(below).casefold(), path)
            if other != path:
                message = f"{path} and {other.name} differ only in capital letters, which Windows and macOS ignore."
                self.notes[Problem(path, "same-but-for-case", message)] = None

    def compare_with_published(self, listings: Iterable[Listing]) -> None:
        """Note splits of published datasets that are not of their published size."""
        for listing in listings:
            count, published = len(listing.samples), KINDS[listing.kind].sizes.get(listing.split)
            if published not in (None, count):
                message = (
                    f"{listing.root} has {count:,} samples in {listing.split}, but {listing.kind} has {published:,}."
                )
                self.notes[Problem(listing.root, "incomplete", message)] = None

    def look_for_others(self, root: Path, listings: Sequence[Listing]) -> None:
        """Note the files that belong to no sample and have not been mentioned."""
        known = {*_paths(listings), *(problem.path for problem in self.problems)}
        companions = KINDS[listings[0].kind].companions
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                path = Path(folder, name)
                if path not in known and not any(path.match(pattern) for pattern in companions):
                    self._note_other(path)
            folders[:] = [name for name in folders if not _is_hidden(name)]

    def _note_other(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if _is_hidden(path.name):
            self.notes[Problem(path, "hidden", f"{path} is hidden, or the system's, and is passed over.")] = None
        elif os.path.isdir(path):
            if suffix in MAP_SUFFIXES:
                message = f"{path} is a folder, in spite of its name: put the file there, or rename the folder."
                self.problems[Problem(path, "folder", message)] = None
        elif not os.path.exists(path):
            self.problems[Problem(path, "bad-link", f"{path} is a link that leads nowhere: mend or remove it.")] = None
        elif not os.path.isfile(path):
            self.problems[Problem(path, "not-a-file", f"{path} is a pipe or device, no file: remove it.")] = None
        elif suffix in MAP_SUFFIXES:
            self.notes[Problem(path, "not-used", f"{path} belongs to no sample; remove it if it is not needed.")] = None
        else:
            message = f"{path} is not used; pictures end in {', '.join(sorted(MAP_SUFFIXES))}."
            self.notes[Problem(path, "not-used", message)] = None

    def result(self, root: Path, listings: list[Listing]) -> Inspection:
        """Everything together."""
        labels = listings[0].labels
        classes = self._classes(labels)
        self._note_formats(root)
        if labels is None:
            self._note_rare(classes)
            self._note_indices(root)
        return Inspection(
            root=root,
            kind=listings[0].kind,
            labels=labels,
            listings=tuple(listings),
            sizes=dict(self.sizes.most_common()),
            photo_formats=dict(self.photo_formats.most_common()),
            map_formats=dict(self.map_formats.most_common()),
            palette=self.palette,
            classes=classes,
            problems=tuple(sorted(self.problems, key=_order)),
            notes=tuple(sorted(self.notes, key=_order)),
        )

    def _classes(self, labels: LabelSet | None) -> tuple[ClassCount, ...]:
        values: list[Value]
        if labels is None:
            names: dict[Value, str] = {}
            values = sorted(self.pixels, key=lambda value: (isinstance(value, tuple), value))
        else:
            names = dict(enumerate(labels.names))
            values = list(range(labels.num_classes))
        return tuple(
            ClassCount(value, names.get(value, ""), self.pixels[value], self.maps[value], self.first.get(value))
            for value in values
        )

    def _note_formats(self, root: Path) -> None:
        """Label maps of which some hold indices and some colours, where nobody has said what the colours mean."""
        sorts = {isinstance(value, tuple) for value in self.pixels}
        if len(sorts) > 1:
            listed = ", ".join(f"{count} are {words}" for words, count in self.map_formats.most_common())
            message = f"{root} has label maps of indices and of colours ({listed}): save all in one way."
            self.problems[Problem(root, "mixed-maps", message)] = None

    def _note_rare(self, classes: tuple[ClassCount, ...]) -> None:
        if sum(self.sizes.values()) < FEW_MAPS:
            return
        rare: dict[Path, list[str]] = {}
        for entry in classes:
            if entry.maps == 1 and entry.first is not None:
                rare.setdefault(entry.first, []).append(str(entry.value))
        for path, values in rare.items():
            message = f"{path} is the only label map with the label {', '.join(values)}; look whether it is a mistake."
            self.notes[Problem(path, "rare-label", message)] = None

    def _note_indices(self, root: Path) -> None:
        """Look at the ends of the range of indices."""
        indices = [value for value in self.pixels if isinstance(value, int)]
        if indices and min(indices) > 0:
            message = f"{root} has no label 0 (the lowest is {min(indices)}): if the indices start at 1, subtract 1."
            self.notes[Problem(root, "no-label-0", message)] = None
        if has_ignored(indices):
            message = (
                f"{root} has the label {IGNORED} far above the others: it often marks pixels that nobody labelled."
            )
            self.notes[Problem(root, "ignore-value", message)] = None


def has_ignored(indices: Collection[int]) -> bool:
    """Whether 255 stands alone among the indices of a dataset, as where it marks pixels that nobody labelled."""
    return IGNORED in indices and IGNORED - 1 not in indices and len(indices) > 1


def _examinations(pool: ThreadPoolExecutor, listing: Listing, ahead: int) -> Iterator[Examination]:
    """Examine the samples in order, never more than `ahead` at a time."""
    waiting: deque[Future[Examination]] = deque()
    for files in listing.samples:
        waiting.append(pool.submit(examine, files, listing))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _paths(listings: Iterable[Listing]) -> Iterator[Path]:
    for listing in listings:
        for files in listing.samples:
            yield from _sample_paths(files)


def _sample_paths(files: SampleFiles) -> Iterator[Path]:
    yield from filter(None, (files.image, *files.label_maps, files.instance_map))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def _remarks_on_name(path: Path) -> Iterator[tuple[str, str]]:
    """Kinds and remarks on a path below the dataset's folder."""
    text = str(path)
    if path.suffix != path.suffix.lower():
        yield "capital-suffix", f"ends in {path.suffix} with capital letters, which is read like {path.suffix.lower()}"
    if not text.isascii():
        yield "name-not-ascii", "has letters beyond ASCII in its name, which some tools do not read"
    if " " in text or not text.isprintable():
        yield "name-with-spaces", "has spaces or control characters in its name, which need quotes in a shell"
    if any(_is_impossible_on_windows(part) for part in path.parts):
        yield "name-not-for-windows", "has a name that Windows does not allow"


def _is_impossible_on_windows(name: str) -> bool:
    stem = name.rpartition(".")[0] or name
    return (
        name.partition(".")[0].lower() in WINDOWS_DEVICES
        or any(character in '<>:"|?*\\' for character in name)
        or stem != stem.rstrip(" .")
    )


def _folded(name: str) -> str:
    """A name without capital letters, spaces, and Unicode's ways to write one letter."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _order(problem: Problem) -> tuple[str, str]:
    return problem.kind, str(problem.path)


def _problem_as_json(problem: Problem) -> dict[str, str]:
    return {"path": str(problem.path), "kind": problem.kind, "message": problem.message}
