from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.nn.class_images import class_images


def one_by_one(image: Tensor, label_map: Tensor, num_classes: int, size: tuple[int, int]) -> Tensor:
    """Mask, crop to the mask's box, resize: for one image, class by class."""
    found = []
    for number in range(num_classes):
        mask = label_map == number
        if not mask.any():
            found.append(torch.zeros(3, *size))
            continue
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        cut = (image * mask)[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        found.append(F.interpolate(cut[None], size=size, mode="nearest")[0])
    return torch.cat(found)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    wanted=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    num_classes=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_as_class_by_class(size: tuple[int, int], wanted: tuple[int, int], num_classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    label_map = torch.randint(0, num_classes, (2, *size), generator=generator)
    label_map[0] = label_map[0].clamp(max=num_classes // 2)  # some classes are absent
    image = torch.rand(2, 3, *size, generator=generator) * 2 - 1
    layout = Layout(label_map, LabelSet.numbered(num_classes))
    expected = torch.stack([one_by_one(i, m, num_classes, wanted) for i, m in zip(image, label_map, strict=True)])
    assert torch.equal(class_images(image, layout, wanted), expected)


def test_a_border_whose_colours_cancel_out_belongs_to_the_box() -> None:
    """The official code, which looks at sums of colours, would lose the first row."""
    image = torch.tensor([[0.5, -0.5], [1.0, 1.0]]).expand(1, 3, 2, 2)
    layout = Layout(torch.zeros(1, 2, 2, dtype=torch.long), LabelSet.numbered(1))
    assert torch.equal(class_images(image, layout, (2, 2)), image)
