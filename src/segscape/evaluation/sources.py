"""Where the evaluated pictures come from: a model, or a folder of pictures that any other code has made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segscape.data.folder import files_by_name
from segscape.data.sample import Batch
from segscape.errors import DataError, EvaluationError, LayoutError
from segscape.evaluation.fidelity.reference import read_resized
from segscape.evaluation.protocol import Protocol
from segscape.inference import Pipeline
from segscape.label_files import read_image
from segscape.layout import Layout, Size
from segscape.nn.noise import noise_from
from segscape.position import PositionRule
from segscape.style import Style

Pictures = npt.NDArray[np.uint8]


class PictureSource(Interface):
    """Gives the pictures of layouts.

    Attributes:
        title: what to call it in reports.
        multimodal: whether a layout has more than one picture.
        by_class: whether the style of one class can be drawn anew while the others stay.
        position_rule: the positional encoding that the layouts must bring; None for none.
    """

    title: str
    multimodal: bool
    by_class: bool
    position_rule: PositionRule | None

    def __call__(self, batch: Batch, indices: Sequence[int], draw: int = 0, only_class: int | None = None) -> Pictures:
        """Pictures uint8 `[N, H, W, 3]` of N layouts, which are number `indices` of the data.

        `draw` numbers the pictures of one layout, where there are several. With `only_class` the style of that class
        alone is of this draw, and the others have those of draw 0.
        """
        ...


class ModelPictures:
    """Pictures that a model generates by a protocol.

    Args:
        pipeline: holds the model.
        protocol: how outputs become pixels, and where styles come from.
        title: what to call the model.
    """

    def __init__(self, pipeline: Pipeline, protocol: Protocol, title: str) -> None:
        self.model, self.device = pipeline.model, pipeline.device
        self.protocol = protocol
        self.title = title
        config = self.model.config
        # an encoder that is certain gives one style for one photo
        self.multimodal = config.variational or (protocol.style == "prior" and self.model.random_styles)
        self.by_class = self.multimodal and config.style_kind == "codes"
        self.position_rule = self.model.config.encoding_rule

    def require_size(self, size: Size) -> None:
        """Raise LayoutError if the model cannot generate pictures of this (height, width)."""
        config = self.model.config
        if config.fixed_size and size != config.image_size:
            raise LayoutError(
                f"{self.title} works at {config.image_size[0]}x{config.image_size[1]} only, "
                f"not at {size[0]}x{size[1]}: leave --size out."
            )
        if any(side % config.size_multiple for side in size):
            nearest = "x".join(str(max(1, round(side / config.size_multiple)) * config.size_multiple) for side in size)
            raise LayoutError(
                f"{self.title} needs a height and a width that are multiples of {config.size_multiple}, not "
                f"{size[0]}x{size[1]}: give --size {nearest}."
            )

    @torch.inference_mode()
    def __call__(self, batch: Batch, indices: Sequence[int], draw: int = 0, only_class: int | None = None) -> Pictures:
        """As `PictureSource`; a random style depends on (seed, index, draw) only, noise in features on (seed, index).

        On the CPU the model sees one layout at a time, so that a picture is the same bits in every batch. Raises
        EvaluationError if the model's output is not finite.
        """
        at_once = 1 if self.device.type == "cpu" else len(indices)
        parts = (slice(start, start + at_once) for start in range(0, len(indices), at_once))
        return np.concatenate([self._pictures(batch, indices, part, draw, only_class) for part in parts])

    def _pictures(
        self, batch: Batch, indices: Sequence[int], part: slice, draw: int, only_class: int | None
    ) -> Pictures:
        layout = batch.layout[part].to(self.device)
        style_of = partial(self._style, layout, batch.images[part], indices[part])
        style = style_of(draw)
        if only_class is not None and style is not None and (rest := style_of(0)) is not None:
            style = rest.replace_classes(style, [only_class])
        with noise_from(self.model, _source(self.protocol.seed, indices[part][0])):
            images = self.model(layout, style)
        if not torch.isfinite(images).all():  # 8 bits would turn them into black pixels
            raise EvaluationError(
                f"{self.title} gave values that are not finite for {batch.names[part][0]!r}: its weights are "
                "damaged, or its training diverged."
            )
        return self.protocol.quantize(images)

    def _style(self, layout: Layout, photos: Tensor, indices: Sequence[int], draw: int) -> Style | None:
        config = self.model.config
        if config.style_kind is None:
            return None
        sources = [_source(self.protocol.seed, index, draw) for index in indices]
        if self.protocol.style == "photo":
            noise = None
            if config.variational and config.style_shape is not None:
                noise = torch.stack([torch.randn(config.style_shape, generator=source) for source in sources])
                noise = noise.to(self.device)
            return self.model.encode(photos.to(self.device), layout).draw(noise)
        styles = [self.model.sample_style(layout[n : n + 1], source) for n, source in enumerate(sources)]
        return Style.stack(style for style in styles if style is not None) if self.model.random_styles else None


class FolderPictures:
    """Pictures in files, paired with the data by name; those of another size are resized (bicubic).

    Args:
        folder: holds NAME.png (or another image type) for each name of the data.
        names: of the data's samples.
        size: (height, width) of the evaluation.

    Raises:
        DataError: no folder or no pictures in it, or a sample without one.
    """

    multimodal = by_class = False
    position_rule: PositionRule | None = None

    def __init__(self, folder: Path, names: Sequence[str], size: Size) -> None:
        found = files_by_name(folder, "picture")
        missing = [name for name in names if name not in found]
        if missing:
            raise DataError(
                f"{folder} has no picture for {len(missing)} of {len(names)} layouts (first: {missing[0]}): a picture "
                "has the name of its label map, apart from the suffix."
            )
        self.title = folder.resolve().name
        self.files = [found[name] for name in names]
        self.size = size

    def check(self, index: int) -> None:
        """Raise DataError if picture number `index` cannot be read."""
        read_image(self.files[index])

    def __call__(self, batch: Batch, indices: Sequence[int], draw: int = 0, only_class: int | None = None) -> Pictures:
        """As `PictureSource`; reads the files."""
        return np.stack([read_resized(self.files[index], self.size) for index in indices])


def _source(*numbers: int) -> torch.Generator:
    """Random numbers that are a function of some numbers, such as (seed, index, draw)."""
    key = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(key)
