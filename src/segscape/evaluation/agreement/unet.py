"""A U-Net that segments photographs: the judge for data that no published segmenter knows.

Source: Ronneberger, Fischer, Brox, MICCAI 2015; with batch norm and padded convolutions, as is usual since. The paper
on CLADE judges DeepFashion with a U-Net of its own and CelebAMask-HQ with a published one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Literal

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, PositiveInt
from torch import Tensor, nn
from typing_extensions import Self

from segscape.features import EfficientNetLite0Features
from segscape.labels import LabelSet, as_label_set
from segscape.models.config import ModelConfig
from segscape.models.pretrained import PretrainedModel

WIDEST = 8
"""No map of the plain encoder or the decoder has more than this times `base_channels` channels."""

EncoderName = Literal["plain", "efficientnet-lite0"]


class UNetConfig(ModelConfig):
    """What a U-Net is made of.

    Attributes:
        labels: the label set that it predicts (or its name, or a number of classes).
        encoder: `plain`, four halvings from scratch, or `efficientnet-lite0`, five halvings (Tan and Le, ICML 2019).
        base_channels: width at full resolution; it doubles with each halving, up to `WIDEST` times.
        image_size: (height, width) of the pictures in training; other sizes work, at about this scale best.
    """

    model: Literal["unet"] = "unet"
    labels: Annotated[LabelSet, BeforeValidator(as_label_set)]
    encoder: EncoderName = "efficientnet-lite0"
    base_channels: PositiveInt = 16
    image_size: tuple[PositiveInt, PositiveInt] = (256, 256)


class UNet(PretrainedModel):
    """`unet(image [N, 3, H, W] in [-1, 1]) -> logits [N, num_classes, H, W]`, for any height and width.

    Attributes:
        stride: pictures are padded to multiples of this inside: 16, or 32 with EfficientNet-Lite0.

    Args:
        config: what to build; the weights are fresh (see `with_pretrained_encoder`).
    """

    config: UNetConfig
    config_class: ClassVar[type[UNetConfig]] = UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        base = config.base_channels
        self.encoder: _PlainEncoder | _Lite0Encoder
        self.encoder = _PlainEncoder(base) if config.encoder == "plain" else _Lite0Encoder()
        *skips, width = self.encoder.widths
        self.stride: Final = 2 ** len(skips)
        stages = []
        for halvings, skip in reversed(list(enumerate(skips))):
            stages.append(_UpStage(width, skip, _width(base, halvings)))
            width = _width(base, halvings)
        self.decoder = nn.ModuleList(stages)
        self.head = nn.Conv2d(width, config.labels.num_classes, 1)

    @classmethod
    def with_pretrained_encoder(cls, config: UNetConfig) -> Self:
        """Build one whose EfficientNet-Lite0 encoder has its ImageNet weights; a plain encoder stays fresh.

        Raises:
            CheckpointError: the package that carries the weights is not installed.
        """
        model = cls(config)
        if isinstance(model.encoder, _Lite0Encoder):
            model.encoder.features.load_state_dict(EfficientNetLite0Features.from_package().state_dict())
        return model

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[N, num_classes, H, W]` of `image [N, 3, H, W]` in [-1, 1] (the border fills strides)."""
        height, width = image.shape[2:]
        bottom, right = (math.ceil(side / self.stride) * self.stride - side for side in (height, width))
        *skips, x = self.encoder(F.pad(image, [0, right, 0, bottom], mode="replicate"))
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            x = stage(x, skip)
        logits: Tensor = self.head(x)
        return logits[:, :, :height, :width]


def _width(base: int, halvings: int) -> int:
    return base * min(1 << halvings, WIDEST)


class _ConvPair(nn.Sequential):
    """Twice: 3x3 convolution, batch norm, rectifier."""

    def __init__(self, before: int, after: int) -> None:
        layers: list[nn.Module] = []
        for width in (before, after):
            layers += [nn.Conv2d(width, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)


class _UpStage(nn.Module):
    """Make as narrow as the result, double the size, put the encoder's map of that size beside it, and convolve."""

    def __init__(self, below: int, skip: int, after: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(below, after, 1)
        self.convs = _ConvPair(after + skip, after)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        larger = F.interpolate(self.narrow(below), size=skip.shape[2:], mode="bilinear", align_corners=False)
        return self.convs(torch.cat([larger, skip], dim=1))  # type: ignore[no-any-return]


class _PlainEncoder(nn.Module):
    """Pairs of convolutions between poolings: maps of strides 1, 2, 4, 8, 16."""

    def __init__(self, base: int) -> None:
        super().__init__()
        self.widths: Sequence[int] = [_width(base, halvings) for halvings in range(5)]
        befores = [3, *self.widths[:-1]]
        self.stages = nn.ModuleList(map(_ConvPair, befores, self.widths))

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = [self.stages[0](image)]
        for stage in self.stages[1:]:
            maps.append(stage(F.max_pool2d(maps[-1], 2)))
        return maps


class _Lite0Encoder(nn.Module):
    """EfficientNet-Lite0 to be trained on, behind the picture itself: maps of strides 1, 2, 4, 8, 16, 32."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: Sequence[int] = (3, 16, 24, 40, 112, 320)
        self.features = EfficientNetLite0Features().requires_grad_(True).train()

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image, *self.features(image)]
