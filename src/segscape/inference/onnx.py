"""`OnnxPipeline`: pictures from an exported model, with onnxruntime and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from segscape.errors import CheckpointError, ConfigError, LayoutError, StyleError
from segscape.extras import require
from segscape.inference.inputs import (
    InstancesLike,
    LayoutArrays,
    Size,
    as_array,
    missing_to_multiple,
    pair_with_instances,
    read_arrays,
    read_style_values,
    require_instances,
    require_same_classes,
    require_samples,
    require_size,
    resize_nearest,
)
from segscape.inference.noise import seeded_normal
from segscape.inference.signature import Signature
from segscape.labels import LabelSet
from segscape.style_shapes import STYLE_SUFFIX, StyleShape, require_style, require_style_shape

Array: TypeAlias = npt.NDArray[Any]
LayoutLike: TypeAlias = Any
"""A path, an integer array `[H, W]`, `LayoutArrays`, or a `segscape.Layout`."""


class OnnxPipeline:
    """Turns layouts into pictures with one exported model, called as `Pipeline` is.

    What a model takes is in its file; pictures agree with those of `Pipeline` to a grey level.

    Attributes:
        signature: the model's inputs, sizes and configuration.

    Args:
        path: the `.onnx` file that `segscape export` wrote.
        providers: onnxruntime's execution providers, best first, for example `["CUDAExecutionProvider"]`.
        threads: CPU threads; None leaves the number to onnxruntime.

    Raises:
        CheckpointError: the file is missing, broken, or not from Segscape.
        ConfigError: a provider that this onnxruntime does not have.
        DependencyError: onnxruntime is not installed.
    """

    def __init__(
        self, path: str | Path, *, providers: Sequence[str] = ("CPUExecutionProvider",), threads: int | None = None
    ) -> None:
        self._session = _open_session(Path(path), list(providers), threads)
        self.signature = Signature.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))

    @property
    def labels(self) -> LabelSet:
        """The label set that the model was trained with."""
        return self.signature.labels

    def __call__(
        self,
        layouts: LayoutLike | Sequence[LayoutLike],
        *,
        seed: int | None = None,
        style: Any = None,
        size: Size | None = None,
        samples: int = 1,
        instance_maps: InstancesLike | Sequence[InstancesLike] = None,
    ) -> list[Image.Image]:
        """Generate pictures of the size of their layouts.

        A size that the model does not take is padded (the border labels repeated) and cropped. For a model exported
        with a fixed size the layout is resized to it, the picture back (bicubic).

        Args:
            layouts: one or a list of: the path of a label map file, an integer array `[H, W]`, a layout that
                `read_layout` gave, or a `segscape.Layout`.
            seed: of the random styles, which are those that `Pipeline` draws from the same seed.
            style: None draws random styles, if the model is `variational`; an array float `[S, ...]` in the signature's
                `style_shape`, a `segscape.Style` for S images, or the file of one, gives S pictures of each layout.
            size: (height, width) to resize the layouts to first, nearest neighbour.
            samples: how many random styles to draw for each layout.
            instance_maps: for paths and arrays: the path or array `[H, W]` of each one's instance map.

        Returns:
            The pictures, those of the first label map first.

        Raises:
            LabelMapError: a file or array is no label map of the model's label set.
            LayoutError: other classes, or no instance map where the model needs one.
            StyleError: a style of a wrong kind or length, for a model that takes none, or none where it draws none.
        """
        styles = self.styles(style, samples, seed)
        read = [self.read_layout(item, instances) for item, instances in pair_with_instances(layouts, instance_maps)]
        return [picture for layout in read for picture in self._pictures(layout, styles, size)]

    def style(self, item: object) -> Any:
        """The values `[S, ...]` of a style: those in a file that `Style.save` wrote, or the style as it is.

        Raises StyleError if it is a photo: encoders are not exported.
        """
        if isinstance(item, (str, Path)) and Path(item).suffix == STYLE_SUFFIX:
            return read_style_values(item)
        return self.encode(item) if isinstance(item, (str, Path, Image.Image)) else getattr(item, "values", item)

    def encode(self, photo: object) -> Any:
        """Raises StyleError: encoders are not exported."""
        require_style(self.signature.style_shape, "a reference photo", self.signature.model)
        raise StyleError(
            "an exported model has no style encoder: encode the photo with the model it was made from "
            "(Pipeline.encode) and give the style."
        )

    def read_layout(self, label_map: LayoutLike, instance_map: InstancesLike = None) -> LayoutArrays:
        """One layout from a file, an array `[H, W]` or another layout, checked against the model's label set.

        Raises:
            LabelMapError: the file or array is no label map of this label set.
            LayoutError: other classes, an instance map of another size, or none where one is needed.
        """
        rule = self.signature.position_rule
        if isinstance(label_map, LayoutArrays) or hasattr(label_map, "label_map"):
            if instance_map is not None:
                raise LayoutError("instance_maps goes with files and arrays: a Layout brings its own instance map.")
            known = isinstance(label_map, LayoutArrays)
            layout = label_map if known else LayoutArrays.from_layout(label_map, rule)
        else:
            layout = LayoutArrays.from_arrays(*read_arrays(label_map, instance_map, self.labels), self.labels)
        require_same_classes(layout.labels, self.labels)
        if "instance_map" in self.signature.inputs:
            require_instances(layout.instance_map is not None)
        if rule is not None and layout.position is None:  # of the objects as they are given, as in training
            return layout.with_position(rule)
        return layout

    def styles(self, style: Any = None, samples: int = 1, seed: int | None = None) -> Array | None:
        """The styles float32 `[S, ...]` of the pictures of each layout; None for a model without.

        Arguments and errors as for a call.
        """
        shape, model = self.signature.style_shape, self.signature.model
        require_samples(samples, shape, style is not None, model)
        if style is None:
            return None if shape is None else self._drawn_styles(shape, samples, seed)
        values = self.style(style)
        if not hasattr(values, "ndim"):
            raise StyleError(f"a style is an array [S, ...] or a Style, not a {type(style).__name__}.")
        if shape is not None and self.signature.style_kind == "map":
            shape = (shape[0], None, None)  # any size is resized to the layout's
        require_style_shape(values.shape, shape, model)
        return as_array(values).astype(np.float32)

    def _drawn_styles(self, shape: StyleShape, samples: int, seed: int | None) -> Array:
        sides = [side for side in shape if side is not None]
        if not self.signature.variational or len(sides) < len(shape):
            raise StyleError(
                f"this exported {self.signature.model} model draws no random styles: give a style, for example the "
                "neutral one, which Pipeline.model.neutral_style(1).save(FILE) writes for the model it was made from."
            )
        return seeded_normal((samples, *sides), seed)

    def _pictures(self, layout: LayoutArrays, styles: Array | None, size: Size | None) -> list[Image.Image]:
        if size is not None:
            require_size(size)
            layout = layout.resize(size)
        height, width = layout.size
        batches = [self.run(feeds) for feeds in self.inputs(layout, styles)]
        images = np.stack(batches, axis=1).reshape(-1, *batches[0].shape[1:])  # [N * S, 3, H', W']
        if self.signature.size is None:
            return _to_pictures(images[..., :height, :width])
        return [picture.resize((width, height), Image.Resampling.BICUBIC) for picture in _to_pictures(images)]

    def inputs(self, layout: LayoutArrays, styles: Array | None = None) -> list[dict[str, Array]]:
        """What the model is fed for a layout of N maps that `read_layout` gave.

        Args:
            layout: is padded or resized to a size that the model takes.
            styles: float32 `[S, ...]` if the model reads styles; maps are resized to the layout.

        Returns:
            The arrays by input name, once for each of the S styles, or once for a model without styles.
        """
        fitted = self._fitted(layout)
        given = {"label_map": fitted.label_map, "instance_map": fitted.instance_map, "position": fitted.position}
        feeds = {key: array for key, array in given.items() if array is not None and key in self.signature.inputs}
        if styles is None:
            return [feeds]
        if styles.ndim == 4:  # a map, which the model reads at the size of the layout
            styles = resize_nearest(styles, fitted.size)
        return [{**feeds, "style": np.repeat(style[None], len(fitted.label_map), axis=0)} for style in styles]

    def run(self, inputs: dict[str, Array]) -> Array:
        """The model's output, float32 `[N, 3, H, W]` in [-1, 1], for one of the `inputs`."""
        images: Array = self._session.run(None, inputs)[0]
        return images

    def _fitted(self, layout: LayoutArrays) -> LayoutArrays:
        if self.signature.size is not None:
            return layout.resize(self.signature.size)
        return layout.pad(*missing_to_multiple(layout.size, self.signature.size_multiple))


def _open_session(path: Path, providers: list[str], threads: int | None) -> Any:
    onnxruntime = require("onnxruntime", "export")
    missing = [name for name in providers if name not in onnxruntime.get_available_providers()]
    if missing:
        known = ", ".join(onnxruntime.get_available_providers())
        raise ConfigError(f"this onnxruntime has no {missing[0]!r}: use {known}.")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist or is a folder: give the .onnx file of an exported model.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has a dozen types that share no base
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read as an ONNX model ({reason}): export the model again.") from None


def _to_pictures(images: Array) -> list[Image.Image]:
    """PIL images of `[N, 3, H, W]` in [-1, 1], rounded as `Pipeline` rounds."""
    pixels = np.clip(np.rint((images.astype(np.float32) + 1) * np.float32(127.5)), 0, 255).astype(np.uint8)
    return [Image.fromarray(picture) for picture in pixels.transpose(0, 2, 3, 1)]
