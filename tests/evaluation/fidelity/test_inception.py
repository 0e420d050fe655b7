"""The Inception of the FID: structure, loading, and what may be called Inception."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import CheckpointError
from segscape.evaluation.fidelity import inception
from segscape.evaluation.fidelity.inception import FIDInception, ScriptedInception, find_inception, load_inception
from segscape.files import file_digest


@pytest.fixture(scope="module")
def network() -> FIDInception:
    torch.manual_seed(0)
    return FIDInception()


@pytest.fixture(scope="module")
def weights(network: FIDInception, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


def test_parameters_are_those_of_the_published_file(network: FIDInception) -> None:
    state = network.state_dict()
    # 94 convolutions with batch norm (weight; weight, bias, mean, variance, count) and the classifier.
    assert len(state) == 94 * 6 + 2
    # torchvision's Inception-v3 has 27,161,264 with its auxiliary head (3,326,696) and 1000 classes.
    assert sum(p.numel() for p in network.parameters()) == 27_161_264 - 3_326_696 + 8 * 2049
    assert state["fc.weight"].shape == (1008, 2048)
    assert state["Conv2d_1a_3x3.conv.weight"].shape == (32, 3, 3, 3)
    assert state["Mixed_5b.branch5x5_2.conv.weight"].shape == (64, 48, 5, 5)
    assert state["Mixed_6a.branch3x3.conv.weight"].shape == (384, 288, 3, 3)
    assert state["Mixed_6e.branch7x7dbl_5.bn.running_var"].shape == (192,)
    assert state["Mixed_6b.branch7x7_2.conv.weight"].shape == (128, 128, 1, 7)
    assert state["Mixed_7a.branch7x7x3_4.conv.weight"].shape == (192, 192, 3, 3)
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert not any(p.requires_grad for p in network.parameters())
    assert all(m.eps == 1e-3 for m in network.modules() if isinstance(m, nn.BatchNorm2d))


def test_blocks_have_the_published_shapes(network: FIDInception) -> None:
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes[name] = tuple(output.shape[1:])

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in network.named_children()]
    features = network(torch.zeros(1, 3, 20, 30, dtype=torch.uint8))
    for handle in handles:
        handle.remove()
    assert features.shape == (1, 2048) and features.dtype == torch.float32
    expected = {
        "Conv2d_1a_3x3": (32, 149, 149), "Conv2d_2a_3x3": (32, 147, 147), "Conv2d_2b_3x3": (64, 147, 147),
        "Conv2d_3b_1x1": (80, 73, 73), "Conv2d_4a_3x3": (192, 71, 71), "maxpool2": (192, 35, 35),
        "Mixed_5b": (256, 35, 35), "Mixed_5c": (288, 35, 35), "Mixed_5d": (288, 35, 35), "Mixed_6a": (768, 17, 17),
        "Mixed_6b": (768, 17, 17), "Mixed_6e": (768, 17, 17), "Mixed_7a": (1280, 8, 8), "Mixed_7b": (2048, 8, 8),
        "Mixed_7c": (2048, 8, 8),
    }  # fmt: skip
    assert {name: shapes[name] for name in expected} == expected
    assert "fc" not in shapes


def _pool_branch(network: FIDInception, block: str, x: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """The last channels of a block's output, and what the convolution of its pool branch makes of `pooled`."""
    mixed = network.get_submodule(block)
    branch = mixed.get_submodule("branch_pool")
    width = branch.get_submodule("conv").weight.shape[0]
    return mixed(x)[:, -width:], branch(pooled)


@pytest.mark.parametrize(("block", "width"), [("Mixed_5b", 192), ("Mixed_6c", 768), ("Mixed_7b", 1280)])
def test_average_pools_leave_the_padding_out(network: FIDInception, block: str, width: int) -> None:
    x = torch.rand(1, width, 5, 4)
    inside = F.avg_pool2d(F.pad(torch.ones(1, 1, 5, 4), [1] * 4), 3, 1)  # share of each window that is in the image
    zero_padded = F.avg_pool2d(F.pad(x, [1] * 4), 3, 1)
    found, expected = _pool_branch(network, block, x, zero_padded / inside)
    torch.testing.assert_close(found, expected)
    wrong = _pool_branch(network, block, x, zero_padded)[1]
    assert (found - wrong).abs()[..., 0, 0].max() > 1e-3
    torch.testing.assert_close(found[..., 1:-1, 1:-1], wrong[..., 1:-1, 1:-1])


def test_last_block_pools_by_the_maximum(network: FIDInception) -> None:
    x = torch.randn(1, 2048, 4, 4)
    padded = F.pad(x, [1] * 4, value=-torch.inf)
    windows = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).amax(-1)
    torch.testing.assert_close(*_pool_branch(network, "Mixed_7c", x, windows))


def test_shrinking_blocks_carry_the_input_on(network: FIDInception) -> None:
    x = torch.randn(1, 288, 7, 7)
    torch.testing.assert_close(
        network.get_submodule("Mixed_6a")(x)[:, -288:], x.unfold(2, 3, 2).unfold(3, 3, 2).amax((-1, -2))
    )


def test_images_are_resized_and_scaled(network: FIDInception) -> None:
    seen = []
    handle = network.Conv2d_1a_3x3.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    image = torch.zeros(1, 3, 2, 598, dtype=torch.uint8)
    image[..., 299:] = 255
    network(image)
    handle.remove()
    x = seen[0]
    assert x.shape == (1, 3, 299, 299)
    # With pixel centres the middle one of 299 pixels reads one black and one white pixel of 598.
    expected = torch.cat([-torch.ones(149), torch.zeros(1), torch.ones(149)]).expand_as(x)
    torch.testing.assert_close(x, expected)


def test_loads_a_state_dict_but_does_not_call_it_published(network: FIDInception, weights: Path) -> None:
    loaded = load_inception(weights)
    assert not loaded.published and loaded.digest == file_digest(weights)
    image = torch.randint(0, 256, (1, 3, 40, 30), dtype=torch.uint8)
    assert torch.equal(loaded.network(image), network(image))


def test_only_the_known_digests_are_published(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inception.STATE_DIGEST.startswith("6726825d")  # as its name says
    monkeypatch.setattr(inception, "STATE_DIGEST", file_digest(weights))
    assert load_inception(weights).published


class _Program(nn.Module):
    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        return images.float().mean((2, 3)) if return_features else images.float()


@pytest.mark.filterwarnings("ignore:`torch.jit.script", "ignore:'torch.load' received a zip file")
def test_runs_the_published_program_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.script(_Program()).save(str(path))
    with pytest.raises(CheckpointError, match="cannot be read as Inception weights"):
        load_inception(path)
    monkeypatch.setattr(inception, "SCRIPT_DIGEST", file_digest(path))
    loaded = load_inception(path)
    assert loaded.published and isinstance(loaded.network, ScriptedInception)
    assert loaded.network(torch.full((1, 3, 2, 2), 7, dtype=torch.uint8)).tolist() == [[7, 7, 7]]


def test_finds_files_in_the_torch_hub_cache(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert find_inception() is None
    with pytest.raises(
        CheckpointError, match=r"none are here: .*6726825d\.pth or inception-2015-12-05\.pt .*--feature"
    ):
        load_inception()
    with pytest.raises(CheckpointError, match=r"nowhere\.pth do not exist: give the path of pt_inception"):
        load_inception(Path("nowhere.pth"))
    cached = tmp_path / "checkpoints" / inception.STATE_FILE
    cached.parent.mkdir()
    cached.symlink_to(weights)
    assert find_inception() == cached
    assert find_inception(weights) == weights


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "torchvision.pth"
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, path)
    with pytest.raises(CheckpointError, match=r"torchvision\.pth is not the Inception of the FID papers"):
        load_inception(path)
