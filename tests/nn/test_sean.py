from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import StyleError
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn.clade import CLADE
from segscape.nn.conditional import LayoutModulatedNorm
from segscape.nn.noise import noise_from
from segscape.nn.residual import ResidualBlock
from segscape.nn.sean import ACE, ClassLinear, StyleModulation
from segscape.nn.spade import SPADE
from segscape.style import Style

CLASSES, DIM = 4, 6


def layout(instances: bool = False, size: tuple[int, int] = (12, 16)) -> Layout:
    generator = torch.Generator().manual_seed(0)
    label_map = torch.randint(0, CLASSES - 1, (2, size[0] // 4, size[1] // 4), generator=generator)
    label_map = label_map.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return Layout(label_map, LabelSet.numbered(CLASSES), label_map if instances else None)


def randomize(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def test_class_linear_is_a_layer_per_class() -> None:
    layer, codes = ClassLinear(3, 5), torch.randn(2, 3, 5)
    randomize(layer)
    expected = torch.stack([F.linear(codes[:, j], layer.weight[j], layer.bias[j]) for j in range(3)], dim=1)
    torch.testing.assert_close(layer(codes), expected)


def directly(module: StyleModulation, codes: Tensor, channels: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's way: a map of codes, filled class by class (`channels [N, K, h, w]`, the last wins), convolved."""
    placed = codes.new_zeros(len(codes), DIM, *channels.shape[2:])
    for image in range(len(codes)):
        for j in range(channels.shape[1]):
            code = F.relu(F.linear(codes[image, j], module.linear.weight[j], module.linear.bias[j]))
            placed[image] = torch.where(channels[image, j] > 0, code[:, None, None], placed[image])
    return module.gamma(placed), module.beta(placed)


@pytest.mark.parametrize("path", ["dense", "classes"])
def test_both_paths_give_the_map_of_codes_convolved(path: str) -> None:
    torch.manual_seed(1)
    module = StyleModulation(3, CLASSES, DIM).double()
    randomize(module)
    module.path = path  # type: ignore[assignment]
    codes, where = torch.randn(2, CLASSES, DIM, dtype=torch.float64, requires_grad=True), layout()
    weights = torch.randn(2, 2, 3, 12, 16, dtype=torch.float64)
    results = []
    for gamma, beta in (module(codes, where.at((12, 16))), directly(module, codes, where.one_hot())):
        loss = (gamma * weights[0] + beta * weights[1]).sum()
        results.append([gamma, beta, *torch.autograd.grad(loss, [codes, *module.parameters()])])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def spade(channels: int, instances: bool = False) -> SPADE:
    return SPADE(channels, CLASSES, instances=instances, hidden_channels=5)


@pytest.mark.parametrize("instances", [False, True])
def test_norm_blends_both_modulations(instances: bool) -> None:
    torch.manual_seed(2)
    codes_count, size = CLASSES + instances, (6, 8)
    norm = ACE(spade(3, instances), codes_count, DIM, instances=instances).train()
    randomize(norm)
    x, where, codes = torch.randn(2, 3, *size), layout(instances), torch.randn(2, codes_count, DIM)
    with noise_from(norm, torch.Generator().manual_seed(4)):
        y = norm(x, where, Style(codes))
    drawn = torch.randn(2, 8, 6, 1, generator=torch.Generator().manual_seed(4)).transpose(1, 3)
    noisy = F.batch_norm(x + norm.noise.weight.view(1, 3, 1, 1) * drawn, None, None, training=True)
    semantic = where.semantic_map(size, edges=instances)
    hidden = F.relu(norm.layout_norm.shared(semantic))
    gamma, beta = directly(norm.style, codes, semantic)
    a, b = torch.sigmoid(norm.blend_gamma), torch.sigmoid(norm.blend_beta)
    gamma = a * gamma + (1 - a) * norm.layout_norm.gamma(hidden)
    beta = b * beta + (1 - b) * norm.layout_norm.beta(hidden)
    torch.testing.assert_close(y, noisy * (1 + gamma) + beta, rtol=1e-4, atol=1e-5)


def test_clade_takes_the_place_of_the_whole_factor() -> None:
    torch.manual_seed(3)
    table = CLADE(3, CLASSES)
    norm = ACE(table, CLASSES, DIM).eval()
    randomize(norm)
    nn.init.zeros_(norm.noise.weight)
    x, where, codes = torch.randn(2, 3, 12, 16), layout(), torch.randn(2, CLASSES, DIM)
    gamma, beta = directly(norm.style, codes, where.one_hot())
    classes = where.at((12, 16))
    a, b = torch.sigmoid(norm.blend_gamma), torch.sigmoid(norm.blend_beta)
    factor = a * (1 + gamma) + (1 - a) * table.gamma[classes].permute(0, 3, 1, 2)
    shift = b * beta + (1 - b) * table.beta[classes].permute(0, 3, 1, 2)
    expected = x / (1 + 1e-5) ** 0.5 * factor + shift
    torch.testing.assert_close(norm(x, where, Style(codes)), expected, rtol=1e-4, atol=1e-5)


def test_without_style_branch_it_is_its_layout_norm() -> None:
    torch.manual_seed(4)
    inner = spade(3)
    plain = spade(3)
    plain.load_state_dict(inner.state_dict())
    norm = ACE(inner, CLASSES, DIM, styled=False)
    x = torch.randn(2, 3, 12, 16)
    torch.testing.assert_close(norm(x, layout()), plain(x, layout()))


def test_the_style_of_a_class_reaches_one_pixel_beyond_it() -> None:
    norm = ACE(spade(3), CLASSES, DIM).eval()
    randomize(norm)
    where, codes = layout(), torch.randn(2, CLASSES, DIM)
    other = codes.clone()
    other[:, 1] = torch.randn(2, DIM)
    x = torch.randn(2, 3, 12, 16)
    images = []
    for style in (codes, other):
        with noise_from(norm, torch.Generator().manual_seed(0)):
            images.append(norm(x, where, Style(style)))
    near = F.max_pool2d(where.one_hot()[:, 1:2], 3, stride=1, padding=1) > 0
    changed = (images[0] != images[1]).any(1, keepdim=True)
    assert changed.any() and not (changed & ~near).any()


def test_a_style_is_needed() -> None:
    with pytest.raises(StyleError, match="called without a style: give codes, one for each class"):
        ACE(spade(3), CLASSES, DIM)(torch.randn(2, 3, 12, 16), layout())


@pytest.mark.parametrize("seeded", [False, True])
def test_recomputed_blocks_draw_the_same_noise(seeded: bool) -> None:
    """Two forwards before one backward, whose noises differ; all parameters get the gradients of an ordinary block."""

    def norm(channels: int) -> ACE:
        inner: LayoutModulatedNorm = spade(channels)
        return ACE(inner, CLASSES, DIM)

    torch.manual_seed(5)
    block = ResidualBlock(4, 3, norm, spectral=False).train()
    nn.init.ones_(block.norm_0.noise.weight)
    state = {name: value.clone() for name, value in block.state_dict().items()}
    x, where, style = torch.randn(2, 4, 12, 16), layout(), Style(torch.randn(2, CLASSES, DIM))

    def gradients(recomputed: bool) -> list[Tensor]:
        block.load_state_dict(state)
        block.zero_grad()
        block.recomputed = recomputed
        torch.manual_seed(6)
        source = torch.Generator().manual_seed(7) if seeded else None
        with noise_from(block, source):
            outputs = [block(x, where, style) for _ in range(2)]
            (outputs[0].square().sum() + outputs[1].abs().sum()).backward()
        return [parameter.grad.clone() for parameter in block.parameters() if parameter.grad is not None]

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(found, expected)
