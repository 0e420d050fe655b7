"""Writing tar shards: in any number of processes, to any place, and so that an interruption costs one shard.

While it runs, a folder `unfinished` beside the shards holds what is known of those that are written. `index.json` comes
last: without it a reader takes the shards for what they are.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from segscape.data.listing import Problem
from segscape.data.shards import storage
from segscape.data.shards.index import INDEX, UNFINISHED, PackedSample, Shard, ShardIndex, member_name
from segscape.data.workers import in_workers
from segscape.errors import DataError, SegscapeError
from segscape.files import file_digest
from segscape.labels import LabelSet

OnProblems = Callable[[Sequence[Problem]], object]
"""Told what is wrong with the samples that were just read: with none of them, mostly."""


class PackedSamples(Protocol):
    """What can be written into shards or folders; travels to worker processes."""

    @property
    def labels(self) -> LabelSet:
        """The vocabulary of the label maps."""
        ...

    @property
    def fingerprint(self) -> str:
        """Differs if the samples do; tells whether an interrupted conversion can go on."""
        ...

    def __len__(self) -> int: ...

    def packed(self, index: int) -> PackedSample:
        """Sample number `index`; raises SegscapeError if it is broken."""
        ...

    def where(self, index: int) -> str:
        """The file that it comes from, for messages."""
        ...


def write_shards(
    source: PackedSamples,
    location: Path | str,
    *,
    samples_per_shard: int = 1000,
    workers: int = 0,
    report: OnProblems | None = None,
) -> list[Problem]:
    """Write samples as shards, the index last; the same samples give the same bytes.

    After an interruption the same call goes on where it stopped: finished shards are kept.

    Args:
        source: the samples; broken ones are left out.
        location: a new or empty folder, a URL, or where the same call was interrupted.
        samples_per_shard: how many samples of the source go into one; some 100 MB is a good size.
        workers: processes that write, each a shard at a time; 0 writes in this one.
        report: called with the problems of each shard's samples when it is written.

    Returns:
        The problems of all shards; none if this call had finished before.

    Raises:
        DataError: shards or another conversion are there, the place cannot be written, or no sample is sound.
    """
    place = str(location).rstrip("/")
    conversion = f"{source.fingerprint}-{samples_per_shard}"
    if _is_whole(place, conversion):
        return []
    before = _begin(place, conversion)
    left = sorted(set(range(-(-len(source) // samples_per_shard))) - {written.number for written in before})
    finished = []
    for written in chain(before, in_workers(_Writer(source, place, samples_per_shard), left, workers)):
        finished.append(written)
        if report is not None:
            report(written.left_out)
    shards = tuple(written.shard for written in sorted(finished, key=lambda written: written.number))
    if not any(shard.samples for shard in shards):
        raise DataError(f"none of the {len(source)} samples could be written to {place}: mend them first.")
    ShardIndex(labels=source.labels, shards=shards, conversion=conversion).save(place)
    storage.remove(storage.join(place, UNFINISHED))
    return [problem for written in finished for problem in written.left_out]


class _Written(BaseModel):
    """A shard that is written, and what was wrong with samples that are not in it."""

    model_config = ConfigDict(frozen=True)

    number: int
    shard: Shard
    left_out: tuple[Problem, ...]


@dataclass(frozen=True)
class _Writer:
    """Writes shard number n."""

    source: PackedSamples
    place: str
    samples_per_shard: int

    def __call__(self, number: int) -> _Written:
        offsets, sizes, digests, left_out = [0], [], [], []
        first = number * self.samples_per_shard

        def make(part: Path) -> None:
            with part.open("wb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for index in range(first, min(first + self.samples_per_shard, len(self.source))):
                    try:
                        _add(tar, self.source.packed(index))
                        offsets.append(stream.tell())
                    except SegscapeError as error:
                        left_out.append(problem_of(error, self.source.where(index)))
            sizes.append(part.stat().st_size)
            digests.append(file_digest(part))

        name = f"{number:06d}"
        storage.write(storage.join(self.place, f"{name}.tar"), make)
        shard = Shard(file=f"{name}.tar", bytes=sizes[0], sha256=digests[0], offsets=tuple(offsets))
        written = _Written(number=number, shard=shard, left_out=tuple(left_out))
        note = storage.join(self.place, f"{UNFINISHED}/{name}.json")
        storage.write_text(note, written.model_dump_json())
        return written


def problem_of(error: SegscapeError, path: str) -> Problem:
    """The problem of a sample that could not be read."""
    return Problem(Path(path), error.kind or "not-converted", str(error))


def _is_whole(place: str, conversion: str) -> bool:
    """Whether this conversion was finished before; raises DataError if other shards are there."""
    if not storage.exists(storage.join(place, INDEX)):
        return False
    if ShardIndex.load(place).conversion == conversion:
        return True
    raise DataError(f"{place} holds other shards already: choose another folder, or remove them.")


def _begin(place: str, conversion: str) -> list[_Written]:
    """Open a place for writing; returns the shards that the same conversion has written there before."""
    folder = storage.join(place, UNFINISHED)
    record = storage.join(folder, "conversion.json")
    if not storage.exists(record):
        if storage.names(place):
            raise DataError(f"{place} is not empty: choose a new folder for the shards.")
        storage.write_text(record, conversion)
        return []
    if storage.read(record).decode() != conversion:
        raise DataError(
            f"{place} holds another conversion that was interrupted (its samples or options differ): remove it, or "
            "choose another folder."
        )
    for name in storage.names(place, ".part"):  # of a shard that was being written
        storage.remove(storage.join(place, name))
    notes = [name for name in storage.names(folder, ".json") if name[:-5].isdigit()]
    return [_Written.model_validate_json(storage.read(storage.join(folder, name))) for name in notes]


def _add(tar: tarfile.TarFile, packed: PackedSample) -> None:
    """Append the files of a sample; owner and time are zero, so that the bytes depend on the content only."""
    for suffix, content in packed.members.items():
        member = tarfile.TarInfo(member_name(packed.name, suffix))
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
