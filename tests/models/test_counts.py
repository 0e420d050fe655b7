"""Parameters and multiply-adds of the published configurations, to the printed digit, on the meta device.

Numbers: tables I, IV and VI of the CLADE paper, and measurements of the official networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segscape.discriminators import MultiScaleDiscriminator
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.clade import mixed_norms
from segscape.models.spade import SPADEGenerator
from segscape.nn.encoder import StyleEncoder
from segscape.style import Style

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


@contextmanager
def counting(network: nn.Module) -> Iterator[dict[str, int]]:
    """Count multiply-adds (`macs`) and output elements of biased convolutions (`biased`) of what runs inside."""
    counts = {"macs": 0, "biased": 0}

    def count(module: nn.Conv2d, _: object, output: Tensor) -> None:
        counts["biased"] += output.numel() if module.bias is not None else 0

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with FlopCounterMode(display=False) as counter:
        yield counts
    counts["macs"] = counter.get_total_flops() // 2
    for hook in hooks:
        hook.remove()


def generator_counts(model: SPADEGenerator) -> dict[str, int]:
    latent = model.config.latent_dim
    style = None if latent is None else Style(torch.zeros(1, latent, device="meta"))
    with counting(model) as counts, torch.no_grad():
        model(layout_for(model.config.labels, model.config.image_size), style)
    return counts


# params; MACs in G; multiply-adds plus one per output of a biased convolution in G (the paper's "FLOPs")
TABLE_I = [
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
]


@pytest.mark.parametrize(("name", "dataset", "size", "macs", "flops"), TABLE_I)
def test_generator(name: str, dataset: str, size: int, macs: float, flops: float | None) -> None:
    model = build(name, dataset)
    assert parameters(model) == size
    counts = generator_counts(model)
    assert round(counts["macs"] / 1e9, 3) == macs
    if flops is not None:
        assert round((counts["macs"] + counts["biased"]) / 1e9, 2) == flops


@pytest.mark.parametrize(
    ("dataset", "base", "size", "flops"),
    [
        ("ade20k", 8, 7_505_851, 58.015),
        ("coco-stuff", 8, 8_228_155, 67.988),
        ("cityscapes", 32, 30_218_467, 132.919),
    ],
)
def test_spade_light(dataset: str, base: int, size: int, flops: float) -> None:
    model = build("spade-light", dataset, base_channels=base)
    assert parameters(model) == size
    counts = generator_counts(model)
    assert round((counts["macs"] + counts["biased"]) / 1e9, 3) == flops


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
    assert round(generator_counts(model)["macs"] / 1e9, 2) == macs[spade_blocks]


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
    with counting(encoder) as counts, torch.no_grad():
        encoder(photo)
    assert round(counts["macs"] / 1e9, 3) == 1.127


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
    with counting(discriminator) as counts, torch.no_grad():
        discriminator(layout_for(options.labels, options.image_size), photo)
    assert round(counts["macs"] / 1e9, 3) == macs


@pytest.mark.parametrize(("position", "extra"), [("input", 18_432), ("feature", 73_590), ("modulation", 108)])
@pytest.mark.parametrize("dataset", ["ade20k", "cityscapes"])
def test_position_costs_few_parameters(dataset: str, position: str, extra: int) -> None:
    plain, model = build("clade", dataset), build("clade", dataset, position=position)
    assert parameters(model) - parameters(plain) == extra


@pytest.mark.parametrize(
    ("dataset", "backbone", "spade", "clade"),
    [("ade20k", 68.122, 28.370, 3.305), ("cityscapes", 67.062, 25.986, 0.840), ("coco-stuff", 68.426, 29.055, 4.079)],
)
def test_split_between_backbone_and_norms(dataset: str, backbone: float, spade: float, clade: float) -> None:
    """Table III: what edge channels add to the convolutions counts as the norms'."""
    model = build("spade", dataset)
    norms = [m for block in model.blocks for key, m in block.named_children() if key.startswith("norm_")]
    inside = sum(parameters(norm) for norm in norms)
    assert round(inside / 1e6, 3) == spade
    assert round((parameters(model) - inside) / 1e6, 3) == backbone
    assert round((parameters(build("clade", dataset)) - parameters(model) + inside) / 1e6, 3) == clade
