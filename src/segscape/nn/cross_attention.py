"""Attention over style codes: every pixel asks the codes of all classes what it should look like.

Source: Fontanini et al., "Semantic Image Synthesis via Class-Adaptive Cross-Attention", IEEE Access 2025, arXiv
2308.16071. The image is made by PyTorch's `scaled_dot_product_attention`, which never holds the products of all queries
and keys, so that self-attention over n pixels needs memory for n, not for n^2. What the attention loss and pictures of
the attention need of those products is little, `[N, C, pixels]`, and is computed beside it, only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.nn.spectral import conv2d

Observe = Callable[[Tensor, Tensor, int], Tensor]
"""Reads something off queries `[N, P, heads * d]`, keys `[N, C, heads * d]` and the number of heads: `[N, C, P]`."""


def mean_logits(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """The logits before the softmax, averaged over heads: `[N, C, P]`.

    The mean over heads of q.k / sqrt(d) is the product of the concatenated heads, divided by heads * sqrt(d).
    """
    width = query.shape[-1] // heads
    logits = key @ query.transpose(1, 2)
    return cast(Tensor, logits / (heads * width**0.5))


def mean_weights(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """The weights after the softmax over the C keys, averaged over heads: `[N, C, P]`; head by head, to save memory."""
    pairs = zip(query.chunk(heads, dim=-1), key.chunk(heads, dim=-1), strict=True)
    return torch.stack([mean_logits(q, k, 1).softmax(dim=1) for q, k in pairs]).mean(dim=0)


class Attention(nn.Module):
    """Multi-head attention of tokens over other tokens, without a mask.

    Args:
        channels: of the tokens that ask, and of the result.
        context_channels: of the tokens that are asked.
        heads: number of heads.
        head_channels: d, channels of each.
    """

    def __init__(self, channels: int, context_channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        inner = heads * head_channels
        self.heads = heads
        self.query = nn.Linear(channels, inner, bias=False)
        self.key = nn.Linear(context_channels, inner, bias=False)
        self.value = nn.Linear(context_channels, inner, bias=False)
        self.out = nn.Linear(inner, channels)

    def forward(self, x: Tensor, context: Tensor, observe: Observe | None = None) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            x: `[N, P, channels]`.
            context: `[N, C, context_channels]`.
            observe: what to read off queries and keys, for example `mean_logits`.

        Returns:
            `[N, P, channels]`, and what `observe` found (None without).
        """
        query, key, value = self.query(x), self.key(context), self.value(context)
        attended = F.scaled_dot_product_attention(self._part(query), self._part(key), self._part(value))
        attended = attended.transpose(1, 2).flatten(2)
        return self.out(attended), None if observe is None else observe(query, key, self.heads)

    def _part(self, tokens: Tensor) -> Tensor:
        """`[N, P, heads * d]` -> `[N, heads, P, d]`."""
        count, length, width = tokens.shape
        return tokens.view(count, length, self.heads, width // self.heads).transpose(1, 2)


class FeedForward(nn.Module):
    """A gated layer of four times the width: one half times the exact GELU of the other, projected back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, 8 * channels)
        self.out = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, P, channels]` -> the same."""
        value, gate = self.expand(x).chunk(2, dim=-1)
        return cast(Tensor, self.out(value * F.gelu(gate)))


class CrossAttentionTransformer(nn.Module):
    """A feature map plus what its pixels, as tokens, found: among each other, in the style codes, and on their own.

    The last projection starts at zero, so that a new block changes nothing.

    Args:
        channels: of the feature map.
        code_channels: of the style codes.
        heads, head_channels: of both attentions; their product is the width inside.
        self_attention: whether pixels attend to each other first.
        groups: of the group norm at the entrance (eps 1e-6).
    """

    def __init__(
        self,
        channels: int,
        code_channels: int,
        *,
        heads: int = 8,
        head_channels: int = 64,
        self_attention: bool = True,
        groups: int = 32,
    ) -> None:
        super().__init__()
        inner = heads * head_channels
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = conv2d(False, channels, inner, 1)
        self.self_norm = nn.LayerNorm(inner) if self_attention else None
        self.self_attention = Attention(inner, inner, heads, head_channels) if self_attention else None
        self.cross_norm = nn.LayerNorm(inner)
        self.cross_attention = Attention(inner, code_channels, heads, head_channels)
        self.feed_norm = nn.LayerNorm(inner)
        self.feed_forward = FeedForward(inner)
        self.proj_out = conv2d(False, inner, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(cast(Tensor, self.proj_out.bias))

    def forward(self, x: Tensor, codes: Tensor, observe: Observe | None = None) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            x: `[N, channels, h, w]`, any h and w.
            codes: `[N, C, code_channels]`.
            observe: what to read off the cross-attention, see `Attention`.

        Returns:
            `[N, channels, h, w]`, and `[N, C, h, w]` of `observe` (None without).
        """
        count, _, height, width = x.shape
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)  # [N, h * w, inner]
        if self.self_norm is not None and self.self_attention is not None:
            normed = self.self_norm(tokens)
            tokens = tokens + self.self_attention(normed, normed)[0]
        attended, found = self.cross_attention(self.cross_norm(tokens), codes, observe)
        tokens = tokens + attended
        tokens = tokens + self.feed_forward(self.feed_norm(tokens))
        y = x + self.proj_out(tokens.transpose(1, 2).reshape(count, -1, height, width))
        return y, None if found is None else found.view(count, -1, height, width)


def attention_loss(logits: Tensor, label_map: Tensor) -> Tensor:
    """Binary cross-entropy between the logits of every class at every pixel and whether the class is there.

    Equal to `binary_cross_entropy_with_logits` against the one-hot map, without that map: softplus(z) for every entry,
    minus z for the entries of the labels.

    Args:
        logits: `[N, C, h, w]`, for example `mean_logits`.
        label_map: int64 `[N, h, w]`.

    Returns:
        The mean over classes, pixels and images.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    of_labels = logits.gather(1, label_map.unsqueeze(1))
    return F.softplus(logits).mean() - of_labels.sum() / logits.numel()
