"""What an exported model is given and gives; it is written into the file, so that the file is enough to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from segscape.errors import CheckpointError
from segscape.labels import LabelSet
from segscape.position import PositionRule
from segscape.style_shapes import StyleKind

FORMAT: Final = 3
"""Version of the metadata; raised when an older Segscape could misread a newer file."""

PREFIX: Final = "segscape."
"""Of the keys in a file's metadata."""


class Signature(BaseModel):
    """The inputs of an exported model, its vocabulary and its sizes.

    The output is `image`, float32 `[N, 3, H, W]` in [-1, 1]. A file keeps each attribute as JSON under its name.

    Attributes:
        format: see `FORMAT`.
        model: name of the system in the registry.
        labels: the label set of `label_map`.
        config: the rest of the model's configuration.
        inputs: those that the model reads of `label_map`, `instance_map`, `position` and `style`; see `shapes`.
        size: (height, width) of the layouts; None where any multiples of `size_multiple` will do.
        size_multiple: height and width are multiples of this.
        position_rule: how `position` is computed (`segscape.position`); None if it is no input.
        style_kind: `latent`, `codes` or `map`; None if the model takes no style.
        style_shape: of `style` for one image: (D,), (classes, D), or (D, height, width), None for sides of any length.
        variational: whether random styles are drawn from N(0, 1); without, a style is always given.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    model: str
    labels: LabelSet
    config: dict[str, Any]
    inputs: tuple[str, ...]
    size: tuple[int, int] | None
    size_multiple: int
    position_rule: PositionRule | None
    style_kind: StyleKind | None
    style_shape: tuple[int | None, ...] | None
    variational: bool

    def shapes(self) -> dict[str, str]:
        """Type and shape of each input in words, for example `int64 [N, H, W]`."""
        height, width = self.size or ("H", "W")
        style = ", ".join("any" if side is None else str(side) for side in self.style_shape or ())
        known = {
            "label_map": f"int64 [N, {height}, {width}]",
            "instance_map": f"int64 [N, {height}, {width}]",
            "position": f"float32 [N, 2, {height}, {width}]",
            "style": f"float32 [N, {style}]",
        }
        return {name: known[name] for name in self.inputs}

    def output_shape(self) -> str:
        """Type and shape of `image` in words."""
        height, width = self.size or ("H", "W")
        return f"float32 [N, 3, {height}, {width}]"

    def to_metadata(self) -> dict[str, str]:
        """The attributes as texts, keys beginning with `PREFIX`."""
        return {PREFIX + name: json.dumps(value) for name, value in self.model_dump(mode="json").items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str) -> Self:
        """Read what `to_metadata` wrote; raises CheckpointError if `source` has none of it, or another format."""
        own = {name: metadata.get(PREFIX + name) for name in cls.model_fields}
        if own["format"] is None:
            raise CheckpointError(f"{source} was not exported by Segscape: make it with `segscape export`.")
        if own["format"] != str(FORMAT):
            raise CheckpointError(
                f"{source} has export format {own['format']}, this Segscape reads format {FORMAT}: "
                "update Segscape, or export the model again."
            )
        try:
            return cls.model_validate({name: json.loads(value or "null") for name, value in own.items()})
        except (ValidationError, json.JSONDecodeError):
            raise CheckpointError(f"the metadata of {source} are damaged: export the model again.") from None
