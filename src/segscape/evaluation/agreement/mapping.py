"""Which class of a segmenter is which class of a label set: explicit, checked, and named in the protocol."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from segscape.errors import EvaluationError
from segscape.evaluation.agreement.confusion import NO_CLASS
from segscape.labels import LabelSet

LISTED = 8  # names quoted in a message


@dataclass(frozen=True)
class ClassMapping:
    """From a segmenter's classes to those of a label set. Several of its classes may mean one of the set.

    Attributes:
        classes: the segmenter's class names, in its order.
        labels: the label set.
        targets: for each of the segmenter's classes the index in the label set, or -1 for none.

    Raises:
        EvaluationError: no class of the segmenter means a labelled class of the set.
    """

    classes: tuple[str, ...]
    labels: LabelSet
    targets: tuple[int, ...]

    def __post_init__(self) -> None:
        if not set(self.targets) - {NO_CLASS, self.labels.unknown}:
            raise EvaluationError(
                f"no class of the segmenter ({_listing(self.classes)}) corresponds to a class of label set "
                f"{self.labels.name!r} ({_listing(self.labels.names)}): give a mapping file, JSON of "
                '{"segmenter class name or id": "label set class name"}.'
            )

    @classmethod
    def of(cls, classes: Sequence[str], labels: LabelSet, path: str | Path | None = None) -> ClassMapping:
        """The mapping of a file, or without one that by name; raises EvaluationError as they do."""
        return cls.by_name(classes, labels) if path is None else cls.from_file(path, classes, labels)

    @classmethod
    def by_name(cls, classes: Sequence[str], labels: LabelSet) -> ClassMapping:
        """Pair classes of the same name, however it is written; raises EvaluationError if there are none.

        Upper and lower case, and spaces, hyphens and underscores, are the same. Synonyms are separated by commas or
        semicolons, as in ADE20K's `person;individual`: one in common is enough, the full name and earlier ones first.
        """
        known: dict[str, int] = {}
        spellings = [_spellings(name) for name in labels.names]
        for place in range(max(map(len, spellings))):
            for index, names in enumerate(spellings):
                if place < len(names):
                    known.setdefault(names[place], index)
        targets = (next((known[name] for name in _spellings(own) if name in known), NO_CLASS) for own in classes)
        return cls(tuple(classes), labels, tuple(targets))

    @classmethod
    def from_file(cls, path: str | Path, classes: Sequence[str], labels: LabelSet) -> ClassMapping:
        """Read JSON of `{"segmenter class name or id": "label set class name"}`; classes not listed mean nothing.

        Raises:
            EvaluationError: the file cannot be read, names a class that is not there, or one class twice.
        """
        targets = [NO_CLASS] * len(classes)
        for key, value in _read_pairs(Path(path)):
            own = _find(key, classes, f"{path}: the segmenter", numbers=True)
            if targets[own] != NO_CLASS:
                raise EvaluationError(f"{path} maps the segmenter's class {classes[own]!r} twice: remove one of them.")
            targets[own] = _find(value, labels.names, f"{path}: label set {labels.name!r}")
        return cls(tuple(classes), labels, tuple(targets))

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The labelled classes of the set that no class of the segmenter means."""
        missing = self._unmatched_indices()
        return tuple(self.labels.names[index] for index in missing)

    @property
    def excluded(self) -> frozenset[int]:
        """What `Agreement` leaves out of the truth: the unknown class and the unmatched ones."""
        unknown = set() if self.labels.unknown is None else {self.labels.unknown}
        return frozenset(unknown | set(self._unmatched_indices()))

    def _unmatched_indices(self) -> list[int]:
        matched = {*self.targets, self.labels.unknown}
        return [index for index in range(self.labels.num_classes) if index not in matched]

    def apply(self, predicted: Tensor) -> Tensor:
        """Indices of the segmenter, integer `[N, H, W]`, as int64 indices of the label set, -1 for none.

        Raises:
            EvaluationError: an index that the segmenter's classes do not have.
        """
        if predicted.numel() and not 0 <= int(predicted.min()) <= int(predicted.max()) < len(self.classes):
            raise EvaluationError(
                f"the segmenter predicted classes {int(predicted.min())} to {int(predicted.max())}, "
                f"but it names {len(self.classes)} (0 to {len(self.classes) - 1})."
            )
        return torch.tensor(self.targets, device=predicted.device)[predicted.long()]

    def describe(self) -> str:
        """For protocols: `11 of 11 classes (mapping 0123456789ab)`; the hash covers the names and what they mean."""
        unknown = self.labels.unknown is not None
        total = self.labels.num_classes - unknown
        content = json.dumps([self.classes, self.labels.names, self.targets])
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        return f"{total - len(self.unmatched)} of {total} classes (mapping {digest})"

    def remark(self) -> str:
        """One sentence on the unmatched classes; empty if there are none."""
        if not self.unmatched:
            return ""
        names = ", ".join(self.unmatched)
        return f"The segmenter has no counterpart of {names}: their pixels are left out of the truth."


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _plain(name: str) -> str:
    """A name without differences of case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _spellings(name: str) -> list[str]:
    """The full name and its synonyms, plain."""
    return [_plain(name), *filter(None, map(_plain, re.split("[;,]", name)))]


def _find(name: str, names: Sequence[str], owner: str, *, numbers: bool = False) -> int:
    """Index of a name, as written or else plain, or of a number; raises EvaluationError that lists the nearest."""
    if name in names:
        return names.index(name)
    plain = [_plain(other) for other in names]
    if _plain(name) in plain:
        return plain.index(_plain(name))
    if numbers and name.isascii() and name.isdigit() and int(name) < len(names):
        return int(name)
    near = [names[plain.index(other)] for other in difflib.get_close_matches(_plain(name), plain, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {_listing(names)}."
    raise EvaluationError(f"{owner} has no class {name!r}: {hint}")


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    try:
        # lists of pairs instead of dicts, which would keep only the last one of a class that is there twice
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=tuple)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read as a class mapping ({error}): it must be JSON.") from None
    if not isinstance(content, tuple) or not all(isinstance(value, str) for _, value in content):
        raise EvaluationError(
            f'{path} is no class mapping: it must be one JSON object of {{"segmenter class": "label set class"}}.'
        )
    return list(content)
