"""Augmentation of what the discriminator sees: layout and image move together, gradients pass, strength adapts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from segscape.training.augment import HOLE, AdaptiveAugmentation, DrawnAugmentation
from segscape.training.loop import train
from segscape.training.recipe import DiscriminatorAugmentation, Recipe
from tests.training.test_loop import latest_state, metrics

NOTHING = {"color": [[0.0, 1.0, 1.0]], "shift": [[0.0, 0.0]], "hole": [[-1.0, -1.0]]}


def drawn(**changes: list[list[float]]) -> DrawnAugmentation:
    return DrawnAugmentation(**{name: np.array(value) for name, value in (NOTHING | changes).items()})


def joined(batch: int = 1) -> torch.Tensor:
    """A semantic map of 4 classes and an image, 16 x 24."""
    source = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (batch, 16, 24), generator=source)
    image = torch.rand(batch, 3, 16, 24, generator=source) * 2 - 1
    return torch.cat([torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float(), image], dim=1)


def test_nothing_drawn_changes_nothing() -> None:
    assert torch.equal(drawn()(joined()), joined())


def test_translation_moves_layout_and_image_alike_and_fills_with_zeros() -> None:
    x = joined()
    y = drawn(shift=[[1 / 8, -1 / 12]])(x)  # 2 pixels down, 2 to the left
    wanted = torch.zeros_like(x)
    wanted[:, :, 2:, :-2] = x[:, :, :-2, 2:]
    assert torch.equal(y, wanted)


def test_the_hole_covers_layout_and_image() -> None:
    x = joined()
    y = drawn(hole=[[0.5, 0.25]])(x)
    bare = (y == 0).all(1)[0]
    rows, columns = np.nonzero(bare.numpy())
    assert (rows.min(), rows.max()) == (4, 11) and (columns.min(), columns.max()) == (0, 11)
    assert bare.sum() == 16 * HOLE * 24 * HOLE
    assert torch.equal(y[:, :, ~bare], x[:, :, ~bare])


def test_colours_change_the_image_only_and_as_the_paper_says() -> None:
    x = joined().double()
    y = drawn(color=[[0.3, 1.7, 0.6]])(x)
    assert torch.equal(y[:, :-3], x[:, :-3])
    image = x[0, -3:].numpy() + 0.3
    grey = image.mean(0)
    image = (image - grey) * 1.7 + grey
    np.testing.assert_allclose(y[0, -3:].numpy(), (image - image.mean()) * 0.6 + image.mean(), atol=1e-12)


def test_real_and_generated_images_of_a_pair_are_changed_alike() -> None:
    augment = AdaptiveAugmentation(DiscriminatorAugmentation(), seed=0).draw(range(2))
    assert augment is not None
    x = joined(2)
    both = augment(torch.cat([x, x]))
    assert torch.equal(both[:2], both[2:]) and not torch.equal(both[:2], x)


def test_gradients_pass() -> None:
    augment = AdaptiveAugmentation(DiscriminatorAugmentation(), seed=0).draw(range(2))
    assert augment is not None
    x = joined(2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: augment(y)[:, :, ::5, ::7], (x,), fast_mode=True)


def test_draws_depend_on_seed_and_number_alone() -> None:
    augmentation = AdaptiveAugmentation(DiscriminatorAugmentation(), seed=3)
    whole, part = augmentation.draw(range(8)), augmentation.draw([5])
    other = AdaptiveAugmentation(DiscriminatorAugmentation(), seed=4).draw([5])
    assert whole and part and other
    assert np.array_equal(whole.shift[5], part.shift[0]) and not np.array_equal(part.shift, other.shift)
    assert len(np.unique(whole.shift[:, 0])) == 8


def test_kinds_and_probability() -> None:
    only = AdaptiveAugmentation(DiscriminatorAugmentation(kinds=("cutout",), probability=0.25), seed=0).draw(
        range(2000)
    )
    assert only is not None
    assert not only.shift.any() and (only.color == [0, 1, 1]).all()
    assert (only.hole[:, 0] >= 0).mean() == pytest.approx(0.25, abs=0.03)
    assert AdaptiveAugmentation(DiscriminatorAugmentation(probability=0.0), seed=0).draw([0]) is None
    assert AdaptiveAugmentation(None, seed=0).draw([0]) is None


def test_the_probability_follows_the_sign_of_the_scores() -> None:
    section = DiscriminatorAugmentation(target=0.6, ramp_images=100)
    augmentation = AdaptiveAugmentation(section, seed=0)
    seen = [augmentation.observe(0.9, batch_size=2)["discriminator/augmentation"] for _ in range(12)]  # sign 0.8
    np.testing.assert_allclose(seen, np.repeat([0, 0.08, 0.16, 0.24], [3, 4, 4, 1]))
    for _ in range(8):
        augmentation.observe(0.7, batch_size=2)  # sign 0.4
    assert augmentation.probability == pytest.approx(0.08)
    for _ in range(400):
        augmentation.observe(1.0, batch_size=2)
    assert augmentation.probability == 1
    assert AdaptiveAugmentation(DiscriminatorAugmentation(), seed=0).observe(1.0, 2) == {
        "discriminator/augmentation": 1
    }


def test_a_resumed_run_with_adaptive_augmentation_and_penalty_is_the_run(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    options = {
        "discriminator_augmentation": {"target": -1.0, "ramp_images": 20},
        "objective": {"perceptual": 0.0, "r1": 1.0, "r1_every": 2},
        "optimizer": {"clip_norm": 0.5},
        "trackers": [],
        "images": 12,
    }
    train(make_recipe(**options), tmp_path / "whole")
    train(make_recipe(**options | {"images": 6}), tmp_path / "parts")
    train(make_recipe(**options), tmp_path / "parts", resume=True)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    assert metrics(tmp_path / "whole")[-1]["discriminator/augmentation"] == pytest.approx(0.4)
    whole, parts = latest_state(tmp_path / "whole"), latest_state(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
