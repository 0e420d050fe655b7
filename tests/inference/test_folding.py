"""The pass of a folded norm is its formula, for whole tensors and for rows, and SPADE's folded tables are its norm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.inference.folding import (
    DenseModulation,
    FoldedSPADE,
    FoldedStep,
    GatheredModulation,
    Modulation,
    fast_convolution,
)
from segscape.inference.strips import StripConvolution
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn.clade import CLADE
from segscape.nn.spade import SPADE

SIZE = (6, 10)


def modulations() -> dict[str, tuple[Modulation, Tensor, Tensor]]:
    """Each kind, with the scale and shift `[N, C, h, w]` that it stands for."""
    torch.manual_seed(0)
    scale, shift = (torch.randn(4, 6, dtype=torch.float64) for _ in range(2))
    mean = torch.randn(6, dtype=torch.float64)
    index = torch.randint(0, 4, (2, *SIZE))
    f, g = (torch.randn(2, 1, *SIZE, dtype=torch.float64) for _ in range(2))
    s, t = (table[index].permute(0, 3, 1, 2) for table in (scale, shift))
    centre = mean.view(6, 1, 1)
    return {
        "gathered": (GatheredModulation(index, scale, shift, 0.2), s, t),
        "by position": (GatheredModulation(index, scale, shift, 0.2, mean, (f, g)), s * f, t * g - s * f * centre),
        "dense": (DenseModulation(s, t, 0.2), s, t),
    }


def activated(y: Tensor) -> Tensor:
    return torch.where(y < 0, 0.2 * y, y)


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("kind", ["gathered", "by position", "dense"])
def test_the_pass_is_its_formula(kind: str, reuse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segscape.inference.folding.CHUNK_BYTES", 7 * 6 * 8)  # chunks that do not fit evenly
    modulation, scale, shift = modulations()[kind]
    x = torch.randn(2, 6, *SIZE, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    original = x.clone()
    assert torch.allclose(modulation.apply(x, reuse), activated(original * scale + shift), atol=1e-12)
    assert reuse or torch.equal(x, original)


@pytest.mark.parametrize("kind", ["gathered", "by position"])
def test_what_a_gpu_would_run_is_the_formula(kind: str) -> None:
    modulation, scale, shift = modulations()[kind]
    assert isinstance(modulation, GatheredModulation)
    x = torch.randn(2, 6, *SIZE, dtype=torch.float64)
    assert torch.allclose(modulation._one_kernel(x), activated(x * scale + shift), atol=1e-6)


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("kind", ["gathered", "by position", "dense"])
def test_rows_are_those_of_the_whole(kind: str, doubled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segscape.inference.folding.CHUNK_BYTES", 2 * SIZE[1] * 6 * 8)  # two rows
    modulation, scale, shift = modulations()[kind]
    x = torch.randn(2, 6, *(side >> doubled for side in SIZE), dtype=torch.float64)
    large = F.interpolate(x, scale_factor=2) if doubled else x
    wanted = activated(large * scale + shift)[1, :, 1:6].permute(1, 2, 0)
    out = torch.full((5, SIZE[1] + 2, 6), torch.nan, dtype=torch.float64)
    rows = x[1].permute(1, 2, 0)[torch.arange(1, 6) // (1 + doubled)]
    inside = out[:, 1:-1]
    if doubled:
        modulation.rows(rows.unsqueeze(2), 1, 6, 1, inside.view(5, SIZE[1] // 2, 2, 6))
    else:
        modulation.rows(rows, 1, 6, 1, inside)
    assert torch.allclose(inside, wanted, atol=1e-12)
    assert out[:, 0].isnan().all() and out[:, -1].isnan().all()


@pytest.mark.parametrize("few", [0, 10**9], ids=["dense", "patterns"])
@pytest.mark.parametrize("instances", [False, True])
@pytest.mark.parametrize("statistics", ["batch", "instance"])
def test_folded_spade_is_spade(few: int, instances: bool, statistics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segscape.inference.folding.FEW_PATTERNS", few)
    monkeypatch.setattr("segscape.inference.folding.MAX_SHARE", 0.0)
    torch.manual_seed(0)
    norm = SPADE(6, 5, instances=instances, statistics=statistics, hidden_channels=7).eval()  # type: ignore[arg-type]
    for buffer in norm.statistics.buffers():
        buffer.copy_(torch.rand_like(buffer.float()) + 0.5)
    layout = Layout(torch.randint(0, 5, (2, 8, 12)), LabelSet.numbered(5), torch.randint(0, 3, (2, 8, 12)))
    x = torch.randn(2, 6, 8, 12)
    with torch.no_grad():
        folded = FoldedSPADE(norm)
        found = folded.modulation(layout, (8, 12), 0.2)
        assert isinstance(found, GatheredModulation if few else DenseModulation)
        assert torch.allclose(found.apply(folded.normalize(x), False), activated(norm(x, layout)), atol=1e-5)


@pytest.mark.parametrize(("strips", "few"), [(False, 0), (True, 0), (True, 1 << 30)])
@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_normed_convolution_is_its_parts(
    kernel_size: int, doubled: bool, strips: bool, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segscape.inference.folding.FEW_PRODUCTS", few)
    torch.manual_seed(0)
    norm = CLADE(64, 5, instances=True, position="feature").eval()
    norm.statistics.running_mean.normal_()  # type: ignore[operator, union-attr]
    convolution = nn.Conv2d(66, 48, kernel_size, padding=kernel_size // 2)
    labels, instances = torch.randint(0, 5, (2, 12, 20)), torch.randint(0, 3, (2, 12, 20))
    layout = Layout(labels, LabelSet.numbered(5), instances)
    x = torch.randn(2, 64, *((6, 10) if doubled else (12, 20)))
    with torch.no_grad():
        wanted = convolution(activated(norm(F.interpolate(x, scale_factor=2) if doubled else x, layout)))
        fast = FoldedStep(norm, convolution, 0.2, strips)
        assert isinstance(fast.convolution, StripConvolution) == strips
        found = fast(x.contiguous(memory_format=torch.channels_last), layout, None, doubled, reuse=False)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_other_geometries_stay_direct() -> None:
    for options in ({"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"padding": 0}):
        like = nn.Conv2d(64, 64, 3, **{"padding": 1, **options})
        fast = fast_convolution(like.weight.detach(), None, like, strips=True)
        x = torch.randn(1, 64, 9, 9)
        assert isinstance(fast, nn.Conv2d)
        assert torch.allclose(fast(x), like(x) - like.bias[:, None, None], atol=1e-5)  # type: ignore[index]
