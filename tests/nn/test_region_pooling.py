from __future__ import annotations

import torch

from segscape.nn.region_pooling import region_means, spread


def test_means_of_each_region_of_each_image() -> None:
    torch.manual_seed(0)
    features, index = torch.randn(3, 2, 5, 7), torch.randint(0, 4, (3, 5, 7))
    index[1][index[1] == 2] = 0
    means, counts = region_means(features, index, 5)
    assert means.shape == (3, 5, 2) and counts.shape == (3, 5)
    for image in range(3):
        for region in range(5):
            inside = features[image][:, index[image] == region]
            assert counts[image, region] == inside.shape[1]
            expected = inside.mean(1) if inside.numel() else torch.zeros(2)
            torch.testing.assert_close(means[image, region], expected)


def test_gradient_is_the_mean_over_the_region() -> None:
    features = torch.randn(1, 1, 2, 4, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[[0, 0, 1, 1], [0, 2, 2, 2]]])
    pooled = spread(region_means(features, index, 3)[0], index)
    incoming = torch.randn(1, 1, 2, 4, dtype=torch.float64)
    pooled.backward(incoming)
    for region in range(3):
        inside = (index == region)[:, None]
        assert features.grad is not None
        torch.testing.assert_close(features.grad[inside], incoming[inside].mean().expand(int(inside.sum())))


def test_half_precision_is_added_up_in_float32() -> None:
    features = torch.full((1, 1, 100, 100), 1.0, dtype=torch.float16)
    means, _ = region_means(features, torch.zeros(1, 100, 100, dtype=torch.long), 1)
    assert means.dtype == torch.float32 and means.item() == 1.0


def test_spread_puts_vectors_where_their_region_is() -> None:
    index = torch.randint(0, 3, (2, 4, 5))
    values = torch.randn(2, 3, 6)
    found = spread(values, index)
    for image, row, column in [(0, 0, 0), (1, 3, 4), (1, 2, 0)]:
        assert torch.equal(found[image, :, row, column], values[image, index[image, row, column]])
