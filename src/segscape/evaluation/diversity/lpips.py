"""Perceptual distances between two images: LPIPS, and a substitute for machines without its weights.

Both compare the channels of a frozen network, scaled to unit length at every place, at five depths:
`sum over depths of the mean over places of sum over channels of w (a - b)^2`. LPIPS (Zhang et al., "The unreasonable
effectiveness of deep features as a perceptual metric", CVPR 2018) is this over AlexNet with weights `w` fitted to
human judgement; the substitute is this over EfficientNet-Lite0 with uniform weights, and never called LPIPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import CheckpointError, EvaluationError
from segscape.evaluation.fidelity.extractors import portions
from segscape.extras import require
from segscape.features import EfficientNetLite0Features, hub_file, lite0_file, read_state
from segscape.files import file_digest

DistanceName = Literal["auto", "lpips", "efficientnet-lite0"]
"""`auto` is lpips if its AlexNet is at hand, else efficientnet-lite0."""

ALEXNET_FILE: Final = "alexnet-owt-7be5be79.pth"
"""Name of torchvision's AlexNet weights (ImageNet) in the torch-hub cache."""
ALEXNET_DIGEST: Final = "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
LINEAR_DIGEST: Final = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
"""Of `alex.pth`, the linear weights of LPIPS v0.1, which torchmetrics carries."""

# torchvision's index of each convolution: input width, output width, kernel, stride, padding.
ALEXNET_CONVS: Final = {
    0: (3, 64, 11, 4, 2), 3: (64, 192, 5, 1, 2), 6: (192, 384, 3, 1, 1), 8: (384, 256, 3, 1, 1),
    10: (256, 256, 3, 1, 1),
}  # fmt: skip
ALEXNET_POOLED: Final = (3, 6)
"""The convolutions that read max-pooled features."""
ALEXNET_SMALLEST: Final = 31
"""The smallest height and width that AlexNet's strides and pools leave something of."""

SHIFT: Final = (-0.030, -0.088, -0.188)
SCALE: Final = (0.458, 0.448, 0.450)
"""How LPIPS normalises the channels of images in [-1, 1]."""


class PerceptualDistance(Protocol):
    """A distance between images that look alike or not.

    Images are uint8, or floating point in [-1, 1], `[N, 3, H, W]`. With a mask `[N or 1, 1, H, W]` (1 inside) only a
    region counts, in the way of GroupDNet's metrics: both images are multiplied by the mask, so that all other pixels
    become 0, a mid grey, in both. (The border of the region is then an edge in both images.)

    Embedding apart from comparing lets K images be compared in pairs at the cost of K embeddings.

    Attributes:
        name: of the distance, `LPIPS` or `PD-` and the network.
        description: network, layers and weights, for protocols.
    """

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...

    def embed(self, images: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """What there is to compare of N images: tensors `[N, ...]`."""
        ...

    def compare(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Distances `[N]` between N embedded images and N others (or 1, which then stands for all)."""
        ...

    def __call__(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """Distances `[N]` between the images `a` and `b`."""
        ...


class FeatureDistance:
    """A perceptual distance over the features of a network.

    Args:
        network: images in [-1, 1] `[N, 3, H, W]` -> a feature map `[N, C, h, w]` of each depth.
        weights: one `[C]` per depth.
        name: see `PerceptualDistance`.
        description: see `PerceptualDistance`.
        device: where it runs.
    """

    def __init__(
        self, network: nn.Module, weights: Sequence[Tensor], name: str, description: str, device: torch.device
    ) -> None:
        self.network = network.to(device).eval()
        self.weights = [weight.view(1, -1, 1, 1).to(device) for weight in weights]
        self.name = name
        self.description = description
        self.device = device

    @torch.inference_mode()
    def embed(self, images: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """The features of each depth at unit length; see `PerceptualDistance`.

        The CPU takes one image at a time, so that the bits do not depend on the others.
        """
        images = signed(images)
        if mask is not None:
            images = images * mask.to(images)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            parts = [self.network(part.to(self.device)) for part in portions(images, self.device)]
        return [_unit_length(torch.cat(maps)) for maps in zip(*parts, strict=True)]

    @torch.inference_mode()
    def compare(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """Distances float32 `[N]` on the CPU; see `PerceptualDistance`."""
        depths = [
            (weight * (x - y).square()).sum(1).mean((1, 2)) for weight, x, y in zip(self.weights, a, b, strict=True)
        ]
        return torch.stack(depths).sum(0).cpu()

    def __call__(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """Distances float32 `[N]` on the CPU between the images `a` and `b`; see `PerceptualDistance`.

        Raises EvaluationError if the images do not correspond.
        """
        if a.shape != b.shape:
            raise EvaluationError(f"images {list(a.shape)} and {list(b.shape)} have no distance: give equal shapes.")
        return self.compare(self.embed(a, mask), self.embed(b, mask))


class AlexNetFeatures(nn.Module):
    """AlexNet's five rectified convolutions behind LPIPS's normalisation of the image."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(*row) for row in ALEXNET_CONVS.values())
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    @classmethod
    def from_file(cls, path: Path) -> AlexNetFeatures:
        """Load torchvision's `alexnet` state dict; raises CheckpointError if the file holds other weights."""
        state, network = read_state(path, "AlexNet"), cls()
        try:
            for index, conv in zip(ALEXNET_CONVS, network.convs, strict=True):
                conv.load_state_dict({name: state[f"features.{index}.{name}"] for name in ("weight", "bias")})
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path} is not torchvision's AlexNet: {error}.") from None
        return network

    def forward(self, image: Tensor) -> list[Tensor]:
        """`image [N, 3, H, W]` in [-1, 1] -> relu1 .. relu5; raises EvaluationError if it is below 31x31."""
        if min(image.shape[-2:]) < ALEXNET_SMALLEST:
            size = f"{image.shape[-2]}x{image.shape[-1]}"
            raise EvaluationError(
                f"images of {size} are too small for LPIPS: it needs {ALEXNET_SMALLEST} pixels a side."
            )
        x, taps = (image - self.shift) / self.scale, []
        for index, conv in zip(ALEXNET_CONVS, self.convs, strict=True):
            x = F.max_pool2d(x, 3, 2) if index in ALEXNET_POOLED else x
            x = F.relu(conv(x))
            taps.append(x)
        return taps


def lpips(device: torch.device, alexnet: Path | None = None, linear: Path | None = None) -> FeatureDistance:
    """LPIPS v0.1 over AlexNet; with files other than the published ones it is called `PD-AlexNet`.

    Args:
        device: where it runs.
        alexnet: torchvision's weights; None looks into the torch-hub cache.
        linear: the linear weights `alex.pth`; None takes those that torchmetrics carries.

    Raises:
        CheckpointError: a file is missing or holds other weights.
        DependencyError: torchmetrics is not installed, and `linear` not given.
    """
    trunk = _existing(alexnet or hub_file(ALEXNET_FILE), "the AlexNet weights", ALEXNET_FILE)
    lines = _existing(linear or _carried_linear(), "the linear weights of LPIPS", "alex.pth")
    digests = file_digest(trunk), file_digest(lines)
    name = "LPIPS" if digests == (ALEXNET_DIGEST, LINEAR_DIGEST) else "PD-AlexNet"
    description = f"{name} v0.1, AlexNet relu1 to relu5, weights {digests[0][:12]} and {digests[1][:12]}"
    return FeatureDistance(AlexNetFeatures.from_file(trunk), _linear_weights(lines), name, description, device)


def lite0_distance(device: torch.device) -> FeatureDistance:
    """The distance over EfficientNet-Lite0; raises CheckpointError if the package that carries it is missing."""
    widths = (16, 24, 40, 112, 320)
    weights = [torch.full((width,), 1 / len(widths)) for width in widths]
    description = (
        "EfficientNet-Lite0 (ImageNet), five maps of strides 2 to 32 at unit length, squared distance, uniform "
        f"weights, images at their own size, weights {file_digest(lite0_file())[:12]}"
    )
    network = EfficientNetLite0Features.from_package()
    return FeatureDistance(network, weights, "PD-EfficientNetLite0", description, device)


def open_distance(
    name: str, device: torch.device, *, alexnet: Path | None = None, linear: Path | None = None
) -> FeatureDistance:
    """A perceptual distance by name (`DistanceName`).

    Args:
        name: `auto`, `lpips` or `efficientnet-lite0`.
        device: where it runs.
        alexnet: see `lpips`.
        linear: see `lpips`.

    Raises:
        CheckpointError: weights are missing, or another network's.
        EvaluationError: the name is unknown, or weights are given for a network that brings its own.
    """
    if name not in get_args(DistanceName):
        raise EvaluationError(f"the distance {name!r} is unknown: use {', '.join(get_args(DistanceName))}.")
    if name == "lpips" or (name == "auto" and (alexnet is not None or hub_file(ALEXNET_FILE).is_file())):
        return lpips(device, alexnet, linear)
    if given := alexnet or linear:
        raise EvaluationError(f"the distance {name} uses EfficientNet-Lite0, but {given} was given: choose lpips.")
    return lite0_distance(device)


def signed(images: Tensor) -> Tensor:
    """Images `[N, 3, H, W]` as float32 in [-1, 1]: uint8 is scaled, floating point taken as it is.

    Raises EvaluationError if they are something else.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        found = f"{images.dtype} {list(images.shape)}"
        raise EvaluationError(f"images are [N, 3, H, W], uint8 or floating point in [-1, 1], not {found}.")
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()


def _unit_length(features: Tensor) -> Tensor:
    """`[N, C, h, w]` with every channel vector divided by its length, as the code of LPIPS does it."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _linear_weights(path: Path) -> list[Tensor]:
    state = read_state(path, "LPIPS")
    try:
        weights = [state[f"lin{depth}.model.1.weight"].flatten() for depth in range(len(ALEXNET_CONVS))]
    except KeyError as error:
        raise CheckpointError(f"{path} does not hold the linear weights of LPIPS: {error} is missing.") from None
    for weight, (_, width, *_) in zip(weights, ALEXNET_CONVS.values(), strict=True):
        if len(weight) != width:
            raise CheckpointError(f"{path} holds the linear weights of another LPIPS network: give those of alex.")
    return weights


def _carried_linear() -> Path:
    folder = Path(str(require("torchmetrics", "eval").__file__)).parent
    return folder / "functional" / "image" / "lpips_models" / "alex.pth"


def _existing(path: Path, what: str, name: str) -> Path:
    if not path.is_file():
        raise CheckpointError(
            f"{what} {path} do not exist: give the path of {name}, or choose the distance efficientnet-lite0, which is "
            "called PD-EfficientNetLite0."
        )
    return path
