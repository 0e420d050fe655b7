"""The models of the studio, loaded once, and what is done with them: drawing layouts, segmenting photos."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from segscape.errors import EvaluationError
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.evaluation.agreement.segmenters import Segmenter, default_segmenter, open_segmenter
from segscape.inference import SHIPPED_MODEL, Pipeline
from segscape.inference.acceleration import accelerate
from segscape.inference.pipeline import Reference, choose_device, model_title
from segscape.labels import LabelSet
from segscape.layout import Layout, Size
from segscape.models import load_model
from segscape.models.generator import Generator
from segscape.nn.clade import CLADE
from segscape.nn.noise import AddedNoise
from segscape.style import Style
from segscape.style_shapes import StyleKind

Photo = Image.Image | Reference

BATCH_PIXELS = {"cpu": 1 << 16}
"""Of the pictures of a batch, by type of device: a CPU draws two 192x256 pictures no faster together than in turn."""

GPU_BATCH_PIXELS = 1 << 21


@dataclass(frozen=True)
class StudioModel:
    """A model to paint with.

    Attributes:
        id: by which requests name it.
        name: for people.
        source: the folder or Hugging Face id that was asked for; None is the shipped model.
        pipeline: draws.
        random_styles: whether it draws styles, so that samples differ.
        has_noise: whether it adds noise, so that other seeds give other pictures in any case.
        unseen: classes that training never saw, if that can be told.
        segmenter: folder or id of what segments photos into its classes; None if there is none.
    """

    id: str
    name: str
    source: str | None
    pipeline: Pipeline
    random_styles: bool
    has_noise: bool
    unseen: tuple[int, ...]
    segmenter: str | Path | None

    @property
    def labels(self) -> LabelSet:
        """Its label set."""
        return self.pipeline.labels

    @property
    def style_kind(self) -> StyleKind | None:
        """The kind of style that it takes."""
        return self.pipeline.model.config.style_kind

    @classmethod
    def load(
        cls, id: str, source: str | None = None, device: str = "auto", segmenter: str | Path | None = None
    ) -> StudioModel:
        """Load a model for drawing fast.

        Args:
            id: by which requests will name it.
            source: folder or Hugging Face id; None is the shipped model.
            device: see `Pipeline`.
            segmenter: what segments photos; None takes the shipped one if it knows the model's classes.

        Raises:
            CheckpointError, ConfigError: as `Pipeline.from_pretrained`.
        """
        target = choose_device(device)
        model = load_model(SHIPPED_MODEL if source is None else source)
        labels = model.config.labels
        pipeline = Pipeline(accelerate(model.to(target)), target)
        return cls(
            id=id,
            name=model_title(source),
            source=source,
            pipeline=pipeline,
            random_styles=model.random_styles,
            has_noise=adds_noise(model),
            unseen=unseen_classes(model),
            segmenter=default_segmenter(labels) if segmenter is None else segmenter,
        )


def unseen_classes(model: Generator) -> tuple[int, ...]:
    """The classes that training never saw, as CLADE's tables tell: their shifts are still the zeros of the start.

    Empty for models without such tables, or where all are zeros.
    """
    tables = [norm.beta.detach() for norm in model.modules() if isinstance(norm, CLADE)]
    if not tables:
        return ()
    untouched = torch.stack([(table == 0).all(dim=1).cpu() for table in tables]).all(dim=0)
    return () if untouched.all() else tuple(untouched.nonzero().flatten().tolist())


def adds_noise(model: Generator) -> bool:
    """Whether noise changes its pictures; it does not while all its weights are still the zeros of the start."""
    return any(bool(layer.weight.any()) for layer in model.modules() if isinstance(layer, AddedNoise))


@dataclass(frozen=True, eq=False)
class Painting:
    """A layout to be drawn.

    Attributes:
        model: with which model.
        label_map: class indices `[H, W]`.
        size: to resize the layout to first.
        seed: of random styles.
        samples: how many pictures, in as many random styles.
        style: a photo that lends its style.
        class_styles: photos that lend the style of one class, by its name.
    """

    model: StudioModel
    label_map: NDArray[np.integer]
    size: Size | None = None
    seed: int = 0
    samples: int = 1
    style: Photo | None = None
    class_styles: dict[str, Photo] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """Of all its pictures."""
        height, width = self.size or self.label_map.shape
        return int(height * width * self.samples)

    @property
    def batch(self) -> Hashable:
        """Same model, sizes and styles."""
        if self.style is not None or self.class_styles or self.model.has_noise:  # each map would have other noise
            return id(self)
        seed = self.seed if self.model.random_styles else 0
        return self.model.id, self.label_map.shape, self.size, self.samples, seed


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A photo to be turned into a layout.

    Attributes:
        model: into whose classes.
        photo: in RGB.
    """

    model: StudioModel
    photo: Image.Image

    @property
    def pixels(self) -> int:
        """Of the layout."""
        return self.photo.width * self.photo.height

    @property
    def batch(self) -> Hashable:
        """None is like another."""
        return id(self)


@dataclass(frozen=True)
class Drawn:
    """The pictures of a painting.

    Attributes:
        pictures: one for each sample.
        milliseconds: that the network took for the batch.
    """

    pictures: list[Image.Image]
    milliseconds: float


Task = Painting | Segmentation
Result = Drawn | NDArray[np.integer]


class Engine:
    """All models of a server.

    Args:
        models: the first one is the default.
        device: of segmenters.

    Attributes:
        models: by id.
        thread: where `run` belongs, since PyTorch's own threads are those of the thread that calls it.
    """

    def __init__(self, models: Sequence[StudioModel], device: str = "auto") -> None:
        self.models = {model.id: model for model in models}
        self.device = device
        self.thread = ThreadPoolExecutor(1, "segscape-network")
        self._segmenters: dict[str, tuple[Segmenter, ClassMapping]] = {}

    @property
    def default(self) -> StudioModel:
        """The model of requests that name none."""
        return next(iter(self.models.values()))

    @property
    def batch_pixels(self) -> int:
        """How many pixels are drawn together at most."""
        return BATCH_PIXELS.get(self.default.pipeline.device.type, GPU_BATCH_PIXELS)

    def run(self, tasks: Sequence[Task]) -> list[Result]:
        """Do tasks that go together (see `FairQueue`)."""
        first = tasks[0]
        if isinstance(first, Segmentation):
            return [self._segment(first)]
        return list(_draw([task for task in tasks if isinstance(task, Painting)]))

    def warm_up(self) -> None:
        """Draw stripes of all classes with each model, in `thread`: the first picture of a thread takes longest."""
        for model in self.models.values():
            height, width = model.pipeline.model.config.image_size
            rows = np.arange(height) * model.labels.num_classes // height
            stripes = np.repeat(rows[:, None], width, axis=1)
            self.thread.submit(self.run, [Painting(model, stripes)]).result()

    def load_segmenters(self) -> None:
        """Load what segments photos now, not for the first photo.

        Raises:
            CheckpointError, ConfigError, DependencyError: as `open_segmenter`.
            EvaluationError: there is none, or it has no class of a model's.
        """
        for model in self.models.values():
            self._segmenter(model)

    def _segment(self, task: Segmentation) -> NDArray[np.integer]:
        segmenter, mapping = self._segmenter(task.model)
        image = torch.from_numpy(np.array(task.photo)).permute(2, 0, 1)[None]
        found = mapping.apply(segmenter(image))[0].numpy()
        unknown = task.model.labels.unknown
        return np.where(found < 0, 0 if unknown is None else unknown, found)

    def _segmenter(self, model: StudioModel) -> tuple[Segmenter, ClassMapping]:
        if model.segmenter is None:
            raise EvaluationError(f"no segmenter for the classes of {model.name} is installed.")
        if model.id not in self._segmenters:
            segmenter = open_segmenter(model.segmenter, self.device)
            self._segmenters[model.id] = segmenter, ClassMapping.by_name(segmenter.classes, model.labels)
        return self._segmenters[model.id]


def load_engine(sources: Sequence[str], device: str = "auto", segmenter: str | None = None) -> Engine:
    """Load models, the shipped one if none is named; raises as `StudioModel.load` and `Engine.load_segmenters`."""
    ids = _ids(sources)
    models = [StudioModel.load(id, source, device, segmenter) for id, source in ids.items()]
    engine = Engine(models or [StudioModel.load("shipped", None, device, segmenter)], device)
    if segmenter is not None:
        engine.load_segmenters()
    return engine


def _ids(sources: Sequence[str]) -> dict[str, str]:
    """A short id for each source: the last part of its path, numbered where two have the same."""
    ids: dict[str, str] = {}
    for source in sources:
        name = Path(model_title(source)).name or "model"
        number = sum(known.partition(" ")[0] == name for known in ids)
        ids[f"{name} {number + 1}" if number else name] = source
    return ids


def _draw(paintings: Sequence[Painting]) -> list[Drawn]:
    """Draw paintings of one `batch`."""
    first, start = paintings[0], time.perf_counter()
    pictures = first.model.pipeline(
        _layout(paintings),
        seed=first.seed,
        size=first.size,
        style=_style(first),
        samples=first.samples,
    )
    milliseconds = 1000 * (time.perf_counter() - start)
    each = first.samples
    return [Drawn(pictures[at : at + each], milliseconds) for at in range(0, len(pictures), each)]


def _layout(paintings: Sequence[Painting]) -> Layout:
    """The layouts of all paintings; where the model reads instances, each class is one."""
    model = paintings[0].model
    maps = np.stack([painting.label_map for painting in paintings])
    instances = maps if model.pipeline.model.config.reads_instances else None
    return Layout.from_array(maps, model.labels, instances)


def _style(painting: Painting) -> Style | Photo | dict[str, Photo] | None:
    """The style as `Pipeline` takes it."""
    if painting.style is not None and painting.class_styles:
        return painting.model.pipeline.mix(painting.style, painting.class_styles)
    return painting.style or painting.class_styles or None
