"""What the files of one sample hold, and everything that is wrong with them; nothing here raises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from segscape.data.inspection.interpolation import looks_interpolated
from segscape.data.listing import Listing, Problem, SampleFiles
from segscape.data.published.pairing import read_one
from segscape.errors import DataError, LabelMapError, SegscapeError
from segscape.label_files import read_image, read_instance_map, read_values
from segscape.labels import LabelSet

Array = npt.NDArray[Any]
Color = tuple[int, int, int]
Value = int | Color
"""What a pixel of a label map says: an index, or a colour where nobody has said what the colours mean."""

Result = TypeVar("Result")

MANY_LABELS = 64  # more distinct indices in one map: a grey photograph, unless its areas are flat
MANY_COLORS = 256  # more distinct colours in one map: a photograph, or smoothed borders
ORIENTATION = 0x0112  # the EXIF tag


@dataclass
class Examination:
    """What one sample's files hold.

    Attributes:
        files: the sample.
        size: (height, width) of the label map, if it could be read.
        photo_digest, map_digest: of the pixels, equal for equal ones, if they could be read.
        photo_format, map_format: in words, for example `PNG, 8-bit palette`.
        pixels: how many pixels have each label.
        palette: the colours of the labels of a palette image.
        problems: what must be mended before training.
        notes: what works but deserves a look.
    """

    files: SampleFiles
    size: tuple[int, int] | None = None
    photo_digest: bytes = b""
    map_digest: bytes = b""
    photo_format: str = ""
    map_format: str = ""
    pixels: dict[Value, int] = field(default_factory=dict)
    palette: dict[int, Color] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, kind: str, message: str) -> None:
        """Note what must be mended."""
        self.problems.append(Problem(path, kind, message))

    def note(self, path: Path, kind: str, what: str) -> None:
        """Note what works but deserves a look."""
        self.notes.append(Problem(path, kind, f"{path} {what}."))

    def attempt(self, path: Path, read: Callable[[], Result]) -> Result | None:
        """The result of `read`, or None and a problem of this file, whatever happens."""
        try:
            return read()
        except SegscapeError as error:
            self.problem(path, error.kind or "unreadable", str(error))
        except Exception as error:
            self.problem(path, "unreadable", f"{path} cannot be read ({type(error).__name__}: {error}): replace it.")
        return None


@dataclass(frozen=True)
class Header:
    """What an image file says of itself.

    Attributes:
        format: as Pillow calls it, for example `PNG`.
        mode: as Pillow calls it, for example `RGB`.
        frames: 1, or more in animations.
        orientation: of the EXIF data; 1 is upright.
        size: (height, width) as stored.
        palette: uint8 ``[entries, 3]``, if it has one.
        deep: 16 bits per channel.
        transparent: it has an alpha channel or a transparent colour.
    """

    format: str
    mode: str
    frames: int
    orientation: int
    size: tuple[int, int]
    palette: Array | None
    deep: bool
    transparent: bool

    @classmethod
    def read(cls, path: Path) -> Header:
        """Read the header of a file that Pillow can open, and check the sums that a PNG carries.

        Raises:
            DataError: a PNG's content does not match its sums, so bits of it have changed.
        """
        with Image.open(path) as image:
            palette = image.getpalette() if image.mode in ("P", "PA") else None
            header = cls(
                format=image.format or "",
                mode=image.mode,
                frames=getattr(image, "n_frames", 1),
                orientation=int(image.getexif().get(ORIENTATION, 1)),
                size=(image.height, image.width),
                palette=None if palette is None else np.array(palette, dtype=np.uint8).reshape(-1, 3),
                deep=image.mode.startswith("I;16") or ";16" in str(image.tile),
                transparent=image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
            )
        if header.format == "PNG":
            _verify(path)
        return header

    @property
    def words(self) -> str:
        """For example `PNG, 8-bit palette`."""
        names = {"P": "palette", "L": "grey", "1": "black and white", "RGBA": "RGB with alpha", "LA": "grey with alpha"}
        mode = "grey" if self.mode.startswith("I") else names.get(self.mode, self.mode)
        bits = {"1": 1, "I": 32, "F": 32}.get(self.mode, 8)
        return f"{self.format}, {16 if self.deep else bits}-bit {mode}"


def examine(files: SampleFiles, listing: Listing) -> Examination:
    """Read one sample of a listing: its photograph, its label map, its instance map.

    Args:
        files: the sample.
        listing: where it is from; its label set may be None.

    Returns:
        What was found; whatever fails is among its problems.
    """
    found = Examination(files)
    found.attempt(files.label_maps[0], lambda: _examine(listing, found))
    return found


def _examine(listing: Listing, found: Examination) -> None:
    photo, instance_map = found.files.image, found.files.instance_map
    photo_size = None if photo is None else _examine_photo(photo, found)
    _examine_label_map(listing, found)
    if photo is not None and photo_size is not None and found.size is not None:
        _compare_sizes(photo, photo_size, listing.larger_images, found)
    if instance_map is not None:
        _examine_instance_map(instance_map, found)


def examine_alone(path: Path) -> list[Problem]:
    """What is wrong with a file that has no partner, whatever it was meant to be."""
    found = Examination(SampleFiles(path.name, None, ()))
    if path.suffix.lower() == ".npy":
        found.attempt(path, lambda: read_values(path, "map"))
    elif found.attempt(path, lambda: read_image(path)) is not None:
        found.attempt(path, lambda: Header.read(path))
    return found.problems


def _examine_photo(path: Path, found: Examination) -> tuple[int, int] | None:
    """(height, width) of a photograph that can be read."""
    pixels = found.attempt(path, lambda: read_image(path))
    header = None if pixels is None else found.attempt(path, lambda: Header.read(path))
    if pixels is None or header is None:
        return None
    found.photo_digest = _digest(pixels)
    found.photo_format = header.words
    _note_format(path, header, found)
    if header.mode == "CMYK":
        found.note(path, "cmyk-photo", "is in CMYK and is converted without its colour profile; save it as RGB")
    if header.transparent:
        found.note(path, "alpha", "has transparency, which is dropped; flatten it if that shows hidden colours")
    if header.mode in ("1", "L", "LA") or header.mode.startswith("I"):
        found.note(path, "grey-photo", "is grey; a model learns to draw grey pictures from such photographs")
    if header.deep:
        found.note(path, "16-bit-photo", "has 16 bits per channel, of which the upper 8 are used")
    if int(pixels.min()) == int(pixels.max()):
        found.note(path, "blank-photo", "has one colour only; look whether it is the right picture")
    if header.orientation != 1:
        found.note(path, "exif-rotated", "is turned by its EXIF data, which are not applied; save it upright")
    return header.size


def _examine_label_map(listing: Listing, found: Examination) -> None:
    paths, labels = found.files.label_maps, listing.labels
    values = None
    if len(paths) == 1:
        path = paths[0]
        values = found.attempt(path, lambda: read_values(path, "label map"))
        if values is None or not _examine_map_format(path, values, listing, found):
            return
        found.size = (values.shape[0], values.shape[1])
        found.map_digest = _digest(values)
    if labels is not None:
        _read_labels(listing, labels, found)
    elif values is not None:
        found.pixels = found.attempt(paths[0], lambda: count_values(values, paths[0])) or {}
        if found.pixels.keys() == {0, 255}:
            message = f"{paths[0]} looks like a 0/255 mask: divide it by 255, or name a label set that ignores 255."
            found.problem(paths[0], "mask-0-255", message)
    if values is not None and looks_interpolated(values):
        message = (
            f"{paths[0]} looks resized with interpolation, or painted with a soft brush: along the borders it holds "
            "labels between those of the two sides; make it again with nearest neighbour and hard edges."
        )
        found.problem(paths[0], "interpolated", message)
        if labels is None:
            found.pixels = {}  # among them are labels that nobody gave


def _read_labels(listing: Listing, labels: LabelSet, found: Examination) -> None:
    """Read the label map in the indices of its set; a map of several files is known by the first."""
    paths = found.files.label_maps
    label_map = found.attempt(paths[0], lambda: listing.read_label_map(paths, labels))
    if label_map is None:
        return
    found.size = (label_map.shape[0], label_map.shape[1])
    found.map_digest = found.map_digest or _digest(label_map)
    counts = np.bincount(label_map.ravel())
    found.pixels = {int(index): int(counts[index]) for index in np.flatnonzero(counts)}


def _examine_map_format(path: Path, values: Array, listing: Listing, found: Examination) -> bool:
    """Look at how a label map is stored; whether the file is sound."""
    if path.suffix.lower() == ".npy":
        found.map_format = f"NPY, {values.dtype}"
        return True
    header = found.attempt(path, lambda: Header.read(path))
    if header is None:
        return False
    found.map_format = header.words
    _note_format(path, header, found)
    if header.transparent and header.mode != "P":
        found.note(path, "alpha", "has transparency, which is ignored; a label map needs none")
    if header.deep:
        found.note(path, "16-bit-map", "has 16 bits per channel; 8 are enough for up to 256 classes")
    if header.palette is not None and values.ndim == 2:
        used = [int(value) for value in np.unique(values) if value < len(header.palette)]
        found.palette = {value: _color(header.palette[value]) for value in used}
        if listing.labels is not None and listing.read_label_map is read_one:  # values are indices of the set
            _check_palette(path, listing.labels, found)
    return True


def _check_palette(path: Path, labels: LabelSet, found: Examination) -> None:
    """A palette in the classes' own colours, but in another order: its indices mean other classes than it shows."""
    own = {_color(color): index for index, color in enumerate(labels.colors)}
    others = {
        value: own[color]
        for value, color in found.palette.items()
        if value < labels.num_classes and color in own and color != _color(labels.colors[value])
    }
    if len(others) >= 2 and all(color in own for color in found.palette.values()):
        value, meant = next(iter(others.items()))
        message = (
            f"{path} shows index {value} in the colour of {labels.names[meant]!r}, but in the label set it is "
            f"{labels.names[value]!r}: the indices follow another order; save it as RGB, then its colours count."
        )
        found.problem(path, "palette-order", message)


def _examine_instance_map(path: Path, found: Examination) -> None:
    instances = found.attempt(path, lambda: read_instance_map(path))
    if instances is not None and found.size is not None and instances.shape != found.size:
        message = f"{path} is {_size(instances.shape)}, but its label map is {_size(found.size)}: find the right pair."
        found.problem(path, "size", message)


def _compare_sizes(photo: Path, size: tuple[int, int], larger_images: bool, found: Examination) -> None:
    assert found.size is not None  # the caller has looked
    if size == found.size or (larger_images and size[0] * found.size[1] == size[1] * found.size[0]):
        return
    remedy = "resize the label map with nearest neighbour, or find the right pair"
    turned = size[::-1] == found.size
    exif = any(note.kind == "exif-rotated" for note in found.notes)
    if turned and exif:
        remedy = "the photograph is turned by its EXIF data; save it upright"
    elif turned:
        remedy = "one of the two is turned by 90 degrees; turn it back"
    message = f"{photo} is {_size(size)}, but its label map is {_size(found.size)} (height x width): {remedy}."
    found.problem(photo, "exif-rotated" if turned and exif else "size", message)


def _note_format(path: Path, header: Header, found: Examination) -> None:
    expected = Image.registered_extensions().get(path.suffix.lower())
    if expected != header.format and (expected, header.format) != ("JPEG", "MPO"):
        found.note(path, "wrong-suffix", f"is a {header.format} file by its content; rename it")
    if header.frames > 1:
        found.note(path, "animated", f"holds {header.frames} pictures, of which the first is used")


def count_values(values: Array, path: Path) -> dict[Value, int]:
    """How many pixels have each index or colour, of a map whose label set nobody named.

    Raises:
        LabelMapError: the values cannot be classes: a photograph, scaled or negative ones.
    """
    if values.ndim == 3:
        return _count_colors(values, path)
    present, counts = np.unique(values, return_counts=True)
    fault = _fault(values, present)
    if fault is not None:
        kind, sentence = fault
        raise LabelMapError(f"{path}: {sentence}", kind)
    return {int(value): int(count) for value, count in zip(present, counts, strict=True)}


def _fault(values: Array, present: Array) -> tuple[str, str] | None:
    """Why indices cannot be classes, whatever the label set is."""
    if int(present[0]) < 0:
        return (
            "negative-label",
            f"the label map has negative values (down to {present[0]}): write a class index instead",
        )
    if int(present[-1]) > 255 and any(not (present % step).any() for step in (257, 256)):
        return "scaled-to-16-bit", "the indices seem to be scaled to 16 bits: divide them by 256 or 257"
    if len(present) > MANY_LABELS and (values[:, 1:] == values[:, :-1]).mean() < 0.5:
        return "photo-as-map", f"{len(present)} values, hardly two neighbours alike: this looks like a grey photograph"
    return None


def _count_colors(values: Array, path: Path) -> dict[Value, int]:
    codes, counts = np.unique(
        values.reshape(-1, 3).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1]), return_counts=True
    )
    if len(codes) > MANY_COLORS:
        raise LabelMapError(
            f"{path}: {len(codes)} colours: this looks like a photograph or a drawing with soft borders; "
            "give a label map with one exact colour per class",
            "photo-as-map",
        )
    colors = [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in codes]
    if len(colors) > 1 and all(red == green == blue < MANY_LABELS for red, green, blue in colors):
        raise LabelMapError(
            f"{path}: this looks like class indices saved as RGB: save them as one grey channel", "indices-as-rgb"
        )
    return dict(zip(colors, map(int, counts), strict=True))


def _verify(path: Path) -> None:
    try:
        with Image.open(path) as image:
            image.verify()
    except Exception as error:  # Pillow raises SyntaxError here, among others
        raise DataError(
            f"{path}: its content does not match its check sums; copy or export it again", "damaged"
        ) from error


def _digest(pixels: Array) -> bytes:
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _color(entry: Array) -> Color:
    red, green, blue = (int(channel) for channel in entry)
    return red, green, blue


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
