from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from segscape.errors import ConfigError, LayoutError, StyleError
from segscape.evaluation.cost.complexity import Complexity, count
from segscape.inference import accelerate
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model, load_model
from segscape.models.groupdnet import PUBLISHED, GroupDNet, GroupDNetConfig
from segscape.models.registry import variant
from segscape.style import Style
from segscape.training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
LABELS = LabelSet.numbered(4)
SETTINGS: dict[str, dict[str, object]] = {
    "deepfashion": {"labels": 8},
    "cityscapes": {"labels": 35, "image_size": (256, 512), "use_instances": True},
    "ade20k": {"labels": 151},
    "celebamask-hq": {"labels": 19},
}


def config_of(dataset: str, name: str = "groupdnet") -> GroupDNetConfig:
    return GroupDNetConfig.build(**{**SETTINGS[dataset], **PUBLISHED[dataset], **variant(name).options, "model": name})


def build(dataset: str, name: str = "groupdnet") -> GroupDNet:
    with torch.device("meta"):
        return GroupDNet(config_of(dataset, name))


def small(name: str = "groupdnet", **options: object) -> GroupDNet:
    """A small generator whose spectral norms have settled, with visible modulation."""
    torch.manual_seed(0)
    defaults = {"labels": LABELS, "image_size": (64, 64), "base_channels": 4, "encoder_channels": 2}
    model = create_model(name, **{**defaults, "upsampling": "normal", **options})  # type: ignore[arg-type]
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.mul_(
                30 if key.endswith((".gamma.weight", ".beta.weight", ".shared.weight", "to_rgb.weight")) else 1
            )
        given = layout(model.config.image_size)
        for _ in range(3):
            model.train()(given, model.sample_style(given))
            model.encode(photo(), layout())
    return model.eval()  # type: ignore[return-value]


def layout(size: tuple[int, int] = (64, 64)) -> Layout:
    """Class 0 left, 1 right, 2 in a square in the middle; of class 3 there is nothing."""
    label_map = torch.zeros(1, *size, dtype=torch.long)
    label_map[:, :, size[1] // 2 :] = 1
    label_map[:, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 2
    return Layout(label_map, LABELS, label_map)


def photo(size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def tables(model: GroupDNet) -> int:
    return sum(p.numel() for key, p in model.named_parameters() if key.endswith((".gamma", ".beta")))


def costs(found: Complexity, scale: float = 1e9) -> tuple[float, float]:
    return round(found.total.macs / scale, 3), round(found.total.paper_macs / scale, 3)


# parameters; multiply-accumulates and the paper's FLOPs, in G
COUNTS = [
    ("deepfashion", 96_324_451, 291.333, 291.607),
    ("cityscapes", 76_501_358, 462.720, 463.605),
    ("ade20k", 68_326_847 - 1_868_132, 382.728, None),  # without the official block that never runs
    ("celebamask-hq", 145_289_583, 225.057, 225.529),
]
COUNTS_CLADE = [
    ("deepfashion", 79_676_323, 79.239, 118.487, 118.528),
    ("cityscapes", 61_007_243, 57.656, 435.494, 435.639),
    ("celebamask-hq", 136_616_083, 134.641, 213.560, 213.638),
]


@pytest.mark.parametrize(("dataset", "size", "macs", "flops"), COUNTS)
def test_counts(dataset: str, size: int, macs: float, flops: float | None) -> None:
    found = count(build(dataset))
    assert found.total.parameters == size
    assert costs(found)[0] == macs
    assert flops is None or costs(found)[1] == flops


@pytest.mark.parametrize(("dataset", "size", "without_tables", "macs", "flops"), COUNTS_CLADE)
def test_counts_with_clade(dataset: str, size: int, without_tables: float, macs: float, flops: float) -> None:
    """Table VIII leaves the tables out of the parameters."""
    model = build(dataset, "groupdnet-clade")
    found = count(model)
    assert found.total.parameters == size
    assert round((size - tables(model)) / 1e6, 3) == without_tables
    assert costs(found) == (macs, flops)


@pytest.mark.parametrize(
    ("dataset", "size", "macs"),
    [("deepfashion", 12_835_712, 2.307), ("cityscapes", 5_768_210, 2.193), ("ade20k", 4_411_012, 0.924)],
)
def test_counts_of_the_encoder(dataset: str, size: int, macs: float) -> None:
    model = build(dataset)
    config = model.config
    assert sum(p.numel() for p in model.encoder.parameters()) == size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.encoder(torch.zeros(1, 3 * config.labels.num_classes, *config.image_size, device="meta"))
    assert round(counter.get_total_flops() / 2e9, 3) == macs


@pytest.mark.parametrize("name", ["groupdnet", "groupdnet-clade"])
@pytest.mark.parametrize("dataset", PUBLISHED)
def test_recipes_have_the_published_networks(dataset: str, name: str) -> None:
    model = load_recipe(RECIPES / f"{dataset}-{name}.yaml").model
    options = {**variant(model.name).options, "modulation": PUBLISHED[dataset]["modulation"], **model.options}
    found = GroupDNetConfig.build(model=model.name, labels=SETTINGS[dataset]["labels"], **options)
    assert found == config_of(dataset, name)


@pytest.mark.parametrize(("classes", "width"), [(19, 304), (35, 280), (4, 304), (151, 302)])
def test_defaults_for_any_number_of_classes(classes: int, width: int) -> None:
    config = GroupDNetConfig.build(labels=classes)
    assert config.base_channels == width and config.widths[0] == 16 * width
    assert config.groups == (classes, classes, 8, 8, 4, 4, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_channels": 6}, "is not divisible by the number of classes"),
        ({"groups": (4, 4, 3, 1, 1, 1, 1)}, r"groups\[2\] \(3\)"),
        ({"groups": (4, 4)}, "need 8 and 7"),
        ({"image_size": (48, 64)}, "is not a multiple of 32"),
        ({"image_size": (32, 32)}, "leaves the codes a grid of 1x1"),
        ({"widths": (64, 64, 64, 64, 32, 16, 8, 8)}, "where base_channels is 4"),
        ({"modulation": "by-group", "use_instances": True}, "'by-class' only"),
        ({"modulation": "by-group"}, "number of classes"),
        ({"stem_groups": 5}, "stem_groups"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**options)


MODELS = [
    ("groupdnet", {}),
    ("groupdnet", {"use_instances": True}),
    ("groupdnet", {"modulation": "by-group", "groups": (4, 4, 2, 2, 1, 1, 1), "hidden_channels": 8}),
    ("groupdnet", {"modulation": "class-to-group", "upsampling": "more", "image_size": (64, 128)}),
    ("groupdnet", {"statistics": "instance"}),
    ("groupdnet-clade", {}),
]


@pytest.mark.parametrize(("name", "options"), MODELS)
def test_every_kind(name: str, options: dict[str, object], tmp_path: Path) -> None:
    model = small(name, **options)
    given = layout(model.config.image_size)
    style = model.sample_style(given, torch.Generator().manual_seed(0))
    assert style is not None and tuple(style.values.shape) == (1, *model.config.style_shape)
    image = model(given, style)
    assert image.shape == (1, 3, *given.size) and image.std() > 0.001 and image.abs().max() < 1
    torch.testing.assert_close(accelerate(model)(given, style), image, rtol=0, atol=3e-5)
    model.save_pretrained(tmp_path)
    assert torch.equal(load_model(tmp_path)(given, style), image)


@pytest.mark.parametrize("name", ["groupdnet", "groupdnet-clade"])
def test_every_parameter_learns(name: str) -> None:
    model = small(name).train()
    encoded = model.encode(photo(), layout())
    noise = torch.randn(encoded.mean.values.shape)
    model(layout(), encoded.draw(noise)).square().sum().backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not still


def test_without_a_style_the_mean_of_the_prior_is_taken() -> None:
    model = small()
    neutral = Style(torch.zeros(1, *model.config.style_shape))
    assert torch.equal(model(layout()), model(layout(), neutral))


def test_codes_are_those_of_the_class_images() -> None:
    """A code follows its class's pixels; an absent class has the same code in every photo, and is not present."""
    model, image = small(), photo()
    repainted = torch.where(layout().label_map.unsqueeze(1) == 2, -image, image)
    one, other = model.encode(image, layout()), model.encode(repainted, layout())
    assert one.mean.present is not None and one.mean.present.tolist() == [[True, True, True, False]]
    same = (one.mean.values == other.mean.values).all(2)[0].tolist()
    assert same == [True, True, False, True]
    absent = model.encoder.mean.bias.view(4, 8, 1).expand(4, 8, 4).reshape(4, 32)[3]
    torch.testing.assert_close(one.mean.values[0, 3], absent)


def test_with_clade_the_discriminator_alone_reads_instances() -> None:
    bare = Layout(layout().label_map, LABELS)
    model = small("groupdnet-clade", use_instances=True)
    assert torch.equal(model(bare), model(layout()))
    assert model.encode(photo(), bare).mean.kind == "codes"
    with pytest.raises(LayoutError, match="no instance map"):
        small(use_instances=True)(bare)


def test_reference_photos_have_any_size() -> None:
    encoded = small().encode(photo((40, 90)), layout((40, 90)))
    assert encoded.mean.values.shape == (1, 4, 32)
    with pytest.raises(LayoutError, match="reference photo is 64x64, the photo 40x90: resize"):
        small().encode(photo((40, 90)), layout())


def test_a_code_changes_the_channels_of_its_class() -> None:
    """Behind the first two blocks, whose groups are the classes; and of the image, above all its own region."""
    model, given = small(), layout()
    style = model.sample_style(given, torch.Generator().manual_seed(0))
    other = model.sample_style(given, torch.Generator().manual_seed(1))
    assert style is not None and other is not None
    seen: list[Tensor] = []
    model.blocks[1].register_forward_hook(lambda *args: seen.append(args[2]))
    model(given, style), model(given, style.replace_classes(other, [2]))
    changed = (seen[0] != seen[1]).any(3).any(2)[0].view(4, -1).any(1)
    assert changed.tolist() == [False, False, True, False]


def test_wrong_styles() -> None:
    model = small()
    with pytest.raises(StyleError, match="of the kind 'latent'"):
        model(layout(), Style(torch.zeros(1, 32)))
    with pytest.raises(StyleError, match=r"takes \[1, 4, 32\]"):
        model(layout(), Style(torch.zeros(1, 4, 8)))
