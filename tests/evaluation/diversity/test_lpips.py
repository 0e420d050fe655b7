"""Perceptual distances: against torchmetrics' LPIPS, hand-made features, and what they may be called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segscape.errors import CheckpointError, EvaluationError
from segscape.evaluation.diversity import lpips
from segscape.evaluation.diversity.lpips import ALEXNET_CONVS, FeatureDistance, PerceptualDistance, open_distance
from segscape.features import EfficientNetLite0Features
from segscape.files import file_digest

CPU = torch.device("cpu")


def torchvision_alexnet() -> nn.Sequential:
    """The layers of torchvision's AlexNet before its classifier."""
    layers: list[nn.Module] = []
    for index, row in ALEXNET_CONVS.items():
        layers += [nn.Conv2d(*row), nn.ReLU()] + [nn.MaxPool2d(3, 2)] * (index in (0, 3, 10))
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    state = {f"features.{key}": value for key, value in torchvision_alexnet().state_dict().items()}
    assert set(state) == {f"features.{index}.{name}" for index in (0, 3, 6, 8, 10) for name in ("weight", "bias")}
    torch.save(state | {"classifier.1.bias": torch.zeros(4096)}, path)
    return path


@pytest.fixture(scope="module")
def lite0() -> FeatureDistance:
    return open_distance("efficientnet-lite0", CPU)


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randint(0, 256, (3, 3, 48, 64), dtype=torch.uint8, generator=generator) for _ in range(2))
    return a, b


def test_lpips_agrees_with_torchmetrics(
    alexnet: Path, pictures: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the same made-up AlexNet, with the published linear weights."""
    module = pytest.importorskip("torchmetrics.functional.image.lpips")
    layers = torchvision_alexnet()
    state = torch.load(alexnet, weights_only=True)
    layers.load_state_dict({key.removeprefix("features."): state[f"features.{key}"] for key in layers.state_dict()})
    monkeypatch.setattr(module, "_get_tv_model_features", lambda net, pretrained: layers)
    a, b = (images.float() / 127.5 - 1 for images in pictures)
    with torch.no_grad():
        expected = module._LPIPS(net="alex")(a, b).flatten()
    found = lpips.lpips(CPU, alexnet)(*pictures)
    assert expected.min() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_only_the_published_files_make_lpips(alexnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"alexnet-owt-{lpips.ALEXNET_DIGEST[:8]}.pth" == lpips.ALEXNET_FILE  # the name holds the hash
    other = lpips.lpips(CPU, alexnet)
    assert other.name == "PD-AlexNet"
    assert f"weights {file_digest(alexnet)[:12]} and df73285e35b2" in other.description
    monkeypatch.setattr(lpips, "ALEXNET_DIGEST", file_digest(alexnet))
    assert lpips.lpips(CPU, alexnet).name == "LPIPS"
    lines = {f"lin{n}.model.1.weight": torch.ones(1, row[1], 1, 1) for n, row in enumerate(ALEXNET_CONVS.values())}
    torch.save(lines, tmp_path / "alex.pth")
    assert lpips.lpips(CPU, alexnet, tmp_path / "alex.pth").name == "PD-AlexNet"


def test_lite0_distance_is_the_documented_sum(lite0: FeatureDistance, pictures: tuple[Tensor, Tensor]) -> None:
    network = EfficientNetLite0Features.from_package()
    expected = torch.zeros(3)
    for a, b in zip(*(network(images.float() / 127.5 - 1) for images in pictures), strict=True):
        cosine = torch.cosine_similarity(a, b, dim=1)
        expected += (2 - 2 * cosine).mean((1, 2)) / 5  # of unit vectors |a - b|^2 = 2 - 2 a.b
    torch.testing.assert_close(lite0(*pictures), expected, rtol=1e-4, atol=1e-6)
    assert lite0.name == "PD-EfficientNetLite0" and "weights 579344248a93" in lite0.description


def test_lite0_distance_follows_the_eye(lite0: FeatureDistance) -> None:
    """A slight brightening is nearer than noise of the same mean square."""
    ramp = torch.linspace(-0.8, 0.6, 64).expand(1, 3, 64, 64)
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).sign() * 0.2
    assert lite0(ramp, ramp + 0.2) < 0.5 * lite0(ramp, ramp + noise)


class Plain(nn.Module):
    """Two feature maps: the image, and a constant."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, torch.ones_like(x[:, :2])]


@pytest.fixture
def plain() -> FeatureDistance:
    return FeatureDistance(Plain(), [torch.tensor([1.0, 2.0, 4.0]), torch.ones(2)], "plain", "by hand", CPU)


def test_distance_by_hand(plain: FeatureDistance) -> None:
    """Red against green at one of four pixels: 1 (1 - 0)^2 + 2 (0 - 1)^2, over four places."""
    a = torch.zeros(1, 3, 2, 2)
    a[:, 0] = 0.5
    b = a.clone()
    b[0, :, 1, 1] = torch.tensor([0, 0.25, 0])
    assert plain(a, b).tolist() == pytest.approx([3 / 4])
    assert plain(a, a * 2).tolist() == pytest.approx([0])  # only directions count
    protocol: PerceptualDistance = plain
    assert protocol.compare(plain.embed(b), plain.embed(a)).tolist() == pytest.approx([3 / 4])


def test_bytes_and_floats_are_the_same_images(lite0: FeatureDistance, pictures: tuple[Tensor, Tensor]) -> None:
    a, b = pictures
    assert torch.equal(lite0(a, b), lite0(a.float() / 127.5 - 1, (b / 127.5 - 1).float()))
    assert torch.equal(lite0(a, b), lite0(b, a))
    assert lite0(a, a).tolist() == [0, 0, 0]


def test_distance_does_not_depend_on_the_batch(lite0: FeatureDistance, pictures: tuple[Tensor, Tensor]) -> None:
    a, b = pictures
    apart = torch.cat([lite0(a[n : n + 1], b[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(lite0(a, b), apart, rtol=1e-6, atol=0)


def test_mask_hides_everything_else(lite0: FeatureDistance, pictures: tuple[Tensor, Tensor]) -> None:
    a, b = pictures
    mask = torch.zeros(1, 1, 48, 64)
    mask[..., 10:30, 20:50] = 1
    outside = torch.where(mask.bool(), a, b)  # equal to a in the region only
    assert lite0(a, outside, mask).tolist() == [0, 0, 0]
    assert lite0(a, outside, 1 - mask).min() > 0.01
    grey_a, grey_b = (torch.where(mask.bool(), images.float() / 127.5 - 1, 0.0) for images in (a, b))
    assert torch.equal(lite0(a, b, mask), lite0(grey_a, grey_b))


def test_other_images_are_refused(plain: FeatureDistance, alexnet: Path) -> None:
    image = torch.zeros(1, 3, 30, 40)
    with pytest.raises(EvaluationError, match=r"give equal shapes"):
        plain(image, image[..., 1:])
    with pytest.raises(
        EvaluationError, match=r"uint8 or floating point in \[-1, 1\], not torch.int64 \[1, 3, 30, 40\]"
    ):
        plain.embed(image.long())
    with pytest.raises(EvaluationError, match="images of 30x40 are too small for LPIPS"):
        lpips.lpips(CPU, alexnet)(image, image)
    large = torch.zeros(1, 3, 31, 31)
    assert lpips.lpips(CPU, alexnet)(large, large).tolist() == [0]


def test_auto_takes_lpips_if_it_is_there(alexnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert open_distance("auto", CPU).name == "PD-EfficientNetLite0"
    cached = tmp_path / "checkpoints" / lpips.ALEXNET_FILE
    cached.parent.mkdir()
    cached.symlink_to(alexnet)
    assert open_distance("auto", CPU).name == "PD-AlexNet"


def _save(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path


def test_missing_and_wrong_files_are_told(alexnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError, match=r"alexnet-owt-7be5be79\.pth do not exist: give .* PD-EfficientNetLite0"):
        open_distance("lpips", CPU)
    wrong = _save({"features.0.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=r"wrong\.pth is not torchvision's AlexNet"):
        open_distance("lpips", CPU, alexnet=wrong)
    with pytest.raises(CheckpointError, match="does not hold the linear weights of LPIPS"):
        open_distance("lpips", CPU, alexnet=alexnet, linear=wrong)
    vgg = {f"lin{depth}.model.1.weight": torch.ones(1, 512, 1, 1) for depth in range(5)}
    with pytest.raises(CheckpointError, match="of another LPIPS network: give those of alex"):
        open_distance("lpips", CPU, alexnet=alexnet, linear=_save(vgg, tmp_path / "vgg.pth"))
    with pytest.raises(EvaluationError, match=r"EfficientNet-Lite0, but .*wrong\.pth was given: choose lpips"):
        open_distance("efficientnet-lite0", CPU, alexnet=wrong)
    with pytest.raises(EvaluationError, match="the distance 'ssim' is unknown"):
        open_distance("ssim", CPU)
