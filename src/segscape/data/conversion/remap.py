"""Renaming what label maps hold: stored values, colours or classes become classes of another label set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from segscape.data.listing import Array
from segscape.errors import LabelMapError
from segscape.label_files import read_values
from segscape.labels import LabelSet

OTHERS = "*"
SAME = "same"
SHOWN = 8  # values listed in a message


@dataclass(frozen=True)
class Remap:
    """A table from what is found to indices of a label set.

    Attributes:
        labels: the label set of the results.
        values: index by stored value, or by index of the source's label set.
        colors: index by colour, as `red << 16 | green << 8 | blue`.
        others: index of every other value or colour; None makes them errors.
        keep_others: other values are indices already.
    """

    labels: LabelSet
    values: Mapping[int, int]
    colors: Mapping[int, int]
    others: int | None = None
    keep_others: bool = False

    @classmethod
    def parse(cls, text: str, labels: LabelSet, source: LabelSet | None = None) -> Remap:
        """Read a table.

        Args:
            text: `3=7,255=11`, or a YAML or JSON file that maps likewise. On the left stand values, colours as
                `#rrggbb`, class names of `source`, or `*` for every other one; on the right indices or class names of
                `labels`, or `same` (only after `*`).
            labels: the label set of the results.
            source: the label set of the maps; None if the table is about stored values.

        Raises:
            LabelMapError: the table is neither, or names a class that does not exist.
        """
        entries = _entries(text)
        others = entries.pop(OTHERS, None)
        keep = others == SAME
        colors = {key: value for key, value in entries.items() if key.startswith("#")}
        return cls(
            labels,
            {_index(key, source, "value"): _index(entries[key], labels) for key in entries if key not in colors},
            {_color(key): _index(value, labels) for key, value in colors.items()},
            None if others is None or keep else _index(others, labels),
            keep,
        )

    def __call__(self, found: Array, source: str) -> Array:
        """Rename the values of an integer map ``[H, W]`` or the colours of a uint8 one ``[H, W, 3]``.

        Args:
            found: the map.
            source: what to call it in messages.

        Returns:
            int64 ``[H, W]``.

        Raises:
            LabelMapError: a value or colour is not in the table, or its class not in the label set.
        """
        colored = found.ndim == 3
        keys = found.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]) if colored else found.astype(np.int64)
        table = self.colors if colored else self.values
        known = np.array(sorted(table), dtype=np.int64)
        place = np.searchsorted(known, keys).clip(max=max(0, len(known) - 1))
        listed = known[place] == keys if len(known) else np.zeros(keys.shape, dtype=bool)
        self._require_listed(keys, listed, colored, source)
        other = keys if self.others is None else np.int64(self.others)
        new = np.array([table[key] for key in known.tolist()], dtype=np.int64)
        renamed: Array = np.where(listed, new[place], other) if len(known) else np.broadcast_to(other, keys.shape)
        self.labels.check(renamed, source)
        return renamed

    def read(self, paths: tuple[Path, ...], labels: LabelSet) -> Array:
        """Read a label map by its stored values and rename them: a `ReadLabelMap`; raises as calling does."""
        (path,) = paths
        return self(read_values(path, "label map"), str(path))

    def _require_listed(self, keys: Array, listed: Array, colored: bool, source: str) -> None:
        if listed.all() or self.others is not None or (self.keep_others and not colored):
            return
        missing, counts = np.unique(keys[~listed], return_counts=True)
        shown = [_shown(key, colored) for key in missing[:SHOWN].tolist()]
        rest = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise LabelMapError(
            f"{source}: {int(counts.sum())} pixels hold {'colours' if colored else 'values'} that the remap table does "
            f"not have ({', '.join(shown)}{rest}): add {shown[0]}=CLASS, or *=CLASS for all others.",
            "unknown-label",
        )


def _entries(text: str) -> dict[str, str]:
    path = Path(text)
    if "=" not in text or path.is_file():
        return _entries_of_file(path)
    pairs = [entry.partition("=") for entry in text.split(",")]
    wrong = [key for key, equals, value in pairs if not (key.strip() and equals and value.strip())]
    if wrong:
        raise LabelMapError(f"--remap: {wrong[0]!r} is not of the form 3=7: separate the entries by commas.")
    return _unique([(key.strip(), value.strip()) for key, _, value in pairs])


def _entries_of_file(path: Path) -> dict[str, str]:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise LabelMapError(
            f"--remap: {path} is neither a table such as 3=7,255=11 nor a file that can be read."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise LabelMapError(f"--remap: {path} is neither YAML nor JSON: write a line like 3: 7 per value.") from None
    if not isinstance(content, dict):
        raise LabelMapError(f"--remap: {path} is no table: write a line like 3: 7 per value.")
    return _unique([(str(key).strip(), str(value).strip()) for key, value in content.items()])


def _unique(entries: list[tuple[str, str]]) -> dict[str, str]:
    table = dict(entries)
    if len(table) < len(entries):
        keys = [key for key, _ in entries]
        raise LabelMapError(f"--remap: {max(keys, key=keys.count)} is there twice: remove one of the entries.")
    return table


def _index(text: str, labels: LabelSet | None, what: str = "index") -> int:
    """A number, or the index of a class by its name."""
    if text.removeprefix("-").isdecimal():
        return int(text)
    if labels is None:
        raise LabelMapError(f"--remap: {text!r} is no {what}: give a number, or a colour as #rrggbb.")
    return labels.index(text)


def _color(text: str) -> int:
    try:
        if len(text) != 7:
            raise ValueError
        return int(text[1:], 16)
    except ValueError:
        raise LabelMapError(f"--remap: {text!r} is no colour: write it like #804080.") from None


def _shown(key: int, colored: bool) -> str:
    return f"#{key:06x}" if colored else str(key)
