"""Networks that turn images into feature vectors, and the names of the metrics that are computed from them.

A metric is called by its published name only if it looks through the published network: `FID` and `KID` through the
Inception of the FID papers, `FD-EfficientNetLite0` through another one. The name is decided here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import EvaluationError
from segscape.evaluation.fidelity.inception import DIMENSIONS, find_inception, load_inception
from segscape.features import EfficientNetLite0Embedding, lite0_file
from segscape.files import file_digest

ExtractorName = Literal["auto", "inception", "efficientnet-lite0"]
"""`auto` is inception if its weights are at hand, else efficientnet-lite0."""

LITE0_SIDE = 224


@dataclass(frozen=True)
class MetricNames:
    """What the metrics over one network's features are called.

    Attributes:
        frechet: the Frechet distance, `FID` or `FD-` and the network.
        kernel: the kernel distance, `KID` or `KD-` and the network.
        network: what all other metrics end in.
    """

    frechet: str
    kernel: str
    network: str

    @classmethod
    def through(cls, network: str, *, published: bool = False) -> MetricNames:
        """The names over a network; `published` ones only for the Inception of the FID papers."""
        return cls("FID", "KID", network) if published else cls(f"FD-{network}", f"KD-{network}", network)

    def of(self, metric: str) -> str:
        """The name of any other metric, for example `precision-Inception`."""
        return f"{metric}-{self.network}"


class Extractor(Protocol):
    """Images to feature vectors.

    Attributes:
        names: of the metrics over these features.
        description: network, layer, dimensions, resizing and weights, for protocols.
        dimensions: length of a feature vector.
    """

    @property
    def names(self) -> MetricNames: ...
    @property
    def description(self) -> str: ...
    @property
    def dimensions(self) -> int: ...

    def __call__(self, images: Tensor) -> Tensor:
        """Images uint8 `[N, 3, H, W]` on any device -> features float32 `[N, D]` on the CPU."""
        ...


class NetworkExtractor:
    """An extractor over a frozen network.

    On the CPU the network sees one image at a time, so that features are the same bits however images are batched
    (in larger batches other kernels run, which round differently; one at a time is also the fastest). Other devices
    take the images together, without TF32, and agree to rounding.

    Args:
        network: images uint8 `[N, 3, H, W]` -> features `[N, D]`.
        names: see `Extractor`.
        description: see `Extractor`.
        dimensions: see `Extractor`.
        device: where it runs.
    """

    def __init__(
        self, network: nn.Module, names: MetricNames, description: str, dimensions: int, device: torch.device
    ) -> None:
        self.network = network.to(device).eval()
        self.names = names
        self.description = description
        self.dimensions = dimensions
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Images uint8 `[N, 3, H, W]` on any device -> features float32 `[N, D]` on the CPU.

        Raises EvaluationError if the images are something else.
        """
        require_images(images)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            parts = [self.network(part.to(self.device)).float().cpu() for part in portions(images, self.device)]
        return torch.cat(parts) if parts else torch.empty(0, self.dimensions)


class _Lite0(nn.Module):
    """EfficientNet-Lite0 behind its resizing."""

    def __init__(self, embedding: EfficientNetLite0Embedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, images: Tensor) -> Tensor:
        size = (LITE0_SIDE, LITE0_SIDE)
        resized = F.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
        features: Tensor = self.embedding(resized / 127.5 - 1)
        return features


def inception_extractor(path: Path | None, device: torch.device) -> NetworkExtractor:
    """The Inception of the FID; raises CheckpointError if its weights are missing or another network's.

    Args:
        path: of the weights; None looks into the torch-hub cache.
        device: where it runs.
    """
    loaded = load_inception(path)
    description = (
        f"Inception-v3 ({'2015-12-05' if loaded.published else 'unpublished weights'}), last average pool, "
        f"{DIMENSIONS} dimensions, 299x299 ({loaded.resizing}), weights {loaded.digest[:12]}"
    )
    names = MetricNames.through("Inception", published=loaded.published)
    return NetworkExtractor(loaded.network, names, description, DIMENSIONS, device)


def lite0_extractor(device: torch.device) -> NetworkExtractor:
    """EfficientNet-Lite0 (ImageNet); raises CheckpointError if the package that carries it is not installed."""
    digest = file_digest(lite0_file())
    description = (
        "EfficientNet-Lite0 (ImageNet), pooled features before the classifier, 1280 dimensions, "
        f"{LITE0_SIDE}x{LITE0_SIDE} (bilinear with antialiasing, scaled to [-1, 1]), weights {digest[:12]}"
    )
    network = _Lite0(EfficientNetLite0Embedding.from_package())
    return NetworkExtractor(network, MetricNames.through("EfficientNetLite0"), description, 1280, device)


def open_extractor(name: str, path: Path | None, device: torch.device) -> NetworkExtractor:
    """An extractor by name (`ExtractorName`).

    Args:
        name: `auto`, `inception` or `efficientnet-lite0`.
        path: weights of Inception; None looks into the torch-hub cache.
        device: where it runs.

    Raises:
        CheckpointError: the weights are missing, or another network's.
        EvaluationError: the name is unknown, or weights are given for a network that brings its own.
    """
    if name not in get_args(ExtractorName):
        raise EvaluationError(f"the features {name!r} are unknown: use {', '.join(get_args(ExtractorName))}.")
    if name == "inception" or (name == "auto" and find_inception(path) is not None):
        return inception_extractor(path, device)
    if path is not None:
        raise EvaluationError(f"efficientnet-lite0 brings its own weights, but {path} was given: leave it out.")
    return lite0_extractor(device)


def portions(images: Tensor, device: torch.device) -> list[Tensor]:
    """The images `[N, ...]` as a network on this device takes them: one by one on the CPU, else together."""
    return [images[n : n + 1] for n in range(len(images))] if device.type == "cpu" else [images] if len(images) else []


def require_images(images: Tensor) -> None:
    """Raises EvaluationError unless `images` is uint8 `[N, 3, H, W]`."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise EvaluationError(f"images are uint8 [N, 3, H, W], not {images.dtype} {list(images.shape)}.")
