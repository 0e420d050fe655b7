"""Reading and writing label maps, instance maps and photos, with errors that say how to mend the file.

Label maps come as grey images of 1, 8 or 16 bits, palette images (their *indices* count, not their colours),
colour-coded RGB images in the exact colours of the label set, or integer ``.npy`` matrices.
"""

from __future__ import annotations

import os
from io import BytesIO
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
_LOSSY_FORMATS = ("JPEG", "MPO", "JPEG2000", "AVIF")
_MAGIC_NUMBERS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_WEB_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")


def read_label_map(path: str | Path, labels: LabelSet, content: bytes | None = None) -> NDArray[np.int64]:
    """Read and check one label map.

    The label set's ignore value becomes its unknown class, where it has both.

    Args:
        path: A grey, palette or colour-coded image, or a ``.npy`` file.
        labels: What the values or colours mean.
        content: The bytes of an image that lies in no file of its own; `path` is then its name in messages only.

    Returns:
        int64 ``[H, W]`` with values in 0..num_classes-1.

    Raises:
        LabelMapError: When the file cannot be read, is lossy, or holds values or colours outside the set.
    """
    values = read_values(path, "label map", content)
    if values.ndim == 3:
        return labels.indices(values, source=str(path))
    values = labels.map_ignore(values)
    labels.check(values, source=str(path))
    return values.astype(np.int64)


def read_instance_map(path: str | Path, content: bytes | None = None) -> NDArray[np.int64]:
    """Read one instance map: pixels of one object share an id.

    Args:
        path: An image with 1 to 32 bits of grey, a palette image, an RGB image (the id is
            ``red + 256 * green + 65536 * blue``, as in COCO panoptic), or an integer ``.npy`` file.
        content: As in :func:`read_label_map`.

    Returns:
        int64 ``[H, W]``.

    Raises:
        LabelMapError: When the file cannot be read, is lossy, or does not hold integers.
    """
    values = read_values(path, "instance map", content).astype(np.int64)
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
    content = encode_label_map(label_map, labels)
    try:
        write_atomically(path, lambda part: part.write_bytes(content))
    except OSError as error:
        raise LabelMapError(f"{path}: cannot write this label map ({error.strerror or error})") from error


def encode_label_map(label_map: NDArray[Any], labels: LabelSet) -> bytes:
    """The PNG that :func:`write_label_map` writes, of a map ``[H, W]`` that `labels` has checked."""
    return _png(_to_image(label_map, labels))


def encode_instance_map(instance_map: NDArray[Any]) -> bytes:
    """A PNG that :func:`read_instance_map` reads back unchanged.

    Args:
        instance_map: Integer ``[H, W]`` with ids in 0..16777215: 16-bit grey if they fit, else RGB as in COCO panoptic.

    Raises:
        LabelMapError: When an id is out of range.
    """
    low, high = int(instance_map.min()), int(instance_map.max())
    if low < 0 or high >= 1 << 24:
        raise LabelMapError(f"instance ids run from {low} to {high}, but a PNG holds 0 to 16777215: number them anew")
    if high < 1 << 16:
        return _png(Image.fromarray(instance_map.astype(np.uint16)))
    digits = instance_map[..., None] >> np.array([0, 8, 16]) & 255
    return _png(Image.fromarray(digits.astype(np.uint8)))


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def read_image(path: str | Path, content: bytes | None = None) -> NDArray[np.uint8]:
    """Read a photo in any format that Pillow knows.

    Args:
        path: The file.
        content: As in :func:`read_label_map`.

    Returns:
        uint8 RGB ``[H, W, 3]``; transparency is dropped and 16-bit grey is reduced to 8.

    Raises:
        DataError: When the file is missing, empty, damaged, or no image.
    """
    image = _open_image(path, "image", DataError, content)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # "I" before Pillow 10.3
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F", "LAB"):
        raise DataError(
            f"{path}: a photo is grey or RGB with 8 or 16 bits per channel, but this has mode {image.mode!r}; "
            "export it as PNG or JPEG",
            kind="wrong-mode",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def read_values(path: str | Path, what: str, content: bytes | None = None) -> NDArray[Any]:
    """The values of a map as they are stored, whatever they mean: integers ``[H, W]`` or colours uint8 ``[H, W, 3]``.

    Args:
        path: As in :func:`read_label_map`.
        what: What to call it in messages.
        content: As in :func:`read_label_map`.

    Raises:
        LabelMapError: When the file cannot be read, is lossy, or does not hold integers.
    """
    if content is None and Path(path).suffix.lower() == ".npy":
        return _read_npy(Path(path), what)
    return _read_lossless(path, what, content)


def _read_lossless(path: str | Path, what: str, content: bytes | None) -> NDArray[Any]:
    image = _open_image(path, what, LabelMapError, content)
    if image.format in _LOSSY_FORMATS or (image.format == "WEBP" and _is_lossy_webp(path, content)):
        raise LabelMapError(
            f"{path}: a {what} cannot be {image.format}, whose compression changes the values; save a PNG",
            kind="lossy-map",
        )
    if image.mode in _COLOUR_MODES:
        return np.asarray(image)[..., :3]
    if image.mode in ("LA", "PA"):
        return np.asarray(image)[..., 0]
    if image.mode not in _GREY_MODES:
        raise LabelMapError(
            f"{path}: a {what} is a grey, palette or RGB image, but this has mode {image.mode!r}; save a PNG",
            kind="wrong-mode",
        )
    values = np.asarray(image)
    return values.astype(np.uint8) if image.mode == "1" else values


def _read_npy(path: Path, what: str) -> NDArray[Any]:
    _check_file(path, what, LabelMapError)
    try:
        with path.open("rb") as file:
            values = np.load(file, allow_pickle=False)
    except Exception:  # numpy parses the header as Python, so a damaged one can raise nearly anything
        raise LabelMapError(
            f"{path}: this .npy file is truncated, damaged or no plain array; save it again", kind="damaged"
        ) from None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.size == 0:
        found = list(values.shape) if isinstance(values, np.ndarray) else "an archive"
        raise LabelMapError(
            f"{path}: a {what} is a non-empty array [H, W], but this file holds {found}; save one map per file",
            kind="wrong-shape",
        )
    if values.dtype.kind not in "bui":
        raise LabelMapError(
            f"{path}: a {what} holds integers, but this file holds {values.dtype}; save array.astype(int)",
            kind="not-integers",
        )
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _open_image(path: str | Path, what: str, error: type[SegscapeError], content: bytes | None = None) -> Image.Image:
    """Open and decode an image file, or its content, completely."""
    if content is None:
        _check_file(Path(path), what, error)
    try:
        with Image.open(path if content is None else BytesIO(content)) as image:
            image.load()
            return image
    except Image.DecompressionBombError:
        raise error(f"{path}: this {what} is larger than Pillow allows; make it smaller", "too-large") from None
    except Exception as cause:  # each of Pillow's decoders fails in its own way
        start = _first_bytes(path, content)
        if start.startswith(_MAGIC_NUMBERS):
            raise error(f"{path}: this {what} is truncated or damaged; copy or export it again", "damaged") from cause
        if start.lstrip().lower().startswith(_WEB_PAGES):
            raise error(
                f"{path}: this {what} is a web page, not an image; download the file itself", "web-page"
            ) from cause
        if start.startswith(b"version https://git-lfs"):
            raise error(f"{path}: this {what} is a Git LFS pointer; fetch it with git lfs pull", "git-lfs") from cause
        raise error(f"{path}: this {what} is not an image file; give a PNG", "not-an-image") from cause


def _check_file(path: Path, what: str, error: type[SegscapeError]) -> None:
    if os.path.isdir(path):  # unlike the methods of Path, these never raise
        raise error(f"{path}: this {what} is a folder; give a file", "folder")
    if not os.path.exists(path):
        raise error(f"{path}: this {what} does not exist", "missing")
    if not os.path.isfile(path):  # a pipe or a device: reading might wait for ever
        raise error(f"{path}: this {what} is no regular file; give an image file", "not-a-file")
    try:
        path.open("rb").close()
    except PermissionError:
        raise error(f"{path}: this {what} may not be read; change its permissions", "no-permission") from None
    if path.stat().st_size == 0:
        raise error(f"{path}: this {what} is an empty file (0 bytes); write it again", "empty")


def _first_bytes(path: str | Path, content: bytes | None, count: int = 64) -> bytes:
    if content is not None:
        return content[:count]
    try:
        with Path(path).open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def _is_lossy_webp(path: str | Path, content: bytes | None) -> bool:
    """Whether the first picture in a WebP file is coded as VP8 (lossy), not VP8L."""
    start = _first_bytes(path, content, 1 << 16)
    lossy, lossless = start.find(b"VP8 "), start.find(b"VP8L")
    return lossy >= 0 and not 0 <= lossless < lossy


def _to_image(label_map: NDArray[Any], labels: LabelSet) -> Image.Image:
    if labels.num_classes > 256:
        return Image.fromarray(label_map.astype(np.uint16))
    image = Image.fromarray(label_map.astype(np.uint8))
    image.putpalette(labels.colors.tobytes())  # turns grey into palette mode, values untouched
    return image
