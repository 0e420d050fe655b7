"""The vocabulary of a layout: which index means what, how it is drawn, and which indices are allowed.

A :class:`LabelSet` travels with every checkpoint, so that a label map is checked against the classes a
network knows *before* the network sees it. This module knows arrays only; files are read in
:mod:`segscape.label_files`.
"""

from __future__ import annotations

import colorsys
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segscape.errors import LabelMapError

Channel = Annotated[int, Field(ge=0, le=255)]

_GOLDEN_RATIO = 0.618033988749895
_SHOWN = 4  # how many offending values or colours an error message lists
_PHOTO_COLOURS = 64  # more unknown colours than this: a photograph, not a drawing


class LabelClass(BaseModel):
    """One class of a label set.

    Attributes:
        name: What people call it, for example ``"road"``.
        color: Red, green and blue in 0..255, used in palettes and colour-coded maps.
        thing: Whether it comes in countable instances (a car) rather than as stuff (the sky).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    color: tuple[Channel, Channel, Channel]
    thing: bool = False


class LabelSet(BaseModel):
    """The classes that a label map may hold; a class's index is its place in ``classes``.

    Attributes:
        name: Name of the set, shown in error messages.
        classes: The classes in index order; two classes may share a colour (Cityscapes does).
        unknown: Index of the class for pixels that nobody labelled, if the set has one.
        ignore_value: Value in raw label files that stands for ``unknown`` (255 in some datasets); None if they have
            none, so that a 0/255 mask is an error and not class 0 with holes.
            It has a meaning only when ``unknown`` is set.

    Raises:
        pydantic.ValidationError: When names repeat, or ``unknown`` or ``ignore_value`` do not fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    classes: Annotated[tuple[LabelClass, ...], Field(min_length=1)]
    unknown: int | None = None
    ignore_value: int | None = None

    @model_validator(mode="after")
    def _consistent(self) -> LabelSet:
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ValueError(f"class names must differ, but {', '.join(map(repr, repeated))} repeats")
        if self.unknown is None:
            return self
        if not 0 <= self.unknown < self.num_classes:
            raise ValueError(f"unknown={self.unknown} is not an index of the {self.num_classes} classes")
        if self.ignore_value is not None and 0 <= self.ignore_value < self.num_classes:
            raise ValueError(f"ignore_value={self.ignore_value} is a class index; choose another or None")
        return self

    @property
    def num_classes(self) -> int:
        """How many classes the set has; indices run from 0 to ``num_classes - 1``."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in index order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def colors(self) -> NDArray[np.uint8]:
        """The class colours in index order: uint8 ``[num_classes, 3]``."""
        return np.array([entry.color for entry in self.classes], dtype=np.uint8)

    def index(self, name: str) -> int:
        """The index of the class called ``name``.

        Raises:
            LabelMapError: When there is no such class; the message lists the nearest names.
        """
        if name in self.names:
            return self.names.index(name)
        raise LabelMapError(f"label set {self.name!r} has no class {name!r}; {_nearest(name, self.names)}")

    def colorize(self, label_map: NDArray[Any]) -> NDArray[np.uint8]:
        """Draw a label map in the classes' colours.

        Args:
            label_map: Integer ``[H, W]`` with values in 0..num_classes-1.

        Returns:
            uint8 ``[H, W, 3]``.

        Raises:
            LabelMapError: As :meth:`check`.
        """
        self.check(label_map)
        return self.colors[label_map.astype(np.intp)]

    def indices(self, rgb: NDArray[np.uint8], source: str = "array") -> NDArray[np.int64]:
        """Read a colour-coded label map: every pixel must have exactly the colour of a class.

        Where classes share a colour, the one with the lowest index is meant.

        Args:
            rgb: uint8 ``[H, W, 3]``.
            source: What to call the map in an error message, usually its file.

        Returns:
            int64 ``[H, W]`` with values in 0..num_classes-1.

        Raises:
            LabelMapError: When the array is no RGB image, or holds colours that no class has.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            found = f"{rgb.dtype} {list(rgb.shape)}"
            raise LabelMapError(f"{source}: a colour-coded label map is uint8 [H, W, 3], but this is {found}")
        known, first = np.unique(_color_codes(self.colors), return_index=True)
        codes = _color_codes(rgb)
        place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        wrong = known[place] != codes
        if wrong.any():
            raise LabelMapError(f"{source}: {self._describe_colors(rgb, wrong)}")
        return first[place].astype(np.int64)

    def check(self, label_map: NDArray[Any], source: str = "array") -> None:
        """Make sure that a label map holds only indices of this set.

        Args:
            label_map: Integer ``[H, W]``.
            source: What to call the map in an error message, usually its file.

        Raises:
            LabelMapError: When it is not a non-empty integer matrix, or holds other indices: the message
                says which, how many pixels, where the first one is, what is allowed, and the likely cause.
        """
        if label_map.ndim != 2 or label_map.size == 0:
            raise LabelMapError(f"{source}: a label map is a non-empty [H, W], not {list(label_map.shape)}")
        if label_map.dtype.kind not in "bui":
            raise LabelMapError(f"{source}: a label map holds integer indices, not {label_map.dtype} values")
        if label_map.dtype.kind == "b":
            label_map = label_map.astype(np.uint8)
        if int(label_map.min()) < 0 or int(label_map.max()) >= self.num_classes:
            raise LabelMapError(f"{source}: {self._describe_indices(label_map)}")

    def map_ignore(self, label_map: NDArray[Any]) -> NDArray[Any]:
        """Replace ``ignore_value`` by the unknown class where the set has both; else return the map as it is.

        Args:
            label_map: Integer array of any shape.

        Returns:
            An array of the same shape and type.
        """
        if self.unknown is None or self.ignore_value is None:
            return label_map
        ignored = label_map == self.ignore_value
        if not ignored.any():
            return label_map
        return np.where(ignored, np.asarray(self.unknown, dtype=label_map.dtype), label_map)

    @classmethod
    def numbered(cls, num_classes: int, unknown: int | None = None, ignore_value: int | None = None) -> LabelSet:
        """A set of nameless classes (``"class 0"``, ``"class 1"``, ...) in distinct colours.

        Args:
            num_classes: How many classes, at least 1.
            unknown: Index of the unknown class, if one of them is.
            ignore_value: Value in raw label files that stands for ``unknown``, if they have one.

        Raises:
            LabelMapError: When ``num_classes`` or ``unknown`` is out of range.
        """
        if num_classes < 1 or (unknown is not None and not 0 <= unknown < num_classes):
            raise LabelMapError(f"cannot number {num_classes} classes with unknown={unknown}; give 1 or more")
        colors = _distinct_colors(num_classes)
        classes = tuple(LabelClass(name=f"class {i}", color=color) for i, color in enumerate(colors))
        return cls(name=f"numbered-{num_classes}", classes=classes, unknown=unknown, ignore_value=ignore_value)

    @classmethod
    def load(cls, path: str | Path) -> LabelSet:
        """Read a label set from the JSON file that :meth:`save` writes.

        Raises:
            LabelMapError: When the file is missing, is not JSON, or does not describe a label set.
        """
        path = Path(path)
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the set"
            raise LabelMapError(f"{path} is not a label set: {where}: {first['msg']}") from None
        except OSError as error:
            raise LabelMapError(f"{path}: cannot read this label set ({error.strerror or error})") from None

    def save(self, path: str | Path) -> None:
        """Write the set as JSON, to be edited by hand or read by :meth:`load`."""
        Path(path).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def _describe_indices(self, label_map: NDArray[Any]) -> str:
        wrong = (label_map < 0) | (label_map >= self.num_classes)
        values, counts = np.unique(label_map[wrong], return_counts=True)
        listed = _listing([str(value) for value in values], counts)
        return (
            f"{_pixels(int(wrong.sum()))} with unknown indices ({listed}; first at {_first_place(wrong)}), "
            f"while label set {self.name!r} allows 0 to {self.num_classes - 1}; "
            f"{self._index_hint(label_map, values)}"
        )

    def _index_hint(self, label_map: NDArray[Any], wrong: NDArray[Any]) -> str:
        present = np.unique(label_map)
        if set(present.tolist()) == {0, 255}:
            return "this looks like a 0/255 mask: divide it by 255, so that it holds 0 and 1"
        if wrong.tolist() == [255]:
            return f"255 usually marks ignored pixels: {self._ignore_remedy()}"
        if int(wrong[0]) < 0:
            return f"negative values usually mark ignored pixels: {self._ignore_remedy()}"
        if int(present[0]) >= 1 and int(present[-1]) == self.num_classes:
            return "the indices seem to start at 1 instead of 0: subtract 1"
        if int(present[-1]) > 255 and any(not (present % step).any() for step in (257, 256)):
            return "the indices seem to be scaled to 16 bits: divide them by 256 or 257"
        if len(present) > max(self.num_classes, _PHOTO_COLOURS):
            return "this looks like a grey photo or a colour map turned to grey: save the class indices"
        return "remap these values, or use the label set that the map was made for"

    def _ignore_remedy(self) -> str:
        if self.unknown is None:
            return "write a class index instead, since this label set has no unknown class"
        return f"write {self.unknown} ({self.names[self.unknown]!r}) instead, or set ignore_value in the set"

    def _describe_colors(self, rgb: NDArray[np.uint8], wrong: NDArray[np.bool_]) -> str:
        codes, counts = np.unique(_color_codes(rgb)[wrong], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        colors = [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in codes[order]]
        kinds = "1 colour" if len(colors) == 1 else f"{len(colors)} colours"
        listed = _listing([str(color) for color in colors], counts[order])
        return (
            f"{_pixels(int(wrong.sum()))} in {kinds} that no class of label set {self.name!r} has "
            f"({listed}; first at {_first_place(wrong)}); {self._color_hint(colors, float(wrong.mean()))}"
        )

    def _color_hint(self, unknown: list[tuple[int, int, int]], share: float) -> str:
        own = set(map(tuple, self.colors.tolist()))
        if all(red == green == blue < self.num_classes for red, green, blue in unknown):
            return "this looks like class indices saved as RGB: save them as one grey channel"
        if all(color[::-1] in own for color in unknown):
            return "the channels seem to be in the order blue, green, red: swap them"
        if len(unknown) > _PHOTO_COLOURS and share > 0.5:
            return "this looks like a photo: give the label map of the scene instead"
        if share < 0.1:
            return "blended colours come from smooth brushes and resizing: use hard edges and nearest"
        return "use the colours of the label set exactly, or a label set with these colours"


def label_set(name_or_path: str | Path) -> LabelSet:
    """A published label set by name, or one from a JSON file.

    Args:
        name_or_path: A key of :data:`LABEL_SETS`, or the path of a file written by :meth:`LabelSet.save`.

    Raises:
        LabelMapError: When it is neither, or the file does not describe a label set.
    """
    name = str(name_or_path)
    if name in LABEL_SETS:
        return LABEL_SETS[name]
    if Path(name).suffix == ".json" or Path(name).is_file():
        return LabelSet.load(name)
    raise LabelMapError(f"unknown label set {name!r}; known are {', '.join(LABEL_SETS)}, or give a JSON file")


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"it has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"


def _listing(items: list[str], counts: NDArray[np.int64]) -> str:
    """``"200 in 3 pixels, 255 in 1 pixel, and 5 more"``."""
    shown = [f"{item} in {_pixels(int(count))}" for item, count in zip(items, counts[:_SHOWN], strict=False)]
    rest = len(items) - _SHOWN
    return ", ".join(shown) + (f", and {rest} more" if rest > 0 else "")


def _pixels(count: int) -> str:
    return "1 pixel" if count == 1 else f"{count} pixels"


def _first_place(wrong: NDArray[np.bool_]) -> str:
    row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return f"row {row}, column {column}"


def _color_codes(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """One integer per colour: ``[..., 3]`` to ``[...]``."""
    wide = rgb.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _distinct_colors(count: int) -> list[tuple[int, int, int]]:
    """Colours whose hues step by the golden ratio, so that neighbours in the list are far apart."""
    colors: dict[tuple[int, int, int], None] = {}
    step = 0
    while len(colors) < count:
        saturation, value = (0.55 + 0.4 * (step % 3) / 2, 1.0 - 0.5 * (step // 3 % 4) / 3)
        red, green, blue = colorsys.hsv_to_rgb(step * _GOLDEN_RATIO % 1.0, saturation, value)
        colors[round(red * 255), round(green * 255), round(blue * 255)] = None
        step += 1
    return list(colors)


def _classes(*rows: tuple[str, tuple[int, int, int]], things: str) -> tuple[LabelClass, ...]:
    thing_names = things.split(", ")
    return tuple(LabelClass(name=name, color=color, thing=name in thing_names) for name, color in rows)


_CAMVID = LabelSet(
    name="camvid",
    classes=_classes(
        ("sky", (128, 128, 128)),
        ("building", (128, 0, 0)),
        ("pole", (192, 192, 128)),
        ("road", (128, 64, 128)),
        ("pavement", (0, 0, 192)),
        ("tree", (128, 128, 0)),
        ("sign", (192, 128, 128)),
        ("fence", (64, 64, 128)),
        ("car", (64, 0, 128)),
        ("pedestrian", (64, 64, 0)),
        ("bicyclist", (0, 128, 192)),
        ("unlabelled", (0, 0, 0)),
        things="car, pedestrian, bicyclist",
    ),
    unknown=11,
)

_SCENES = LabelSet(
    name="scenes",
    classes=_classes(
        ("sky", (135, 206, 235)),
        ("mountain", (120, 110, 140)),
        ("tree", (34, 110, 40)),
        ("grass", (120, 190, 70)),
        ("building", (150, 75, 60)),
        ("road", (90, 90, 95)),
        ("pavement", (190, 180, 170)),
        ("car", (0, 0, 200)),
        ("person", (220, 20, 60)),
        ("water", (30, 110, 180)),
        ("pole", (240, 200, 40)),
        ("unknown", (0, 0, 0)),
        things="car, person",
    ),
    unknown=11,
)

_CITYSCAPES = LabelSet(
    name="cityscapes",
    classes=_classes(
        ("unlabeled", (0, 0, 0)),
        ("ego vehicle", (0, 0, 0)),
        ("rectification border", (0, 0, 0)),
        ("out of roi", (0, 0, 0)),
        ("static", (0, 0, 0)),
        ("dynamic", (111, 74, 0)),
        ("ground", (81, 0, 81)),
        ("road", (128, 64, 128)),
        ("sidewalk", (244, 35, 232)),
        ("parking", (250, 170, 160)),
        ("rail track", (230, 150, 140)),
        ("building", (70, 70, 70)),
        ("wall", (102, 102, 156)),
        ("fence", (190, 153, 153)),
        ("guard rail", (180, 165, 180)),
        ("bridge", (150, 100, 100)),
        ("tunnel", (150, 120, 90)),
        ("pole", (153, 153, 153)),
        ("polegroup", (153, 153, 153)),
        ("traffic light", (250, 170, 30)),
        ("traffic sign", (220, 220, 0)),
        ("vegetation", (107, 142, 35)),
        ("terrain", (152, 251, 152)),
        ("sky", (70, 130, 180)),
        ("person", (220, 20, 60)),
        ("rider", (255, 0, 0)),
        ("car", (0, 0, 142)),
        ("truck", (0, 0, 70)),
        ("bus", (0, 60, 100)),
        ("caravan", (0, 0, 90)),
        ("trailer", (0, 0, 110)),
        ("train", (0, 80, 100)),
        ("motorcycle", (0, 0, 230)),
        ("bicycle", (119, 11, 32)),
        ("license plate", (0, 0, 142)),
        things="person, rider, car, truck, bus, caravan, trailer, train, motorcycle, bicycle",
    ),
    unknown=0,
)

LABEL_SETS: dict[str, LabelSet] = {entry.name: entry for entry in (_CAMVID, _SCENES, _CITYSCAPES)}
"""The published label sets by name: CamVid (12 values, Brostow et al. 2009), the procedural scenes, and
Cityscapes' 35 label ids (the licence plate, officially -1, is 34)."""
