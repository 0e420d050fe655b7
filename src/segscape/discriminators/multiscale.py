"""The multi-scale patch discriminator of pix2pixHD and the SPADE family.

Source: Wang et al., CVPR 2018, section 3.2; Park et al., CVPR 2019, figure 13 (appendix).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.layout import Layout
from segscape.nn.convolution import Conv2d
from segscape.nn.initialization import initialize_xavier
from segscape.nn.instance import InstanceNorm2d
from segscape.nn.spectral import conv2d
from segscape.nn.synchronized import SynchronizedBatchNorm2d

DiscriminatorNorm = Literal["instance", "batch", "sync-batch", "none"]


def _norm(kind: DiscriminatorNorm, channels: int) -> nn.Module:
    kinds = {"instance": InstanceNorm2d, "batch": nn.BatchNorm2d, "sync-batch": SynchronizedBatchNorm2d}
    return nn.Identity() if kind == "none" else kinds[kind](channels)


class PatchDiscriminator(nn.Module):
    """4x4 convolutions, stride 2 but in the last two; one score per patch (70x70 pixels with four layers).

    Layers 1 .. num_layers - 1 are normalised; the first and the last are plain convolutions with bias.
    """

    def __init__(
        self, in_channels: int, base_channels: int, num_layers: int, norm: DiscriminatorNorm, spectral: bool
    ) -> None:
        super().__init__()
        widths = [base_channels, *(min(base_channels * 2**i, 512) for i in range(1, num_layers))]
        self.convs = nn.ModuleList([Conv2d(in_channels, widths[0], 4, stride=2, padding=2)])
        self.norms = nn.ModuleList([nn.Identity()])
        for i in range(1, num_layers):
            stride = 1 if i == num_layers - 1 else 2
            bias = norm == "none"
            self.convs.append(conv2d(spectral, widths[i - 1], widths[i], 4, stride=stride, padding=2, bias=bias))
            self.norms.append(_norm(norm, widths[i]))
        self.convs.append(nn.Conv2d(widths[-1], 1, 4, padding=2))

    def forward(self, x: Tensor) -> list[Tensor]:
        """`x [N, C, H, W]` -> the output of every layer; the last is the score map `[N, 1, h, w]`."""
        outputs = []
        for conv, norm in zip(self.convs, self.norms, strict=False):
            x = F.leaky_relu(norm(conv(x)), 0.2)
            outputs.append(x)
        return [*outputs, self.convs[-1](x)]


class MultiScaleDiscriminator(nn.Module):
    """Patch discriminators with separate weights; number i sees the input average-pooled i times.

    Args:
        num_classes: classes of the label set.
        instances: the instance-edge map is one more input channel.
        base_channels: width of the first layer (doubling up to 512).
        num_scales: number of patch discriminators.
        num_layers: layers before the score (the papers: 4, that is five convolutions).
        norm: normalisation in the inner layers; `batch` kinds have learned scale and shift.
        spectral: spectral normalisation of the inner layers.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        instances: bool = False,
        base_channels: int = 64,
        num_scales: int = 2,
        num_layers: int = 4,
        norm: DiscriminatorNorm = "instance",
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.instances = instances
        channels = num_classes + int(instances) + 3
        self.scales = nn.ModuleList(
            PatchDiscriminator(channels, base_channels, num_layers, norm, spectral) for _ in range(num_scales)
        )
        initialize_xavier(self)

    def forward(
        self, layout: Layout, image: Tensor, augment: Callable[[Tensor], Tensor] | None = None
    ) -> list[list[Tensor]]:
        """Judge images of layouts.

        Args:
            layout: N layouts.
            image: `[k * N, 3, H, W]` in [-1, 1], k blocks of N images, for example generated then real ones: judging
                both in one pass is what the official code does (one power iteration for both).
            augment: changes the input of `judge` before it is judged.

        Returns:
            Per scale the output of every layer; the last one is the score map.
        """
        semantic = layout.semantic_map((image.shape[-2], image.shape[-1]), edges=self.instances)
        semantic = semantic.to(image.dtype).repeat(image.shape[0] // layout.batch_size, 1, 1, 1)
        joined = torch.cat([semantic, image], dim=1)
        return self.judge(joined if augment is None else augment(joined))

    def judge(self, x: Tensor) -> list[list[Tensor]]:
        """As `forward`, on a semantic map and image already joined, `[N, S + 3, H, W]`."""
        results = []
        for i, scale in enumerate(self.scales):
            if i:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            results.append(scale(x))
        return results
