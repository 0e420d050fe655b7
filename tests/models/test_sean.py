from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segscape.discriminators import MultiScaleDiscriminator
from segscape.errors import ConfigError, StyleError
from segscape.evaluation.cost.complexity import Complexity, count
from segscape.evaluation.cost.published import build_on_paper
from segscape.inference import accelerate
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model, load_model
from segscape.models.sean import SEANGenerator
from segscape.nn.noise import AddedNoise, noise_from
from segscape.style import Style
from segscape.training.recipe import MultiScaleSection, load_recipe

LABELS = LabelSet.numbered(5)
RECIPES = Path(__file__).parents[2] / "recipes"


def small(name: str = "sean", **options: object) -> SEANGenerator:
    torch.manual_seed(0)
    defaults = {"labels": LABELS, "image_size": (64, 64), "base_channels": 2, "hidden_channels": 4}
    model = create_model(name, **{**defaults, "style_dim": 6, "encoder_channels": 2, **options})  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()  # type: ignore[return-value]


def layout(instances: bool = False) -> Layout:
    """Class 4 is missing in both, class 0 in the second."""
    blocks = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    blocks[1][blocks[1] == 0] = 1
    label_map = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return Layout(label_map, LABELS, label_map if instances else None)


def photo() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1


def seeded(model: nn.Module, *arguments: object) -> Tensor:
    with noise_from(model, torch.Generator().manual_seed(3)), torch.no_grad():
        image: Tensor = model(*arguments)
        return image


@pytest.mark.parametrize("instances", [False, True])
def test_codes_are_the_means_of_the_regions(instances: bool) -> None:
    model, where = small(use_instances=instances), layout(instances)
    style = model.encode(photo(), where).mean
    features = model.style_encoder.features(photo())
    semantic = where.semantic_map((32, 32), edges=instances) > 0
    assert style.kind == "codes" and style.present is not None
    for image in range(2):
        for j in range(5 + instances):
            inside = features[image][:, semantic[image, j]]
            expected = inside.mean(1) if inside.numel() else torch.zeros(6)
            torch.testing.assert_close(style.values[image, j], expected)
            assert style.present[image, j] == bool(inside.numel())
    assert not style.present[:, 4].any() and not style.values[:, 4].any()


def test_without_a_style_it_takes_the_mean_codes() -> None:
    model = small()
    model.fit_mean_codes([model.encode(photo(), layout()).mean])
    mean = Style(model.mean_codes.expand(2, -1, -1))
    assert torch.equal(seeded(model, layout()), seeded(model, layout(), mean))


def test_mean_codes_are_over_the_photos_that_have_the_class() -> None:
    model, codes = small(), torch.randn(3, 5, 6)
    present = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 0, 1, 0, 0]]).bool()
    model.fit_mean_codes([Style(codes[:2], present[:2]), Style(codes[2:], present[2:])])
    expected = torch.stack([codes[:, 0].mean(0), codes[0, 1], codes[1:, 2].mean(0), torch.zeros(6), torch.zeros(6)])
    torch.testing.assert_close(model.mean_codes, expected)
    assert model.code_counts.tolist() == [3, 1, 2, 0, 0]
    filled = model.completed(Style(codes, present))
    assert filled.present is not None
    assert filled.present.all(0).tolist() == [True, True, True, False, False]
    torch.testing.assert_close(filled.values[0, 2], expected[2])
    assert torch.equal(filled.values[present], codes[present])


def test_mean_codes_of_nothing_or_of_another_model_are_refused() -> None:
    with pytest.raises(StyleError, match="no styles to average"):
        small().fit_mean_codes([])
    with pytest.raises(StyleError, match=r"shape \[1, 4, 6\] cannot be averaged"):
        small().fit_mean_codes([Style(torch.zeros(1, 4, 6))])


def test_mean_codes_are_saved(tmp_path: Path) -> None:
    model = small()
    model.fit_mean_codes([model.encode(photo(), layout()).mean])
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(seeded(loaded, layout()), seeded(model, layout()))


def test_a_class_changes_with_its_code_only_if_the_layout_has_it() -> None:
    model, where = small(), layout()
    codes = torch.randn(2, 5, 6)
    plain = seeded(model, where, Style(codes))
    for j, shown in ((4, [False, False]), (0, [True, False]), (1, [True, True])):
        other = codes.clone()
        other[:, j] += 1
        changed = (seeded(model, where, Style(other)) != plain).flatten(1).any(1)
        assert changed.tolist() == shown


@pytest.mark.parametrize("style", [Style(torch.zeros(2, 6)), Style(torch.zeros(2, 4, 6))])
def test_other_styles_are_refused(style: Style) -> None:
    with pytest.raises(StyleError, match=r"takes 'codes'|takes \[2, 5, 6\]"):
        small()(layout(), style)


def test_noise_acts_in_evaluation_and_can_be_repeated() -> None:
    model, style = small(), Style(torch.randn(2, 5, 6))
    assert torch.equal(seeded(model, layout(), style), seeded(model, layout(), style))
    assert not torch.equal(model(layout(), style), seeded(model, layout(), style))


@pytest.mark.parametrize("name", ["sean", "sean-clade"])
@pytest.mark.parametrize("instances", [False, True])
def test_accelerated_it_gives_the_same(name: str, instances: bool) -> None:
    model, where = small(name, use_instances=instances), layout(instances)
    fast = accelerate(model)
    style = model.encode(photo(), where).mean
    torch.testing.assert_close(fast.encode(photo(), where).mean.values, style.values)
    torch.testing.assert_close(seeded(fast, where, style), seeded(model, where, style), rtol=0, atol=3e-5)


def counted(name: str, dataset: str) -> Complexity:
    return count(build_on_paper(name, dataset))


# parameters with tables; multiply-accumulates in G, measured on the official network (SEAN) and on the deduced one
COUNTS = [
    ("sean", "celebamask-hq", 266_907_367, 342.446, 346.30),
    ("sean", "deepfashion", 223_239_655, 339.073, 342.92),
    ("sean", "cityscapes", 330_424_039, 674.108, 681.80),
    ("sean-clade", "celebamask-hq", 241_690_087, 243.391, 247.13),
    ("sean-clade", "deepfashion", 198_009_703, 243.342, 247.08),
    ("sean-clade", "cityscapes", 305_225_191, 468.632, 476.10),
]


@pytest.mark.parametrize(("name", "dataset", "parameters", "macs", "paper"), COUNTS)
def test_counts(name: str, dataset: str, parameters: int, macs: float, paper: float) -> None:
    """The official code runs the layers of the classes that a map has: of 35, some do not fit into 4x8 pixels."""
    complexity = counted(name, dataset)
    assert complexity.total.parameters == parameters
    missing = complexity.total.macs / 1e9 - macs
    assert -1e-3 <= missing <= 30 * 512**2 / 1e9
    # Table VIII counts the values that batch norm reads and the biases of the encoder's transposed convolution, too
    size = complexity.size[0] * complexity.size[1]
    elements = {256 * 256: 40_501_248, 256 * 512: 80_003_072}[size] + 256 * size // 4
    assert (complexity.total.paper_macs + elements) / 1e9 == pytest.approx(paper, abs=0.015)


def test_the_published_count_of_sean_clade_leaves_its_tables_out() -> None:
    for dataset, printed in (("celebamask-hq", 241.3), ("deepfashion", 197.8), ("cityscapes", 304.5)):
        complexity = counted("sean-clade", dataset)
        classes = build_on_paper("sean-clade", dataset).config.labels.num_classes
        assert round((complexity.total.parameters - 21_888 * classes) / 1e6, 1) == printed


def test_discriminator() -> None:
    section = load_recipe(RECIPES / "celebamask-hq-sean.yaml").discriminator
    assert isinstance(section, MultiScaleSection)
    with torch.device("meta"):
        judge = section.build(19, False)
        where = Layout(torch.zeros(1, 256, 256, dtype=torch.long), LabelSet.numbered(19), check=False)
        judged = judge(where, torch.zeros(1, 3, 256, 256))
    assert isinstance(judge, MultiScaleDiscriminator)
    assert sum(parameter.numel() for parameter in judge.parameters()) == 1_364_098
    outputs = [[*group, score] for group, score in zip(judged.features, judged.scores, strict=True)]
    shapes = [[tuple(feature.shape[1:]) for feature in scale] for scale in outputs]
    assert shapes == [
        [(64, 129, 129), (128, 65, 65), (256, 33, 33), (1, 34, 34)],
        [(64, 65, 65), (128, 33, 33), (256, 17, 17), (1, 18, 18)],
    ]


def test_options_of_spade_that_it_lacks_are_refused() -> None:
    for option in ({"latent_dim": 8}, {"position": "modulation"}, {"upsampling": "most", "image_size": (128, 128)}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            small(**option)


@pytest.mark.parametrize("name", ["sean", "sean-clade"])
@pytest.mark.parametrize("data", ["celebamask-hq", "deepfashion", "cityscapes"])
def test_recipes_build_the_model(name: str, data: str) -> None:
    recipe = load_recipe(RECIPES / f"{data}-{name}.yaml")
    narrow = {"base_channels": 1, "style_dim": 2, "encoder_channels": 1}
    model = create_model(recipe.model.name, labels=LABELS, **recipe.model.options | narrow)
    assert isinstance(model, SEANGenerator) and model.config.model == name and recipe.preprocess is not None
    assert recipe.preprocess.output_size((300, 700)) == model.config.image_size
    assert isinstance(recipe.discriminator, MultiScaleSection) and recipe.discriminator.last_stride == 2


def test_every_norm_but_those_of_the_last_block_has_a_style_branch() -> None:
    model = small()
    styled = [norm.style is not None for block in model.blocks for norm in block.children() if hasattr(norm, "style")]
    assert (styled.count(True), styled.count(False)) == (15, 3)
    assert sum(isinstance(layer, AddedNoise) for layer in model.modules()) == 18
