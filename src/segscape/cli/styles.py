"""The options of `segscape generate` that say which styles the pictures have, and how many there are of each layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segscape.cli.options import require_writable
from segscape.errors import StyleError
from segscape.style_shapes import STYLE_SUFFIX

if TYPE_CHECKING:
    from segscape.inference.pipeline import StyleLike

FRAMES = 30


class Animation(str, Enum):
    """What becomes of the frames of a walk."""

    GIF = "gif"
    WEBP = "webp"
    STRIP = "strip"
    FILES = "files"


@dataclass(frozen=True)
class StyleOptions:
    """The options, as they were given; see `segscape generate --help`.

    Raises:
        StyleError: by `check`, options that do not go together.
    """

    styles: tuple[str, ...] = ()
    layout: Path | None = None
    by_class: tuple[str, ...] = ()
    samples: int = 1
    ends: tuple[str, str] | None = None
    walk: bool = False
    frames: int | None = None
    animation: Animation | None = None
    grid: bool = False
    save: Path | None = None

    @property
    def moving(self) -> bool:
        """Whether the styles are the frames of a walk."""
        return self.walk or self.ends is not None

    @property
    def given(self) -> bool:
        """Whether all styles are known without a layout."""
        return bool(self.styles) or self.ends is not None

    def check(self, colour_preview: bool, force: bool) -> None:
        """Find out before a model is loaded whether the options go together.

        Raises StyleError.
        """
        sources = {"--style": self.styles, "--samples": self.samples > 1, "--interpolate": self.ends}
        chosen = [name for name, used in (sources | {"--walk": self.walk}).items() if used]
        if len(chosen) > 1:
            raise StyleError(f"{chosen[0]} and {chosen[1]} both say which styles the pictures have: give one of them.")
        if self.layout is not None and (len(self.styles) != 1 or ":" in self.styles[0]):
            raise StyleError("--style-layout is the label map of the one photo that --style names: write PHOTO:MAP.")
        for option, value in (("--frames", self.frames), ("--animation", self.animation)):
            if value is not None and not self.moving:
                raise StyleError(f"{option} goes with --interpolate or --walk.")
        if self.grid and (self.animation is not None or colour_preview):
            other = "--colour-preview" if colour_preview else "--animation"
            raise StyleError(f"--grid is one picture with the layouts and all styles, so {other} does not go with it.")
        if self.save is not None and self.save.suffix != STYLE_SUFFIX:
            raise StyleError(f"--save-style {self.save}: give a name that ends in {STYLE_SUFFIX}.")
        require_writable("--save-style", self.save)
        if self.save is not None and self.save.exists() and not force:
            raise StyleError(f"{self.save} exists already: add --force to replace it.")
        dict(self._class_items())

    def _class_items(self) -> Iterator[tuple[str, str]]:
        """The pairs of `--class-style`."""
        seen = set()
        for item in self.by_class:
            name, equals, look = item.partition("=")
            if not (equals and name and look):
                raise StyleError(f"--class-style {item!r} is not CLASS=PHOTO:MAP or CLASS=FILE{STYLE_SUFFIX}.")
            if name in seen:
                raise StyleError(f"--class-style gives two styles for {name!r}: give one.")
            seen.add(name)
            yield name, look

    def open(self, pipeline: Any) -> Styles:
        """The styles of a `Pipeline` or an `OnnxPipeline`; raises what reading them raises."""
        exported = not hasattr(pipeline, "model")
        if exported and (self.by_class or self.moving or self.save or len(self.styles) > 1):
            raise StyleError(
                "an exported model takes one --style (a file), or --samples: for mixed, moving or saved styles give "
                "the model that it was made from."
            )
        by_class = {name: parse_look(look) for name, look in self._class_items()}
        if exported:
            return Styles(self, pipeline, pipeline.style(self.styles[0]) if self.styles else None, {})
        return Styles(self, pipeline, self._given(pipeline, by_class), by_class)

    def _given(self, pipeline: Any, by_class: dict[str, StyleLike]) -> Any:
        """The `Style` that all layouts share; None if it depends on them."""
        if not self.given:
            return None
        from segscape.inference.walks import interpolated
        from segscape.style import Style

        if self.ends is not None:
            first, last = (pipeline.style(parse_look(end)) for end in self.ends)
            style = interpolated(first, last, self.frames or FRAMES)
        else:
            style = Style.stack(pipeline.style(parse_look(look, self.layout)) for look in self.styles)
        return pipeline.mix(style, by_class) if by_class else style


@dataclass
class Styles:
    """The styles of each layout.

    Attributes:
        options: where they come from.
        pipeline: what draws and encodes them.
        given: what all layouts share, if anything.
        by_class: what is taken from elsewhere for some classes.
    """

    options: StyleOptions
    pipeline: Any
    given: Any
    by_class: dict[str, StyleLike]

    def of(self, layout: Any, seed: int | None) -> Any:
        """What the pipeline takes as `style` for a layout."""
        if self.given is not None:
            return self.given
        if not (self.options.walk or self.options.save):
            return self.by_class or None
        style = self._base(layout, seed)
        return self.pipeline.mix(style, self.by_class) if self.by_class else style

    def _base(self, layout: Any, seed: int | None) -> Any:
        """The styles of a layout for which none are given."""
        if self.options.walk:
            from segscape.inference.walks import random_walk

            return random_walk(self.pipeline, layout, self.options.frames or FRAMES, seed)
        if self.pipeline.model.random_styles:
            return self.pipeline.random_style(layout, self.options.samples, seed)
        return self.pipeline.model.neutral_style(1).to("cpu")

    def require_one(self, layouts: int) -> None:
        """Raise StyleError if `--save-style` cannot tell which styles to keep."""
        if self.options.save and self.given is None and layouts > 1:
            raise StyleError(
                f"--save-style keeps the styles of one layout, found {layouts}: give one layout, or the styles."
            )

    def save(self, style: Any) -> None:
        """Write the styles of a layout, if that is wanted."""
        if self.options.save is not None:
            style.save(self.options.save)

    def count(self, style: Any) -> int:
        """How many pictures a layout has in a style that `of` gave."""
        if style is None or isinstance(style, dict):
            return self.options.samples
        return int(getattr(style, "count", len(getattr(style, "values", style))))


def parse_look(text: str, layout: Path | None = None) -> StyleLike:
    """`PHOTO`, `PHOTO:MAP`, `PHOTO:MAP:INSTANCES`, or the file of a style, as `Pipeline` takes it.

    Args:
        text: paths; a name that exists as it is is not parted at its colons.
        layout: the photo's label map, if `text` does not say it.

    Raises:
        StyleError: more parts, or a map for the file of a style.
    """
    photo, *maps = [text] if Path(text).exists() else text.split(":")
    maps = maps or ([str(layout)] if layout is not None else [])
    if len(maps) > 2:
        raise StyleError(f"{text!r} has too many parts: write PHOTO, PHOTO:MAP or PHOTO:MAP:INSTANCES.")
    if not maps:
        return photo
    if photo.endswith(STYLE_SUFFIX):
        raise StyleError(f"{photo} is a style already, which needs no label map: leave {maps[0]} out.")
    from segscape.inference.pipeline import Reference

    return Reference(photo, *maps)
