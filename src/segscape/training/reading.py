"""Reading the run's samples in its order, past damaged files and data processes that die."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

import torch

from segscape.data.sample import Batch, Sample, collate
from segscape.data.view import TrainingOrder, TrainingView
from segscape.data.workers import DEAD_WORKER, WithErrors, received
from segscape.errors import DataError, RecipeError, SegscapeError
from segscape.labels import LabelSet
from segscape.models.config import GeneratorConfig
from segscape.training.parts import Part, part_numbers, style_noise
from segscape.training.recipe import Recipe

PREFETCH = 4
"""Batches that each data process has ready or in work."""

RESTARTS = 3
"""So often in a row data processes may die before they have read a single batch."""

EXTRA_DRAW = 1 << 40
"""Draw numbers from here on are used outside the run's own order: statistics and sample grids."""

EXTRA_REPLACED = 10
"""Of samples outside the run's order, so many in a row may be unreadable."""

Incident = Callable[[str, str], None]
"""Is told what went wrong without stopping the run: one word to count it under, and a sentence for the user."""

Found = tuple[Sample, tuple[str, ...]]
"""A sample, and what was wrong with those whose place it takes."""


class Replacing(torch.utils.data.Dataset[Found]):
    """A training view in which the next sample takes the place of one that cannot be read, with the same augmentation.

    So what is shown depends on the seed, the place in the run and the files only.

    Args:
        view: gives the samples.
        limit: how many after an unreadable sample are tried; 0 replaces none.
    """

    def __init__(self, view: TrainingView, limit: int) -> None:
        self.view = view
        self.limit = limit

    def __getitem__(self, key: tuple[int, int]) -> Found:
        """The sample of a key, or its replacement.

        Raises:
            SegscapeError, OSError: of the sample, if none is replaced.
            DataError: too many in a row cannot be read.
        """
        index, draw = key
        problems: list[str] = []
        for step in range(self.limit + 1):
            try:
                return self.view[(index + step) % len(self.view), draw], tuple(problems)
            except (SegscapeError, OSError) as error:
                if not self.limit:
                    raise
                problems.append(str(error).rstrip("."))
        raise DataError(
            f"{problems[0]}; the next {self.limit} samples cannot be read either (tolerance.samples of the recipe): "
            "mend the data and go on with --resume."
        )

    def prepare(self, keys: Sequence[tuple[int, int]]) -> None:
        """As the view's; what cannot be fetched shows when it is read."""
        with suppress(SegscapeError, OSError):
            self.view.prepare(keys)


class _Read(NamedTuple):
    """A batch, and a sentence for each sample of it that had to be replaced."""

    batch: Batch
    problems: tuple[str, ...]


class _Collate:
    """Collation for the data loader's processes, which may be started by spawning; hands over the first error."""

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels

    def __call__(self, items: list[Found | Exception]) -> _Read | Exception:
        error = next((item for item in items if isinstance(item, Exception)), None)
        if error is not None:
            return error
        found = cast(list[Found], items)
        problems = [f"{'; '.join(wrong)}: {sample.name!r} is shown in its place" for sample, wrong in found if wrong]
        try:
            return _Read(collate([sample for sample, _ in found], self.labels), tuple(problems))
        except SegscapeError as mismatch:
            return mismatch


def read_batches(
    recipe: Recipe, view: TrainingView, images: int, accelerator: Any, incident: Incident
) -> Iterator[Batch]:
    """This process's share of the run's micro-batches, from image number `images` on.

    Data processes that die are started again where they were.

    Args:
        recipe: of the run.
        view: its samples.
        images: where to begin, at a multiple of the batch size.
        accelerator: knows the processes and the device.
        incident: is told of `replaced_samples` and `reader_restarts`.

    Raises:
        RecipeError: a process would have no image in a micro-batch.
        DataError: too many samples in a row cannot be read, samples do not fit together, or data processes die again
            and again.
    """
    processes, size = accelerator.num_processes, recipe.batch_size // recipe.accumulate
    if size < processes:
        raise RecipeError(f"a micro-batch of {size} images is too small for {processes} processes: raise batch_size.")
    end = images + max(0, -(-(recipe.images - images) // recipe.batch_size)) * recipe.batch_size
    deaths = 0
    while images < end:
        try:
            for batch, problems in received(_loader(recipe, view, images, end, accelerator)):
                for problem in problems:
                    incident("replaced_samples", problem)
                yield batch.to(accelerator.device)
                images, deaths = images + size, 0
        except DataError as error:
            deaths += 1
            if error.kind != DEAD_WORKER or deaths > RESTARTS:
                raise
            incident("reader_restarts", f"{error}; reading goes on from image {images} with new processes")


def _loader(recipe: Recipe, view: TrainingView, images: int, end: int, accelerator: Any) -> Any:
    order = TrainingOrder(
        len(view),
        recipe.batch_size // recipe.accumulate,
        recipe.seed,
        images,
        end,
        accelerator.process_index,
        accelerator.num_processes,
        locality=getattr(view.dataset, "locality", None),
    )
    return torch.utils.data.DataLoader(
        WithErrors(Replacing(view, recipe.tolerance.samples)),
        batch_sampler=cast(Any, order),
        collate_fn=_Collate(view.dataset.labels),
        num_workers=recipe.workers,
        prefetch_factor=PREFETCH if recipe.workers else None,
        pin_memory=accelerator.device.type == "cuda",
    )


def read_steps(
    recipe: Recipe, view: TrainingView, images: int, accelerator: Any, config: GeneratorConfig, incident: Incident
) -> Iterator[list[Part]]:
    """This process's parts of each step, from image number `images` on, for a generator of this configuration.

    Raises what `read_batches` raises.
    """
    batches = read_batches(recipe, view, images, accelerator, incident)
    shape = config.style_shape if config.variational else None
    place = (accelerator.process_index, accelerator.num_processes)
    for first in range(images, recipe.images, recipe.batch_size):
        parts = []
        for numbers in part_numbers(first, recipe.batch_size, recipe.accumulate, *place):
            noise = style_noise(recipe.seed, numbers, shape).to(accelerator.device) if shape else None
            parts.append(Part(next(batches), noise, len(numbers) / recipe.batch_size, numbers))
        yield parts


def extra_batches(view: TrainingView, count: int, size: int, device: torch.device) -> Iterator[Batch]:
    """Batches outside the run's order, always the same: spread over the dataset, augmented by their own draws."""
    readable = Replacing(view, EXTRA_REPLACED)
    for number in range(count):
        keys = [number * size + place for place in range(size)]
        indices = [key * max(1, len(view) // (count * size)) % len(view) for key in keys]
        samples = [readable[index, EXTRA_DRAW + key][0] for index, key in zip(indices, keys, strict=True)]
        yield collate(samples, view.dataset.labels).to(device)
