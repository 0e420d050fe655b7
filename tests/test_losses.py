"""Losses against hand-computed values and known properties; the official numbers are conformance vectors."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from segscape.discriminators import MultiScaleDiscriminator
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.losses import (
    PerceptualLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    gradient_penalty,
    kl_divergence,
    label_mix_loss,
)

SCORES = [torch.tensor([[-2.0, 0.5]]), torch.tensor([[2.0]])]


@pytest.mark.parametrize(
    ("mode", "real", "fake", "generator"),
    [
        ("hinge", ((3 + 0.5) / 2 + 0) / 2, ((0 + 1.5) / 2 + 3) / 2, -(-0.75 + 2) / 2),
        ("least-squares", ((9 + 0.25) / 2 + 1) / 2, ((4 + 0.25) / 2 + 4) / 2, ((9 + 0.25) / 2 + 1) / 2),
        ("wasserstein", -(-0.75 + 2) / 2, (-0.75 + 2) / 2, -(-0.75 + 2) / 2),
    ],
)
def test_adversarial_losses(mode: str, real: float, fake: float, generator: float) -> None:
    assert discriminator_loss(SCORES, True, mode).item() == pytest.approx(real)  # type: ignore[arg-type]
    assert discriminator_loss(SCORES, False, mode).item() == pytest.approx(fake)  # type: ignore[arg-type]
    assert generator_loss(SCORES, mode).item() == pytest.approx(generator)  # type: ignore[arg-type]


@given(st.floats(-20, 20))
def test_original_loss_is_the_cross_entropy(score: float) -> None:
    scores = [torch.tensor([score], dtype=torch.float64)]
    assert discriminator_loss(scores, True, "original").item() == pytest.approx(math.log1p(math.exp(-score)), abs=1e-9)
    assert discriminator_loss(scores, False, "original").item() == pytest.approx(math.log1p(math.exp(score)), abs=1e-9)


def test_feature_matching_sums_groups_and_averages_over_them() -> None:
    fake = [[torch.ones(1), torch.ones(1) * 3], [torch.zeros(1), torch.zeros(1)]]
    real = [[torch.zeros(1), torch.ones(1)], [torch.ones(1), torch.zeros(1)]]
    assert feature_matching_loss(fake, real).item() == pytest.approx(((1 + 2) + 1) / 2)


def test_feature_matching_gives_no_gradient_to_the_real_features() -> None:
    fake, real = torch.ones(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    feature_matching_loss([[fake]], [[real]]).backward()
    assert fake.grad is not None and real.grad is None


def test_label_mix_loss_compares_with_the_mixed_scores_at_every_scale() -> None:
    mask = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    real, fake = ([torch.full((1, 1, 2, 2), value), torch.full((1, 1, 1, 1), value)] for value in (3.0, 1.0))
    mixed = [torch.zeros(1, 1, 2, 2), torch.full((1, 1, 1, 1), 5.0)]
    fine, coarse = (3**2 + 3 * 1**2) / 4, (5 - 3) ** 2  # the one coarse score reads the mask's first pixel
    assert label_mix_loss(mixed, real, fake, mask).item() == pytest.approx((fine + coarse) / 2)


def test_label_mix_loss_has_right_gradients() -> None:
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64).view(1, 1, 2, 3)
    scores = [torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    torch.autograd.gradcheck(lambda m, r, f: label_mix_loss([m], [r], [f], mask), scores)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_divergence_is_zero_only_at_the_prior(mean: float, log_variance: float) -> None:
    value = kl_divergence(torch.tensor([[mean]]), torch.tensor([[log_variance]])).item()
    assert value >= -1e-5
    assert kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0


def test_divergence_is_a_sum_over_the_batch() -> None:
    mean, log_variance = torch.randn(2, 3), torch.randn(2, 3)
    parts = sum(kl_divergence(mean[i : i + 1], log_variance[i : i + 1]).item() for i in range(2))
    assert kl_divergence(mean, log_variance).item() == pytest.approx(parts, rel=1e-5)


class TwoScales(nn.Module):
    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [image, 2 * image]


def test_perceptual_loss_weights_its_layers_and_detaches_the_real_image() -> None:
    fake, real = torch.ones(1, 3, 2, 2, requires_grad=True), torch.zeros(1, 3, 2, 2, requires_grad=True)
    loss = PerceptualLoss(TwoScales(), (1.0, 0.5))(fake, real)
    loss.backward()
    assert loss.item() == pytest.approx(1 + 0.5 * 2)
    assert fake.grad is not None and real.grad is None


def test_perceptual_loss_wants_one_weight_per_layer() -> None:
    with pytest.raises(ValueError, match="zip"):
        PerceptualLoss(TwoScales(), (1.0,))(torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))


def test_gradient_penalty_of_linear_scores_is_the_squared_length_of_the_weights() -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    first, second = (torch.nn.Conv2d(3, 1, 4, dtype=torch.float64), torch.nn.Conv2d(3, 1, 2, 2, dtype=torch.float64))
    scores = [first(image), second(image)]  # 1 and 4 places
    lengths = [conv.weight.square().sum().item() for conv in (first, second)]
    assert gradient_penalty(scores, image).item() == pytest.approx(sum(lengths) / 2 / 2, rel=1e-6)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_the_penalty_reaches_the_discriminator_by_second_derivatives(norm: str) -> None:
    torch.manual_seed(0)
    labels = LabelSet.numbered(2)
    layout = Layout(torch.randint(0, 2, (2, 24, 24)), labels)
    judge = MultiScaleDiscriminator(2, base_channels=2, num_layers=2, norm=norm).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for scale in judge.scales:
            scale.convs[0].weight.mul_(50)
            scale.convs[-1].weight.mul_(50)
    image = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    weight = judge.scales[0].convs[0].weight

    def penalty() -> torch.Tensor:
        wanted = image.clone().requires_grad_()
        return gradient_penalty(judge(layout, wanted).scores, wanted)

    penalty().backward()
    place, small = (0, 2, 1, 1), 1e-5
    found = float(weight.grad[place])
    values = []
    with torch.no_grad():
        for change in (small, -2 * small):
            weight[place] += change
            with torch.enable_grad():
                values.append(penalty().item())
    assert found != 0 and found == pytest.approx((values[0] - values[1]) / (2 * small), rel=1e-3)
