from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from segscape.errors import ConfigError
from segscape.evaluation.cost.complexity import count, count_macs
from segscape.evaluation.cost.published import build_on_paper
from segscape.inference import accelerate
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.dagan import DAGANGenerator
from segscape.training.recipe import load_recipe

LABELS = LabelSet.numbered(5)
RECIPES = Path(__file__).parents[2] / "recipes"


def small(name: str = "dagan", **options: object) -> DAGANGenerator:
    torch.manual_seed(0)
    defaults = {"labels": LABELS, "image_size": (64, 64), "base_channels": 2, "hidden_channels": 4}
    return create_model(name, **{**defaults, **options}).eval()  # type: ignore[arg-type, return-value]


def layout(size: tuple[int, int] = (64, 96)) -> Layout:
    blocks = torch.randint(0, 5, (2, size[0] // 8, size[1] // 8), generator=torch.Generator().manual_seed(1))
    return Layout(blocks.repeat_interleave(8, 1).repeat_interleave(8, 2), LABELS)


def test_with_both_gates_at_a_half_and_nothing_projected_it_is_spade() -> None:
    model, plain = small(), small("spade")
    for parameter in model.attention.parameters():
        nn.init.zeros_(parameter)  # y = (1/2 + 1/2) * x + 0
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "attention" not in name})
    torch.testing.assert_close(model(layout()), plain(layout()))


def test_the_attention_reads_what_the_last_block_reads() -> None:
    model = small()
    seen: dict[str, torch.Tensor] = {}
    model.blocks[6].register_forward_hook(lambda _, inputs, y: seen.update(given=inputs[0], made=y))
    model.attention.register_forward_hook(lambda _, inputs, y: seen.update(before=inputs[0], x=inputs[1]))
    model(layout())
    assert torch.equal(seen["before"], seen["given"]) and torch.equal(seen["x"], seen["made"])


# dataset, options: parameters, multiply-accumulates (specification, from the official network)
COUNTS = {
    "ade20k": (96_578_709, 185_983_102_976),
    "coco-stuff": (97_567_125, 195_973_099_520),
    "cityscapes": (93_134_229, 290_942_660_608),
}


@pytest.mark.parametrize("dataset", COUNTS)
def test_counts(dataset: str) -> None:
    cost = count(build_on_paper("dagan", dataset)).total
    assert (cost.parameters, cost.macs) == COUNTS[dataset]


@pytest.mark.parametrize(
    ("classes", "size", "expected"),
    [(13, 1024, (92_445_333, 2_307_307_876_352)), (19, 512, (92_625_045, 584_092_430_336))],
)
def test_counts_of_large_images(classes: int, size: int, expected: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = create_model("dagan", labels=classes, image_size=(size, size))
    cost = count(model).total
    assert (cost.parameters, cost.macs) == expected


def test_what_attention_adds_to_spade() -> None:
    with torch.device("meta"):
        attention = build_on_paper("dagan", "ade20k").attention  # type: ignore[union-attr]
        before, x = torch.zeros(1, 128, 256, 256), torch.zeros(1, 64, 256, 256)
    assert sum(parameter.numel() for parameter in attention.parameters()) == 86_226
    macs = count_macs(attention, lambda: attention(before, x))
    assert macs["scale"].plain == 12_288 and round(macs["position"].plain / 1e6, 1) == 1.2


def test_accelerated_it_gives_the_same() -> None:
    model = small()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    torch.testing.assert_close(accelerate(model)(layout()), model(layout()), rtol=0, atol=3e-5)


def test_the_largest_up_sampling_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="upsampling: Input should be 'normal' or 'more'"):
        small(upsampling="most", image_size=(128, 128))


@pytest.mark.parametrize("data", ["ade20k", "cityscapes", "coco-stuff", "celebamask-hq", "deepfashion"])
def test_recipes_build_the_model(data: str) -> None:
    recipe = load_recipe(RECIPES / f"{data}-dagan.yaml")
    model = create_model(recipe.model.name, labels=LABELS, **recipe.model.options | {"base_channels": 1})
    assert isinstance(model, DAGANGenerator) and recipe.preprocess is not None
    assert recipe.preprocess.output_size((300, 700)) == model.config.image_size
