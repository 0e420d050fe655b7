"""Images that strangers send: looked at before they are decoded, refused in one sentence."""

from __future__ import annotations

import math
import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from segscape.label_files import read_image, read_label_map
from segscape.labels import LabelSet
from segscape.studio.limits import Limits
from segscape.studio.refusal import Refusal

SCANS = 100
"""Of a JPEG; a progressive one has about ten, and each takes as long as the whole picture."""

_STARTS = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF"}


class Uploads:
    """Reads the images of one request.

    Args:
        limits: of the server; `side` and `read` are kept here.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._read = 0

    def label_map(self, content: bytes, name: str, labels: LabelSet) -> NDArray[np.integer]:
        """Class indices `[H, W]` in the smallest type, from a grey, palette or colour-coded image.

        Args:
            content: the bytes of the file.
            name: of the form's field, for messages.
            labels: what the values or colours mean.

        Raises:
            Refusal: no image, or too large.
            LabelMapError: an image that is no label map of this set.
        """
        self._check(content, name)
        indices = read_label_map(name, labels, content)
        return indices.astype(np.uint8 if labels.num_classes <= 256 else np.uint16)

    def photo(self, content: bytes, name: str) -> Image.Image:
        """A photo in RGB, upright. Raises Refusal if it is no image or too large, DataError if it is damaged."""
        orientation = self._check(content, name)
        return _upright(Image.fromarray(read_image(name, content)), orientation)

    def _check(self, content: bytes, name: str) -> int:
        """Refuse what should not be decoded; the return value is the orientation in the EXIF data, 1 if it is none."""
        kind = next((kind for kind, start in _STARTS.items() if content.startswith(start)), None)
        if kind is None or (kind == "WEBP" and content[8:12] != b"WEBP"):
            raise Refusal(415, f"{name}: this is not a PNG, JPEG or WebP image; export it as PNG.")
        width, height, orientation = _look(content, name, kind)
        if max(width, height) > self.limits.side:
            raise Refusal(413, f"{name}: {height}x{width} is too large; a side has at most {self.limits.side} pixels.")
        self._read += width * height
        if self._read > self.limits.read:
            raise Refusal(413, f"{name}: the images of this request have too many pixels together; make them smaller.")
        if kind == "JPEG" and content.count(b"\xff\xda") > SCANS:
            raise Refusal(413, f"{name}: this JPEG has more than {SCANS} scans; export it again.")
        return orientation


def _look(content: bytes, name: str, kind: str) -> tuple[int, int, int]:
    """Width, height and orientation, from the header alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `Limits` are narrower
            with Image.open(BytesIO(content), formats=(kind,)) as image:
                return (*image.size, _orientation(image))
    except Image.DecompressionBombError:
        raise Refusal(413, f"{name}: this image has far too many pixels; make it smaller.") from None
    except Exception:  # each of Pillow's readers fails in its own way
        raise Refusal(422, f"{name}: this {kind} is damaged; export it again.") from None


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF data are no reason to refuse a photo
        return 1


def _upright(photo: Image.Image, orientation: int) -> Image.Image:
    if orientation not in range(2, 9):
        return photo
    photo.getexif()[0x0112] = orientation
    return ImageOps.exif_transpose(photo)


def scaled_to(photo: Image.Image, shorter: int) -> Image.Image:
    """The photo with its shorter side at most `shorter` pixels long, its shape kept."""
    factor = shorter / min(photo.size)
    if factor >= 1:
        return photo
    width, height = (max(1, math.floor(side * factor + 0.5)) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BICUBIC)


def encode_png(picture: Image.Image) -> bytes:
    """A PNG, little compressed: time counts here more than size."""
    buffer = BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
