"""The vocabulary of a layout: which index means what, how it is drawn, and which indices are allowed.

A :class:`LabelSet` travels with every checkpoint, so that a label map is checked against the classes a
network knows *before* the network sees it. This module knows arrays only; files are read in
:mod:`segscape.label_files`.
"""

from __future__ import annotations

import colorsys
import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segscape.errors import LabelMapError
from segscape.files import write_text

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
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
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
            sentence, kind = self._describe_colors(rgb, wrong)
            raise LabelMapError(f"{source}: {sentence}", kind)
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
            sentence, kind = self._describe_indices(label_map)
            raise LabelMapError(f"{source}: {sentence}", kind)

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
        """Write the set as JSON, to be edited by hand or read by :meth:`load`; the file appears whole or not at all."""
        write_text(Path(path), self.model_dump_json(indent=2) + "\n")

    def _describe_indices(self, label_map: NDArray[Any]) -> tuple[str, str]:
        """What is wrong with indices, as a sentence, and its kind as one word."""
        wrong = (label_map < 0) | (label_map >= self.num_classes)
        values, counts = np.unique(label_map[wrong], return_counts=True)
        listed = _listing([str(value) for value in values], counts)
        kind, remedy = self._index_remedy(label_map, values)
        return (
            f"{_pixels(int(wrong.sum()))} with unknown indices ({listed}; first at {_first_place(wrong)}), "
            f"while label set {self.name!r} allows 0 to {self.num_classes - 1}; {remedy}"
        ), kind

    def _index_remedy(self, label_map: NDArray[Any], wrong: NDArray[Any]) -> tuple[str, str]:
        present = np.unique(label_map)
        if set(present.tolist()) == {0, 255}:
            return "mask-0-255", "this looks like a 0/255 mask: divide it by 255, so that it holds 0 and 1"
        if wrong.tolist() == [255]:
            return "ignore-value", f"255 usually marks ignored pixels: {self._ignore_remedy()}"
        if int(wrong[0]) < 0:
            return "negative-label", f"negative values usually mark ignored pixels: {self._ignore_remedy()}"
        if int(present[0]) >= 1 and int(present[-1]) == self.num_classes:
            return "off-by-one", "the indices seem to start at 1 instead of 0: subtract 1"
        if int(present[-1]) > 255 and any(not (present % step).any() for step in (257, 256)):
            return "scaled-to-16-bit", "the indices seem to be scaled to 16 bits: divide them by 256 or 257"
        if len(present) > max(self.num_classes, _PHOTO_COLOURS):
            return "photo-as-map", "this looks like a grey photo or a colour map turned to grey: save the class indices"
        return "unknown-label", "remap these values, or use the label set that the map was made for"

    def _ignore_remedy(self) -> str:
        if self.unknown is None:
            return "write a class index instead, since this label set has no unknown class"
        return f"write {self.unknown} ({self.names[self.unknown]!r}) instead, or set ignore_value in the set"

    def _describe_colors(self, rgb: NDArray[np.uint8], wrong: NDArray[np.bool_]) -> tuple[str, str]:
        """What is wrong with colours, as a sentence, and its kind as one word."""
        codes, counts = np.unique(_color_codes(rgb)[wrong], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        colors = [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in codes[order]]
        kinds = "1 colour" if len(colors) == 1 else f"{len(colors)} colours"
        listed = _listing([str(color) for color in colors], counts[order])
        kind, remedy = self._color_remedy(colors, float(wrong.mean()))
        return (
            f"{_pixels(int(wrong.sum()))} in {kinds} that no class of label set {self.name!r} has "
            f"({listed}; first at {_first_place(wrong)}); {remedy}"
        ), kind

    def _color_remedy(self, unknown: list[tuple[int, int, int]], share: float) -> tuple[str, str]:
        own = set(map(tuple, self.colors.tolist()))
        if all(red == green == blue < self.num_classes for red, green, blue in unknown):
            return "indices-as-rgb", "this looks like class indices saved as RGB: save them as one grey channel"
        if all(color[::-1] in own for color in unknown):
            return "swapped-channels", "the channels seem to be in the order blue, green, red: swap them"
        if len(unknown) > _PHOTO_COLOURS and share > 0.5:
            return "photo-as-map", "this looks like a photo: give the label map of the scene instead"
        if share < 0.1:
            return "blended-colour", "blended colours come from smooth brushes and resizing: use hard edges and nearest"
        return "unknown-colour", "use the colours of the label set exactly, or a label set with these colours"


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


def as_label_set(labels: LabelSet | str | int | dict[str, object]) -> LabelSet:
    """A label set from itself, its published name or JSON file, a number of classes, or its stored form."""
    if isinstance(labels, int):
        return LabelSet.numbered(labels)
    if isinstance(labels, str):
        return label_set(labels)
    return LabelSet.model_validate(labels)


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


def _published() -> dict[str, LabelSet]:
    """The sets in `assets/label_sets`, and ADE20K's in the order of its files."""
    files = sorted((Path(__file__).parent / "assets" / "label_sets").glob("*.json"))
    sets = {path.stem: LabelSet.load(path) for path in files}
    shifted = sets["ade20k"].classes
    official = LabelSet(name="ade20k-official", classes=(shifted[-1], *shifted[:-1]), unknown=0, ignore_value=255)
    return dict(sorted({**sets, official.name: official}.items()))


LABEL_SETS: dict[str, LabelSet] = _published()
"""The published label sets by name.

- `ade20k`: SceneParsing's 150 classes and unknown (150); things are the 100 of its instance challenge.
  `ade20k-official`: the same in the order of the files and of official checkpoints: 0 is unknown, class k is k.
- `camvid`: 12 values (Brostow et al. 2009). `scenes`: the procedural scenes.
- `celebamask-hq`: 19, in the order in which the parts are painted over each other (Lee et al. 2020).
- `cityscapes`: 35 label ids (the licence plate, officially -1, is 34).
- `coco-stuff`: ids 0..181 of the pixel maps (things up to 90, 11 of them without a pixel in COCO) and unlabelled (182,
  255 in the files). COCO-Stuff has no palette of its own in common use: these colours are generated.
- `deepfashion`: the 8 classes of the maps that SMIS distributes. Names as its paper lists them; their order and colours
  are ours.
"""
