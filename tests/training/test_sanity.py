"""The short trial: it passes where training can work, and names what is wrong where it cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import segscape.training.sanity as sanity
from segscape.data.sample import Batch
from segscape.labels import LABEL_SETS
from segscape.layout import Layout
from segscape.models.generator import Generator
from segscape.training.recipe import Recipe
from segscape.training.sanity import check_sanity, look_at_pairs
from segscape.training.steps import StyledGenerator

MakeRecipe = Callable[..., Recipe]
MODEL = {"name": "clade", "image_size": [32, 32], "base_channels": 2}
CAMVID = LABEL_SETS["camvid"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanity, "LOSS_STEPS", 8)
    monkeypatch.setattr(sanity, "OVERFIT_STEPS", 50)


def test_what_works_passes(make_recipe: MakeRecipe) -> None:
    findings = {finding.topic: finding for finding in check_sanity(make_recipe(model=MODEL), share=0.6)}
    assert list(findings) == ["data", "losses", "gradients", "overfitting", "layouts", "saved model"]
    assert all(finding.passed for finding in findings.values()), [str(finding) for finding in findings.values()]
    assert "4 pairs of 32x32; 3 of 12 classes" in findings["data"].sentence
    assert "mean absolute distance" in findings["overfitting"].sentence


def test_models_with_a_style_and_perceptual_features(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanity, "OVERFIT_STEPS", 3)
    objective = {"features": "efficientnet-lite0", "r1": 1.0}
    recipe = make_recipe(model={**MODEL, "latent_dim": 4}, objective=objective)
    findings = {finding.topic: finding for finding in check_sanity(recipe, share=0.99)}
    assert "perceptual distance" in findings["overfitting"].sentence and findings["gradients"].passed
    assert "the generator's perceptual one fell" in findings["losses"].sentence


class Blind(StyledGenerator):
    """Sees no layout."""

    def forward(self, layout: Layout, image: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        zeros = Layout(torch.zeros_like(layout.label_map), layout.labels)
        result: tuple[Tensor, Tensor | None] = super().forward(zeros, image, noise)
        return result


def test_a_model_that_does_not_look_at_layouts_is_found(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sanity, "StyledGenerator", Blind)
    monkeypatch.setattr(sanity, "OVERFIT_STEPS", 3)
    findings = {finding.topic: finding for finding in check_sanity(make_recipe(model=MODEL), share=0.3)}
    assert not findings["overfitting"].passed and "0.3 was expected" in findings["overfitting"].sentence
    assert not findings["layouts"].passed and "hardly depend on them" in findings["layouts"].sentence


def test_losses_that_explode_end_the_trial(make_recipe: MakeRecipe) -> None:
    findings = list(check_sanity(make_recipe(optimizer={"generator_lr": 1e20, "discriminator_lr": 1e20})))
    assert [finding.topic for finding in findings] == ["data", "losses"] and not findings[-1].passed
    assert "lower the learning rates" in findings[-1].sentence


def test_a_layer_without_gradient_is_named(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    build = sanity.build_generator

    def with_idle_layer(*arguments: object) -> Generator:
        generator = build(*arguments)  # type: ignore[arg-type]
        generator.idle = torch.nn.Linear(1, 1)
        return generator

    monkeypatch.setattr(sanity, "build_generator", with_idle_layer)
    findings = list(check_sanity(make_recipe()))
    assert findings[-1].topic == "gradients" and "(generator.idle)" in findings[-1].sentence.replace(": ", "(", 1) + ")"
    assert not findings[-1].passed and "1 of " in findings[-1].sentence


def batch(label_maps: torch.Tensor, contrast: float = 1.0) -> Batch:
    source = torch.Generator().manual_seed(0)
    images = contrast * (torch.rand(len(label_maps), 3, 8, 8, generator=source) * 2 - 1)
    return Batch(images, Layout(label_maps, CAMVID), ("a", "b"))


def test_pairs_that_cannot_be_right() -> None:
    good = torch.arange(2 * 64).view(2, 8, 8) % 11
    good[1] = good[0].flip(0)
    assert look_at_pairs(batch(good)).passed
    assert "photograph a is one colour" in look_at_pairs(batch(good, 0.01)).sentence
    assert "all pixels of the layouts are 'sky'" in look_at_pairs(batch(torch.zeros_like(good))).sentence
    assert "the layouts are all the same" in look_at_pairs(batch(good[:1].repeat(2, 1, 1))).sentence
