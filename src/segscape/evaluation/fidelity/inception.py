"""The Inception network of the FID: the one that TensorFlow published on 2015-12-05, and nothing else.

Every published FID looks through this network (Heusel et al., "GANs trained by a two time-scale update rule", 2017).
It is not torchvision's: it has 1008 outputs, its average pools leave the border's padding out of the mean, and its
last block pools by the maximum. Two files hold it, a state dict (ported by pytorch-fid, Apache-2.0) and a TorchScript
program (NVIDIA). Neither is downloaded here; each is known by its SHA-256.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import CheckpointError
from segscape.features import hub_file, read_state
from segscape.files import file_digest

STATE_FILE: Final = "pt_inception-2015-12-05-6726825d.pth"
"""The state dict, as pytorch-fid and torch-fidelity publish it."""
STATE_DIGEST: Final = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SCRIPT_FILE: Final = "inception-2015-12-05.pt"
"""The TorchScript program, as NVIDIA publishes it with StyleGAN."""
SCRIPT_DIGEST: Final = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"

SIDE: Final = 299
"""Height and width at which the network works."""
DIMENSIONS: Final = 2048
"""Length of the feature vector: the pooled output of the last block."""


class Conv(NamedTuple):
    """A convolution inside a block; with stride 1 it keeps the size, with stride 2 it has no padding."""

    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


Branch = tuple[Conv | tuple[Conv, Conv], ...]
"""Convolutions one after the other; a pair runs side by side and is concatenated."""

ROW, COLUMN, SQUARE = (1, 7), (7, 1), (3, 3)


def _block_a(pool_width: int) -> dict[str, Branch]:
    return {
        "branch1x1": (Conv(64),),
        "branch5x5": (Conv(48), Conv(64, (5, 5))),
        "branch3x3dbl": (Conv(64), Conv(96, SQUARE), Conv(96, SQUARE)),
        "branch_pool": (Conv(pool_width),),
    }


def _block_c(inner: int) -> dict[str, Branch]:
    return {
        "branch1x1": (Conv(192),),
        "branch7x7": (Conv(inner), Conv(inner, ROW), Conv(192, COLUMN)),
        "branch7x7dbl": (
            Conv(inner), Conv(inner, COLUMN), Conv(inner, ROW), Conv(inner, COLUMN), Conv(192, ROW),
        ),
        "branch_pool": (Conv(192),),
    }  # fmt: skip


BLOCK_B: dict[str, Branch] = {
    "branch3x3": (Conv(384, SQUARE, 2),),
    "branch3x3dbl": (Conv(64), Conv(96, SQUARE), Conv(96, SQUARE, 2)),
    "branch_pool": (),
}
BLOCK_D: dict[str, Branch] = {
    "branch3x3": (Conv(192), Conv(320, SQUARE, 2)),
    "branch7x7x3": (Conv(192), Conv(192, ROW), Conv(192, COLUMN), Conv(192, SQUARE, 2)),
    "branch_pool": (),
}
BLOCK_E: dict[str, Branch] = {
    "branch1x1": (Conv(320),),
    "branch3x3": (Conv(384), (Conv(384, (1, 3)), Conv(384, (3, 1)))),
    "branch3x3dbl": (Conv(448), Conv(384, SQUARE), (Conv(384, (1, 3)), Conv(384, (3, 1)))),
    "branch_pool": (Conv(192),),
}


def _average() -> nn.Module:
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _maximum() -> nn.Module:
    return nn.MaxPool2d(3, stride=1, padding=1)


def _shrink() -> nn.Module:
    return nn.MaxPool2d(3, stride=2)


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch normalisation, rectifier; `padding` None is that of a `Conv` inside a block."""

    def __init__(self, before: int, spec: Conv, padding: int | None = None) -> None:
        super().__init__()
        around = (spec.kernel[0] // 2, spec.kernel[1] // 2) if spec.stride == 1 else (0, 0)
        pads = around if padding is None else (padding, padding)
        self.conv = nn.Conv2d(before, spec.width, spec.kernel, spec.stride, pads, bias=False)
        self.bn = nn.BatchNorm2d(spec.width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, before, H, W]` -> `[N, width, H', W']`."""
        return F.relu(self.bn(self.conv(x)))


class MixedBlock(nn.Module):
    """Branches that read the same input and are concatenated; `branch_pool` reads it through `pool`."""

    def __init__(self, before: int, branches: Mapping[str, Branch], pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.paths = {name: self._build(before, name, branch) for name, branch in branches.items()}

    def _build(self, before: int, name: str, branch: Branch) -> list[list[str]]:
        """Add a branch's convolutions under torchvision's names; returns the names, step by step."""
        steps = []
        for number, step in enumerate(branch, start=1):
            specs = {"": step} if isinstance(step, Conv) else dict(zip("ab", step, strict=True))
            ending = f"_{number}" if len(branch) > 1 else ""
            for letter, spec in specs.items():
                self.add_module(f"{name}{ending}{letter}", ConvNormReLU(before, spec))
            steps.append([f"{name}{ending}{letter}" for letter in specs])
            before = sum(spec.width for spec in specs.values())
        return steps

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` -> `[N, C', H', W']`."""
        return torch.cat([self._run(name, x) for name in self.paths], dim=1)

    def _run(self, branch: str, x: Tensor) -> Tensor:
        if branch == "branch_pool":
            x = self.pool(x)
        for step in self.paths[branch]:
            x = torch.cat([self.get_submodule(name)(x) for name in step], dim=1)
        return x


def _layers() -> OrderedDict[str, nn.Module]:
    """The network from the image to its 1008 outputs, under torchvision's names."""
    return OrderedDict[str, nn.Module](
        Conv2d_1a_3x3=ConvNormReLU(3, Conv(32, SQUARE, 2)),
        Conv2d_2a_3x3=ConvNormReLU(32, Conv(32, SQUARE), padding=0),
        Conv2d_2b_3x3=ConvNormReLU(32, Conv(64, SQUARE)),
        maxpool1=_shrink(),
        Conv2d_3b_1x1=ConvNormReLU(64, Conv(80)),
        Conv2d_4a_3x3=ConvNormReLU(80, Conv(192, SQUARE), padding=0),
        maxpool2=_shrink(),
        Mixed_5b=MixedBlock(192, _block_a(32), _average()),
        Mixed_5c=MixedBlock(256, _block_a(64), _average()),
        Mixed_5d=MixedBlock(288, _block_a(64), _average()),
        Mixed_6a=MixedBlock(288, BLOCK_B, _shrink()),
        Mixed_6b=MixedBlock(768, _block_c(128), _average()),
        Mixed_6c=MixedBlock(768, _block_c(160), _average()),
        Mixed_6d=MixedBlock(768, _block_c(160), _average()),
        Mixed_6e=MixedBlock(768, _block_c(192), _average()),
        Mixed_7a=MixedBlock(768, BLOCK_D, _shrink()),
        Mixed_7b=MixedBlock(1280, BLOCK_E, _average()),
        Mixed_7c=MixedBlock(2048, BLOCK_E, _maximum()),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(DIMENSIONS, 1008),
    )


class FIDInception(nn.Sequential):
    """The Inception-v3 of the FID papers (Szegedy et al., "Rethinking the Inception architecture", 2016).

    Parameters have torchvision's names, so that the published state dict loads as it is.
    """

    def __init__(self) -> None:
        super().__init__(_layers())
        self.requires_grad_(False).eval()

    @classmethod
    def from_file(cls, path: Path) -> FIDInception:
        """Load a state dict; raises CheckpointError if it is missing or belongs to another network."""
        state = read_state(path, "Inception")
        network = cls()
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise CheckpointError(
                f"{path} is not the Inception of the FID papers (torchvision's own will not do): {reason}"
            ) from None
        return network

    def forward(self, input: Tensor) -> Tensor:
        """Images uint8 `[N, 3, H, W]` -> features float32 `[N, 2048]`.

        As pytorch-fid does it: the images are resized to 299x299 (bilinear, pixel centres, no antialiasing) and
        scaled to [-1, 1]. The classifier is not run.
        """
        x = F.interpolate(input.float() / 255, (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = 2 * x - 1
        for name, layer in self.named_children():
            if name != "fc":
                x = layer(x)
        return x


class ScriptedInception(nn.Module):
    """NVIDIA's TorchScript of the same network, which resizes and scales the images by TensorFlow's own rules."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.program = program

    @classmethod
    def from_file(cls, path: Path) -> ScriptedInception:
        """Load the program, which the caller has found to be the published one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is going, this file is here to stay
            return cls(torch.jit.load(str(path), map_location="cpu").eval())  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 `[N, 3, H, W]` -> features float32 `[N, 2048]`."""
        features: Tensor = self.program(images, return_features=True)
        return features.float()


@dataclass(frozen=True)
class LoadedInception:
    """A network, and how far it may be called Inception.

    Attributes:
        network: images uint8 `[N, 3, H, W]` -> features float32 `[N, 2048]`.
        digest: SHA-256 of its weights file.
        published: whether this is one of the two published files; only then is a distance a `FID`.
        resizing: how it brings images to 299x299 and scales them, for protocols.
    """

    network: nn.Module
    digest: str
    published: bool
    resizing: str


def find_inception(path: Path | None = None) -> Path | None:
    """The weights file: `path` if given, else a published file in the torch-hub cache; None if there is none.

    Raises CheckpointError if `path` is given and not there.
    """
    if path is not None:
        if not path.is_file():
            raise CheckpointError(f"the Inception weights {path} do not exist: {_REMEDY}")
        return path
    cached = (hub_file(STATE_FILE), hub_file(SCRIPT_FILE))
    return next((file for file in cached if file.is_file()), None)


def load_inception(path: Path | None = None) -> LoadedInception:
    """Load the network from `path`, or else from the torch-hub cache.

    A TorchScript file is a program, so only the published one is run; any other file is read as a state dict.

    Raises CheckpointError if no file is there, or it does not hold this network.
    """
    file = find_inception(path)
    if file is None:
        raise CheckpointError(f"the FID needs the weights of its Inception network, and none are here: {_REMEDY}")
    digest = file_digest(file)
    if digest == SCRIPT_DIGEST:
        return LoadedInception(ScriptedInception.from_file(file), digest, True, "TensorFlow's resize, inside")
    resizing = "bilinear without antialiasing, pixel centres, scaled to [-1, 1]"
    return LoadedInception(FIDInception.from_file(file), digest, digest == STATE_DIGEST, resizing)


_REMEDY = (
    f"give the path of {STATE_FILE} or {SCRIPT_FILE} (option --features-path), put one into torch hub's folder "
    "checkpoints, or choose the features efficientnet-lite0, whose distance is called FD-EfficientNetLite0."
)
