"""The index of tar shards: what is in them, and how it is found out.

`index.json` stands beside the shards and has the label set, and of every shard its size, its digest and the byte at
which each sample begins. `index_shards` makes one for tar files that others wrote.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segscape.data.shards import storage
from segscape.errors import DataError
from segscape.labels import LabelSet

INDEX = "index.json"
UNFINISHED = "unfinished"
"""A folder beside shards that are being written; it goes when the index comes."""

BLOCK = 512  # bytes; everything in a tar file begins at a multiple of it


class Members(BaseModel):
    """Which member of a sample is what, by the end of its name after the first dot; the first that is there counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: tuple[str, ...] = ("jpg", "jpeg", "png", "webp")
    label_map: tuple[str, ...] = ("label.png",)
    instance_map: tuple[str, ...] = ("instance.png",)


class Shard(BaseModel):
    """One tar file.

    Attributes:
        file: its name beside the index, or a URL or absolute path.
        bytes: its size.
        sha256: its digest, None if nobody computed it.
        offsets: the byte at which each sample begins, and after them the one at which the last ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    bytes: int
    sha256: str | None = None
    offsets: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _require_order(self) -> Shard:
        if any(start > end for start, end in pairwise((0, *self.offsets, self.bytes))):
            raise ValueError(f"the offsets of {self.file} must ascend within its {self.bytes} bytes")
        return self

    @property
    def samples(self) -> int:
        """How many samples are in it."""
        return len(self.offsets) - 1


class ShardIndex(BaseModel):
    """The content of `index.json`.

    Attributes:
        format, version: so that a reader knows it.
        labels: the vocabulary of the label maps.
        members: which file of a sample is what.
        shards: in the order of the samples.
        conversion: tells `write_shards` whether it has written these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["segscape-shards"] = "segscape-shards"
    version: Literal[1] = 1
    labels: LabelSet
    members: Members = Members()
    shards: tuple[Shard, ...]
    conversion: str | None = None

    @classmethod
    def load(cls, location: str) -> ShardIndex:
        """Read the index of the shards in a folder or under a URL; raises DataError."""
        path = storage.join(location, INDEX)
        try:
            return cls.model_validate_json(storage.read(path))
        except DataError as error:
            if error.kind != storage.MISSING:
                raise
            raise DataError(_without_index(location)) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            why = first["msg"].removeprefix("Value error, ")
            raise DataError(f"{path} is not an index of shards: {where}: {why}; write it anew.") from None

    def save(self, location: str) -> None:
        """Write the index beside its shards."""
        storage.write_text(storage.join(location, INDEX), self.model_dump_json() + "\n")


@dataclass(frozen=True)
class PackedSample:
    """A sample as the contents of its files.

    Attributes:
        name: relative, with `/`.
        members: content by the end of the file's name: `jpg` or `png`, `label.png`, `instance.png`.
    """

    name: str
    members: dict[str, bytes]


def index_shards(
    location: Path | str,
    labels: LabelSet,
    *,
    members: Members | None = None,
    files: Sequence[str] | None = None,
) -> ShardIndex:
    """Index tar files that others made, so that `ShardDataset` reads them; every header is read once.

    Args:
        location: the folder or URL with the tar files.
        labels: what the label maps' values or colours mean.
        members: which file of a sample is what.
        files: names or URLs of the shards; by default all in `location` that end in `.tar`.

    Returns:
        The index; `index.save(location)` keeps it.

    Raises:
        DataError: no tar files, a file that is none, or samples without a label map.
    """
    place, roles = str(location).rstrip("/"), members or Members()
    names = storage.names(place, ".tar") if files is None else files
    if not names:
        raise DataError(f"{place} lists no .tar files: give the folder of the shards, or their names.")
    return ShardIndex(labels=labels, members=roles, shards=tuple(_scan(place, name, roles) for name in names))


def samples_in(stream: BinaryIO) -> Iterator[PackedSample]:
    """The samples of a tar file, or of a piece of one."""
    packed: PackedSample | None = None
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
            if not member.isfile():
                continue
            name, suffix = _divided(member.name)
            if packed is None or name != packed.name:
                if packed is not None:
                    yield packed
                packed = PackedSample(name, {})
            content = tar.extractfile(member)
            assert content is not None  # only of a member that is no file
            packed.members[suffix] = content.read()
    if packed is not None:
        yield packed


def member_name(name: str, suffix: str) -> str:
    """What a file of a sample is called; dots, which would end the sample's name, are written as `%2E`."""
    escaped = name.replace("%", "%25").replace(".", "%2E")
    return f"{escaped}.{suffix}"


def _scan(place: str, file: str, members: Members) -> Shard:
    """Index one tar file by its headers."""
    url = storage.join(place, file)
    names: list[str] = []
    suffixes: list[set[str]] = []
    offsets, end = [], 0
    with storage.open_file(url) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    if not member.isfile():
                        continue
                    name, suffix = _divided(member.name)
                    if not names or name != names[-1]:
                        names.append(name)
                        suffixes.append(set())
                        offsets.append(member.offset)
                    suffixes[-1].add(suffix)
                    end = member.offset_data + -(-member.size // BLOCK) * BLOCK
        except tarfile.TarError as error:
            raise DataError(f"{url} is not a plain tar file ({error}): unpack compressed ones first.") from None
        size = stream.seek(0, os.SEEK_END)
    bare = [name for name, found in zip(names, suffixes, strict=True) if not found & set(members.label_map)]
    if bare:
        wanted = " or ".join(members.label_map)
        raise DataError(
            f"{len(bare)} of {len(names)} samples in {url} have no {wanted} (the first is {bare[0]} with "
            f"{', '.join(sorted(suffixes[names.index(bare[0])]))}): say which file is the label map with members."
        )
    if len(set(names)) < len(names):
        raise DataError(f"the files of a sample do not stand together in {url}: sort them by name in the tar file.")
    return Shard(file=file, bytes=size, offsets=(*offsets, end))


def _divided(path: str) -> tuple[str, str]:
    """A member's sample name, and what follows the first dot of the file name, in lower case."""
    folder, slash, file = path.removeprefix("./").rpartition("/")
    stem, _, suffix = file.partition(".")
    return _unescaped(folder + slash + stem), suffix.lower()


def _unescaped(name: str) -> str:
    return name.replace("%2E", ".").replace("%25", "%")


def _without_index(location: str) -> str:
    """What is at a location that has no index, and what to do about it."""
    if storage.exists(storage.join(location, UNFINISHED)):
        return f"the shards in {location} are not finished: give the command that writes them again, it goes on."
    if not storage.is_remote(location) and storage.names(location, ".tar"):
        return f"{location} holds tar files without index.json: see segscape.data.shards.index.index_shards."
    return f"{location} holds no shards (no index.json): write them with segscape dataset convert --to shards."
