"""Styles: kinds, mixing, interpolation, files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segscape.errors import StyleError
from segscape.style import Style, StyleDistribution


def codes(images: int = 2, classes: int = 4, seed: int = 0, present: torch.Tensor | None = None) -> Style:
    return Style(torch.randn(images, classes, 3, generator=torch.Generator().manual_seed(seed)), present)


@pytest.mark.parametrize(("shape", "kind"), [((2, 5), "latent"), ((2, 4, 3), "codes"), ((2, 3, 8, 8), "map")])
def test_the_shape_says_the_kind(shape: tuple[int, ...], kind: str) -> None:
    style = Style(torch.zeros(shape))
    assert style.kind == kind and style.count == 2
    assert [one.values.shape for one in style] == [(1, *shape[1:])] * 2


def test_other_shapes_are_refused() -> None:
    with pytest.raises(StyleError, match=r"found the shape \(3,\)"):
        Style(torch.zeros(3))
    with pytest.raises(StyleError, match=r"present is \(2, 3\)"):
        Style(torch.zeros(2, 4, 3), torch.ones(2, 3, dtype=torch.bool))


def test_a_seed_repeats_a_sample() -> None:
    first, second = (Style.sample(3, (4, 5), torch.Generator().manual_seed(7)) for _ in range(2))
    assert first.values.shape == (3, 4, 5) and torch.equal(first.values, second.values)
    assert not torch.equal(first.values[0], first.values[1])
    assert Style.sample(3, 5).values.shape == (3, 5)


def test_classes_are_replaced_and_nothing_else() -> None:
    mine, theirs = codes(seed=0), codes(seed=1)
    mixed = mine.replace_classes(theirs, [0, 2])
    assert torch.equal(mixed.values[:, [0, 2]], theirs.values[:, [0, 2]])
    assert torch.equal(mixed.values[:, [1, 3]], mine.values[:, [1, 3]])
    assert torch.equal(mine.values, codes(seed=0).values)


def test_one_reference_serves_several_images() -> None:
    mixed = codes(3).replace_classes(codes(1, seed=1), [1])
    assert torch.equal(mixed.values[:, 1], codes(1, seed=1).values[:, 1].expand(3, -1))


def test_what_a_reference_has_not_stays() -> None:
    theirs = codes(1, seed=1, present=torch.tensor([[True, False, True, False]]))
    mine = codes(1, present=torch.tensor([[False, False, True, True]]))
    mixed = mine.replace_classes(theirs, [0, 1])
    assert torch.equal(mixed.values[:, 0], theirs.values[:, 0]) and torch.equal(mixed.values[:, 1], mine.values[:, 1])
    assert mixed.present is not None and mixed.present.tolist() == [[True, False, True, True]]


def test_only_codes_are_mixed_by_class() -> None:
    with pytest.raises(StyleError, match="a latent and a codes"):
        Style(torch.zeros(1, 3)).replace_classes(codes(1), [0])
    with pytest.raises(StyleError, match="no class 4 in a style of 4 classes"):
        codes().replace_classes(codes(seed=1), [4])
    with pytest.raises(StyleError, match="is for 3 images"):
        codes(2).replace_classes(codes(3), [0])


@settings(deadline=None)
@given(st.floats(0, 1))
def test_interpolation_is_the_straight_line(amount: float) -> None:
    mixed = codes(seed=0).interpolate(codes(seed=1), amount)
    expected = (1 - amount) * codes(seed=0).values + amount * codes(seed=1).values
    torch.testing.assert_close(mixed.values, expected, rtol=1e-5, atol=1e-5)


def test_interpolation_takes_the_code_that_there_is() -> None:
    a = codes(1, seed=0, present=torch.tensor([[True, True, False, False]]))
    b = codes(1, seed=1, present=torch.tensor([[True, False, True, False]]))
    mixed = a.interpolate(b, 0.5)
    torch.testing.assert_close(mixed.values[:, 0], (a.values[:, 0] + b.values[:, 0]) / 2)
    assert torch.equal(mixed.values[:, 1], a.values[:, 1]) and torch.equal(mixed.values[:, 2], b.values[:, 2])
    assert mixed.present is not None and mixed.present.tolist() == [[True, True, True, False]]
    with pytest.raises(StyleError, match="do not fit each other"):
        a.interpolate(codes(1, classes=5), 0.5)


def test_stack_and_expand() -> None:
    known = torch.tensor([[True, False, True, True]])
    stacked = Style.stack([codes(1), codes(1, seed=1, present=known)])
    assert stacked.count == 2
    assert stacked.present is not None and stacked.present.tolist() == [[True] * 4, known[0].tolist()]
    assert Style.stack([Style(torch.zeros(1, 2)), Style(torch.ones(2, 2))]).values.shape == (3, 2)
    assert codes(1).expand(3).values.shape == (3, 4, 3)
    with pytest.raises(StyleError, match="for 2 images, so it cannot be used for 3"):
        codes(2).expand(3)


@pytest.mark.parametrize("present", [None, torch.tensor([[True, False, True, True]])])
def test_files(present: torch.Tensor | None, tmp_path: Path) -> None:
    style = codes(1, present=present)
    style.save(tmp_path / "style.safetensors")
    read = Style.load(tmp_path / "style.safetensors")
    assert torch.equal(read.values, style.values)
    assert (read.present is None) == (present is None)


def test_broken_files(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    for path, found in ((tmp_path / "none", "does not exist"), (tmp_path, "is a folder"),
                        (tmp_path / "text.safetensors", "cannot be read")):  # fmt: skip
        with pytest.raises(StyleError, match=found):
            Style.load(path)


def test_a_draw_has_mean_and_deviation() -> None:
    encoded = StyleDistribution(Style(torch.tensor([[3.0]])), torch.tensor([[math.log(4.0)]]))
    assert encoded.draw(torch.tensor([[-1.5]])).values.item() == pytest.approx(0.0, abs=1e-6)
    assert encoded.draw(None).values.item() == 3.0
    certain = StyleDistribution(codes(1))
    assert torch.equal(certain.draw(torch.ones(1, 4, 3)).values, codes(1).values)
