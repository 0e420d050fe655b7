"""Shape editing of CA2-SIS: a picture whose shapes come, class by class, from another layout; nothing is drawn.

Source: Fontanini et al., IEEE Access 2025, section on editing. The decoder sees one small embedding of each class's
shape, so shapes can be exchanged, or blended, where label maps would overlap or leave holes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from segscape.errors import ConfigError, StyleError
from segscape.inference.acceleration import AcceleratedGenerator
from segscape.inference.pipeline import LayoutLike, Pipeline, StyleLike, to_pictures
from segscape.models.ca2_sis import CA2SISGenerator


@torch.inference_mode()
def edit_shapes(
    pipeline: Pipeline,
    layout: LayoutLike,
    shapes: LayoutLike,
    *,
    classes: Sequence[str] | None = None,
    amounts: Sequence[float] = (1.0,),
    style: StyleLike | None = None,
) -> list[Image.Image]:
    """Pictures of a layout in which some classes have the shapes that they have in another one.

    Args:
        pipeline: of a CA2-SIS model.
        layout: one label map: a path, an array `[H, W]`, or a `Layout`.
        shapes: the one that lends its shapes.
        classes: names of the classes whose shapes are taken, of those that both have; None takes all that both have.
        amounts: a picture for each: 1 takes the shapes as they are, less leaves them on the way there.
        style: as in `Pipeline`, for one image; None is the neutral one.

    Returns:
        The pictures, of the layout's size.

    Raises:
        ConfigError: a model of another system.
        StyleError: none of the classes is in both layouts, or the style does not fit.
        LabelMapError, LayoutError, DataError: as `Pipeline`.
    """
    model = pipeline.model.network if isinstance(pipeline.model, AcceleratedGenerator) else pipeline.model
    if not isinstance(model, CA2SISGenerator):
        raise ConfigError(f"shapes are edited in ca2-sis models, and this one is {model.config.model}.")
    own, other = (pipeline.read_layout(item) for item in (layout, shapes))
    size = model.config.image_size
    fitted, lender = (item.resize(size).to(pipeline.device) for item in (own, other))
    shared = fitted.present_classes() & lender.present_classes()
    wanted = range(pipeline.labels.num_classes) if classes is None else [pipeline.labels.index(c) for c in classes]
    if not shared[:, list(wanted)].any():
        names = "no class" if classes is None else f"none of {', '.join(classes)}"
        raise StyleError(f"{names} is in both layouts, so no shape can be taken: choose other classes or layouts.")
    look = None
    if style is not None:
        look = model.completed(pipeline.style(style).to(pipeline.device)).expand(own.batch_size)
    mine, theirs = model.mask_embedding(fitted), model.mask_embedding(lender)
    pictures = [
        model.decode(model.with_shapes(mine, theirs, wanted, amount=amount, where=shared), look).float()
        for amount in amounts
    ]
    height, width = own.size
    return [
        picture.resize((width, height), Image.Resampling.BICUBIC) if own.size != size else picture
        for picture in to_pictures(torch.cat(pictures))
    ]
