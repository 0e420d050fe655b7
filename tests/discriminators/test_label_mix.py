"""LabelMix: which pixels come from where, and where gradients flow."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segscape.discriminators import MultiScaleDiscriminator, label_mix
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.losses import label_mix_loss

LABELS = LabelSet.numbered(5)


def drawn(seed: int, batch: int = 3, size: tuple[int, int] = (12, 10)) -> tuple[torch.Tensor, torch.Tensor, Layout]:
    source = torch.Generator().manual_seed(seed)
    real, fake = (torch.randn(batch, 3, *size, generator=source) for _ in range(2))
    return real, fake, Layout(torch.randint(0, 5, (batch, *size), generator=source), LABELS)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_every_class_of_a_layout_comes_from_one_image(seed: int) -> None:
    real, fake, layout = drawn(seed)
    mixed, mask = label_mix(real, fake, layout, torch.Generator().manual_seed(seed))
    assert mask.shape == (3, 1, 12, 10)
    for number in range(3):
        for value in layout.label_map[number].unique():
            inside = layout.label_map[number] == value
            source = {1.0: real, 0.0: fake}[mask[number, 0][inside].unique().item()]
            assert torch.equal(mixed[number, :, inside], source[number, :, inside])


def test_each_class_is_real_in_half_of_the_draws_whatever_the_others_are() -> None:
    real, fake, layout = drawn(0, batch=1)
    source = torch.Generator().manual_seed(0)
    masks = torch.stack([label_mix(real, fake, layout, source)[1].flatten() for _ in range(400)])
    first = [int((layout.label_map.flatten() == value).nonzero()[0]) for value in range(5)]
    classes = masks[:, first]
    assert (classes.mean(dim=0) - 0.5).abs().max() < 0.1
    assert torch.corrcoef(classes.T).fill_diagonal_(0).abs().max() < 0.2


def test_the_generator_decides() -> None:
    real, fake, layout = drawn(1)
    first, again = (label_mix(real, fake, layout, torch.Generator().manual_seed(4))[1] for _ in range(2))
    assert torch.equal(first, again)
    masks = [label_mix(real, fake, layout, torch.Generator().manual_seed(seed))[1] for seed in range(5)]
    assert any(not torch.equal(first, mask) for mask in masks)


def test_images_of_another_size_read_the_layout_at_theirs() -> None:
    _, _, layout = drawn(3, size=(24, 20))
    real, fake, _ = drawn(3)
    _, mask = label_mix(real, fake, layout, torch.Generator().manual_seed(0))
    _, whole = label_mix(real.repeat(1, 1, 2, 2), fake.repeat(1, 1, 2, 2), layout, torch.Generator().manual_seed(0))
    assert torch.equal(mask, whole[..., ::2, ::2])


def test_gradients_reach_each_image_where_it_was_taken() -> None:
    real, fake, layout = drawn(4)
    real.requires_grad_()
    fake.requires_grad_()
    mixed, mask = label_mix(real, fake, layout, torch.Generator().manual_seed(0))
    mixed.sum().backward()
    assert real.grad is not None and fake.grad is not None
    assert torch.equal(real.grad, mask.expand_as(real)) and torch.equal(fake.grad, 1 - mask.expand_as(real))


def test_a_discriminator_learns_from_the_consistency() -> None:
    torch.manual_seed(0)
    discriminator = MultiScaleDiscriminator(5, base_channels=4, num_layers=2)
    real, fake, layout = drawn(5, size=(32, 32))
    mixed, mask = label_mix(real, fake, layout, torch.Generator().manual_seed(0))
    scores = [discriminator(layout, image).scores for image in (mixed, real, fake)]
    loss = label_mix_loss(scores[0], scores[1], scores[2], mask)
    loss.backward()
    assert loss.item() > 0
    assert all(weights.grad is not None for weights in discriminator.parameters())
    all_real = label_mix_loss(scores[1], scores[1], scores[2], torch.ones_like(mask))
    assert all_real.item() == 0
