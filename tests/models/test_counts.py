"""Parameters and multiply-adds of the published configurations, to the printed digit, on the meta device.

Numbers: table VI of the CLADE paper, and measurements of the official networks. Tables I, III and IV are counted in
`tests/evaluation/cost`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segscape.discriminators import MultiScaleDiscriminator
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.clade import mixed_norms
from segscape.models.spade import SPADEGenerator
from segscape.nn.encoder import StyleEncoder

DATASETS: dict[str, dict[str, object]] = {
    "ade20k": {"labels": 151},
    "coco-stuff": {"labels": 183, "use_instances": True},
    "cityscapes": {"labels": 35, "use_instances": True, "image_size": (256, 512), "upsampling": "more"},
    "celebamask-hq": {"labels": 19},
}


def build(name: str, dataset: str, **options: object) -> SPADEGenerator:
    with torch.device("meta"):
        return create_model(name, **{**DATASETS[dataset], **options}).eval()  # type: ignore[arg-type]


def layout_for(labels: LabelSet, size: tuple[int, int]) -> Layout:
    label_map = torch.zeros(1, *size, dtype=torch.long, device="meta")
    position = torch.zeros(1, 2, *size, device="meta")
    return Layout(label_map, labels, label_map, position=position, check=False)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def billions(forward: Callable[[], object]) -> float:
    """Multiply-adds of what runs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return counter.get_total_flops() / 2e9


def test_spade_light_is_eight_wide_by_default() -> None:
    assert build("spade-light", "ade20k").config.base_channels == 8


TABLE_VI = {
    "ade20k": (
        [42.21, 42.54, 43.83, 45.13, 51.70, 65.92, 98.63, 181.15],
        [71.427, 75.880, 80.332, 84.784, 90.437, 93.524, 95.329, 96.492],
    ),
    "cityscapes": (
        [75.51, 75.66, 76.27, 78.72, 91.04, 116.18, 168.49, 281.28],
        [67.902, 72.546, 77.190, 81.834, 87.673, 90.656, 92.209, 93.048],
    ),
    "coco-stuff": (
        [42.39, 42.72, 44.03, 45.34, 52.02, 66.69, 101.23, 191.14],
        [72.505, 76.884, 81.263, 85.642, 91.235, 94.350, 96.225, 97.481],
    ),
}


@pytest.mark.parametrize("spade_blocks", range(8))
@pytest.mark.parametrize("dataset", TABLE_VI)
def test_mixed_generator(dataset: str, spade_blocks: int) -> None:
    macs, sizes = TABLE_VI[dataset]
    model = build("clade", dataset, norm=mixed_norms(spade_blocks))
    assert round(parameters(model) / 1e6, 3) == sizes[spade_blocks]
    layout = layout_for(model.config.labels, model.config.image_size)
    assert round(billions(lambda: model(layout)), 2) == macs[spade_blocks]


@pytest.mark.parametrize(
    ("dataset", "size"), [("ade20k", 86_877_379), ("coco-stuff", 87_651_367), ("cityscapes", 75_990_567)]
)
def test_variational_generator(dataset: str, size: int) -> None:
    model = build("clade", dataset, latent_dim=256)
    assert model.encoder is not None
    assert parameters(model) - parameters(model.encoder) == size


def test_encoder() -> None:
    with torch.device("meta"):
        encoder = StyleEncoder(64, 256).eval()
        photo = torch.zeros(1, 3, 256, 256)
    assert parameters(encoder) == 10_463_424
    assert round(billions(lambda: encoder(photo)), 3) == 1.127


@pytest.mark.parametrize(
    ("dataset", "size", "macs"),
    [("ade20k", 5_836_930, 7.826), ("coco-stuff", 5_904_514, 8.531), ("cityscapes", 5_601_410, 10.472)],
)
def test_discriminator(dataset: str, size: int, macs: float) -> None:
    options = build("clade", dataset, base_channels=1).config
    with torch.device("meta"):
        discriminator = MultiScaleDiscriminator(options.labels.num_classes, instances=options.use_instances).eval()
        photo = torch.zeros(1, 3, *options.image_size)
    assert parameters(discriminator) == size
    layout = layout_for(options.labels, options.image_size)
    assert round(billions(lambda: discriminator(layout, photo)), 3) == macs


@pytest.mark.parametrize(("position", "extra"), [("input", 18_432), ("feature", 73_590), ("modulation", 108)])
@pytest.mark.parametrize("dataset", ["ade20k", "cityscapes"])
def test_position_costs_few_parameters(dataset: str, position: str, extra: int) -> None:
    plain, model = build("clade", dataset), build("clade", dataset, position=position)
    assert parameters(model) - parameters(plain) == extra
