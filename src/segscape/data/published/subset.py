"""A part of a dataset as a list of names in a text file, for example the outdoor scenes of ADE20K.

The first line names the dataset's folder, relative to the file; every other one a sample as `split/name`::

    # a part of: ../ADEChallengeData2016
    train/ADE_train_00000001
    val/ADE_val_00000007

Such a file stands wherever the folder of a dataset does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segscape.data.listing import Listing, Problem
from segscape.errors import DataError
from segscape.files import write_text

HEADER = "# a part of: "


@dataclass(frozen=True)
class Subset:
    """Some samples of a dataset.

    Attributes:
        path: the list.
        root: the folder of the dataset.
        names: of the samples, by split.
    """

    path: Path
    root: Path
    names: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, path: Path) -> Subset:
        """Read a list; raises DataError if the file is none."""
        try:
            header, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        except (OSError, UnicodeDecodeError):
            header, lines = "", []
        if not header.startswith(HEADER):
            raise DataError(
                f"{path} is neither a folder nor the list of a part of a dataset (whose first line begins with "
                f"{HEADER.strip()!r}): give the folder of a dataset."
            )
        names: dict[str, list[str]] = {}
        for line in filter(None, map(str.strip, lines)):
            split, _, name = line.partition("/")
            names.setdefault(split, []).append(name)
        return cls(path, path.parent / header.removeprefix(HEADER).strip(), names)

    def write(self) -> None:
        """Write the list."""
        root = os.path.relpath(self.root.resolve(), self.path.resolve().parent)
        lines = [f"{HEADER}{Path(root).as_posix()}"]
        lines += [f"{split}/{name}" for split, names in self.names.items() for name in names]
        write_text(self.path, "\n".join(lines) + "\n")

    def restrict(self, listing: Listing) -> Listing:
        """The listing without the samples that are not on the list; names that it lacks become problems."""
        wanted = set(self.names.get(listing.split, ()))
        known = {files.name for files in listing.samples}
        missing = tuple(
            Problem(
                self.path, "no-such-sample", f"{self.path} lists {name}, which {listing.root} has not: mend the list."
            )
            for name in sorted(wanted - known)
        )
        samples = tuple(files for files in listing.samples if files.name in wanted)
        return replace(listing, samples=samples, problems=(*listing.problems, *missing))
