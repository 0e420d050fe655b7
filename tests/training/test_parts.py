"""How a step's batch is divided, in one process; `test_distributed` has two."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segscape.data.view import TrainingOrder
from segscape.discriminators import Judgement
from segscape.errors import RecipeError
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models.registry import create_model
from segscape.nn.spectral import SpectralNormConv2d, held_power_iteration
from segscape.training.parts import _buckets, _row, part_numbers, style_noise
from segscape.training.recipe import Objective, Recipe, parse_recipe
from segscape.training.steps import StyledGenerator, generator_step_losses

LABELS = LabelSet.numbered(3)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("processes", [1, 2])
def test_parts_are_the_batch_and_agree_with_the_order_of_reading(accumulate: int, processes: int) -> None:
    numbers = [part_numbers(12, 6, accumulate, process, processes) for process in range(processes)]
    assert sorted(number for parts in numbers for part in parts for number in part) == list(range(12, 18))
    micro_batches = [sorted(n for part in parts for n in part) for parts in zip(*numbers, strict=True)]
    assert [n for micro_batch in micro_batches for n in micro_batch] == list(range(12, 18))
    for process, parts in enumerate(numbers):
        order = TrainingOrder(10, 6 // accumulate, 0, 12, 18, process, processes)
        assert [[draw for _, draw in keys] for keys in order] == [list(part) for part in parts]


def test_noise_depends_on_the_number_only() -> None:
    together = style_noise(3, range(5), (4,))
    assert torch.equal(together[1::2], style_noise(3, [1, 3], (4,)))
    assert not torch.equal(together, style_noise(4, range(5), (4,)))
    assert abs(style_noise(0, range(2000), (2, 2)).std() - 1) < 0.03


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (8, 4, 1, 1), (1, 4, 3, 3), (8, 1, 3, 3), (3, 4), (5,), ()])
@pytest.mark.parametrize("channels_last", [False, True])
def test_rows_share_the_memory_of_gradients(shape: tuple[int, ...], channels_last: bool) -> None:
    gradient = torch.randn(shape)
    if channels_last and len(shape) == 4:
        gradient = gradient.to(memory_format=torch.channels_last)
    expected = gradient * 2
    row = _row(gradient)
    row.mul_(2)
    assert row.ndim == 1 and torch.equal(gradient, expected)


def test_buckets_keep_order_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segscape.training.parts.BUCKET_BYTES", 40)
    rows = [torch.zeros(n) for n in (3, 4, 20, 2, 2)] + [torch.zeros(2, dtype=torch.float64)]
    assert [[len(row) for row in bucket] for bucket in _buckets(rows)] == [[3, 4], [20], [2, 2], [2]]


def test_vectors_stand_still_while_held() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(SpectralNormConv2d(2, 3, 3), SpectralNormConv2d(3, 2, 3))
    x = torch.randn(1, 2, 8, 8)

    def vectors() -> Tensor:
        network(x)
        return torch.cat([buffer.clone() for buffer in network.buffers()])

    before = vectors()
    with held_power_iteration(network, held=False):
        moved = vectors()
    with held_power_iteration(network):
        held = vectors()
        with held_power_iteration(network):
            pass
        still_held = vectors()
    assert not torch.equal(before, moved)
    assert torch.equal(held, moved) and torch.equal(still_held, moved)
    assert not torch.equal(vectors(), moved)


def divergence(samples: int | str, parts: list[slice]) -> float:
    """The weighted divergence of a batch of four, from its parts."""
    torch.manual_seed(0)
    generator = create_model("clade", labels=LABELS, image_size=(64, 64), base_channels=1, latent_dim=3).eval()
    torch.nn.init.normal_(generator.encoder.mean.weight)  # type: ignore[union-attr]
    images, noise = torch.rand(4, 3, 64, 64), torch.randn(4, 3)
    objective = Objective(kl=1.0, kl_samples=samples)  # type: ignore[arg-type]
    value = 0.0
    for part in parts:
        layout = Layout(torch.zeros(4, 64, 64, dtype=torch.int64)[part], LABELS)
        losses, _ = generator_step_losses(
            StyledGenerator(generator), _Judge(), layout, images[part], objective=objective, noise=noise[part]
        )
        value += losses["kl"].item() * layout.batch_size / 4
    return value


class _Judge(nn.Module):
    def forward(self, layout: Layout, image: Tensor, augment: object = None) -> Judgement:
        return Judgement([image.mean((1, 2, 3))], [[image]])


def test_the_weight_of_the_divergence() -> None:
    whole, halves, unequal = [slice(0, 4)], [slice(0, 2), slice(2, 4)], [slice(0, 1), slice(1, 4)]
    of_batch = divergence(4, whole)
    assert of_batch > 1
    assert divergence(4, halves) == pytest.approx(of_batch) and divergence(4, unequal) == pytest.approx(of_batch)
    assert divergence(1, whole) == pytest.approx(of_batch / 4)
    # the official sums: over four images once, or over two images, averaged over two GPUs
    assert divergence("official", whole) == pytest.approx(of_batch)
    assert divergence("official", halves) == pytest.approx(of_batch / 2)


def test_a_batch_that_cannot_be_divided() -> None:
    content = {"data": {"kind": "scenes"}, "model": {"name": "clade"}, "images": 8, "batch_size": 6, "accumulate": 4}
    with pytest.raises(RecipeError, match=r"batch_size \(6\) is not a multiple of accumulate \(4\)"):
        parse_recipe(content, "test")
    assert isinstance(parse_recipe(content | {"accumulate": 3}, "test"), Recipe)
