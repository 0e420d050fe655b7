"""Which styles suit a model, by their shape alone."""

from __future__ import annotations

import pytest

from segscape.errors import StyleError
from segscape.style_shapes import require_style_shape, style_kind
from tests.zoo import TINY, build


@pytest.mark.parametrize(
    ("found", "shape", "count", "message"),
    [
        ((2, 8), None, 2, r"this toy model takes no style, so a style \(latent\) has no meaning"),
        ((2, 3, 8), (8,), 2, "of the kind 'codes', this toy model takes 'latent'"),
        ((2, 7), (8,), 2, r"\[2, 7\], this toy model takes \[2, 8\] \(styles, latent_dim\)"),
        ((1, 8), (8,), 2, r"\[1, 8\], this toy model takes \[2, 8\]"),
        ((8,), (8,), None, r"\[8\], this toy model takes \[styles, 8\]"),
        ((1, 4, 9, 9), (3, None, None), None, r"takes \[styles, 3, any, any\] \(styles, channels, height, width\)"),
    ],
)
def test_what_does_not_suit(
    found: tuple[int, ...], shape: tuple[int | None, ...] | None, count: int | None, message: str
) -> None:
    with pytest.raises(StyleError, match=message):
        require_style_shape(found, shape, "toy", count)


def test_what_suits() -> None:
    require_style_shape((5, 8), (8,), "toy")
    require_style_shape((5, 8), (8,), "toy", 5)
    require_style_shape((1, 3, 9, 4), (3, None, None), "toy", 1)


@pytest.mark.parametrize("name", TINY)
def test_the_kind_of_a_model_is_that_of_its_shape(name: str) -> None:
    model = build(name)
    config = model.config
    assert (config.style_shape is None) == (config.style_kind is None) == (model.style_network is None)
    if config.style_shape is not None:
        assert config.open_style_shape is not None
        assert style_kind((1, *config.style_shape)) == style_kind((1, *config.open_style_shape)) == config.style_kind
        require_style_shape(model.neutral_style(2).values.shape, config.open_style_shape, name, 2)
