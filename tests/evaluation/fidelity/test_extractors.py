"""Feature networks for the evaluation, and the names of the metrics over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import CheckpointError, EvaluationError
from segscape.evaluation.fidelity import extractors
from segscape.evaluation.fidelity.extractors import MetricNames, NetworkExtractor, inception_extractor, open_extractor
from segscape.evaluation.fidelity.inception import STATE_FILE, LoadedInception
from segscape.features import lite0_file, read_state
from segscape.files import file_digest

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lite0() -> NetworkExtractor:
    return open_extractor("efficientnet-lite0", None, CPU)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (5, 3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def test_only_the_published_network_gives_published_names() -> None:
    published, other = (MetricNames.through("Inception", published=known) for known in (True, False))
    assert (published.frechet, published.kernel, published.of("recall")) == ("FID", "KID", "recall-Inception")
    assert (other.frechet, other.kernel) == ("FD-Inception", "KD-Inception")


def test_efficientnet_says_what_it_is(lite0: NetworkExtractor) -> None:
    names = lite0.names
    assert (names.frechet, names.kernel) == ("FD-EfficientNetLite0", "KD-EfficientNetLite0")
    assert names.of("coverage") == "coverage-EfficientNetLite0"
    assert f"1280 dimensions, 224x224 (bilinear with antialiasing, scaled to [-1, 1]), weights {_digest()}" in (
        lite0.description
    )


def _digest() -> str:
    return file_digest(lite0_file())[:12]


def test_features_are_what_the_classifier_reads(lite0: NetworkExtractor) -> None:
    """The package's own classifier takes an orange disc on white for a ping-pong ball, class 722 of ImageNet."""
    rows, columns = torch.meshgrid(torch.arange(448) - 224, torch.arange(448) - 224, indexing="ij")
    ball = torch.where((rows**2 + columns**2 < 100**2)[None], torch.tensor([255, 120, 0]).view(3, 1, 1), 255)
    features = lite0(ball.to(torch.uint8)[None])
    assert features.shape == (1, lite0.dimensions) and features.dtype == torch.float32
    assert features.min() >= 0 and features.max() <= 6
    state = read_state(lite0_file(), "EfficientNet-Lite0")
    chances = (features @ state["_fc.weight"].T + state["_fc.bias"]).softmax(1)
    assert int(chances.argmax()) == 722 and chances.max() > 0.4


def test_features_equal_an_independent_resize_and_head(lite0: NetworkExtractor, images: Tensor) -> None:
    """Resized by Pillow (whose bilinear filter antialiases), the head computed as a matrix product."""
    state = read_state(lite0_file(), "EfficientNet-Lite0")
    large = images.repeat_interleave(12, 2).repeat_interleave(10, 3)[:1]
    picture = Image.fromarray(large[0].permute(1, 2, 0).numpy()).resize((224, 224), Image.Resampling.BILINEAR)
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    trunk = lite0.network.embedding.trunk(x)[-1]
    y = torch.einsum("nchw,dc->ndhw", trunk, state["_conv_head.weight"][:, :, 0, 0])
    mean, variance, gamma, beta = (
        state[f"_bn1.{name}"].view(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
    )
    expected = ((y - mean) / (variance + 1e-3).sqrt() * gamma + beta).clamp(0, 6).mean((2, 3))
    assert (lite0(large) - expected).abs().max() < 0.02 * expected.abs().max()  # Pillow rounds to 8 bits


def test_features_do_not_depend_on_the_batch(lite0: NetworkExtractor, images: Tensor) -> None:
    together = lite0(images)
    apart = torch.cat([lite0(images[:2]), lite0(images[2:])])
    assert torch.equal(together, apart)
    assert torch.equal(lite0(images.flip(0)), together.flip(0))
    assert lite0(images[:0]).shape == (0, 1280)


def test_the_cpu_takes_images_one_by_one(images: Tensor) -> None:
    batches = []

    class Network(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            batches.append(len(x))
            return x.double().mean((2, 3))

    features = NetworkExtractor(Network(), MetricNames.through("Mean"), "the mean", 3, CPU)(images)
    assert batches == [1] * 5
    assert features.dtype == torch.float32 and not features.requires_grad
    torch.testing.assert_close(features, images.float().mean((2, 3)))


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_other_images_are_refused(lite0: NetworkExtractor, wrong: Tensor) -> None:
    with pytest.raises(EvaluationError, match=r"images are uint8 \[N, 3, H, W\], not"):
        lite0(wrong)


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x.float().mean((2, 3)), (0, 2045))


def test_inception_is_named_by_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    for published, name in ((True, "FID"), (False, "FD-Inception")):
        loaded = LoadedInception(_Mean(), "ab" * 32, published, "bilinear")
        monkeypatch.setattr(extractors, "load_inception", lambda path, loaded=loaded: loaded)
        extractor = inception_extractor(None, CPU)
        assert extractor.names.frechet == name
        assert "2048 dimensions, 299x299 (bilinear), weights abababababab" in extractor.description
        assert ("unpublished" in extractor.description) is not published


def test_auto_takes_inception_if_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert open_extractor("auto", None, CPU).names.frechet == "FD-EfficientNetLite0"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / STATE_FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read as Inception weights"):  # and does not fall back
        open_extractor("auto", None, CPU)
    assert open_extractor("efficientnet-lite0", None, CPU).names.frechet == "FD-EfficientNetLite0"


def test_inception_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError, match="none are here"):
        open_extractor("inception", None, CPU)
    with pytest.raises(CheckpointError, match="do not exist"):
        open_extractor("auto", tmp_path / "gone.pth", CPU)
    with pytest.raises(EvaluationError, match="brings its own weights"):
        open_extractor("efficientnet-lite0", tmp_path / "gone.pth", CPU)
    with pytest.raises(EvaluationError, match="the features 'vgg' are unknown: use auto, inception"):
        open_extractor("vgg", None, CPU)
