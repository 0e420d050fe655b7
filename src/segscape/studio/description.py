"""What a page must know of a model and of the layouts to start from; a server answers it, a static site keeps it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field

from segscape.models.generator import Generator
from segscape.style_shapes import StyleKind


class ClassInfo(BaseModel):
    """One class to paint with."""

    index: int
    name: str
    color: tuple[int, int, int]
    thing: bool


class LabelsInfo(BaseModel):
    """The classes of a model."""

    name: str
    unknown: int | None
    classes: list[ClassInfo]


class StyleInfo(BaseModel):
    """The styles of a model."""

    kind: StyleKind
    random: bool = Field(description="Whether there are random styles, so that samples differ.")


class ModelInfo(BaseModel):
    """A model, as the page needs to know it."""

    id: str
    name: str
    size: tuple[int, int] = Field(description="Height and width of training: where the model is best.")
    size_multiple: int
    fixed_size: bool
    use_instances: bool
    style: StyleInfo | None
    noise: bool = Field(description="Whether it adds noise, so that other seeds give other pictures in any style.")
    labels: LabelsInfo
    unseen: list[int] = Field(description="Classes that training never saw; empty if that is not known.")
    segmenter: bool = Field(description="Whether photos can be segmented into its classes.")


class Example(BaseModel):
    """A layout to start from."""

    name: str
    url: str


def describe(
    model: Generator, id: str, name: str, *, unseen: Sequence[int] = (), segmenter: bool = False, noise: bool = False
) -> ModelInfo:
    """Put what a page must know of a model together.

    Args:
        model: the network.
        id, name: what requests and people call it.
        unseen: classes that training never saw.
        segmenter: whether there is one for its classes.
        noise: whether it adds noise.
    """
    config, labels = model.config, model.config.labels
    classes = [
        ClassInfo(index=index, name=entry.name, color=entry.color, thing=entry.thing)
        for index, entry in enumerate(labels.classes)
    ]
    return ModelInfo(
        id=id,
        name=name,
        size=config.image_size,
        size_multiple=config.size_multiple,
        fixed_size=config.fixed_size,
        use_instances=config.reads_instances,
        style=None if config.style_kind is None else StyleInfo(kind=config.style_kind, random=model.random_styles),
        noise=noise,
        labels=LabelsInfo(name=labels.name, unknown=labels.unknown, classes=classes),
        unseen=list(unseen),
        segmenter=segmenter,
    )
