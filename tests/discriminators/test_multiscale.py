from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.discriminators import Judgement, MultiScaleDiscriminator
from segscape.errors import LayoutError
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn import SpectralNormConv2d

LABELS = LabelSet.numbered(4)


def outputs(judgement: Judgement) -> list[list[Tensor]]:
    """What every layer gave, per scale."""
    return [[*features, score] for features, score in zip(judgement.features, judgement.scores, strict=True)]


def layout(size: tuple[int, int] = (64, 64), batch: int = 2, instances: bool = True) -> Layout:
    label_map = torch.randint(0, 4, (batch, *size), generator=torch.Generator().manual_seed(0))
    return Layout(label_map, LABELS, label_map if instances else None)


def test_sizes_of_the_published_network() -> None:
    with torch.device("meta"):
        discriminator = MultiScaleDiscriminator(151, base_channels=2)
        scales = outputs(discriminator.judge(torch.zeros(1, 154, 256, 256)))
    assert [output.shape[-1] for output in scales[0]] == [129, 65, 33, 34, 35]
    assert [output.shape[-1] for output in scales[1]] == [65, 33, 17, 18, 19]
    assert [output.shape[1] for output in scales[0]] == [2, 4, 8, 16, 1]


def test_widths_stop_at_512() -> None:
    with torch.device("meta"):
        discriminator = MultiScaleDiscriminator(4, base_channels=200)
    assert [conv.out_channels for conv in discriminator.scales[0].convs] == [200, 400, 512, 512, 1]


@pytest.mark.parametrize(("num_scales", "num_layers"), [(1, 1), (2, 3), (3, 4)])
def test_scales_and_layers(num_scales: int, num_layers: int) -> None:
    discriminator = MultiScaleDiscriminator(4, base_channels=2, num_scales=num_scales, num_layers=num_layers)
    judged = discriminator(layout(), torch.rand(2, 3, 64, 64))
    assert [len(group) for group in judged.features] == [num_layers] * num_scales
    assert [score.shape[:2] for score in judged.scores] == [(2, 1)] * num_scales


def test_a_scale_sees_half_the_size_of_the_one_before() -> None:
    discriminator = MultiScaleDiscriminator(4, base_channels=2).eval()
    x = torch.randn(1, 7, 48, 32)
    halved = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
    for found, expected in zip(outputs(discriminator.judge(x))[1], discriminator.scales[1](halved), strict=True):
        torch.testing.assert_close(found, expected)


def test_reads_layout_then_image() -> None:
    discriminator = MultiScaleDiscriminator(4, instances=True, base_channels=2).eval()
    image = torch.rand(2, 3, 64, 64)
    joined = torch.cat([layout().semantic_map(edges=True), image], dim=1)
    torch.testing.assert_close(discriminator(layout(), image).scores[0], discriminator.judge(joined).scores[0])


def test_judges_several_images_per_layout() -> None:
    discriminator = MultiScaleDiscriminator(4, base_channels=2).eval()
    fake, real = torch.rand(2, 2, 3, 64, 64).unbind()
    together = discriminator(layout(), torch.cat([fake, real]))
    for i, image in enumerate((fake, real)):
        apart = discriminator(layout(), image)
        torch.testing.assert_close(together.part(2 * i, 2).scores[0], apart.scores[0])


def test_needs_an_instance_map_if_built_for_one() -> None:
    with pytest.raises(LayoutError, match="no instance map"):
        MultiScaleDiscriminator(4, instances=True, base_channels=2)(layout(instances=False), torch.rand(2, 3, 64, 64))


def test_spectral_norm_inside_only() -> None:
    for spectral in (True, False):
        convs = MultiScaleDiscriminator(4, base_channels=2, spectral=spectral).scales[0].convs
        inner = [isinstance(conv, SpectralNormConv2d) for conv in convs]
        assert inner == [False, spectral, spectral, spectral, False]


@pytest.mark.parametrize("norm", ["instance", "batch", "sync-batch", "none"])
def test_inner_bias_only_without_norm(norm: str) -> None:
    discriminator = MultiScaleDiscriminator(4, base_channels=2, norm=norm)  # type: ignore[arg-type]
    biased = [conv.bias is not None for conv in discriminator.scales[0].convs]
    assert biased == [True, *[norm == "none"] * 3, True]
    learned = [key for key, _ in discriminator.named_parameters() if ".norms." in key]
    assert bool(learned) is ("batch" in norm)
    assert discriminator(layout(), torch.rand(2, 3, 64, 64)).scores[0].isfinite().all()


def test_inner_biases_and_the_last_stride_can_be_asked_for() -> None:
    discriminator = MultiScaleDiscriminator(4, base_channels=2, num_layers=3, bias=True, last_stride=2)
    assert all(conv.bias is not None for conv in discriminator.scales[0].convs)
    judged = outputs(discriminator.judge(torch.zeros(1, 7, 256, 256)))
    assert [output.shape[-1] for output in judged[0]] == [129, 65, 33, 34]  # as SEAN's and CA2-SIS's


def test_scales_have_their_own_weights() -> None:
    scales = MultiScaleDiscriminator(4, base_channels=2).scales
    assert not torch.equal(scales[0].convs[0].weight, scales[1].convs[0].weight)


def test_gradients_and_copy() -> None:
    discriminator = MultiScaleDiscriminator(4, base_channels=2)
    image = torch.rand(2, 3, 64, 64, requires_grad=True)
    torch.stack([score.mean() for score in discriminator(layout(), image).scores]).sum().backward()
    assert image.grad is not None and all(p.grad is not None for p in discriminator.parameters())
    copied = copy.deepcopy(discriminator).eval()
    assert torch.equal(copied(layout(), image).scores[0], discriminator.eval()(layout(), image).scores[0])
