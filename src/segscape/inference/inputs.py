"""What both pipelines do before a network sees a layout: reading, checking, resizing and padding. Knows no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segscape.errors import LayoutError, StyleError
from segscape.label_files import read_instance_map, read_label_map
from segscape.labels import LabelSet
from segscape.nearest import nearest_index
from segscape.position import PositionRule, intra_class_position
from segscape.style_shapes import StyleShape, require_style

Size = tuple[int, int]
Array = npt.NDArray[Any]
InstancesLike = str | Path | Array | None


@dataclass(frozen=True)
class LayoutArrays:
    """A batch of label maps as NumPy arrays: `segscape.Layout` where there is no torch.

    Attributes:
        labels: the label set.
        label_map: int64 `[N, H, W]` in its indices.
        instance_map: int64 `[N, H, W]`, or None.
        position: the intra-class positional encoding, float32 `[N, 2, H, W]`, or None.
    """

    labels: LabelSet
    label_map: Array
    instance_map: Array | None = None
    position: Array | None = None

    @classmethod
    def from_arrays(cls, label_map: Array, instance_map: Array | None, labels: LabelSet) -> LayoutArrays:
        """A batch of one of arrays `[H, W]`; the set's ignore value becomes unknown.

        Raises:
            LabelMapError: a label is outside the label set.
            LayoutError: the arrays do not hold integers or differ in size.
        """
        for name, array in (("label map", label_map), ("instance map", instance_map)):
            if array is not None and array.dtype.kind not in "bui":
                raise LayoutError(f"the {name} is an integer array [H, W], not {array.dtype} {list(array.shape)}")
        label_map = labels.map_ignore(label_map)
        labels.check(label_map, "the layout's label map")
        if instance_map is not None and instance_map.shape != label_map.shape:
            found = f"{list(instance_map.shape)}, but this label map needs {list(label_map.shape)}"
            raise LayoutError(f"the instance map is {found}")
        instances = None if instance_map is None else instance_map.astype(np.int64)[None]
        return cls(labels, label_map.astype(np.int64)[None], instances)

    @classmethod
    def from_layout(cls, layout: Any, rule: PositionRule | None = None) -> LayoutArrays:
        """The arrays of a `segscape.Layout`, with its positional encoding by `rule`."""
        instances = None if layout.instance_map is None else as_array(layout.instance_map)
        position = None if rule is None else as_array(layout.position(rule=rule))
        return cls(layout.labels, as_array(layout.label_map), instances, position)

    @property
    def size(self) -> Size:
        """Full (height, width)."""
        return self.label_map.shape[1], self.label_map.shape[2]

    def with_position(self, rule: PositionRule) -> LayoutArrays:
        """The same layouts with their positional encoding, which resizing and padding then carry along."""
        encoded = np.stack([intra_class_position(label_map, rule) for label_map in self.label_map])
        return replace(self, position=encoded)

    def resize(self, size: Size) -> LayoutArrays:
        """The layouts at another size, by nearest neighbour with pixel centres as in Pillow."""
        rows, columns = (nearest_index(old, new) for old, new in zip(self.size, size, strict=True))
        return self._changed(lambda array: array[..., rows[:, None], columns])

    def pad(self, bottom: int, right: int) -> LayoutArrays:
        """Grow the maps below and to the right by repeating their last row and column."""
        return self._changed(lambda a: np.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, bottom), (0, right)], mode="edge"))

    def _changed(self, change: Callable[[Array], Array]) -> LayoutArrays:
        rest = (None if array is None else change(array) for array in (self.instance_map, self.position))
        return LayoutArrays(self.labels, change(self.label_map), *rest)


def read_arrays(
    label_map: str | Path | Array, instance_map: InstancesLike, labels: LabelSet
) -> tuple[Array, Array | None]:
    """The arrays `[H, W]` of a label map and, if there is one, its instance map; each a file or an array.

    The values of a label map file are checked, those of an array are not.

    Raises:
        LabelMapError: a file is no label map of this label set.
        LayoutError: something that is neither a path nor an array `[H, W]`.
    """
    if isinstance(instance_map, (str, Path)):
        instance_map = read_instance_map(instance_map)
    if isinstance(label_map, (str, Path)):
        label_map = read_label_map(label_map, labels)
    if not isinstance(label_map, np.ndarray):
        kind = type(label_map).__name__
        raise LayoutError(f"a layout is a Layout, the path of a label map, or an array [H, W], not a {kind}.")
    if label_map.ndim != 2:
        raise LayoutError(
            f"a label map array is [H, W], not {list(label_map.shape)}: for a colour-coded map "
            "give labels.indices(rgb), for a batch a Layout."
        )
    return label_map, instance_map


def pair_with_instances(layouts: Any, instance_maps: Any) -> list[tuple[Any, Any]]:
    """Each layout of one or a list with its instance map, or None; raises LayoutError if their numbers differ."""
    items = _listed(layouts)
    instances = [None] * len(items) if instance_maps is None else _listed(instance_maps)
    if len(instances) != len(items):
        raise LayoutError(f"{len(items)} layouts need {len(items)} instance maps, found {len(instances)}.")
    return list(zip(items, instances, strict=True))


def require_same_classes(labels: LabelSet, own: LabelSet) -> None:
    """Raise LayoutError if a layout's label set has other class names than the model's `own`."""
    if labels.names == own.names:
        return
    if labels.num_classes != own.num_classes:
        found = f"{labels.num_classes} classes, the model's {own.name!r} has {own.num_classes}"
    else:
        pairs = list(zip(labels.names, own.names, strict=True))
        index = next(i for i, (theirs, ours) in enumerate(pairs) if theirs != ours)
        theirs, ours = pairs[index]
        found = f"{theirs!r} as class {index}, which is {ours!r} in the model's {own.name!r}"
    raise LayoutError(
        f"the layout's label set {labels.name!r} has {found}: "
        "give its label map in the model's classes (pipeline.labels)."
    )


def require_instances(there: bool) -> None:
    """Raise LayoutError, for a model that reads instance maps, if a layout has none."""
    if not there:
        raise LayoutError(
            "this model needs an instance map and the layout has none: give one with instance_maps=..., "
            "Layout.from_file(path, labels, instance_path), or --instances on the command line."
        )


def require_size(size: Sequence[int]) -> None:
    """Raise LayoutError unless `size` is a (height, width)."""
    if len(size) != 2 or min(size) < 1:
        raise LayoutError(f"size is (height, width), both at least 1, not {size!r}.")


def missing_to_multiple(size: Size, multiple: int) -> Size:
    """How many rows and columns are missing to multiples of a number."""
    height, width = (math.ceil(side / multiple) * multiple - side for side in size)
    return height, width


def require_samples(samples: int, shape: StyleShape | None, has_style: bool, model: str) -> None:
    """Raise StyleError unless `samples` is a number of styles to draw, 1 where one is given or the model takes none."""
    if samples < 1:
        raise StyleError(f"samples is {samples}; it must be 1 or more.")
    if samples > 1 and has_style:
        raise StyleError("samples draws random styles and style gives them: use one of the two.")
    if samples > 1:
        require_style(shape, f"samples={samples}", model)


def read_style_values(path: str | Path) -> Array:
    """The values `[S, ...]` in a file that `segscape.Style.save` wrote; raises StyleError if it holds none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        values: Array = load_file(path)["style"]
    except (SafetensorError, OSError, KeyError) as error:
        raise StyleError(
            f"{path} cannot be read as a style ({type(error).__name__}): give a file that Style.save wrote."
        ) from None
    return values


def resize_nearest(maps: Array, size: Size) -> Array:
    """Maps `[..., H, W]` at another size by PyTorch's `nearest` rule, index `floor(i * in / out)` in float32."""
    rows, columns = (
        (np.arange(new, dtype=np.float32) * np.float32(old / new)).astype(np.int64).clip(max=old - 1)
        for old, new in zip(maps.shape[-2:], size, strict=True)
    )
    return maps[..., rows[:, None], columns]


def as_array(values: Any) -> Array:
    """A NumPy array of an array, or of a tensor on whatever device."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)


def _listed(items: Any) -> list[Any]:
    return list(items) if isinstance(items, (list, tuple)) else [items]
