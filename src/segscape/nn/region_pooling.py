"""Averages of features over regions: over the objects of an instance map, or over the classes of a label map.

Source: Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs", CVPR 2018,
section 3.4 (instance-wise average pooling).
"""

from __future__ import annotations

import torch
from torch import Tensor


def region_means(features: Tensor, index: Tensor, num_regions: int) -> tuple[Tensor, Tensor]:
    """The mean of the features over each region of each image; gradients flow through the means.

    Args:
        features: `[N, D, h, w]`.
        index: the region of each place, integers in 0..num_regions-1, `[N, h, w]`.
        num_regions: R.

    Returns:
        The means `[N, R, D]`, zero where an image lacks a region, in float32 or wider, and the regions' numbers of
        places, int64 `[N, R]`.
    """
    batch, channels = features.shape[:2]
    first = torch.arange(batch, device=index.device).view(batch, 1, 1) * num_regions
    rows = (index + first).flatten()
    counts = rows.new_zeros(batch * num_regions).index_add(0, rows, torch.ones_like(rows))
    values = features.movedim(1, -1).reshape(-1, channels)
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    sums = values.new_zeros(batch * num_regions, channels).index_add(0, rows, values)
    means = sums / counts.clamp(min=1).unsqueeze(1)
    return means.view(batch, num_regions, channels), counts.view(batch, num_regions)


def spread(values: Tensor, index: Tensor) -> Tensor:
    """Put the vector of its region at each place: `values [N, R, D]`, `index [N, h, w]` -> `[N, D, h, w]`."""
    batch, height, width = index.shape
    places = index.view(batch, -1, 1).expand(-1, -1, values.shape[2])
    return values.gather(1, places).view(batch, height, width, -1).permute(0, 3, 1, 2)
