"""What the pipelines do to label maps without torch is what `Layout` does to them."""

from __future__ import annotations

import numpy as np
import pytest

from segscape.errors import LabelMapError, LayoutError
from segscape.inference.inputs import LayoutArrays, missing_to_multiple
from segscape.labels import LABEL_SETS
from segscape.layout import Layout

CAMVID = LABEL_SETS["camvid"]


def maps(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0)
    return noise.integers(0, 12, (height, width), dtype=np.uint8), noise.integers(0, 10**6, (height, width))


def agree(arrays: LayoutArrays, layout: Layout) -> None:
    assert arrays.size == layout.size and layout.instance_map is not None
    assert np.array_equal(arrays.label_map, layout.label_map.numpy())
    assert np.array_equal(arrays.instance_map, layout.instance_map.numpy())
    assert np.array_equal(arrays.position, layout.position(rule="official").numpy())


@pytest.mark.parametrize("size", [(5, 9), (23, 17), (40, 11), (20, 34)])
def test_resize_and_pad_as_a_layout(size: tuple[int, int]) -> None:
    label_map, instance_map = maps(20, 17)
    layout = Layout.from_array(label_map, CAMVID, instance_map).with_position("official")
    arrays = LayoutArrays.from_arrays(label_map, instance_map, CAMVID).with_position("official")
    agree(arrays, layout)
    agree(arrays.resize(size), layout.resize(size))
    agree(arrays.pad(3, 5), layout.pad(3, 5))
    agree(LayoutArrays.from_layout(layout, "official"), layout)


def test_missing_to_multiple() -> None:
    assert missing_to_multiple((32, 64), 32) == (0, 0)
    assert missing_to_multiple((1, 65), 32) == (31, 31)


def test_what_is_no_layout() -> None:
    label_map, instance_map = maps(4, 6)
    with pytest.raises(LabelMapError, match="12 in 24 pixels"):
        LayoutArrays.from_arrays(np.full((4, 6), 12), None, CAMVID)
    with pytest.raises(LayoutError, match="integer array"):
        LayoutArrays.from_arrays(label_map / 2, None, CAMVID)
    with pytest.raises(LayoutError, match=r"\[4, 5\], but this label map needs \[4, 6\]"):
        LayoutArrays.from_arrays(label_map, instance_map[:, :5], CAMVID)
    with_ignored = CAMVID.model_copy(update={"ignore_value": 255})
    assert LayoutArrays.from_arrays(np.full((2, 2), 255), None, with_ignored).label_map.tolist() == [[[11, 11]] * 2]
