"""The conditioning value of every generator: what should be where in the image.

A :class:`Layout` holds indices, never one-hot maps. Whatever else a network needs (smaller maps, instance
edges, the positional encoding, one-hot maps, distinct neighbourhoods) is derived on first use at the size asked for,
and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segscape.errors import LayoutError
from segscape.label_files import read_instance_map, read_label_map
from segscape.labels import LabelSet
from segscape.nearest import nearest_index
from segscape.patterns import PatternIndex, pattern_index
from segscape.position import PositionRule, intra_class_position

Size = tuple[int, int]
"""``(height, width)``."""

_Derived = TypeVar("_Derived", Tensor, PatternIndex)


class Layout:
    """A batch of label maps with their vocabulary, and everything derived from them.

    Immutable: methods that change something return a new layout. Do not write into its tensors.

    Attributes:
        label_map: The labels at full size, int64 ``[N, H, W]``.
        labels: The label set that they belong to.
        instance_map: The instance ids at full size, int64 ``[N, H, W]``, or None.

    Args:
        label_map: Integer ``[N, H, W]`` with values in 0..num_classes-1.
        labels: The label set that the indices belong to.
        instance_map: Integer ``[N, H, W]``; pixels of one object share an id, any values.
        edges: Instance edges ``[N, 1, H, W]`` in {0, 1} if the caller has them, else derived.
        position: Positional encoding ``[N, 2, H, W]`` if the caller has it, in the channel order of its rule (see
            :func:`segscape.position.intra_class_position`; it then answers every rule), else derived.
        check: Whether to validate shapes, types and indices (reads the label map on the host).

    Raises:
        LayoutError: When shapes or types are wrong or the maps disagree in size.
        LabelMapError: When a label is outside the label set.
    """

    def __init__(
        self,
        label_map: Tensor,
        labels: LabelSet,
        instance_map: Tensor | None = None,
        *,
        edges: Tensor | None = None,
        position: Tensor | None = None,
        check: bool = True,
    ) -> None:
        if check:
            _check_label_map(label_map, labels)
            _check_companion("instance map", instance_map, label_map, channels=None)
            _check_companion("edge map", edges, label_map, channels=1)
            _check_companion("positional encoding", position, label_map, channels=2)
        self.label_map: Final = label_map.long()
        self.labels: Final = labels
        self.instance_map: Final = None if instance_map is None else instance_map.long()
        self._edges = None if edges is None else edges.float()
        self._position = None if position is None else position.float()
        self._cache: dict[tuple[object, ...], Any] = {}

    @classmethod
    def from_array(cls, label_map: NDArray[Any], labels: LabelSet, instance_map: NDArray[Any] | None = None) -> Layout:
        """A layout of integer arrays ``[H, W]`` or ``[N, H, W]``; the set's ignore value becomes unknown.

        Raises:
            LayoutError: When shapes or types are wrong.
            LabelMapError: When a label is outside the label set.
        """
        instances = None if instance_map is None else _batched(instance_map, "instance map")
        return cls(_batched(labels.map_ignore(label_map), "label map"), labels, instances)

    @classmethod
    def from_file(cls, path: str | Path, labels: LabelSet, instance_path: str | Path | None = None) -> Layout:
        """A layout of one label map file, and optionally an instance map file.

        Raises:
            LabelMapError: When a file cannot be read or holds other labels.
            LayoutError: When the two files differ in size.
        """
        instances = None if instance_path is None else read_instance_map(instance_path)
        return cls.from_array(read_label_map(path, labels), labels, instances)

    @classmethod
    def cat(cls, layouts: Sequence[Layout]) -> Layout:
        """Join layouts of one label set and size into a batch.

        Raises:
            LayoutError: When there are none, or they differ in label set, size, or in which maps they have.
        """
        if not layouts:
            raise LayoutError("cannot join zero layouts")
        if any(layout.labels != layouts[0].labels or layout.size != layouts[0].size for layout in layouts):
            raise LayoutError("cannot join layouts of different label sets or sizes")
        columns = zip(*(layout._maps for layout in layouts), strict=True)
        return layouts[0]._of([_cat_optional(column) for column in columns])

    @property
    def num_classes(self) -> int:
        """How many classes the label set has."""
        return self.labels.num_classes

    @property
    def batch_size(self) -> int:
        """How many label maps the layout holds."""
        return self.label_map.shape[0]

    @property
    def size(self) -> Size:
        """Full ``(height, width)``."""
        return self.label_map.shape[1], self.label_map.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.label_map.device

    @property
    def has_instances(self) -> bool:
        """Whether :meth:`edges` can answer: the layout has an instance map or a ready edge map."""
        return self.instance_map is not None or self._edges is not None

    def at(self, size: Size) -> Tensor:
        """The labels at another size, int64 ``[N, h, w]``: nearest, with index ``floor(i * in / out)``."""
        return self._cached("labels", size, lambda: self.label_map)

    def edges(self, size: Size | None = None) -> Tensor:
        """The instance edges, float32 ``[N, 1, h, w]`` in {0, 1}; found at full size, then nearest neighbour.

        Raises:
            LayoutError: When the layout has no instance map.
        """
        return self._cached("edges", size, self._full_edges)

    def position(self, size: Size | None = None, rule: PositionRule = "official") -> Tensor:
        """The intra-class positional encoding, float32 ``[N, 2, h, w]``; found at full size, then nearest.

        Raises:
            LayoutError: When the rule is unknown.
        """
        return self._cached(("position", rule), size, lambda: self._full_position(rule))

    def present_classes(self) -> Tensor:
        """Which classes each label map has, bool `[N, C]`."""
        found = torch.zeros(self.batch_size, self.num_classes, dtype=torch.bool, device=self.device)
        labels = self.label_map.flatten(1)
        return found.scatter_(1, labels, torch.ones_like(labels, dtype=torch.bool))

    def one_hot(self, size: Size | None = None) -> Tensor:
        """The labels as one channel per class, float32 ``[N, C, h, w]``."""
        size = self.size if size is None else size
        return self._remember(("one-hot", *size), lambda: _one_hot(self.at(size), self.num_classes))

    def semantic_map(self, size: Size | None = None, edges: bool = False) -> Tensor:
        """What SPADE's convolutions read: the one-hot map, and with ``edges`` the edge map as last channel.

        Returns:
            float32 ``[N, C, h, w]`` or ``[N, C + 1, h, w]``.

        Raises:
            LayoutError: When ``edges`` is asked of a layout without an instance map.
        """
        if not edges:
            return self.one_hot(size)
        size = self.size if size is None else size
        labels, edge_map = self.at(size), self.edges(size)
        return self._remember(
            ("semantic", *size), lambda: torch.cat([_one_hot(labels, self.num_classes), edge_map], dim=1)
        )

    def patterns(self, size: Size | None = None, *, kernel_size: int = 3, edges: bool = False) -> PatternIndex:
        """The distinct neighbourhoods that two convolutions of :meth:`semantic_map` see around a pixel.

        Args:
            size: ``(h, w)`` of the map, by default the full size.
            kernel_size: Of both convolutions; odd.
            edges: Whether the edge map is seen too. A token is then ``2 * label + edge``, else the label.

        Raises:
            LayoutError: When ``edges`` is asked of a layout without an instance map.
            ValueError: When the kernel size is even or not positive.
        """
        size = self.size if size is None else size
        return self._remember(
            ("patterns", kernel_size, edges, *size),
            lambda: pattern_index(self._tokens(size, edges), self.num_classes * (1 + edges), kernel_size),
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Layout:
        """The same layout on another device, with what was derived so far; `non_blocking` as in `Tensor.to`."""
        if torch.device(device) == self.device:
            return self
        moved = self._changed(lambda m: m.to(device, non_blocking=non_blocking))
        moved._cache = {key: value.to(device) for key, value in self._cache.items()}
        return moved

    def pin_memory(self) -> Layout:
        """The given maps in page-locked memory, from which copies to a GPU are fast."""
        return self._changed(lambda m: m.pin_memory())

    def with_position(self, rule: PositionRule) -> Layout:
        """The same layout with its positional encoding as a given map, which resizing and padding then carry along.

        Without it the encoding of a resized or padded layout is that of the resized or padded objects.
        """
        return Layout(
            self.label_map,
            self.labels,
            self.instance_map,
            edges=self._edges,
            position=self.position(rule=rule),
            check=False,
        )

    def pad(self, bottom: int, right: int) -> Layout:
        """Grow the maps below and to the right by repeating their last row and column."""
        rows, columns = (
            torch.arange(length + extra, device=self.device).clamp(max=length - 1)
            for length, extra in zip(self.size, (bottom, right), strict=True)
        )
        return self._changed(lambda m: _gather(m, rows, columns))

    def resize(self, size: Size) -> Layout:
        """The layout at another full size, by nearest neighbour with pixel centres as in Pillow.

        Maps that were given are resized; derived ones are derived from the resized maps.
        """
        rows, columns = (
            torch.tensor(nearest_index(old, new), device=self.device).long()
            for old, new in zip(self.size, size, strict=True)
        )
        return self._changed(lambda m: _gather(m, rows, columns))

    def __getitem__(self, part: slice) -> Layout:
        """A part of the batch; only slices, since a layout is always a batch."""
        if not isinstance(part, slice):
            raise TypeError(f"a layout is cut with a slice such as layout[0:1], not with {part!r}")
        return self._changed(lambda m: m[part])

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.label_map.shape))
        instances = ", with instances" if self.has_instances else ""
        return f"Layout({shape}, labels={self.labels.name!r}{instances}, device={str(self.device)!r})"

    def _full_edges(self) -> Tensor:
        if self._edges is not None:
            return self._edges
        if self.instance_map is None:
            raise LayoutError(
                "this layout has no instance map, which the edge map of this model needs; give one with "
                "Layout(label_map, labels, instance_map) or Layout.from_file(path, labels, instance_path)"
            )
        return instance_edges(self.instance_map)

    def _full_position(self, rule: PositionRule) -> Tensor:
        if self._position is not None:
            return self._position
        maps = self.label_map.cpu().numpy()
        encoded = np.stack([intra_class_position(label_map, rule) for label_map in maps])
        return torch.from_numpy(encoded).to(self.device)

    def _tokens(self, size: Size, edges: bool) -> Tensor:
        return 2 * self.at(size) + self.edges(size)[:, 0].long() if edges else self.at(size)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Layout:
        """A new layout, every given map of which went through ``change``."""
        return self._of([None if m is None else change(m) for m in self._maps])

    @property
    def _maps(self) -> tuple[Tensor | None, ...]:
        return self.label_map, self.instance_map, self._edges, self._position

    def _of(self, maps: Sequence[Tensor | None]) -> Layout:
        label_map, instance_map, edges, position = maps
        assert label_map is not None
        return Layout(label_map, self.labels, instance_map, edges=edges, position=position, check=False)

    def _cached(self, kind: object, size: Size | None, full: Callable[[], Tensor]) -> Tensor:
        """The map that ``full`` makes, at ``size``; both the full and the resized one are kept."""
        whole = self._remember((kind, *self.size), full)
        if size is None or tuple(size) == self.size:
            return whole
        return self._remember((kind, *size), lambda: _nearest(whole, size))

    def _remember(self, key: tuple[object, ...], make: Callable[[], _Derived]) -> _Derived:
        """Look up or make; never an inference-mode tensor, so that a cached map can serve training too."""
        key = tuple(str(part) if isinstance(part, torch.SymInt) else part for part in key)  # torch.export's sizes
        if key not in self._cache:
            with torch.inference_mode(False):
                self._cache[key] = make()
        kept: _Derived = self._cache[key]
        return kept


def instance_edges(instance_map: Tensor) -> Tensor:
    """Mark the pixels whose instance id differs from the left, right, upper or lower neighbour's.

    Args:
        instance_map: Integer ``[N, H, W]``.

    Returns:
        float32 ``[N, 1, H, W]`` in {0, 1}. Source: ``get_edges`` of pix2pixHD and SPADE.
    """
    across = F.pad(instance_map[:, :, 1:] != instance_map[:, :, :-1], (1, 1))  # left of each column, and of one more
    down = F.pad(instance_map[:, 1:] != instance_map[:, :-1], (0, 0, 1, 1))
    edges = across[:, :, 1:] | across[:, :, :-1] | down[:, 1:] | down[:, :-1]
    return edges.unsqueeze(1).float()


def _check_label_map(label_map: Tensor, labels: LabelSet) -> None:
    if label_map.ndim != 3 or label_map.numel() == 0:
        raise LayoutError(f"a label map is a non-empty [N, H, W], not {list(label_map.shape)}")
    if label_map.is_floating_point() or label_map.is_complex():
        raise LayoutError(f"a label map holds integer class indices, not {label_map.dtype} values")
    for number, array in enumerate(label_map.cpu().numpy()):
        labels.check(array, f"label map {number} of the layout")


def _check_companion(name: str, companion: Tensor | None, label_map: Tensor, channels: int | None) -> None:
    if companion is None:
        return
    batch, height, width = label_map.shape
    expected = [batch, height, width] if channels is None else [batch, channels, height, width]
    if list(companion.shape) != expected:
        raise LayoutError(f"the {name} is {list(companion.shape)}, but this label map needs {expected}")
    if channels is None and companion.is_floating_point():
        raise LayoutError(f"the {name} holds integer ids, not {companion.dtype} values")


def _batched(array: NDArray[Any], name: str) -> Tensor:
    if array.ndim not in (2, 3) or array.dtype.kind not in "bui":
        found = f"{array.dtype} {list(array.shape)}"
        raise LayoutError(f"the {name} is an integer array [H, W] or [N, H, W], not {found}")
    return torch.from_numpy(array.astype(np.int64)).view(-1, *array.shape[-2:])


def _cat_optional(maps: Sequence[Tensor | None]) -> Tensor | None:
    present = [m for m in maps if m is not None]
    if present and len(present) < len(maps):
        raise LayoutError("cannot join layouts with and without an instance map, edges or positions")
    return torch.cat(present) if present else None


def _one_hot(label_map: Tensor, num_classes: int) -> Tensor:
    batch, height, width = label_map.shape
    empty = torch.zeros(batch, num_classes, height, width, device=label_map.device)
    return empty.scatter_(1, label_map.unsqueeze(1), 1.0)


def _nearest(m: Tensor, size: Size) -> Tensor:
    """Resize ``[N, ..., H, W]`` of any type by PyTorch's ``nearest`` rule."""
    (height, width), (new_height, new_width) = m.shape[-2:], size
    if height % new_height == 0 and width % new_width == 0:
        return m[..., :: int(height // new_height), :: int(width // new_width)].contiguous()
    rows, columns = (_floor_index(old, new, m.device) for old, new in zip(m.shape[-2:], size, strict=True))
    return _gather(m, rows, columns)


def _floor_index(old: int, new: int, device: torch.device) -> Tensor:
    """Which of ``old`` places each of ``new`` places reads, with PyTorch's own rounding (it is float32)."""
    places = torch.arange(old, dtype=torch.float32, device=device).view(1, 1, old)
    return F.interpolate(places, size=new, mode="nearest").view(new).long()


def _gather(m: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return m.index_select(-2, rows).index_select(-1, columns)
