"""Datasets in tar shards, on the local disk or behind any URL.

A shard is a plain tar file as the webdataset library reads it: the files of a sample stand one after another and have
one name up to the first dot (``0001.jpg``, ``0001.label.png``, ``0001.instance.png``). Beside the shards, `index.json`
has the label set, and of every shard its size, its digest and the byte at which each sample begins. So any sample is
one read of consecutive bytes, and `TrainingOrder` decides over shards as it does over files: nothing is counted, split
or buffered here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segscape.data.sample import Locality, Sample
from segscape.data.shards import storage
from segscape.data.shards.cache import ShardCache
from segscape.errors import DataError
from segscape.label_files import read_image, read_instance_map, read_label_map
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


class ShardDataset:
    """Shards as a dataset of numbered samples; reading sample i is one read of consecutive bytes.

    Args:
        location: the folder or URL that holds `index.json`.
        cache: folder in which whole shards are kept once one of their samples is asked for; None reads the bytes of
            each sample from `location`. Processes may share it.
        cache_bytes: what the cache may hold.
        window: how many samples training shuffles among each other while it goes through the shards in random order;
            with as many as there are it shuffles each epoch as a whole.

    Raises:
        DataError: there is no index, it does not fit the shards, or the cache holds less than the window.
    """

    def __init__(
        self,
        location: Path | str,
        *,
        cache: Path | str | None = None,
        cache_bytes: int = 20_000_000_000,
        window: int = 10_000,
    ) -> None:
        self.location = str(location).rstrip("/")
        index = ShardIndex.load(self.location)
        self.labels = index.labels
        self._members = index.members
        self._shards = [shard.model_copy(update={"offsets": ()}) for shard in index.shards]
        sizes = [shard.samples for shard in index.shards]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._begin = np.array([offset for shard in index.shards for offset in shard.offsets[:-1]], dtype=np.int64)
        self._end = np.array([offset for shard in index.shards for offset in shard.offsets[1:]], dtype=np.int64)
        if not len(self):
            raise DataError(f"{self.location} holds no samples: write the shards again.")
        self.locality = Locality(tuple(sizes), window)
        self._cache = None if cache is None else ShardCache(cache, cache_bytes)
        self._fetched: dict[int, bytes] = {}
        self._require_files()
        self._require_room()

    def __len__(self) -> int:
        return len(self._begin)

    def sample(self, index: int) -> Sample:
        """Read sample number `index`, in the order of the shards.

        Raises:
            DataError: the shard cannot be read, or the sample is damaged or incomplete.
            LabelMapError: the label map does not fit the label set.
        """
        return self.unpack(self.packed(index), self.where(index))

    def fetch(self, indices: Sequence[int]) -> None:
        """Read samples that are asked for next, from a remote place all at the same time; raises DataError."""
        if self._cache is None and storage.is_remote(self.location):
            ranges = [(self.where(index), int(self._begin[index]), int(self._end[index])) for index in indices]
            self._fetched = dict(zip(indices, storage.read_ranges(ranges), strict=True))

    def packed(self, index: int) -> PackedSample:
        """The files of sample number `index` as they lie in the shard; raises DataError."""
        content = self._content(index)
        try:
            samples = list(_samples_in(io.BytesIO(content)))
        except tarfile.TarError as error:
            raise DataError(f"{self.where(index)} is damaged ({error}): write or copy the shard again.") from None
        if len(samples) != 1:
            raise DataError(f"{self.where(index)} is damaged: {len(samples)} samples are where one should be.")
        return samples[0]

    def unpack(self, packed: PackedSample, shard: str) -> Sample:
        """Decode the files of a sample of a shard; raises DataError or LabelMapError."""
        image, label_map, instance_map = (
            _first(packed, suffixes)
            for suffixes in (self._members.image, self._members.label_map, self._members.instance_map)
        )
        if label_map is None:
            found, wanted = ", ".join(packed.members), " or ".join(self._members.label_map)
            raise DataError(f"the sample {packed.name} in {shard} has no {wanted}, only {found}.")
        path, files = f"{shard}/{packed.name}", packed.members
        sample = Sample(
            image=None if image is None else read_image(f"{path}.{image}", files[image]),
            label_map=read_label_map(f"{path}.{label_map}", self.labels, files[label_map]),
            instance_map=None
            if instance_map is None
            else read_instance_map(f"{path}.{instance_map}", files[instance_map]),
            name=packed.name,
        )
        _require_one_size(sample, path)
        return sample

    def photograph(self, packed: PackedSample) -> bytes | None:
        """The file of a sample's photograph, if it has one."""
        suffix = _first(packed, self._members.image)
        return None if suffix is None else packed.members[suffix]

    def where(self, index: int) -> str:
        """The shard of a sample, for messages."""
        return self._url(self._shard(index))

    @property
    def fingerprint(self) -> str:
        """A digest over what the shards are."""
        content = [(shard.file, shard.bytes, shard.sha256) for shard in self._shards]
        return hashlib.sha256(json.dumps([self.location, content]).encode()).hexdigest()

    def _shard(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return int(np.searchsorted(self._ends, index, side="right"))

    def _url(self, number: int) -> str:
        return storage.join(self.location, self._shards[number].file)

    def _content(self, index: int) -> bytes:
        number, start, end = self._shard(index), int(self._begin[index]), int(self._end[index])
        url = self._url(number)
        if self._cache is not None:
            content = self._read_cached(number, start, end)
        else:
            content = self._fetched.pop(index, b"") or storage.read(url, start, end)
        if len(content) > end - start:
            raise DataError(f"{url}: this server sends whole files only, not parts: give a cache folder.")
        if len(content) < end - start:
            raise DataError(f"{url} is shorter than its index says: write or copy the shard again.")
        return content

    def _read_cached(self, number: int, start: int, end: int) -> bytes:
        assert self._cache is not None
        size = self._shards[number].bytes
        with self._cache.open(self._key(number), size, lambda path: self._fetch(number, path)) as file:
            file.seek(start)
            return file.read(end - start)

    def _key(self, number: int) -> str:
        shard = self._shards[number]
        return hashlib.sha256(f"{self._url(number)} {shard.sha256}".encode()).hexdigest()

    def _fetch(self, number: int, path: Path) -> None:
        """Download a shard and compare its digest."""
        storage.download(self._url(number), path)
        expected = self._shards[number].sha256
        if expected is not None and digest(path) != expected:
            raise DataError(f"{self._url(number)} is not what its index says: write or copy the shard again.")

    def _require_files(self) -> None:
        """Local shards must be there in full; of remote ones that is found out when they are read."""
        for number, shard in enumerate(self._shards):
            url = self._url(number)
            if storage.is_remote(url):
                continue
            found = storage.size(url)
            if found != shard.bytes:
                state = "is missing" if found is None else f"has {found} bytes instead of {shard.bytes}"
                raise DataError(f"{url} {state}: copy the shard again, or write all of them anew.")

    def _require_room(self) -> None:
        """The cache must hold the shards that are read from at the same time, or each comes again and again."""
        if self._cache is None:
            return
        total, largest = sum(shard.bytes for shard in self._shards), max(shard.bytes for shard in self._shards)
        per_shard = len(self) / len(self._shards)
        window = self.locality.window
        needed = min(total, int((window / per_shard + 2) * largest))
        if self._cache.limit < needed:
            raise DataError(
                f"a window of {window} samples spans about {needed} bytes of shards, more than cache_bytes "
                f"({self._cache.limit}): raise cache_bytes, or lower the window."
            )


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


def _require_one_size(sample: Sample, path: str) -> None:
    for what, array in (("photograph", sample.image), ("instance map", sample.instance_map)):
        if array is not None and array.shape[:2] != sample.size:
            found, expected = (f"{height}x{width}" for height, width in (array.shape[:2], sample.size))
            raise DataError(
                f"{path}: the {what} is {found}, but the label map {expected} (height x width): write the shard again "
                "with the right pair."
            )


def _first(packed: PackedSample, suffixes: tuple[str, ...]) -> str | None:
    """The first of these endings that a sample has a file of."""
    return next((suffix for suffix in suffixes if suffix in packed.members), None)


def _samples_in(stream: BinaryIO) -> Iterator[PackedSample]:
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


def member_name(name: str, suffix: str) -> str:
    """What a file of a sample is called; dots, which would end the sample's name, are written as `%2E`."""
    escaped = name.replace("%", "%25").replace(".", "%2E")
    return f"{escaped}.{suffix}"


def _unescaped(name: str) -> str:
    return name.replace("%2E", ".").replace("%25", "%")


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    computed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            computed.update(block)
    return computed.hexdigest()


def _without_index(location: str) -> str:
    """What is at a location that has no index, and what to do about it."""
    if storage.exists(storage.join(location, UNFINISHED)):
        return f"the shards in {location} are not finished: give the command that writes them again, it goes on."
    if not storage.is_remote(location) and storage.names(location, ".tar"):
        return f"{location} holds tar files without index.json: see segscape.data.shards.dataset.index_shards."
    return f"{location} holds no shards (no index.json): write them with segscape dataset convert --to shards."
