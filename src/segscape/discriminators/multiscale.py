"""The multi-scale patch discriminator of pix2pixHD and the SPADE family.

Source: Wang et al., CVPR 2018, section 3.2; Park et al., CVPR 2019, figure 13 (appendix).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from segscape.discriminators.judgement import Discriminator, Judgement
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

    Layers 1 .. num_layers - 1 are normalised; the first and the last are plain convolutions with bias. Arguments as
    for `MultiScaleDiscriminator`.
    """

    def __init__(
        self,
        in_channels: int,
        base_channels: int,
        num_layers: int,
        norm: DiscriminatorNorm,
        spectral: bool,
        bias: bool = False,
        last_stride: int = 1,
    ) -> None:
        super().__init__()
        widths = [base_channels, *(min(base_channels * 2**i, 512) for i in range(1, num_layers))]
        self.convs = nn.ModuleList([Conv2d(in_channels, widths[0], 4, stride=2, padding=2)])
        self.norms = nn.ModuleList([nn.Identity()])
        for i in range(1, num_layers):
            stride = last_stride if i == num_layers - 1 else 2
            inner = conv2d(spectral, widths[i - 1], widths[i], 4, stride=stride, padding=2, bias=bias or norm == "none")
            self.convs.append(inner)
            self.norms.append(_norm(norm, widths[i]))
        self.convs.append(nn.Conv2d(widths[-1], 1, 4, padding=2))

    def forward(self, x: Tensor) -> list[Tensor]:
        """`x [N, C, H, W]` -> the output of every layer; the last is the score map `[N, 1, h, w]`."""
        outputs = []
        for conv, norm in zip(self.convs, self.norms, strict=False):
            x = F.leaky_relu(norm(conv(x)), 0.2)
            outputs.append(x)
        return [*outputs, self.convs[-1](x)]


class MultiScaleDiscriminator(Discriminator):
    """Patch discriminators with separate weights; number i sees the input average-pooled i times.

    Args:
        num_classes: classes of the label set.
        instances: the instance-edge map is one more input channel.
        base_channels: width of the first layer (doubling up to 512).
        num_scales: number of patch discriminators.
        num_layers: layers before the score (the papers: 4, that is five convolutions).
        norm: normalisation in the inner layers; `batch` kinds have learned scale and shift.
        spectral: spectral normalisation of the inner layers.
        bias: biases in the inner layers although a norm follows (pix2pixHD).
        last_stride: of the last inner layer: 1, or 2 in SEAN and CA2-SIS.
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
        bias: bool = False,
        last_stride: int = 1,
    ) -> None:
        super().__init__(instances)
        channels = num_classes + int(instances) + 3
        self.scales = nn.ModuleList(
            PatchDiscriminator(channels, base_channels, num_layers, norm, spectral, bias, last_stride)
            for _ in range(num_scales)
        )
        initialize_xavier(self)

    def judge(self, x: Tensor) -> Judgement:
        """As `forward`, on a semantic map and image already joined, `[N, S + 3, H, W]`."""
        results = []
        for i, scale in enumerate(self.scales):
            if i:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            results.append(scale(x))
        return Judgement([outputs[-1] for outputs in results], [outputs[:-1] for outputs in results])
