"""Adapter of the loading pipeline: raw arrays in, network inputs out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segscape.data.sample import Sample, collate
from segscape.data.transforms import Placement, Preprocess
from segscape.labels import LabelSet

from .vector import Vector


def loading(vector: Vector) -> dict[str, Tensor]:
    """Label 255 is the unknown class `label_nc`; `crop_pos` and `flip` are given."""
    config, raw = vector.config, {name: value.numpy() for name, value in vector.inputs.items()}
    unknown = config["label_nc"]
    labels = LabelSet.numbered(unknown + 1, unknown=unknown, ignore_value=255)
    sample = Sample(
        image=raw["image_raw"],
        label_map=labels.map_ignore(raw["label_raw"].astype(np.int64)),
        instance_map=sixteen_bits(raw["instance_raw"]) if "instance_raw" in raw else None,
        position=raw.get("dist_raw"),
    )
    placement = Placement(crop=tuple(config["crop_pos"]), flip=config["flip"])
    batch = collate([preprocess_of(config).apply(sample, placement)], labels)
    found = {"image": batch.images[0], "label": batch.layout.label_map}
    if batch.layout.instance_map is not None:
        found["instance"] = batch.layout.instance_map
    if "dist" in vector.outputs:
        found["dist"] = batch.layout.position()[0]
    return found


def sixteen_bits(instance_map: NDArray[Any]) -> NDArray[np.int64]:
    """Instance ids as the official code met them: from a PNG of at most 16 bits, which cut larger ids."""
    return instance_map.astype(np.int64) & 0xFFFF


def preprocess_of(config: dict[str, Any]) -> Preprocess:
    crop_size = config["crop_size"] or None
    if config["preprocess_mode"] == "fixed":
        crop_size = (round(config["crop_size"] / config["aspect_ratio"]), config["crop_size"])
    return Preprocess(
        mode=config["preprocess_mode"],
        load_size=config["load_size"] or None,
        crop_size=crop_size,
        official_shortside=True,
    )


def corrected_position(vector: Vector) -> Tensor:
    """The encoding, at every output pixel, of the source pixel that its label came from; mirrored as an offset is.

    Found without Segscape: Pillow takes the number of each source pixel through the resize, crop and flip.
    """
    config, encoding = vector.config, vector.inputs["dist_raw"].flatten(1).numpy()
    numbers = placed(source_pixels(vector.inputs["label_raw"].shape), config)  # -1 outside the image
    check_labels(vector, numbers)
    position = np.where(numbers < 0, 0, encoding[:, numbers])
    if config["flip"]:
        position[1] *= -1
    return torch.from_numpy(position)


def source_pixels(size: torch.Size) -> Image.Image:
    """An image that holds at every pixel its number, counted from 1 so that 0 is left for what lies outside."""
    return Image.fromarray(np.arange(1, size.numel() + 1, dtype=np.int32).reshape(size))


def placed(image: Image.Image, config: dict[str, Any]) -> NDArray[np.int64]:
    """An image of numbers after nearest resize, crop and flip by the official options, minus 1."""
    width, height = image.size
    image = image.resize(resized(config, width, height), Image.Resampling.NEAREST)
    if config["preprocess_mode"].endswith("crop"):
        (x, y), side = config["crop_pos"], config["crop_size"]
        image = image.crop((x, y, x + side, y + side))
    if config["flip"]:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image).astype(np.int64) - 1


def resized(config: dict[str, Any], width: int, height: int) -> tuple[int, int]:
    """The official (width, height) after the resize."""
    mode, load = config["preprocess_mode"], config["load_size"]
    if mode == "resize_and_crop":
        return load, load
    if mode.startswith("scale_width"):
        return load, int(load * height / width)
    if mode == "fixed":
        return config["crop_size"], round(config["crop_size"] / config["aspect_ratio"])
    if mode == "none":
        return round(width / 32) * 32, round(height / 32) * 32
    assert mode == "crop", f"no official encoding is known for {mode}"
    return width, height


def check_labels(vector: Vector, numbers: NDArray[np.int64]) -> None:
    """The numbers must take the label map where the official code took it."""
    raw = vector.inputs["label_raw"].flatten().numpy().astype(np.int64)
    labels = np.where(numbers < 0, 0, raw[numbers])
    labels[labels == 255] = vector.config["label_nc"]
    assert np.array_equal(labels, vector.outputs["label"][0].numpy()), "the labels came from other pixels"
