"""Resize, crop and flip of a sample: image, label map, instance map and positional encoding stay in step.

The modes are those of the SPADE family (NVlabs/SPADE, tzt101/CLADE): bicubic images; labels, instances and
positions by nearest neighbour with index floor((i + 0.5) * in / out), as Pillow computes it. Three faults of
the official code are not reproduced: it flips the positional encoding along its height and keeps the sign of
the horizontal offset; it resizes the encoding by another rule than the labels; and its `scale_shortside`
modes leave the short side as it is and so distort the image (`official_shortside=True` does the same, for
networks that were trained that way).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from segscape.data.sample import Array, Sample
from segscape.nearest import nearest_index

Mode = Literal[
    "resize_and_crop",
    "scale_width",
    "scale_width_and_crop",
    "scale_shortside",
    "scale_shortside_and_crop",
    "crop",
    "fixed",
    "none",
]
Side = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Placement:
    """The random part of preprocessing.

    Attributes:
        crop: where the crop window starts, as (x, y).
        flip: whether to mirror.
        scale: factor on the size before the crop; only for modes that crop.
    """

    crop: tuple[int, int] = (0, 0)
    flip: bool = False
    scale: float = 1.0


class Preprocess(BaseModel):
    """How a raw sample becomes a network's input.

    Attributes:
        mode: `resize_and_crop` resizes to `load_size` (aspect not kept) and crops; `scale_width` and
            `scale_shortside` make the width or the short side `load_size` and keep the aspect, with
            `_and_crop` they crop afterwards; `crop` only crops (outside the image: zeros); `fixed` resizes to
            `crop_size`; `none` resizes each side to the nearest multiple of `multiple`.
        load_size: side, or (height, width), to resize to before the crop; one number for the `scale` modes.
        crop_size: side, or (height, width), of the result of `crop`, `fixed` and the modes that end in
            `_and_crop`.
        flip: mirror half of the samples.
        official_shortside: resize in the `scale_shortside` modes as the official code does: only the long
            side is scaled, by load_size / short side, and the short side keeps its raw length.
        multiple: of the sides in the mode `none`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "resize_and_crop"
    load_size: Side | tuple[Side, Side] | None = None
    crop_size: Side | tuple[Side, Side] | None = None
    flip: bool = False
    official_shortside: bool = False
    multiple: Side = 32

    @model_validator(mode="after")
    def _check_sizes(self) -> Preprocess:
        if self.crop_size is None and (self.crops or self.mode == "fixed"):
            raise ValueError(f"mode {self.mode!r} needs crop_size")
        if self.load_size is None and self.mode.startswith(("resize", "scale")):
            raise ValueError(f"mode {self.mode!r} needs load_size")
        if isinstance(self.load_size, tuple) and self.mode.startswith("scale"):
            raise ValueError(f"mode {self.mode!r} keeps the aspect, so it needs load_size as one number")
        return self

    @property
    def crops(self) -> bool:
        """Whether the mode ends with a crop, so that the result has one size whatever comes before."""
        return self.mode.endswith("crop")

    def resized(self, raw_size: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """(height, width) between resize and crop of a sample of `raw_size` (height, width).

        Shrinking by a `scale` below 1 keeps the aspect and stops where the crop window would no longer be full.
        """
        size = self._resized(raw_size)
        return size if scale == 1 else _scale(size, scale, _pair(self.crop_size))

    def _resized(self, raw_size: tuple[int, int]) -> tuple[int, int]:
        height, width = raw_size
        if self.mode == "crop":
            return raw_size
        if self.mode == "none":
            return _nearest_multiple(height, self.multiple), _nearest_multiple(width, self.multiple)
        if self.mode == "fixed":
            return _pair(self.crop_size)
        if self.mode == "resize_and_crop":
            return _pair(self.load_size)
        load, _ = _pair(self.load_size)
        if self.mode.startswith("scale_width"):
            return int(load * height / width), load
        return _scale_shortside(raw_size, load, keep_short=self.official_shortside)

    def output_size(self, raw_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the result for a sample of `raw_size` (height, width)."""
        return _pair(self.crop_size) if self.crops else self.resized(raw_size)

    def draw(self, raw_size: tuple[int, int], rng: np.random.Generator, scale: float = 1.0) -> Placement:
        """Draw the crop uniformly from all windows inside the resized image, the flip by a fair coin."""
        resized, output = self.resized(raw_size, scale), self.output_size(raw_size)
        y, x = (int(rng.integers(max(0, a - b) + 1)) for a, b in zip(resized, output, strict=True))
        return Placement((x, y), self.flip and bool(rng.random() < 0.5), scale)

    def apply(self, sample: Sample, placement: Placement) -> Sample:
        """The sample at its final size: resized, cropped at `placement.crop`, maybe mirrored."""
        resized = resize(sample, self.resized(sample.size, placement.scale))
        cropped = crop(resized, placement.crop, self.output_size(sample.size)) if self.crops else resized
        return mirror(cropped) if placement.flip else cropped


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """Resize a sample to `size` (height, width): bicubic image, nearest neighbour for every map."""
    if size == sample.size:
        return sample
    rows, columns = (nearest_index(have, want) for have, want in zip(sample.size, size, strict=True))
    resized = _on_maps(sample, lambda array: array.take(rows, -2).take(columns, -1))
    if sample.image is None:
        return resized
    height, width = size
    image = Image.fromarray(sample.image).resize((width, height), Image.Resampling.BICUBIC)
    return replace(resized, image=np.asarray(image))


def crop(sample: Sample, corner: tuple[int, int], size: tuple[int, int]) -> Sample:
    """Cut out the window of `size` (height, width) that starts at `corner` (x, y); zeros outside."""
    cropped = _on_maps(sample, lambda array: _window(array, corner, size))
    if sample.image is None:
        return cropped
    image = _window(np.moveaxis(sample.image, -1, 0), corner, size)
    return replace(cropped, image=np.moveaxis(image, 0, -1))


def mirror(sample: Sample) -> Sample:
    """Mirror a sample left to right; the horizontal positional encoding (channel 1) changes its sign."""
    mirrored = _on_maps(sample, lambda array: array[..., ::-1])
    image = None if sample.image is None else sample.image[:, ::-1]
    position = None if mirrored.position is None else np.stack([mirrored.position[0], -mirrored.position[1]])
    return replace(mirrored, image=image, position=position)


def _on_maps(sample: Sample, change: Callable[[Array], Array]) -> Sample:
    """Apply `change` to every map ``[..., H, W]`` of the sample (all but the image)."""
    return replace(
        sample,
        label_map=change(sample.label_map),
        instance_map=None if sample.instance_map is None else change(sample.instance_map),
        position=None if sample.position is None else change(sample.position),
    )


def _window(array: Array, corner: tuple[int, int], size: tuple[int, int]) -> Array:
    """Cut a window out of ``[..., H, W]``, filling with zeros what lies beyond the right and lower border."""
    (x, y), (height, width) = corner, size
    inside = array[..., y : y + height, x : x + width]
    window = np.zeros((*array.shape[:-2], height, width), array.dtype)
    window[..., : inside.shape[-2], : inside.shape[-1]] = inside
    return window


def _pair(size: int | tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of a checked size option."""
    assert size is not None  # guaranteed by the validator of Preprocess
    return (size, size) if isinstance(size, int) else size


def _scale_shortside(raw_size: tuple[int, int], load_size: int, *, keep_short: bool) -> tuple[int, int]:
    """(height, width) with the short side `load_size`, or as long as it was, and the long side scaled."""
    height, width = raw_size
    if min(raw_size) == load_size:
        return raw_size
    short, long = (min(raw_size) if keep_short else load_size), int(load_size * max(raw_size) / min(raw_size))
    return (long, short) if width <= height else (short, long)


def _scale(size: tuple[int, int], factor: float, window: tuple[int, int]) -> tuple[int, int]:
    """`size` times `factor`, or times what leaves a window no emptier than it was."""
    least = min(1.0, max(want / have for want, have in zip(window, size, strict=True)))
    height, width = (max(round(side * max(factor, least)), 1) for side in size)
    return height, width


def _nearest_multiple(side: int, multiple: int) -> int:
    return max(1, round(side / multiple)) * multiple
