"""Starting from a trained model with other classes: rows by name, means for the rest, a sentence for what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from segscape.discriminators import MultiScaleDiscriminator
from segscape.errors import CheckpointError
from segscape.labels import LabelClass, LabelSet
from segscape.layout import Layout
from segscape.models.registry import create_model, load_model
from segscape.models.spade import SPADEGenerator
from segscape.nn.spectral import SpectralNormConv2d
from segscape.training.initialize import comparable_names, initialize, transfer
from segscape.training.loop import train
from segscape.training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
MODEL = {"name": "clade", "image_size": [32, 32], "base_channels": 1}


def labels(*names: str, unknown: int | None = None) -> LabelSet:
    classes = tuple(LabelClass(name=name, color=(number, 0, 0)) for number, name in enumerate(names))
    return LabelSet(name="-".join(names), classes=classes, unknown=unknown)


OLD = labels("sky", "Road", "tree", "void", unknown=3)
NEW = labels("unknown", "road ", "car", "sky", "bus", unknown=0)
# the new index of what the old set calls so; car and bus are new
MATCHES = {0: 3, 1: 1, 3: 0}


def model(names: LabelSet, seed: int = 0, **options: Any) -> SPADEGenerator:
    torch.manual_seed(seed)
    network = create_model("clade", labels=names, **{"image_size": (32, 32), "base_channels": 1, **options})
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and not name.endswith(("weight_u", "weight_v")):
            value.normal_(std=0.3)
    for layer in network.modules():
        if isinstance(layer, SpectralNormConv2d):
            for _ in range(10):
                layer.power_iteration()
    return network.eval()  # type: ignore[return-value]


def judge(names: LabelSet, **options: Any) -> MultiScaleDiscriminator:
    return MultiScaleDiscriminator(names.num_classes, base_channels=2, num_layers=2, num_scales=2, **options)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[SPADEGenerator, Path]]:
    def save(names: LabelSet = OLD, **options: Any) -> tuple[SPADEGenerator, Path]:
        network = model(names, seed=1, **options)
        network.save_pretrained(tmp_path / "old")
        return network, tmp_path / "old"

    return save


Saved = Callable[..., tuple[SPADEGenerator, Path]]


def check_places(old: torch.Tensor, new: torch.Tensor, classes: int = 4) -> None:
    """Compare weights whose first dimension is that of the classes, and the channels after them."""
    for place, known in MATCHES.items():
        assert torch.equal(new[place], old[known])
    for place in (2, 4):
        assert torch.allclose(new[place], old[:classes].mean(0))
    assert torch.equal(new[5:], old[4:])


def test_classes_are_matched_by_name(saved: Saved) -> None:
    old, folder = saved(norm=["spade"] * 2 + ["clade"] * 5)
    new = model(NEW, norm=["spade"] * 2 + ["clade"] * 5)
    lines = initialize(new, judge(NEW), folder)
    before, after = old.state_dict(), new.state_dict()
    check_places(before["blocks.3.norm_0.gamma"], after["blocks.3.norm_0.gamma"])
    check_places(before["blocks.3.norm_1.beta"], after["blocks.3.norm_1.beta"])
    for name in ("stem.weight", "blocks.0.norm_0.shared.weight"):
        check_places(before[name].movedim(1, 0), after[name].movedim(1, 0))
    for name, value in after.items():
        if not name.endswith((".gamma", ".beta", ".shared.weight", "stem.weight")):
            assert torch.equal(value, before[name]), name
    text = "\n".join(lines)
    assert "matched by name: 3 (unknown, road , sky)" in text
    assert "from the mean of all: 2 (car, bus)" in text and "left out: 1 (tree)" in text
    assert "the discriminator is new" in text


def test_the_same_classes_in_another_order_give_the_same_picture(saved: Saved) -> None:
    old, folder = saved(norm=["spade"] * 3 + ["clade"] * 4, use_instances=True)
    order = [2, 0, 3, 1]
    shuffled = labels(*(OLD.names[index] for index in order), unknown=2)
    new = model(shuffled, norm=["spade"] * 3 + ["clade"] * 4, use_instances=True)
    initialize(new, judge(shuffled, instances=True), folder)
    label_map = torch.randint(0, 4, (1, 32, 32), generator=torch.Generator().manual_seed(0))
    again = torch.tensor([order.index(index) for index in range(4)])[label_map]
    wanted = old(Layout(label_map, OLD, label_map))
    assert wanted.std() > 0.01 and wanted.abs().max() < 0.99
    assert torch.allclose(new(Layout(again, shuffled, label_map)), wanted, atol=1e-5)


@pytest.mark.parametrize("position", [None, "input", "feature", "modulation"])
def test_new_instances_and_positions_change_little_at_first(saved: Saved, position: str | None) -> None:
    old, folder = saved(norm=["spade"] * 2 + ["clade"] * 5)
    new = create_model(
        "clade",
        labels=OLD,
        image_size=(32, 32),
        base_channels=1,
        norm=["spade"] * 2 + ["clade"] * 5,
        use_instances=True,
        position=position,
    ).eval()
    lines = initialize(new, judge(OLD, instances=True), folder)
    assert any("new, not in the model" in line and "edge" in line for line in lines)
    for layer in new.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.weight.shape == (1, 2, 1, 1):
            torch.nn.init.zeros_(layer.weight)  # those of the position are small
    label_map = torch.randint(0, 4, (1, 32, 32), generator=torch.Generator().manual_seed(0))
    layout = Layout(label_map, OLD, label_map)
    assert old(layout).std() > 0.01 and old(layout).abs().max() < 0.99
    assert torch.allclose(new(layout), old(layout), atol=1e-4)
    back = model(OLD, norm=["spade"] * 2 + ["clade"] * 5)
    new.save_pretrained(folder.parent / "with")
    initialize(back, judge(OLD), folder.parent / "with")
    assert torch.allclose(back(layout), old(layout), atol=1e-4)


def test_a_style_may_come_and_go(saved: Saved) -> None:
    old, folder = saved()
    new = model(OLD, latent_dim=4)
    lines = initialize(new, judge(OLD), folder)
    assert any("new, not in the model" in line and "stem, encoder" in line for line in lines)
    assert torch.equal(new.blocks[3].conv_0.weight, old.blocks[3].conv_0.weight)
    new.save_pretrained(folder.parent / "styled")
    lines = initialize(model(OLD), judge(OLD), folder.parent / "styled")
    assert any("new, not in the model: 1 (stem)" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"base_channels": 2}, "base_channels is 1 there and 2 here"),
        ({"norm": "spade"}, "norm is clade there and spade here"),
        ({"spectral_norm": False}, "spectral_norm is True there and False here"),
        ({"upsampling": "more", "image_size": (64, 64)}, "upsampling is normal there and more here"),
    ],
)
def test_another_shape_is_one_sentence(saved: Saved, options: dict[str, Any], sentence: str) -> None:
    _, folder = saved()
    with pytest.raises(CheckpointError) as caught:
        initialize(model(NEW, **options), judge(NEW), folder)
    assert sentence in str(caught.value) and "only classes, instances, positional encoding" in str(caught.value)


def test_unknown_classes_match_unless_their_names_do() -> None:
    assert comparable_names(OLD, NEW)[1][0] == "void"
    assert comparable_names(OLD, labels("void", "nothing", unknown=1))[1] == ["void", "nothing"]
    assert comparable_names(OLD, labels("sky", "hole"))[1] == ["sky", "hole"]


def test_a_run_gives_its_averaged_generator_and_its_discriminator(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(images=4, snapshot_images=4, trackers=[]), tmp_path / "first")
    other = labels("road", "building", "lamp", "sky")
    generator = create_model("clade", labels=other, image_size=(32, 32), base_channels=1)
    options = {"base_channels": 2, "num_scales": 1, "num_layers": 2}
    for source in (tmp_path / "first", tmp_path / "first" / "checkpoints" / "0000000004.pt"):
        discriminator = MultiScaleDiscriminator(4, **options)
        lines = initialize(generator, discriminator, source)
        assert lines[-1].endswith("the discriminator was taken over, too")
        content = torch.load(tmp_path / "first" / "checkpoints" / "0000000004.pt", weights_only=True)
        names = load_model(tmp_path / "first" / "model").config.labels.names
        average, now = content["average"]["module.blocks.2.norm_0.gamma"], generator.blocks[2].norm_0.gamma
        assert torch.equal(now[0], average[names.index("road")]) and torch.allclose(now[2], average.mean(0))
        first = content["discriminator"]["scales.0.convs.0.weight"]
        found = discriminator.scales[0].convs[0].weight
        assert torch.equal(found[:, 3], first[:, names.index("sky")])
        assert torch.allclose(found[:, 2], first[:, :-3].mean(1)) and torch.equal(found[:, 4:], first[:, -3:])
    with pytest.raises(CheckpointError, match=r"the discriminator of .* its scales.0.convs.0.weight is"):
        initialize(generator, MultiScaleDiscriminator(4, **options | {"base_channels": 4}), tmp_path / "first")


def test_a_fine_tuned_run_resumes_without_its_source(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    source = tmp_path / "first" / "model"
    train(make_recipe(images=2, trackers=[]), tmp_path / "first")
    run = tmp_path / "second"
    train(make_recipe(images=4, snapshot_images=2, trackers=[], init_from=str(source)), run)
    source.rename(tmp_path / "gone")
    train(make_recipe(images=6, trackers=[]), run, resume=True)
    assert f"init_from: {source}" in (run / "recipe.yaml").read_text()
    for file in (run / "checkpoints").iterdir():
        file.unlink()  # as if it had died before the first one: then it begins again as it was told to
    with pytest.raises(CheckpointError, match="does not exist"):
        train(make_recipe(images=6, trackers=[]), run, resume=True)


def test_what_is_no_model_is_one_sentence(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        train(make_recipe(init_from=str(tmp_path / "nowhere")), tmp_path / "run")
    (tmp_path / "lonely.pt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"does not lie in its run's folder"):
        train(make_recipe(init_from=str(tmp_path / "lonely.pt")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_enhancer_starts_around_a_global_network(tmp_path: Path) -> None:
    """The two stages of pix2pixHD; styles come in with the second."""
    options = {"image_size": (64, 64), "base_channels": 4, "num_downsamplings": 2, "num_blocks": 1}
    options |= {"encoder_channels": 2, "encoder_downsamplings": 2}
    old = create_model("pix2pixhd", labels=OLD, **options)
    old.save_pretrained(tmp_path)
    new = create_model("pix2pixhd", labels=NEW, enhancers=1, use_instances=True, feature_channels=3, **options)
    fresh = {key: value.clone() for key, value in new.state_dict().items()}
    initialize(new, judge(NEW), tmp_path)
    taken, known = new.state_dict(), old.state_dict()
    stem = "coarse.stem.convolution.weight"
    for key, value in taken.items():
        if not key.startswith("coarse."):
            assert torch.equal(value, fresh[key]), key
        elif key != stem:
            assert torch.equal(value, known[key]), key
    for index, before in MATCHES.items():
        assert torch.equal(taken[stem][:, index], known[stem][:, before])
    assert not taken[stem][:, 5:].any()  # edges and styles change nothing yet


def test_styles_of_known_classes_are_kept(tmp_path: Path) -> None:
    options = {"image_size": (64, 64), "base_channels": 4, "num_downsamplings": 2, "num_blocks": 1}
    options |= {"feature_channels": 3, "encoder_channels": 2, "encoder_downsamplings": 2}
    old = create_model("pix2pixhd", labels=OLD, **options)
    old.cluster_counts += 1 + torch.arange(4)
    old.save_pretrained(tmp_path)
    new = create_model("pix2pixhd", labels=NEW, **options)
    initialize(new, judge(NEW), tmp_path)
    assert new.cluster_counts.tolist() == [4, 2, 0, 1, 0]


@pytest.mark.parametrize("scales", [1, 3])
def test_scales_of_a_discriminator_are_counted_from_the_coarsest(scales: int) -> None:
    old = judge(OLD)
    new = MultiScaleDiscriminator(4, base_channels=2, num_layers=2, num_scales=scales)
    names = comparable_names(OLD, OLD)
    fresh = transfer(old, new, *names, "the old one")
    for new_scale, old_scale in zip(reversed(list(new.scales)), reversed(list(old.scales)), strict=False):
        for key, value in new_scale.state_dict().items():
            assert torch.equal(value, old_scale.state_dict()[key])
    assert {key.split(".")[1] for key in fresh} == ({"0"} if scales == 3 else set())
