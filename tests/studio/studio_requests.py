"""What the tests of the studio's server send, and a tiny engine that answers."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from segscape.labels import LABEL_SETS
from segscape.models import create_model

CAMVID = LABEL_SETS["camvid"]
HERE = "http://127.0.0.1"
SIZE = (40, 56)
MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "plain": ("clade", {"base_channels": 1}),
    "latent": ("clade", {"base_channels": 1, "latent_dim": 4}),
    "instances": ("clade", {"base_channels": 1, "use_instances": True}),
    "codes": ("sean", {"base_channels": 2, "style_dim": 4, "encoder_channels": 4, "hidden_channels": 4}),
}
"""Name of a tiny model -> its system and options."""


def save_models(folder: Path) -> list[str]:
    """Write the tiny models; the paths, in the order of `MODELS`."""
    paths = []
    for name, (system, options) in MODELS.items():
        torch.manual_seed(0)
        model = create_model(system, labels="camvid", image_size=(32, 32), **options)
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if key.endswith("beta"):  # else CLADE's tables say that no class was seen
                    weight.normal_(std=0.1)
        model.save_pretrained(folder / name)
        paths.append(str(folder / name))
    return paths


def street(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A layout of sky, road and a car."""
    height, width = size
    label_map = np.zeros(size, dtype=np.uint8)
    label_map[height // 2 :] = 3
    label_map[height // 3 : 2 * height // 3, width // 4 : width // 2] = 8
    return label_map


def png(array: np.ndarray) -> bytes:
    """An array as PNG: grey of 8 or 16 bits, or RGB."""
    return saved(Image.fromarray(array), "PNG")


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def photo(size: tuple[int, int] = (24, 32), seed: int = 0) -> bytes:
    """A JPEG of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return saved(Image.fromarray(noise), "JPEG")


def pixels(content: bytes | str) -> np.ndarray:
    """The array of an image file, or of one in base64."""
    raw = base64.b64decode(content) if isinstance(content, str) else content
    return np.asarray(Image.open(io.BytesIO(raw)))


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bare_png(width: int, height: int, *more: bytes, data: bytes = b"") -> bytes:
    """A grey PNG of a header, other chunks, and compressed `data`, whatever they say."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), *more, chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
