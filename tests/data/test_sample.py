"""Stacking samples into batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from segscape.data import Sample, collate
from segscape.errors import DataError, LabelMapError
from segscape.labels import LabelSet

LABELS = LabelSet.numbered(3)


def sample(name: str, size: tuple[int, int] = (4, 6)) -> Sample:
    image = np.zeros((*size, 3), np.uint8)
    image[0, 0] = (255, 0, 51)
    return Sample(image, np.ones(size, np.int64), name=name)


def test_images_are_scaled_to_minus_one_and_one() -> None:
    batch = collate([sample("a"), sample("b")], LABELS)
    assert batch.images.shape == (2, 3, 4, 6) and batch.images.dtype == torch.float32
    torch.testing.assert_close(batch.images[1, :, 0, 0], torch.tensor([1.0, -1.0, -0.6]))
    assert batch.names == ("a", "b") and batch.layout.label_map.shape == (2, 4, 6)


def test_maps_travel_in_the_layout() -> None:
    full = replace(sample("a"), instance_map=np.arange(24).reshape(4, 6), position=np.ones((2, 4, 6), np.float32))
    layout = collate([full], LABELS).to("cpu").layout
    assert layout.instance_map is not None and layout.instance_map[0, 3, 5] == 23
    assert layout.position().sum() == 48


def test_sizes_must_agree() -> None:
    with pytest.raises(DataError, match=r"'b' is \(4, 8\) and 'a' is \(4, 6\)"):
        collate([sample("a"), sample("b", (4, 8))], LABELS)


def test_optional_maps_are_for_all_or_none() -> None:
    with pytest.raises(DataError, match="'b' has no instance_map"):
        collate([replace(sample("a"), instance_map=np.zeros((4, 6), int)), sample("b")], LABELS)


def test_an_image_is_needed() -> None:
    with pytest.raises(DataError, match="'a' has no image"):
        collate([replace(sample("a"), image=None)], LABELS)
    with pytest.raises(DataError, match="at least one sample"):
        collate([], LABELS)


def test_labels_are_checked() -> None:
    with pytest.raises(LabelMapError, match="3"):
        collate([replace(sample("a"), label_map=np.full((4, 6), 3))], LABELS)
