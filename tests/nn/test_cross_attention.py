from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.nn.cross_attention import (
    Attention,
    CrossAttentionTransformer,
    FeedForward,
    attention_loss,
    mean_logits,
    mean_weights,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_head(layer: Attention, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the logits `[N, heads, P, C]`, head by head, with every product spelt out."""
    logits, outputs = [], []
    for query, key, value in zip(
        layer.query(x).chunk(layer.heads, -1),
        layer.key(context).chunk(layer.heads, -1),
        layer.value(context).chunk(layer.heads, -1),
        strict=True,
    ):
        logits.append(torch.einsum("npd,ncd->npc", query, key) / query.shape[-1] ** 0.5)
        outputs.append(torch.einsum("npc,ncd->npd", logits[-1].softmax(-1), value))
    return layer.out(torch.cat(outputs, -1)), torch.stack(logits, 1)


@pytest.mark.parametrize(("heads", "width"), [(1, 8), (3, 4)])
def test_attention_logits_and_weights_are_those_of_the_single_heads(heads: int, width: int) -> None:
    layer = Attention(6, 5, heads, width)
    x, context = noise(2, 7, 6), noise(2, 4, 5, seed=1)
    expected, logits = by_head(layer, x, context)
    out, found = layer(x, context, mean_logits)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(found, logits.mean(1).transpose(1, 2))
    weights = layer(x, context, mean_weights)[1]
    torch.testing.assert_close(weights, logits.softmax(-1).mean(1).transpose(1, 2))
    assert layer(x, context)[1] is None


def test_feed_forward_gates_with_the_second_half() -> None:
    layer, x = FeedForward(2), noise(1, 3, 2)
    expanded = x @ layer.expand.weight.t() + layer.expand.bias
    gate = expanded[..., 8:]
    expected = expanded[..., :8] * gate * 0.5 * (1 + torch.erf(gate / 2**0.5))
    torch.testing.assert_close(layer(x), expected @ layer.out.weight.t() + layer.out.bias)


def transformer(self_attention: bool = True) -> CrossAttentionTransformer:
    return CrossAttentionTransformer(6, 5, heads=2, head_channels=4, self_attention=self_attention, groups=2)


def test_a_new_transformer_changes_nothing() -> None:
    x = noise(2, 6, 3, 5)
    assert torch.equal(transformer()(x, noise(2, 4, 5))[0], x)


def test_only_self_attention_lets_pixels_see_each_other() -> None:
    x, codes = noise(1, 6, 2, 4), noise(1, 4, 5)
    moved = x.flip(3)  # group norm does not see where pixels are
    for self_attention in (False, True):
        block = transformer(self_attention)
        nn.init.normal_(block.proj_out.weight)
        torch.testing.assert_close(block(moved, codes)[0], block(x, codes)[0].flip(3))
        block.norm = nn.Identity()  # so that pixels meet in self-attention only
        other = x.clone()
        other[..., 0, 0] += 1
        unchanged = torch.isclose(block(other, codes)[0], block(x, codes)[0]).all(1)[0]
        assert not unchanged[0, 0] and unchanged.flatten()[1:].all() != self_attention


def test_what_is_observed_has_the_size_of_the_features() -> None:
    y, found = transformer()(noise(2, 6, 3, 5), noise(2, 4, 5), mean_weights)
    assert y.shape == (2, 6, 3, 5) and found.shape == (2, 4, 3, 5)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 3, 5))


def test_attention_loss_is_the_cross_entropy_against_the_one_hot_map() -> None:
    logits = (20 * noise(2, 4, 3, 5)).requires_grad_()
    label_map = torch.randint(0, 4, (2, 3, 5), generator=torch.Generator().manual_seed(1))
    one_hot = F.one_hot(label_map, 4).permute(0, 3, 1, 2).float()
    expected = F.binary_cross_entropy_with_logits(logits, one_hot)
    (wanted,) = torch.autograd.grad(expected, logits)
    found = attention_loss(logits, label_map)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits)[0], wanted, rtol=1e-5, atol=1e-9)


def test_attention_loss_is_taken_in_float32() -> None:
    logits, label_map = noise(1, 3, 2, 2).bfloat16(), torch.zeros(1, 2, 2, dtype=torch.long)
    found = attention_loss(logits, label_map)
    assert found.dtype == torch.float32 and torch.equal(found, attention_loss(logits.float(), label_map))
