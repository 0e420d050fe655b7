"""Counts against the tables of the CLADE paper, measurements of the official networks, and arithmetic by hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import LayoutError
from segscape.evaluation.cost import complexity
from segscape.evaluation.cost.complexity import Complexity, Cost, Pair, average, count, count_macs, outermost_norms
from segscape.layout import Layout
from segscape.models import create_model
from segscape.nn.conditional import ConditionalNorm
from segscape.style import Style
from tests.zoo import SIZE, TINY, build

DATASETS: dict[str, dict[str, Any]] = {
    "ade20k": {"labels": 151},
    "coco-stuff": {"labels": 183, "use_instances": True},
    "cityscapes": {"labels": 35, "use_instances": True, "image_size": (256, 512), "upsampling": "more"},
    "celebamask-hq": {"labels": 19},
}


@cache
def counted(name: str, dataset: str, base_channels: int | None = None, latent_dim: int | None = None) -> Complexity:
    options = {**DATASETS[dataset], "latent_dim": latent_dim}
    with torch.device("meta"):
        return count(create_model(name, **options, **({"base_channels": base_channels} if base_channels else {})))


@pytest.mark.parametrize(
    ("name", "dataset", "parameters", "macs", "paper"),
    [
        ("spade", "ade20k", 96_492_483, 181.150, 181.28),
        ("clade", "ade20k", 71_427_267, 42.212, 42.23),
        ("clade-icpe", "ade20k", 71_427_375, 42.214, None),
        ("spade", "coco-stuff", 97_480_899, 191.140, 191.27),
        ("clade", "coco-stuff", 72_505_383, 42.392, 42.41),
        ("clade-icpe", "coco-stuff", 72_505_491, 42.393, None),
        ("spade", "cityscapes", 93_048_003, 281.277, 281.54),
        ("clade", "cityscapes", 67_901_991, 75.509, 75.54),
        ("clade-icpe", "cityscapes", 67_902_099, 75.512, None),
        ("spade", "celebamask-hq", 92_538_819, 141.190, None),
        ("clade", "celebamask-hq", 67_321_539, 42.135, None),
    ],
)
def test_official_networks(name: str, dataset: str, parameters: int, macs: float, paper: float | None) -> None:
    total = counted(name, dataset).total
    assert total.parameters == parameters
    assert round(total.macs / 1e9, 3) == macs
    if paper is not None:
        assert round(total.paper_macs / 1e9, 2) == paper


@pytest.mark.parametrize("name", TINY)
def test_every_system_is_counted(name: str) -> None:
    model = build(name)
    found = count(model)
    encoder = getattr(model, "encoder", None)
    learned = [p.numel() for key, p in model.named_parameters() if encoder is None or not key.startswith("encoder.")]
    assert found.total.parameters == sum(learned)
    assert found.backbone + found.norms == found.total and found.norms.parameters < found.total.parameters
    assert 0 < found.total.macs < found.total.paper_macs
    if not model.config.fixed_size:
        larger = count(model, (2 * SIZE[0], 2 * SIZE[1]))
        assert larger.total.parameters == found.total.parameters and larger.total.macs > 2 * found.total.macs


@pytest.mark.parametrize(
    ("dataset", "base_channels", "parameters", "paper"),
    [("ade20k", 8, 7_505_851, 58.015), ("coco-stuff", 8, 8_228_155, 67.988), ("cityscapes", 32, 30_218_467, 132.919)],
)
def test_spade_light(dataset: str, base_channels: int, parameters: int, paper: float) -> None:
    total = counted("spade-light", dataset, base_channels).total
    assert total.parameters == parameters and round(total.paper_macs / 1e9, 3) == paper


@pytest.mark.parametrize(
    ("dataset", "backbone", "spade", "clade"),
    [("ade20k", 68.122, 28.370, 3.305), ("cityscapes", 67.062, 25.986, 0.840), ("coco-stuff", 68.426, 29.055, 4.079)],
)
def test_split_of_table_3(dataset: str, backbone: float, spade: float, clade: float) -> None:
    for name, norms in (("spade", spade), ("clade", clade)):
        found = counted(name, dataset)
        assert round(found.backbone.parameters / 1e6, 3) == backbone
        assert round(found.norms.parameters / 1e6, 3) == norms
        assert found.backbone + found.norms == found.total
    assert counted("spade", dataset).backbone == counted("clade", dataset).backbone


def test_clade_costs_no_multiplication_but_for_instances() -> None:
    assert counted("clade", "ade20k").norms.macs == 0
    # each norm: a 1x1 convolution of the edges, and one more input channel of the convolution after it
    channels = [(1024, 9), (1024, 9)] * 3 + [(512, 9), (512, 9), (512, 1)]
    channels += [(256, 9), (256, 9), (256, 1), (128, 9), (128, 9), (128, 1), (64, 9), (64, 9), (64, 1)]
    sides = [8] * 2 + [16] * 4 + [32] * 3 + [64] * 3 + [128] * 3 + [256] * 3
    by_hand = sum((1 + width * kernel) * side**2 for (width, kernel), side in zip(channels, sides, strict=True))
    assert counted("clade", "coco-stuff").norms.macs == by_hand


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    # section 3.3 prints 0.07 % and 0.14 % for CLADE's and CLADE-ICPE's MACs: half of what its equations 11, 17 give
    [("spade", "39.21", "234.73"), ("clade", "4.57", "0.14"), ("clade-icpe", "4.57", "0.28")],
)
def test_average_ratios_of_the_paper(name: str, parameters: str, macs: str) -> None:
    whole = average(layer.equations for layer in counted(name, "ade20k").layers)
    assert (f"{whole.parameter_ratio:.2%}", f"{whole.mac_ratio:.2%}") == (f"{parameters}%", f"{macs}%")


def test_half_of_the_equations_is_what_the_paper_prints() -> None:
    halves = [average(y.equations for y in counted(n, "ade20k").layers).mac_ratio / 2 for n in ("clade", "clade-icpe")]
    assert [f"{half:.2%}" for half in halves] == ["0.07%", "0.14%"]


@pytest.mark.parametrize("name", ["spade", "clade", "clade-icpe"])
def test_every_layer_by_the_equations(name: str) -> None:
    """Equations 5, 10, 11, 16 and 17 with the channels of the generator, which section 4 of the SPADE paper gives."""
    classes, hidden = 151, 128
    blocks = [(1024, 1024)] * 3 + [(1024, 512), (512, 256), (256, 128), (128, 64)]
    channels = []
    for before, after in blocks:
        channels += [(before, after), (after, after)] + ([(before, after)] if before != after else [])
    layers = counted(name, "ade20k").layers
    assert len(layers) == len(channels) == 18
    for layer, (before, after) in zip(layers, channels, strict=True):
        expected = {
            "spade": ((classes * hidden + 2 * hidden * before) / (before * after),) * 2,
            "clade": (2 * classes / (9 * after), 2 / (9 * after)),
            "clade-icpe": ((2 * classes + 4 / before) / (9 * after), (4 + 4 / before) / (9 * after)),
        }[name]
        assert (layer.equations.parameter_ratio, layer.equations.mac_ratio) == pytest.approx(expected)


def test_layers_run_from_deep_to_shallow_with_their_true_cost() -> None:
    layers = counted("spade", "cityscapes").layers
    assert [layer.resolution for layer in layers[::2]][:3] == [(4, 8), (8, 16), (16, 32)]
    assert layers[-1].resolution == (256, 512)
    assert [layer.name for layer in layers[-3:]] == ["blocks.6.norm_0", "blocks.6.norm_1", "blocks.6.norm_s"]
    shortcut, pixels = layers[-1].counted, 256 * 512
    assert shortcut.convolution == Cost(128 * 64, 128 * 64 * pixels, 128 * 64 * pixels)
    products = 9 * (36 * 128 + 2 * 128 * 128)
    biases = 128 + 2 * 128
    assert shortcut.norm == Cost(products + biases, products * pixels, (products + biases) * pixels)


def test_style_encoder_is_left_out() -> None:
    found = counted("clade", "ade20k", None, 256)
    assert found.total.parameters == 86_877_379
    assert found.encoder_parameters == 10_463_424
    assert counted("clade", "ade20k").encoder_parameters == 0


def test_size_scales_the_work_and_not_the_parameters() -> None:
    model = create_model("clade", labels=5, image_size=(32, 32), base_channels=1)
    small, large = count(model), count(model, (64, 96))
    assert large.total.parameters == small.total.parameters
    assert (large.total.macs, large.total.paper_macs) == (6 * small.total.macs, 6 * small.total.paper_macs)
    with pytest.raises(LayoutError, match="multiples of 32"):
        count(model, (50, 64))


def test_counting_leaves_the_model_alone() -> None:
    model = create_model("clade", labels=5, image_size=(32, 32), base_channels=1).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count(model)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


class Mixture(nn.Module):
    """A transposed convolution, a grouped one without bias, one with bias, a linear layer, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=3, bias=False)
        self.biased = nn.Conv2d(6, 6, 1)
        self.linear = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.biased(self.grouped(self.up(x))).flatten(2).transpose(1, 2)
        return F.softmax(tokens @ tokens.transpose(1, 2), dim=-1) @ self.linear(tokens)


def test_both_rules_by_hand() -> None:
    with torch.device("meta"):
        network, x = Mixture(), torch.zeros(2, 4, 5, 7)
    macs = count_macs(network, lambda: network(x))
    pixels, tokens = 2 * 5 * 7, 4 * 5 * 7
    products = 4 * 6 * 9
    assert macs["up"].plain == pixels * products
    assert macs["up"].paper == 4 * pixels * products
    assert macs["grouped"].plain == macs["grouped"].paper == 4 * pixels * 9 * 6 * 2
    assert (macs["biased"].plain, macs["biased"].paper) == (4 * pixels * 6 * 6, 4 * pixels * (6 * 6 + 6))
    assert macs["linear"].plain == macs["linear"].paper == 2 * tokens * 6 * 10
    attention = 2 * tokens**2 * (6 + 10)
    layers = [macs[name] for name in ("up", "grouped", "biased", "linear")]
    assert macs[""].plain == sum(layer.plain for layer in layers) + attention
    assert macs[""].paper == sum(layer.paper for layer in layers) + attention


def pix2pixhd(inputs: int) -> nn.Sequential:
    """The global generator of pix2pixHD as far as it costs anything."""
    down = [nn.Conv2d(64 << i, 128 << i, 3, stride=2, padding=1) for i in range(4)]
    residual = [nn.Conv2d(1024, 1024, 3, padding=1) for _ in range(18)]
    up = [nn.ConvTranspose2d(1024 >> i, 512 >> i, 3, stride=2, padding=1, output_padding=1) for i in range(4)]
    return nn.Sequential(nn.Conv2d(inputs, 64, 7, padding=3), *down, *residual, *up, nn.Conv2d(64, 3, 7, padding=3))


@pytest.mark.parametrize(
    ("inputs", "size", "plain", "paper"),
    [(151, (256, 256), 84.80, 99.3), (184, (256, 256), 91.58, 106.1), (36, (256, 512), 122.33, 151.3)],
)
def test_transposed_convolutions_of_pix2pixhd(inputs: int, size: tuple[int, int], plain: float, paper: float) -> None:
    """Table I counts pix2pixHD's transposed convolutions at their output, and 151.3 leaves no room for their biases."""
    with torch.device("meta"):
        network, x = pix2pixhd(inputs), torch.zeros(1, inputs, *size)
    macs = count_macs(network, lambda: network(x))[""]
    assert (round(macs.plain / 1e9, 2), round(macs.paper / 1e9, 1)) == (plain, paper)


class Nested(ConditionalNorm):
    def __init__(self, inner: ConditionalNorm | None = None) -> None:
        super().__init__(4, "instance")
        self.inner = inner

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        return x


def test_norms_inside_norms_count_once() -> None:
    network = nn.Sequential(Nested(Nested()), nn.Sequential(Nested()))
    assert list(outermost_norms(network)) == ["0", "1.0"]


def test_average_is_that_of_sums() -> None:
    pairs = [Pair(Cost(1, 10), Cost(10, 20)), Pair(Cost(5, 30), Cost(10, 60))]
    assert (average(pairs).parameter_ratio, average(pairs).mac_ratio) == (0.3, 0.5)


def test_scores_carry_their_rule() -> None:
    scores = {score.name: score for score in counted("spade", "ade20k").scores()}
    assert (scores["Parameters"].value, scores["Parameters"].unit) == (pytest.approx(96.492483), "M")
    assert scores["MACs"].value == pytest.approx(181.150, abs=5e-4)
    assert scores["FLOPs"].value == pytest.approx(181.282, abs=5e-4)
    assert len({score.protocol for score in scores.values()}) == 3
    assert all(score.group == "cost" and score.better == "lower" for score in scores.values())


def test_plot_draws_the_equations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    figures: list[Any] = []
    save = complexity.save_figure
    monkeypatch.setattr(complexity, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path)))
    models = {name: counted(name, "ade20k") for name in ("spade", "clade")}
    complexity.plot_layers(models, tmp_path / "layers.png")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
    ratios, sizes, work = figures[0].axes
    curves = {line.get_label(): list(line.get_ydata()) for line in ratios.lines}
    assert set(curves) == {f"{name}: {what}" for name in models for what in ("parameters", "MACs")}
    assert curves["spade: parameters"][0] == pytest.approx(100 * (151 * 128 + 2 * 128 * 1024) / 1024**2)
    assert curves["clade: MACs"][-1] == pytest.approx(100 * 2 / (9 * 64))
    assert [line.get_label() for line in sizes.lines] == ["spade: norms", "clade: norms", "convolutions"]
    assert work.lines[-1].get_ydata()[0] == pytest.approx(9 * 1024**2 * 64 / 1e9)
