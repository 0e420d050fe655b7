from __future__ import annotations

import copy
import warnings

import torch
from torch import nn
from torch.nn import functional as F

from segscape.nn import SpectralNormConv2d
from segscape.nn.spectral import SpectralNormConvTranspose2d, conv2d


def make(seed: int = 0, **options: int | bool) -> SpectralNormConv2d:
    torch.manual_seed(seed)
    return SpectralNormConv2d(3, 5, 3, padding=1, **options)


def test_evaluation_uses_the_stored_vectors() -> None:
    layer = make().eval()
    x = torch.randn(2, 3, 6, 7)
    sigma = layer.weight_u @ layer.weight.flatten(1) @ layer.weight_v
    before = layer.weight_u.clone()
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight / sigma, layer.bias, padding=1))
    assert torch.equal(layer.weight_u, before)


def test_training_iterates_v_first_then_u() -> None:
    layer = make().train()
    matrix, u = layer.weight.detach().flatten(1), layer.weight_u.clone()
    layer(torch.randn(1, 3, 4, 4))
    v = F.normalize(matrix.t() @ u, dim=0)
    torch.testing.assert_close(layer.weight_v, v)
    torch.testing.assert_close(layer.weight_u, F.normalize(matrix @ v, dim=0))


def test_iteration_finds_the_largest_singular_value() -> None:
    layer = make().train()
    for _ in range(100):
        layer.power_iteration()
    largest = torch.linalg.matrix_norm(layer.normalized_weight().flatten(1), ord=2)
    torch.testing.assert_close(largest, torch.tensor(1.0), rtol=0, atol=1e-4)


def test_same_training_as_pytorch_hook() -> None:
    """Three steps of gradient descent against `torch.nn.utils.spectral_norm`, which official checkpoints come from."""
    ours = make().train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hooked = nn.utils.spectral_norm(nn.Conv2d(3, 5, 3, padding=1)).train()
    renamed = {"weight_orig" if key == "weight" else key: value for key, value in ours.state_dict().items()}
    hooked.load_state_dict(renamed)
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (ours, hooked)]
    for _ in range(3):
        x = torch.randn(2, 3, 6, 6)
        for layer, optimizer in zip((ours, hooked), optimizers, strict=True):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, hooked.weight_orig)
    torch.testing.assert_close(ours.weight_v, hooked.weight_v)


def test_gradients() -> None:
    layer = make().double().eval()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = layer.weight.detach().requires_grad_(), torch.randn(5, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x, weight, bias))


def test_can_be_copied_and_stored() -> None:
    layer = make()
    layer(torch.randn(1, 3, 4, 4))
    copied, loaded = copy.deepcopy(layer), make(1)
    loaded.load_state_dict(layer.state_dict())
    x = torch.randn(1, 3, 4, 4)
    for other in (copied, loaded):
        assert torch.equal(other.eval()(x), layer.eval()(x))


def test_state_is_weight_bias_and_two_vectors() -> None:
    shapes = {key: tuple(value.shape) for key, value in make().state_dict().items()}
    assert shapes == {"weight": (5, 3, 3, 3), "bias": (5,), "weight_u": (5,), "weight_v": (27,)}
    assert "bias" not in make(bias=False).state_dict()


def test_spectral_norm_is_optional() -> None:
    assert not isinstance(conv2d(False, 2, 3, 1), SpectralNormConv2d)
    assert isinstance(conv2d(True, 2, 3, 1, bias=False), SpectralNormConv2d)


def test_autocast_leaves_the_weight_exact() -> None:
    conv = SpectralNormConv2d(3, 4, 3)
    held = copy.deepcopy(conv)
    held.iterates = False
    for layer in (conv, held):
        plain, cast = copy.deepcopy(layer), copy.deepcopy(layer)
        with torch.autocast("cpu", torch.bfloat16):
            found = cast.normalized_weight()
        assert torch.equal(found, plain.normalized_weight()) and torch.equal(cast.weight_u, plain.weight_u)


def test_transposed_convolution_as_pytorch_hook() -> None:
    """In training, then in evaluation; the hook takes output channels as rows, too."""
    torch.manual_seed(0)
    ours = SpectralNormConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hooked = nn.utils.spectral_norm(nn.ConvTranspose2d(4, 3, 3, 2, 1, 1)).train()
    hooked.load_state_dict({"weight_orig" if k == "weight" else k: v for k, v in ours.state_dict().items()})
    assert ours.weight_u.shape == (3,) and ours.weight_v.shape == (4 * 9,)
    x = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(ours(x), hooked(x))
    torch.testing.assert_close(ours.eval()(x), hooked.eval()(x))
    torch.testing.assert_close(ours.plain()(x), hooked(x))
