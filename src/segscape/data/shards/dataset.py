"""Datasets in tar shards, on the local disk or behind any URL.

A shard is a plain tar file as the webdataset library reads it: the files of a sample stand one after another and have
one name up to the first dot (``0001.jpg``, ``0001.label.png``, ``0001.instance.png``). The index beside the shards
(`segscape.data.shards.index`) has the byte at which each sample begins. So any sample is one read of consecutive bytes,
and `TrainingOrder` decides over shards as it does over files: nothing is counted, split or buffered here.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segscape.data.sample import Locality, Sample
from segscape.data.shards import storage
from segscape.data.shards.cache import ShardCache
from segscape.data.shards.index import PackedSample, ShardIndex, samples_in
from segscape.errors import DataError
from segscape.files import file_digest
from segscape.label_files import read_image, read_instance_map, read_label_map


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
            samples = list(samples_in(io.BytesIO(content)))
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
        if expected is not None and file_digest(path) != expected:
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
