"""The image pool of pix2pixHD: the discriminator also judges images that the generator made some steps ago.

Source: Shrivastava et al., CVPR 2017; Wang et al., CVPR 2018, whose published runs leave it off.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """The last generated images, with what they were joined with; a part of the checkpoint.

    Args:
        size: how many it keeps.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        """What the discriminator judges in place of images `[N, ...]`, as many.

        Until the pool is full, each image is kept and judged. Then, for each, a fair coin decides whether it is judged
        itself, or takes the place of a random one of the pool, which is judged.
        """
        return torch.stack([self._exchanged(image) for image in images])

    def _exchanged(self, image: Tensor) -> Tensor:
        if len(self.kept) < self.size:
            self.kept.append(image.detach().clone())
            return image
        place = self._draw()
        if place is None:
            return image
        earlier, self.kept[place] = self.kept[place], image.detach().clone()
        return earlier.to(image.device)

    def _draw(self) -> int | None:
        """Whose place in the full pool an image takes; None if it is judged itself."""
        return int(torch.randint(self.size, ()).item()) if torch.rand(()).item() > 0.5 else None

    def state_dict(self) -> dict[str, Any]:
        """The kept images, on the CPU."""
        return {"kept": [image.cpu() for image in self.kept]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.kept = list(state["kept"])
