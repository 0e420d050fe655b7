"""Reading and writing label maps, instance maps and photos, with errors that say how to mend the file.

Label maps come as grey images of 1, 8 or 16 bits, palette images (their *indices* count, not their colours),
colour-coded RGB images in the exact colours of the label set, or integer ``.npy`` matrices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segscape.errors import DataError, LabelMapError, SegscapeError
from segscape.files import write_atomically
from segscape.labels import LabelSet

_GREY_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")
_COLOUR_MODES = ("RGB", "RGBA")
_LOSSY_FORMATS = ("JPEG", "MPO", "JPEG2000")
_MAGIC_NUMBERS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")


def read_label_map(path: str | Path, labels: LabelSet) -> NDArray[np.int64]:
    """Read and check one label map.

    The label set's ignore value becomes its unknown class, where it has both.

    Args:
        path: A grey, palette or colour-coded image, or a ``.npy`` file.
        labels: What the values or colours mean.

    Returns:
        int64 ``[H, W]`` with values in 0..num_classes-1.

    Raises:
        LabelMapError: When the file cannot be read, is lossy, or holds values or colours outside the set.
    """
    values = _read_values(Path(path), "label map")
    if values.ndim == 3:
        return labels.indices(values, source=str(path))
    values = labels.map_ignore(values)
    labels.check(values, source=str(path))
    return values.astype(np.int64)


def read_instance_map(path: str | Path) -> NDArray[np.int64]:
    """Read one instance map: pixels of one object share an id.

    Args:
        path: An image with 1 to 32 bits of grey, a palette image, an RGB image (the id is
            ``red + 256 * green + 65536 * blue``, as in COCO panoptic), or an integer ``.npy`` file.

    Returns:
        int64 ``[H, W]``.

    Raises:
        LabelMapError: When the file cannot be read, is lossy, or does not hold integers.
    """
    values = _read_values(Path(path), "instance map").astype(np.int64)
    if values.ndim == 3:
        return values @ np.array([1, 256, 65536], dtype=np.int64)
    return values


def write_label_map(path: str | Path, label_map: NDArray[Any], labels: LabelSet) -> None:
    """Write a label map as a PNG that :func:`read_label_map` reads back unchanged.

    Up to 256 classes give a palette image in the classes' colours, more give 16-bit grey. The file appears
    whole or not at all.

    Args:
        path: The PNG file to write; an existing one is replaced.
        label_map: Integer ``[H, W]`` with values in 0..num_classes-1.
        labels: The label set of the indices.

    Raises:
        LabelMapError: When the map holds other values, or the file cannot be written as PNG.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise LabelMapError(f"{path}: label maps are written as PNG; choose a name that ends in .png")
    labels.check(label_map, source=f"label map for {path}")
    image = _to_image(label_map, labels)
    try:
        write_atomically(path, lambda part: image.save(part, format="PNG"))
    except OSError as error:
        raise LabelMapError(f"{path}: cannot write this label map ({error.strerror or error})") from error


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a photo in any format that Pillow knows.

    Returns:
        uint8 RGB ``[H, W, 3]``; transparency is dropped and 16-bit grey is reduced to 8.

    Raises:
        DataError: When the file is missing, empty, damaged, or no image.
    """
    image = _open_image(Path(path), "image", DataError)
    if image.mode in ("I", "F"):
        raise DataError(f"{path}: a photo has 8 or 16 bits per channel, but this has mode {image.mode!r}")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.array(image.convert("RGB"))


def _read_values(path: Path, what: str) -> NDArray[Any]:
    """The integers ``[H, W]`` or colours uint8 ``[H, W, 3]`` of a file."""
    return _read_npy(path, what) if path.suffix.lower() == ".npy" else _read_lossless(path, what)


def _read_lossless(path: Path, what: str) -> NDArray[Any]:
    image = _open_image(path, what, LabelMapError)
    if image.format in _LOSSY_FORMATS:
        raise LabelMapError(
            f"{path}: a {what} cannot be {image.format}, whose compression changes the values; save a PNG"
        )
    if image.mode in _COLOUR_MODES:
        return np.asarray(image)[..., :3]
    if image.mode in ("LA", "PA"):
        return np.asarray(image)[..., 0]
    if image.mode not in _GREY_MODES:
        raise LabelMapError(
            f"{path}: a {what} is a grey, palette or RGB image, but this has mode {image.mode!r}; save a PNG"
        )
    values = np.asarray(image)
    return values.astype(np.uint8) if image.mode == "1" else values


def _read_npy(path: Path, what: str) -> NDArray[Any]:
    _check_file(path, what, LabelMapError)
    try:
        with path.open("rb") as file:
            values = np.load(file, allow_pickle=False)
    except Exception:  # numpy parses the header as Python, so a damaged one can raise nearly anything
        raise LabelMapError(f"{path}: this .npy file is truncated, damaged or no plain array; save it again") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.size == 0:
        found = list(values.shape) if isinstance(values, np.ndarray) else "an archive"
        raise LabelMapError(f"{path}: a {what} is a non-empty array [H, W], but this file holds {found}")
    if values.dtype.kind not in "bui":
        raise LabelMapError(
            f"{path}: a {what} holds integers, but this file holds {values.dtype}; save array.astype(int)"
        )
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _open_image(path: Path, what: str, error: type[SegscapeError]) -> Image.Image:
    """Open and decode an image file completely."""
    _check_file(path, what, error)
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Image.DecompressionBombError:
        raise error(f"{path}: this {what} is larger than Pillow allows; make it smaller") from None
    except Exception as cause:  # each of Pillow's decoders fails in its own way
        if _begins_like_an_image(path):
            raise error(f"{path}: this {what} is truncated or damaged; copy or export it again") from cause
        raise error(f"{path}: this {what} is not an image file; give a PNG") from cause


def _check_file(path: Path, what: str, error: type[SegscapeError]) -> None:
    if path.is_dir():
        raise error(f"{path}: this {what} is a folder; give a file")
    if not path.exists():
        raise error(f"{path}: this {what} does not exist")
    if path.stat().st_size == 0:
        raise error(f"{path}: this {what} is an empty file (0 bytes); write it again")


def _begins_like_an_image(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(_MAGIC_NUMBERS)
    except OSError:
        return False


def _to_image(label_map: NDArray[Any], labels: LabelSet) -> Image.Image:
    if labels.num_classes > 256:
        return Image.fromarray(label_map.astype(np.uint16))
    image = Image.fromarray(label_map.astype(np.uint8))
    image.putpalette(labels.colors.tobytes())  # turns grey into palette mode, values untouched
    return image
