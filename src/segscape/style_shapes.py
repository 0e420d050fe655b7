"""What kind a style is by its shape, and whether it suits a model. Knows no torch: exported models are asked, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeVar

from segscape.errors import StyleError

StyleKind = Literal["latent", "codes", "map"]

StyleShape = Sequence[int | None]
"""Of one image's style: `(D,)`, `(classes, D)` or `(D, height, width)`; None for sides of any length."""

_Shape = TypeVar("_Shape", bound=StyleShape)

STYLE_SUFFIX: Final = ".safetensors"
"""Of the files that `Style.save` writes."""

STYLE_AXES: Final[dict[StyleKind, str]] = {
    "latent": "styles, latent_dim",
    "codes": "styles, classes, code",
    "map": "styles, channels, height, width",
}
"""What the axes of a style are, for messages."""

_KINDS: Final[dict[int, StyleKind]] = {2: "latent", 3: "codes", 4: "map"}


def style_kind(shape: Sequence[object]) -> StyleKind | None:
    """The kind of styles `[S, ...]` of a shape; None if none has so many axes."""
    return _KINDS.get(len(shape))


def require_style(shape: _Shape | None, what: str, model: str) -> _Shape:
    """The shape of one image's style; raises StyleError about `what` for a model that takes no style.

    Args:
        shape: what the model takes.
        what: the thing that was given or asked for.
        model: name of the system.
    """
    if shape is None:
        raise StyleError(
            f"this {model} model takes no style, so {what} has no meaning: it gives one picture per layout "
            "(models with styles are built with latent_dim or feature_channels, or are systems such as sean)."
        )
    return shape


def require_style_shape(found: Sequence[int], shape: StyleShape | None, model: str, count: int | None = None) -> None:
    """Raise StyleError unless styles are such as the model takes.

    Args:
        found: their shape, `[S, ...]`.
        shape: what the model takes; None if it takes no style.
        model: name of the system.
        count: what S must be; None allows any.
    """
    kind = style_kind(found)
    sides = require_style(shape, "a style" if kind is None else f"a style ({kind})", model)
    wanted = _KINDS[len(sides) + 1]
    if kind not in (None, wanted):
        raise StyleError(f"the style is of the kind {kind!r}, this {model} model takes {wanted!r}.")
    axes = (count, *sides)
    if kind is None or any(want is not None and want != side for side, want in zip(found, axes, strict=True)):
        expected = ", ".join("any" if side is None else str(side) for side in sides)
        raise StyleError(
            f"the style is {list(found)}, this {model} model takes [{count or 'styles'}, {expected}] "
            f"({STYLE_AXES[wanted]})."
        )
