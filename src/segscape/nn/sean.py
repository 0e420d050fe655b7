"""SEAN's normalisation (ACE in the official code): modulation by the layout, mixed with one by a style of each class.

Source: Zhu et al., "SEAN: Image Synthesis with Semantic Region-Adaptive Normalization", CVPR 2020, arXiv 1911.12861,
section 3 and figure 3. Written from a clean-room specification; checked against outputs of the official code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import StyleError
from segscape.layout import Layout
from segscape.nn.conditional import ConditionalNorm, LayoutModulatedNorm
from segscape.nn.convolution import Conv2d
from segscape.nn.noise import AddedNoise
from segscape.nn.region_pooling import spread
from segscape.style import Style

StylePath = Literal["dense", "classes"]


class ClassLinear(nn.Module):
    """A linear layer of its own for each class, all in one product.

    Args:
        num_classes: how many layers, K.
        channels: of input and output, L.
    """

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        # the official initialisation, Xavier with a gain of 0.02, as `initialize_xavier` does it for one layer
        self.weight = nn.Parameter(torch.randn(num_classes, channels, channels) * (0.02 / channels**0.5))
        self.bias = nn.Parameter(torch.zeros(num_classes, channels))

    def forward(self, codes: Tensor) -> Tensor:
        """`codes [N, K, L]` -> the same shape."""
        y = torch.baddbmm(self.bias.unsqueeze(1), codes.transpose(0, 1), self.weight.transpose(1, 2))
        return y.transpose(0, 1)


class StyleModulation(nn.Module):
    """Gamma and beta from a style: each class's code through a layer of its own, put in its places, and convolved.

    Args:
        channels: C of gamma and beta.
        num_codes: K, codes of a style.
        style_dim: length L of a code.

    Attributes:
        path: `dense` convolves the map of codes, `[N, L, h, w]`, as the paper has it. `classes` gives the same to
            rounding: it computes once what each class adds at each place of the kernel, and adds up the nine that a
            pixel sees, which takes a fraction of the multiplications.
    """

    path: StylePath = "classes"

    def __init__(self, channels: int, num_codes: int, style_dim: int) -> None:
        super().__init__()
        self.linear = ClassLinear(num_codes, style_dim)
        self.gamma = Conv2d(style_dim, channels, 3, padding=1)
        self.beta = Conv2d(style_dim, channels, 3, padding=1)

    def forward(self, codes: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Gamma and beta.

        Args:
            codes: `[N, K, L]`.
            index: which code each pixel has, int64 `[N, h, w]` in 0..K-1.

        Returns:
            Two `[N, C, h, w]`.
        """
        mapped = F.relu(self.linear(codes.to(self.linear.weight.dtype)))
        if self.path == "dense":
            placed = spread(mapped, index)  # [N, L, h, w]
            return self.gamma(placed), self.beta(placed)
        assert self.gamma.bias is not None and self.beta.bias is not None
        weight, bias = torch.cat([self.gamma.weight, self.beta.weight]), torch.cat([self.gamma.bias, self.beta.bias])
        gamma, beta = (_sum_of_classes(mapped, weight, index) + bias.view(1, -1, 1, 1)).chunk(2, dim=1)
        return gamma, beta


def _sum_of_classes(codes: Tensor, weight: Tensor, index: Tensor) -> Tensor:
    """`conv2d(codes placed by index, weight, padding=1)` for a 3x3 kernel, without placing the codes.

    Args:
        codes: `[N, K, L]`.
        weight: `[C, L, 3, 3]`.
        index: `[N, h, w]` in 0..K-1.

    Returns:
        `[N, C, h, w]`, channels last in memory.
    """
    (batch, count, _), channels, (height, width) = codes.shape, weight.shape[0], index.shape[1:]
    table = codes.flatten(0, 1) @ weight.permute(1, 2, 3, 0).flatten(1)  # [N * K, 9 * C]
    table = F.pad(table.view(batch, count, 9 * channels), (0, 0, 0, 1))  # the code outside adds nothing
    own = (count + 1) * torch.arange(batch, device=index.device).view(-1, 1, 1)
    padded = 9 * (F.pad(index, (1, 1, 1, 1), value=count) + own)
    lines = [padded.narrow(1, i, height) for i in range(3)]
    places = torch.stack([line.narrow(2, j, width) for line in lines for j in range(3)], dim=-1)
    rows = (places + torch.arange(9, device=index.device)).view(-1, 9)
    sums = F.embedding_bag(rows, table.view(-1, channels), mode="sum")
    return sums.view(batch, height, width, channels).permute(0, 3, 1, 2)


class ACE(ConditionalNorm):
    """`y = norm(x + noise) * gamma + beta`, gamma and beta between those of the layout and those of the style.

    With SPADE as `layout_norm` it is SEAN's layer: `gamma = 1 + a * gamma_style + (1 - a) * gamma_layout`, a learned.
    With CLADE it is SEAN-CLADE's, in our reading (nothing is published but counts): the table takes the place of `1 +
    gamma_layout`, the whole factor, as in CLADE itself.

    Args:
        layout_norm: the part that follows the layout; its statistics become this layer's.
        num_codes: codes of a style: one for each class, and with `instances` one more for instance edges.
        style_dim: length of a code.
        instances: pixels on instance edges take the last code instead of their class's, as in the official code.
        styled: whether there is a style branch. Without one the blend is without effect, and is kept for the count.
    """

    def __init__(
        self,
        layout_norm: LayoutModulatedNorm,
        num_codes: int,
        style_dim: int,
        *,
        instances: bool = False,
        styled: bool = True,
    ) -> None:
        super().__init__(layout_norm.channels, "batch")
        self.instances = instances
        self.noise = AddedNoise(self.channels)
        self.statistics, layout_norm.statistics = layout_norm.statistics, nn.Identity()
        self.layout_norm = layout_norm
        self.style = StyleModulation(self.channels, num_codes, style_dim) if styled else None
        self.blend_gamma = nn.Parameter(torch.zeros(1))
        self.blend_beta = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """`x [N, C, h, w]` -> the same shape; the style is `codes`.

        Raises:
            LayoutError: instances are used and the layout has none.
            StyleError: there is no style where one is needed.
        """
        size = (x.shape[-2], x.shape[-1])
        gamma, beta = self.layout_norm.modulation(layout, size, x.dtype)
        if self.style is not None:
            if style is None:
                raise StyleError("SEAN's norm was called without a style: give codes, one for each class.")
            styled_gamma, styled_beta = self.style(style.values, self._index(layout, size))
            gamma = torch.lerp(gamma, 1 + styled_gamma, torch.sigmoid(self.blend_gamma))
            beta = torch.lerp(beta, styled_beta, torch.sigmoid(self.blend_beta))
        y: Tensor = self.statistics(self.noise(x)) * gamma + beta
        return y

    def _index(self, layout: Layout, size: tuple[int, int]) -> Tensor:
        """Which code each pixel has, `[N, h, w]`."""
        classes = layout.at(size)
        return torch.where(layout.edges(size)[:, 0] > 0, layout.num_classes, classes) if self.instances else classes
