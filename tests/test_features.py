"""Frozen feature networks: shapes, loading, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segscape.errors import CheckpointError
from segscape.features import VGG19_CONVS, EfficientNetLite0Features, VGG19Features


def test_vgg19_maps_have_the_published_shapes() -> None:
    maps = VGG19Features(width_divisor=16)(torch.zeros(1, 3, 32, 48))
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 32, 48), (8, 16, 24), (16, 8, 12), (32, 4, 6), (32, 2, 3)]
    assert not any(parameter.requires_grad for parameter in VGG19Features(16).parameters())


def test_vgg19_reads_a_torchvision_state_dict(tmp_path: Path) -> None:
    state = {}
    for index, (before, after) in VGG19_CONVS.items():
        state[f"features.{index}.weight"] = torch.full((after, before, 3, 3), index / 1000)
        state[f"features.{index}.bias"] = torch.zeros(after)
    torch.save(state | {"classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg19.pth")
    network = VGG19Features.from_file(tmp_path / "vgg19.pth")
    assert network.convs[-1].weight.flatten()[0].item() == pytest.approx(0.028)


def test_vgg19_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError, match=r"vgg19-dcbb9e9d\.pth do not exist: download .* efficientnet-lite0"):
        VGG19Features.from_file()
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="is not torchvision's VGG-19"):
        VGG19Features.from_file(tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be read as VGG-19 weights"):
        VGG19Features.from_file(tmp_path / "broken.pth")


def test_efficientnet_lite0_loads_the_package_weights_strictly() -> None:
    network = EfficientNetLite0Features.from_package()
    maps = network(torch.rand(1, 3, 64, 96) * 2 - 1)
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]
    assert 0.5 < maps[-1].abs().mean() < 10  # trained weights, not the random ones of a fresh network


def test_efficientnet_lite0_sees_colour() -> None:
    network = EfficientNetLite0Features.from_package()
    red, blue = torch.full((1, 3, 64, 64), -1.0), torch.full((1, 3, 64, 64), -1.0)
    red[:, 0], blue[:, 2] = 1, 1
    assert (network(red)[0] - network(blue)[0]).abs().mean() > 0.5
