"""Frozen parts: neither weights, statistics nor singular vectors move, also in the averaged model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from segscape.errors import RecipeError
from segscape.labels import LabelSet
from segscape.models.registry import create_model, load_model
from segscape.training.freeze import freeze, frozen_layers
from segscape.training.loop import train
from segscape.training.recipe import Recipe


def test_a_run_leaves_frozen_parts_as_they_are(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    start = create_model("clade", labels="camvid", image_size=(32, 32), base_channels=1)
    start.save_pretrained(tmp_path / "start")
    recipe = make_recipe(
        init_from=str(tmp_path / "start"), freeze=["blocks.0.*", "stem.*", "*.conv_s.weight"], images=8
    )
    saved = load_model(train(recipe, tmp_path / "run")).state_dict()
    content = torch.load(next((tmp_path / "run" / "checkpoints").glob("*8.pt")), weights_only=True)
    for name, before in start.state_dict().items():
        frozen = name.startswith(("blocks.0.", "stem.")) or ".conv_s." in name
        for after in (saved[name], content["generator"][name]):
            if frozen:
                assert torch.equal(after, before), name
        if not frozen and before.numel() > 4 and name.endswith(("weight", "gamma", "running_mean", "weight_u")):
            assert not torch.equal(content["generator"][name], before), name


def test_frozen_parts_thaw(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    start = create_model("clade", labels="camvid", image_size=(32, 32), base_channels=1)
    start.save_pretrained(tmp_path / "start")
    recipe = make_recipe(
        init_from=str(tmp_path / "start"), freeze=["blocks.*"], thaw_images=4, images=8, snapshot_images=4, ema=None
    )
    train(recipe, tmp_path / "run")
    runs = {int(path.stem.split("-")[-1]): path for path in (tmp_path / "run" / "checkpoints").glob("*.pt")}
    states = {images: torch.load(path, weights_only=True)["generator"] for images, path in runs.items()}
    weights = "blocks.5.conv_0.weight"
    assert torch.equal(states[4][weights], start.state_dict()[weights])
    assert not torch.equal(states[4]["to_rgb.weight"], start.state_dict()["to_rgb.weight"])
    assert not torch.equal(states[8][weights], states[4][weights])


def test_what_thaws_between_two_snapshots_is_in_training_mode(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make_recipe(freeze=["blocks.*"], thaw_images=4, images=8, snapshot_images=8, ema=None)
    train(recipe, tmp_path / "run")
    (path,) = (tmp_path / "run" / "checkpoints").glob("*.pt")
    steps = torch.load(path, weights_only=True)["generator"]["blocks.5.norm_0.statistics.num_batches_tracked"]
    assert steps == 2 * 2  # of four steps the last two, in each of which the generator runs twice


def test_what_is_no_longer_named_is_trained_again() -> None:
    network = create_model("clade", labels=LabelSet.numbered(2), image_size=(32, 32), base_channels=1).train()
    freeze(network, ["blocks.*"])
    freeze(network.train(), ["stem.*"])
    frozen = {name.split(".")[0] for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"stem"}


def test_layers_are_frozen_as_a_whole_or_not_at_all() -> None:
    network = create_model("clade", labels=LabelSet.numbered(2), image_size=(32, 32), base_channels=1).train()
    freeze(network, ["blocks.1.conv_0.weight", "blocks.2.conv_0.*", "blocks.3.norm_0.statistics.*"])
    block = network.blocks
    assert not block[1].conv_0.weight.requires_grad and block[1].conv_0.bias.requires_grad
    assert block[1].conv_0.training and not block[2].conv_0.training and not block[3].norm_0.statistics.training
    assert block[3].norm_0.training
    assert len(frozen_layers(network, ["*"])) == len(frozen_layers(network, ["blocks.*", "stem.*", "to_rgb.*"]))


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("blocks.0.conv_0.wieght", "near it are blocks.0.conv_0.weight"),
        ("encoder.*", "names begin with stem, blocks, to_rgb"),
    ],
)
def test_a_pattern_that_matches_nothing_names_what_is_near(
    make_recipe: Callable[..., Recipe], tmp_path: Path, pattern: str, hint: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        train(make_recipe(freeze=[pattern]), tmp_path / "run")
    assert f"no weight's name matches '{pattern}'" in str(caught.value) and hint in str(caught.value)
    assert not (tmp_path / "run").exists()
