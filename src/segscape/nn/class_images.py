"""Photos taken apart: for each class an image of its own, which shows nothing else and shows it large.

Source: Zhu et al., "Semantically Multi-modal Image Synthesis", CVPR 2020, section 3.2 (the input of GroupDNet's
encoder). The official code finds the box of a class where the sums of the masked colours are not zero; here it is that
of the mask, which differs only where the colours of a whole border line cancel out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segscape.layout import Layout, Size


def class_images(image: Tensor, layout: Layout, size: Size) -> Tensor:
    """Each class cut out with its bounding box, what is not of the class 0, and stretched to `size` by nearest pixels.

    Args:
        image: `[N, 3, H, W]` in [-1, 1].
        layout: N layouts of the size of the images.
        size: (h, w) of the result; the aspect ratio of the box is not kept.

    Returns:
        `[N, 3 * C, h, w]`: channels 3c to 3c + 2 are class c, 0 where an image has no such class.
    """
    mask = layout.one_hot().to(image.dtype)  # [N, C, H, W]
    cut = image.unsqueeze(1) * mask.unsqueeze(2)  # [N, C, 3, H, W]
    rows, columns = _spread(mask.amax(3), size[0]), _spread(mask.amax(2), size[1])
    cut = cut.gather(3, rows[:, :, None, :, None].expand(-1, -1, 3, -1, cut.shape[4]))
    cut = cut.gather(4, columns[:, :, None, None, :].expand(-1, -1, 3, size[0], -1))
    return cut.flatten(1, 2)


def _spread(occupied: Tensor, length: int) -> Tensor:
    """Which of L lines each of `length` lines shows, from the first occupied one to the last.

    By PyTorch's nearest rule with its rounding in float32. Where no line is occupied, all are shown.

    Args:
        occupied: `[N, C, L]` in {0, 1}.

    Returns:
        int64 `[N, C, length]` in 0..L-1.
    """
    first = occupied.argmax(2, keepdim=True)
    last = occupied.shape[2] - 1 - occupied.flip(2).argmax(2, keepdim=True)
    extent = last - first + 1
    places = torch.arange(length, dtype=torch.float32, device=occupied.device) * (extent.float() / length)
    return first + torch.minimum(places.long(), extent - 1)
