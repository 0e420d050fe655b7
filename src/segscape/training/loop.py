"""The training loop: one visible function, and the few named steps that it takes."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam

from segscape.data.sample import Batch, Dataset, Sample, collate
from segscape.data.transforms import Preprocess
from segscape.data.view import TrainingOrder, TrainingView
from segscape.discriminators.multiscale import MultiScaleDiscriminator
from segscape.errors import CheckpointError, RecipeError, TrainingError
from segscape.features import EfficientNetLite0Features, VGG19Features
from segscape.files import write_atomically
from segscape.labels import LabelSet
from segscape.losses import LITE0_WEIGHTS, PerceptualLoss
from segscape.models.generator import Generator
from segscape.models.registry import create_model
from segscape.style import Style
from segscape.training.checkpoint import Checkpoints
from segscape.training.ema import averaged_generator, make_average
from segscape.training.recipe import Objective, Recipe, parse_recipe
from segscape.training.schedule import linear_decay
from segscape.training.steps import StyledGenerator, discriminator_step_losses, generate_fake, generator_step_losses
from segscape.training.tracking import Tracker, sample_grid

MAY_CHANGE: dict[str, Any] = {
    **dict.fromkeys(("images", "snapshot_images", "log_images", "samples", "keep_checkpoints", "workers"), True),
    "precision": True,
    "optimizer": {"generator_lr", "discriminator_lr", "decay_images"},
}
"""What a resumed run may change in its recipe."""

STATISTICS_DRAW = 1 << 40
"""Draw numbers from here on are used outside the run's own order: statistics and sample grids."""


def train(recipe: Recipe, run_dir: str | Path, *, resume: bool = False) -> Path:
    """Train a model and return the folder of the saved one, `RUN/model`.

    The run folder holds `recipe.yaml`, `metrics.jsonl`, `tensorboard/`, `samples/`, `checkpoints/` and `model/`.
    Each snapshot saves the model that its sample grid was drawn with. Ctrl-C saves a snapshot and leaves. A resumed
    run gives the same losses as an uninterrupted one (bit for bit on the CPU).

    Args:
        recipe: what to do.
        run_dir: where to write; must not hold another run unless `resume`.
        resume: go on from the newest checkpoint; the recipe may differ in `MAY_CHANGE` only.

    Raises:
        RecipeError: the folder holds a run already, or that of another recipe.
        DataError, LabelMapError, ConfigError, CheckpointError: as the parts say.
        TrainingError: a loss is not finite; the last checkpoint is kept.
    """
    accelerator = _accelerator(recipe)
    run = Path(run_dir)
    dataset = recipe.data.open()
    torch.manual_seed(recipe.seed)
    generator = _build_generator(recipe, dataset.labels, accelerator)
    discriminator = _build_discriminator(recipe, generator)
    perceptual = build_perceptual(recipe.objective)
    view = _training_view(recipe, dataset, generator)
    _check_first_sample(recipe, view, generator)
    if accelerator.is_main_process:
        _prepare_folder(run, recipe, resume)
    accelerator.wait_for_everyone()

    _to_channels_last(generator, accelerator.device)
    _to_channels_last(discriminator, accelerator.device)
    average = make_average(generator, recipe.ema.half_life_images, recipe.batch_size) if recipe.ema else None
    rates = recipe.optimizer
    generator_optimizer = Adam(generator.parameters(), lr=rates.generator_lr, betas=rates.betas)
    discriminator_optimizer = Adam(discriminator.parameters(), lr=rates.discriminator_lr, betas=rates.betas)
    networks = accelerator.prepare(
        StyledGenerator(generator), discriminator, generator_optimizer, discriminator_optimizer
    )
    trained_generator, trained_discriminator, generator_optimizer, discriminator_optimizer = networks
    if perceptual is not None:
        _to_channels_last(perceptual, accelerator.device)

    state: dict[str, Any] = {
        "generator": generator,
        "discriminator": discriminator,
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
    }
    state |= {"average": average} if average else {}
    state |= {"scaler": accelerator.scaler} if accelerator.scaler else {}
    tracker = Tracker(run, recipe.log_images, accelerator.is_main_process)
    state["tracker"] = tracker
    checkpoints = Checkpoints(run / "checkpoints", state, recipe.keep_checkpoints)
    images = checkpoints.load_latest() if resume else 0

    batches = _batches(recipe, view, images, accelerator)
    tracker.start(images, recipe.images)
    tracker.message(f"{_features_note(recipe.objective)}; {len(dataset)} samples; writing to {run}")

    def snapshot() -> None:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _require_finite_weights(state, images, checkpoints)
            shown = _finished_generator(recipe, view, generator, average, accelerator.device)
            shown.save_pretrained(run / "model")
            tracker.grid(images, _draw_samples(recipe, view, shown, accelerator.device))
            checkpoints.save(images)
            generator.train()
        accelerator.wait_for_everyone()

    with _InterruptFlag() as interrupted:
        for batch in batches:
            factor = linear_decay(images, recipe.images - rates.decay_images, rates.decay_images)
            _set_rate(generator_optimizer, rates.generator_lr * factor)
            _set_rate(discriminator_optimizer, rates.discriminator_lr * factor)
            noise = _noise(recipe, generator, images, accelerator)

            discriminator.requires_grad_(False)
            losses, fake = generator_step_losses(
                trained_generator,
                discriminator,
                batch.layout,
                batch.images,
                objective=recipe.objective,
                perceptual=perceptual,
                noise=noise,
            )
            values = _finite(losses, "generator", images, checkpoints)
            generator_optimizer.zero_grad(set_to_none=True)
            accelerator.backward(torch.stack(list(losses.values())).sum())
            generator_optimizer.step()
            discriminator.requires_grad_(True)

            if recipe.objective.fresh_fake:
                fake = generate_fake(trained_generator, batch.layout, batch.images, noise)
            losses = discriminator_step_losses(
                trained_discriminator, batch.layout, batch.images, fake, objective=recipe.objective
            )
            values |= _finite(losses, "discriminator", images, checkpoints)
            discriminator_optimizer.zero_grad(set_to_none=True)
            accelerator.backward(torch.stack(list(losses.values())).sum())
            discriminator_optimizer.step()

            if average is not None:
                average.update_parameters(generator)
            before, images = images, images + recipe.batch_size
            tracker.update(images, recipe.batch_size, values | {"learning_rate": rates.generator_lr * factor})
            due = images // recipe.snapshot_images > before // recipe.snapshot_images
            if due and images < recipe.images and not interrupted:
                snapshot()
            if interrupted:
                break
        snapshot()
    tracker.close()
    stopped = "stopped by Ctrl-C" if interrupted else "finished"
    accelerator.print(f"{stopped} after {images} images; the model is in {run / 'model'}")
    accelerator.end_training()
    return run / "model"


def _accelerator(recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
    except ImportError:
        raise RecipeError("training needs the package accelerate: pip install 'segscape[train]'.") from None
    several_on_cpus = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()
    return Accelerator(mixed_precision=recipe.precision, cpu=several_on_cpus)


def _to_channels_last(network: nn.Module, device: torch.device) -> None:
    """Move a network, in place; convolutions over channels-last tensors are about twice as fast on CPUs."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _build_generator(recipe: Recipe, labels: LabelSet, accelerator: Any) -> Generator:
    generator = create_model(recipe.model.name, labels=labels, **recipe.model.options)
    on_cpus = accelerator.num_processes > 1 and accelerator.device.type == "cpu"
    if on_cpus and any(isinstance(layer, nn.SyncBatchNorm) for layer in generator.modules()):
        raise RecipeError("PyTorch cannot synchronise batch norm between CPU processes: set model.statistics=batch.")
    if generator.config.use_instances and getattr(recipe.data, "instances", True) is None:
        raise RecipeError("model.use_instances is true but data.instances gives no folder of instance maps.")
    return generator


def _build_discriminator(recipe: Recipe, generator: Generator) -> MultiScaleDiscriminator:
    config = generator.config
    options = recipe.discriminator.model_dump()
    return MultiScaleDiscriminator(config.labels.num_classes, instances=config.use_instances, **options)


def build_perceptual(objective: Objective) -> PerceptualLoss | None:
    """The perceptual loss of an objective, with its frozen network's weights; None when its weight is 0."""
    if not objective.perceptual:
        return None
    if objective.features == "vgg19":
        return PerceptualLoss(VGG19Features.from_file(objective.features_path))
    return PerceptualLoss(EfficientNetLite0Features.from_package(), LITE0_WEIGHTS)


def _features_note(objective: Objective) -> str:
    return f"perceptual features: {objective.features}" if objective.perceptual else "no perceptual loss"


def _prepare_folder(run: Path, recipe: Recipe, resume: bool) -> None:
    """Write the recipe into a new run folder, or check that a resumed run has the same one."""
    path = run / "recipe.yaml"
    if resume:
        if not path.is_file():
            raise CheckpointError(f"{run} holds no run to resume (there is no recipe.yaml).")
        _require_same_recipe(path, recipe)
    elif path.exists():
        raise RecipeError(f"{run} holds a run already; go on with --resume, or choose another folder with --out.")
    run.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_text(recipe.to_yaml()))


def _require_same_recipe(path: Path, recipe: Recipe) -> None:
    import yaml

    before = parse_recipe(yaml.safe_load(path.read_text()), str(path)).model_dump(exclude=MAY_CHANGE)
    after = recipe.model_dump(exclude=MAY_CHANGE)
    different = [key for key in after if after[key] != before[key]]
    if different:
        raise RecipeError(
            f"the recipe differs from the one of the run ({path}) in {', '.join(different)}; a resumed run may only "
            f"change {', '.join(key for key in MAY_CHANGE if key != 'optimizer')}, the learning rates and their decay."
        )


def _training_view(recipe: Recipe, dataset: Dataset, generator: Generator) -> TrainingView:
    config = generator.config
    height, width = config.image_size
    preprocess = recipe.preprocess or Preprocess(
        mode="resize_and_crop",
        load_size=(round(height * 286 / 256), round(width * 286 / 256)),
        crop_size=config.image_size,
        flip=True,
    )
    return TrainingView(dataset, preprocess, config.encoding_rule, recipe.seed)


def _check_first_sample(recipe: Recipe, view: TrainingView, generator: Generator) -> None:
    """Find out before the run begins whether the network can use what the data gives."""
    layout = next(_extra_batches(view, 1, 1, torch.device("cpu"))).layout
    generator.check(layout)
    start = layout.size[0] * layout.size[1] // generator.config.size_multiple**2
    if recipe.batch_size * start == 1 and any(isinstance(layer, _BatchNorm) for layer in generator.modules()):
        raise RecipeError(
            f"batch norm needs more than one value per channel, and one {layout.size[0]}x{layout.size[1]} picture "
            "starts from a single pixel: raise batch_size or the image size."
        )


class _Collate:
    """Collation for the data loader's processes, which may be started by spawning."""

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels

    def __call__(self, samples: list[Sample]) -> Batch:
        return collate(samples, self.labels)


def _batches(recipe: Recipe, view: TrainingView, images: int, accelerator: Any) -> Iterator[Batch]:
    """This process's share of the run's batches, from image number `images` on."""
    processes = accelerator.num_processes
    if recipe.batch_size % processes:
        raise RecipeError(f"batch_size {recipe.batch_size} cannot be divided among {processes} processes.")
    order = TrainingOrder(
        len(view), recipe.batch_size, recipe.seed, images, recipe.images, accelerator.process_index, processes
    )
    loader: Any = torch.utils.data.DataLoader(
        view,
        batch_sampler=cast(Any, order),
        collate_fn=_Collate(view.dataset.labels),
        num_workers=recipe.workers,
        persistent_workers=recipe.workers > 0,
    )
    for batch in loader:
        yield batch.to(accelerator.device)


def _extra_batches(view: TrainingView, count: int, size: int, device: torch.device) -> Iterator[Batch]:
    """Batches outside the run's order, always the same: spread over the dataset, augmented by their own draws."""
    for number in range(count):
        keys = [number * size + place for place in range(size)]
        samples = [view[key * max(1, len(view) // (count * size)) % len(view), STATISTICS_DRAW + key] for key in keys]
        yield collate(samples, view.dataset.labels).to(device)


def _prior_styles(recipe: Recipe, generator: Generator, count: int, device: torch.device) -> Style | None:
    """Styles from the prior, the same at every call; none for models without a latent."""
    if not generator.config.latent_dim:
        return None
    source = torch.Generator().manual_seed(recipe.seed)
    return Style.sample(count, generator.config.latent_dim, source).to(device)


def _finished_generator(
    recipe: Recipe, view: TrainingView, generator: Generator, average: Any, device: torch.device
) -> Generator:
    """The generator as it is saved: the average with its own statistics, or the trained network itself."""
    if average is None or recipe.ema is None:
        return generator.eval()
    size = min(recipe.batch_size, len(view))
    batches = _extra_batches(view, recipe.ema.statistics_batches, size, device)
    inputs = ((batch.layout, _prior_styles(recipe, generator, size, device)) for batch in batches)
    return cast(Generator, averaged_generator(average, inputs))


@torch.no_grad()
def _draw_samples(recipe: Recipe, view: TrainingView, generator: Generator, device: torch.device) -> Any:
    """The sample grid: always the same layouts and styles."""
    count = min(recipe.samples, len(view))
    batch = next(_extra_batches(view, 1, count, device))
    return sample_grid(batch, generator(batch.layout, _prior_styles(recipe, generator, count, device)))


def _noise(recipe: Recipe, generator: Generator, images: int, accelerator: Any) -> Tensor | None:
    """Noise of the styles in this step, decided by seed and image number; none for models without a latent."""
    if not generator.config.latent_dim:
        return None
    seed = int(np.random.SeedSequence([recipe.seed, images]).generate_state(1)[0])
    source = torch.Generator().manual_seed(seed)
    noise = torch.randn(recipe.batch_size, generator.config.latent_dim, generator=source)
    return noise[accelerator.process_index :: accelerator.num_processes].to(accelerator.device)


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _finite(losses: dict[str, Tensor], part: str, images: int, checkpoints: Checkpoints) -> dict[str, float]:
    """The losses as numbers; raises TrainingError if one is NaN or infinite."""
    numbers = torch.stack([loss.detach() for loss in losses.values()]).tolist()
    values = {f"{part}/{name}": value for name, value in zip(losses, numbers, strict=True)}
    broken = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise _diverged(f"a loss is not finite after {images} images ({', '.join(broken)})", checkpoints)
    return values


def _require_finite_weights(state: dict[str, Any], images: int, checkpoints: Checkpoints) -> None:
    """Raise TrainingError instead of saving networks that the last steps have broken."""
    for name in ("generator", "discriminator"):
        for key, weights in state[name].named_parameters():
            if not torch.isfinite(weights).all():
                raise _diverged(f"the {name}'s {key} is not finite after {images} images", checkpoints)


def _diverged(what: str, checkpoints: Checkpoints) -> TrainingError:
    files = checkpoints.files()
    kept = f"the last good checkpoint is {files[-1]}: go on from it with --resume and" if files else "start again with"
    return TrainingError(f"{what}; {kept} lower learning rates (--set optimizer.generator_lr=...) or precision=no.")


class _InterruptFlag:
    """True after Ctrl-C, so that the loop can save and leave; a second Ctrl-C interrupts at once."""

    def __enter__(self) -> _InterruptFlag:
        self.raised = False
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.previous = signal.signal(signal.SIGINT, self._raise)
        return self

    def _raise(self, *_: object) -> None:
        self.raised = True
        signal.signal(signal.SIGINT, self.previous)

    def __exit__(self, *_: object) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.previous)

    def __bool__(self) -> bool:
        return self.raised
