from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from segscape.nn.encoder import StyleEncoder


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (40, 90)])
def test_encodes_photos_of_any_size(size: tuple[int, int]) -> None:
    encoder = StyleEncoder(1, 12)
    mean, log_variance = encoder(torch.rand(2, 3, *size))
    assert mean.shape == log_variance.shape == (2, 12)


def test_resizes_to_256() -> None:
    encoder, photo = StyleEncoder(1, 8).eval(), torch.rand(1, 3, 64, 128)
    resized = F.interpolate(photo, size=(256, 256), mode="bilinear", align_corners=False)
    for small, large in zip(encoder(photo), encoder(resized), strict=True):
        torch.testing.assert_close(small, large)


def test_ignores_brightness_and_contrast() -> None:
    """Every layer is instance-normalised without a scale of its own."""
    encoder, photo = StyleEncoder(1, 8).eval(), torch.rand(1, 3, 256, 256)
    torch.testing.assert_close(encoder(photo)[0], encoder(3 * photo)[0], rtol=0, atol=1e-3)
