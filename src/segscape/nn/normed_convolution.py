"""A convolution and the normalisation after it, as in all layers of pix2pixHD's networks.

Source: Wang et al., CVPR 2018, appendix; the spectral kinds are those of its re-implementation in the code of SPADE.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segscape.nn.convolution import Conv2d
from segscape.nn.instance import InstanceNorm2d
from segscape.nn.spectral import SpectralNormConv2d, SpectralNormConvTranspose2d
from segscape.nn.synchronized import SynchronizedBatchNorm2d

ConvolutionNorm = Literal["instance", "batch", "spectral-instance", "spectral-batch", "spectral"]
Scaling = Literal["same", "half", "double"]

GEOMETRY: dict[Scaling, dict[str, int]] = {
    "same": {},
    "half": {"stride": 2, "padding": 1},
    "double": {"stride": 2, "padding": 1, "output_padding": 1},
}
"""Options of the convolution."""


class NormedConvolution(nn.Module):
    """`y = norm(convolution(x))`, at the same, half or twice the size.

    At the same size borders are reflected; half the size is a convolution of stride 2 over zero borders, twice the size
    a transposed one. Convolutions have a bias, also before a norm that takes it away again (so the official weights
    have it), but not where they have both spectral normalisation and a norm.

    Args:
        norm: the norm, after `spectral-` with spectral normalisation of the weight; `spectral` is that alone. Instance
            norm has no parameters, batch norm has scale and shift.
        in_channels, out_channels: of the convolution.
        kernel_size: odd; 3 unless the size stays.
        scaling: what happens to height and width, which are even for `half`.
    """

    def __init__(
        self,
        norm: ConvolutionNorm,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        scaling: Scaling = "same",
    ) -> None:
        super().__init__()
        spectral, bias = norm.startswith("spectral"), "-" not in norm
        self.reflected = kernel_size // 2 if scaling == "same" else 0
        kinds = {"double": (nn.ConvTranspose2d, SpectralNormConvTranspose2d)}.get(scaling, (Conv2d, SpectralNormConv2d))
        geometry: dict[str, Any] = GEOMETRY[scaling]
        self.convolution = kinds[spectral](in_channels, out_channels, kernel_size, bias=bias, **geometry)
        norms = {"instance": InstanceNorm2d, "batch": SynchronizedBatchNorm2d}
        statistics = norm.removeprefix("spectral").removeprefix("-")
        self.norm: nn.Module = norms[statistics](out_channels) if statistics else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`x [N, in_channels, h, w] -> [N, out_channels, h', w']`; h and w exceed half the kernel if they stay."""
        if self.reflected:
            x = F.pad(x, (self.reflected,) * 4, mode="reflect")
        y: Tensor = self.norm(self.convolution(x))
        return y

    def fold(self) -> None:
        """For inference, in place: put batch norm in evaluation mode into the convolution, which is a plain one."""
        if isinstance(self.norm, _BatchNorm):
            transposed = isinstance(self.convolution, nn.ConvTranspose2d)
            self.convolution = fuse_conv_bn_eval(self.convolution, self.norm, transposed)
            self.norm = nn.Identity()
