"""The training loop: one visible function, and the few named steps that it takes."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam

from segscape.data.sample import Batch, Dataset
from segscape.data.transforms import Preprocess
from segscape.data.view import TrainingView
from segscape.discriminators import Discriminator
from segscape.errors import CheckpointError, RecipeError
from segscape.evaluation.processes import Processes
from segscape.features import EfficientNetLite0Features, VGG19Features
from segscape.files import remove_unfinished, write_text
from segscape.labels import LabelSet
from segscape.losses import LITE0_WEIGHTS, PerceptualLoss
from segscape.models.generator import Generator
from segscape.models.registry import create_model
from segscape.nn.spectral import held_power_iteration
from segscape.nn.synchronized import SynchronizedBatchNorm2d
from segscape.style import Style
from segscape.training.augment import AdaptiveAugmentation
from segscape.training.balance import BalanceWatch, clip_gradients, saturation
from segscape.training.boards import open_boards, require_boards
from segscape.training.checkpoint import Checkpoints
from segscape.training.ema import averaged_generator, make_average
from segscape.training.freeze import freeze
from segscape.training.guard import Guard
from segscape.training.initialize import initialize
from segscape.training.memory import kept_memory
from segscape.training.parts import add_up, any_process, sum_gradients, total
from segscape.training.pool import ImagePool
from segscape.training.publish import write_cards
from segscape.training.reading import extra_batches, read_steps
from segscape.training.recipe import Objective, Recipe, load_recipe
from segscape.training.schedule import linear_decay
from segscape.training.signals import PREEMPTED, StopSignals
from segscape.training.speed import arrange, compile_networks
from segscape.training.steps import StyledGenerator, discriminator_step_losses, generate_fake, generator_step_losses
from segscape.training.stored_styles import training_photos
from segscape.training.tracking import Tracker, sample_grid
from segscape.training.validation import Validation

MAY_CHANGE: dict[str, Any] = {
    **dict.fromkeys(("images", "snapshot_images", "log_images", "samples", "keep_checkpoints", "workers"), True),
    **dict.fromkeys(("accumulate", "precision"), True),
    **dict.fromkeys(("position_cache", "trackers", "init_from"), True),
    **dict.fromkeys(("tolerance", "speed"), True),
    "data": {"cache", "cache_bytes"},
    "optimizer": {"generator_lr", "discriminator_lr", "decay_images"},
}
"""What a resumed run may change in its recipe."""

SNAPSHOT_TIME = timedelta(hours=2)
"""How long the other processes wait while one works alone, for a snapshot, before they give up."""


def train(recipe: Recipe, run_dir: str | Path, *, resume: bool = False) -> Path:
    """Train a model and return the folder of the saved one, `RUN/model`.

    The run folder holds `recipe.yaml`, `metrics.jsonl`, `tensorboard/`, `samples/`, `checkpoints/` and `model/`.
    Each snapshot saves the model that its sample grid was drawn with; with `validation` in the recipe, `best/` is the
    model with the best score. Ctrl-C saves a snapshot and returns; so does SIGTERM, but then raises SystemExit with
    the code `PREEMPTED`. A resumed run gives the same losses as an uninterrupted one (bit for bit on the CPU),
    whatever ended it.

    Args:
        recipe: what to do.
        run_dir: where to write; must not hold another run unless `resume`.
        resume: go on from the newest checkpoint; the recipe may differ in `MAY_CHANGE` only.

    Raises:
        RecipeError: the folder holds a run already, or that of another recipe.
        DataError, LabelMapError, ConfigError, CheckpointError: as the parts say.
        TrainingError: too many steps in a row are not finite, or the last snapshot cannot be written; the last
            checkpoint is kept.
    """
    accelerator = _accelerator(recipe)
    run = Path(run_dir)
    dataset = recipe.data.open()
    torch.manual_seed(recipe.seed)
    require_boards(recipe.trackers)
    generator = build_generator(recipe, dataset.labels)
    discriminator = build_discriminator(recipe, generator)
    started_from = _initialize(recipe, run, resume, generator, discriminator)
    freeze(generator, recipe.frozen_at(0))
    arrange(generator, recipe.speed)
    perceptual = build_perceptual(recipe.objective)
    view = training_view(recipe, dataset, generator)
    _check_first_sample(recipe, view, generator, accelerator.num_processes)
    validation = _validation(recipe, generator, run, accelerator)
    if accelerator.is_main_process:
        _prepare_folder(run, recipe, resume)
    accelerator.wait_for_everyone()

    _to_channels_last(generator, accelerator.device)
    _to_channels_last(discriminator, accelerator.device)
    average = make_average(generator, recipe.ema.half_life_images, recipe.batch_size) if recipe.ema else None
    rates = recipe.optimizer
    generator_optimizer = Adam(generator.parameters(), lr=rates.generator_lr, betas=rates.betas)
    discriminator_optimizer = Adam(discriminator.parameters(), lr=rates.discriminator_lr, betas=rates.betas)
    # as for evaluation, that is without a wrapper that exchanges gradients: `sum_gradients` does
    trained_generator = accelerator.prepare_model(StyledGenerator(generator), evaluation_mode=True)
    discriminator = accelerator.prepare_model(discriminator, evaluation_mode=True)
    generator_optimizer = accelerator.prepare_optimizer(generator_optimizer)
    discriminator_optimizer = accelerator.prepare_optimizer(discriminator_optimizer)
    if perceptual is not None:
        _to_channels_last(perceptual, accelerator.device)
        perceptual = accelerator.prepare_model(perceptual, evaluation_mode=True)  # for its precision

    augmentation, watch = AdaptiveAugmentation(recipe.discriminator_augmentation, recipe.seed), BalanceWatch()
    pool = ImagePool(recipe.objective.pool) if recipe.objective.pool else None
    state: dict[str, Any] = {
        "augmentation": augmentation,
        "watch": watch,
        "generator": generator,
        "discriminator": discriminator,
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
    }
    state |= {"average": average} if average else {}
    state |= {"pool": pool} if pool else {}
    state |= {"scaler": accelerator.scaler} if accelerator.scaler else {}
    tracker = Tracker(run, recipe.log_images, accelerator.is_main_process)
    state["tracker"] = tracker
    checkpoints = Checkpoints(run / "checkpoints", state, recipe.keep_checkpoints, tracker.message)
    networks = (generator, discriminator)
    guard = Guard(networks, recipe.tolerance.steps, tracker.incident, checkpoints.diverged, accelerator.scaler)
    state |= {"guard": guard} | ({"validation": validation} if validation else {})
    images = checkpoints.load_latest() if resume else 0
    freeze(generator.train(), recipe.frozen_at(images))

    steps = read_steps(recipe, view, images, accelerator, generator.config, tracker.own_incident)
    tracker.start(images, recipe.images, open_boards(recipe, run, images) if accelerator.is_main_process else ())
    tracker.message(f"{_features_note(recipe.objective)}; {len(dataset)} samples; writing to {run}")
    for line in started_from:
        tracker.message(line)
    if recipe.speed.compile:
        compile_networks({"perceptual network": perceptual}, tracker.message)

    def snapshot(last: bool = False) -> None:
        _require_finite_weights(state, images, checkpoints)
        if accelerator.is_main_process:
            with checkpoints.may_fail(last):
                checkpoints.save(images)
                shown = _finished_generator(recipe, view, generator, average, accelerator.device)
                shown.save_pretrained(run / "model")
                tracker.grid(images, _draw_samples(recipe, view, shown, accelerator.device))
                write_cards(run, shown, recipe, images)
            freeze(generator.train(), recipe.frozen_at(images))
        accelerator.wait_for_everyone()

    def validate() -> None:
        if validation is not None and validation.due(images):
            shown = _finished_generator(recipe, view, generator, average, accelerator.device)
            with checkpoints.may_fail(last=False):
                tracker.record(images, validation.measure(images, shown))
            freeze(generator.train(), recipe.frozen_at(images))

    stopped = False
    with StopSignals() as signals, kept_memory():
        validate()
        for parts in steps:
            guard.begin()
            _seed_step(recipe.seed, images, accelerator.process_index)
            if recipe.thaws_at(images):
                freeze(generator.train(), ())
            factor = linear_decay(images, recipe.images - rates.decay_images, rates.decay_images)
            _set_rate(generator_optimizer, rates.generator_lr * factor)
            _set_rate(discriminator_optimizer, rates.discriminator_lr * factor)

            discriminator.requires_grad_(False)
            generator_optimizer.zero_grad(set_to_none=True)
            weighed, fakes = [], []
            for number, part in enumerate(parts):
                with held_power_iteration(generator, discriminator, held=number > 0):
                    losses, fake = generator_step_losses(
                        trained_generator,
                        discriminator,
                        part.batch.layout,
                        part.batch.images,
                        objective=recipe.objective,
                        perceptual=perceptual,
                        noise=part.noise,
                        augment=augmentation.draw(part.numbers),
                    )
                accelerator.backward(total(part.weigh(losses)))
                weighed.append(part.weigh(losses | saturation(fake, part.batch.images)))
                fakes.append(fake.detach())
            sum_gradients(generator)
            values = _named("generator", add_up(weighed))
            accelerator.unscale_gradients(generator_optimizer)
            norms = {"generator/gradient_norm": clip_gradients(generator, rates.clip_norm).item()}
            if guard.accepts(values, norms["generator/gradient_norm"]):
                generator_optimizer.step()
            discriminator.requires_grad_(True)

            discriminator_optimizer.zero_grad(set_to_none=True)
            weighed = []
            for number, (part, fake) in enumerate(zip(parts, fakes, strict=True)):
                batch = part.batch
                with held_power_iteration(generator, discriminator, held=number > 0):
                    if recipe.objective.fresh_fake:
                        fake = generate_fake(trained_generator, batch.layout, batch.images, part.noise)
                    losses, judged = discriminator_step_losses(
                        discriminator,
                        batch.layout,
                        batch.images,
                        fake,
                        objective=recipe.objective,
                        augment=augmentation.draw(part.numbers),
                        pool=pool,
                        r1=recipe.objective.r1_at(images // recipe.batch_size),
                    )
                accelerator.backward(total(part.weigh(losses)))
                weighed.append(part.weigh(losses | judged))
            sum_gradients(discriminator)
            values |= _named("discriminator", add_up(weighed))
            accelerator.unscale_gradients(discriminator_optimizer)
            norms["discriminator/gradient_norm"] = clip_gradients(discriminator, rates.clip_norm).item()
            if guard.accepts(values, norms["discriminator/gradient_norm"]):
                discriminator_optimizer.step()

            good = guard.settle(images)
            if good and average is not None:
                average.update_parameters(generator)
            before, images = images, images + recipe.batch_size
            if good:
                values |= augmentation.observe(values["discriminator/real_right"], recipe.batch_size)
                values |= norms | {"learning_rate": rates.generator_lr * factor}
                for warning in watch.observe(values):
                    tracker.message(warning)
            tracker.update(images, recipe.batch_size, values if good else {})
            if stopped := any_process(bool(signals), accelerator.device):
                break
            validate()
            due = images // recipe.snapshot_images > before // recipe.snapshot_images
            if due and images < recipe.images:
                snapshot()
        snapshot(last=True)
    tracker.close()
    ending = f"stopped by {signals.name}" if stopped else "finished"
    accelerator.print(f"{ending} after {images} images; the model is in {run / 'model'}")
    preempted = any_process(signals.terminating, accelerator.device)
    _leave(accelerator)
    if preempted:
        raise SystemExit(PREEMPTED)
    return run / "model"


def _accelerator(recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
        from accelerate.state import AcceleratorState
    except ImportError:
        raise RecipeError("training needs the package accelerate: pip install 'segscape[train]'.") from None
    several_on_cpus = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()
    patience = InitProcessGroupKwargs(timeout=SNAPSHOT_TIME)
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    accelerator = Accelerator(mixed_precision=recipe.precision, cpu=several_on_cpus, kwargs_handlers=[patience])
    if recipe.precision == "fp16" and accelerator.scaler is None:  # it would take float32 without a word
        raise RecipeError(f"precision fp16 needs a GPU, and the device is {accelerator.device}: take bf16 or no.")
    return accelerator


def _leave(accelerator: Any) -> None:
    """End the work of the processes together."""
    accelerator.wait_for_everyone()
    if accelerator.device.type != "cpu":  # there it can abort the interpreter, and is of no use
        accelerator.end_training()


def _to_channels_last(network: nn.Module, device: torch.device) -> None:
    """Move a network, in place; convolutions over channels-last tensors are about twice as fast on CPUs."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def build_generator(recipe: Recipe, labels: LabelSet) -> Generator:
    """The recipe's generator for a label set, with random weights; raises ConfigError or RecipeError."""
    generator = create_model(recipe.model.name, labels=labels, **recipe.model.options)
    if generator.config.use_instances and getattr(recipe.data, "instances", True) is None:
        raise RecipeError("model.use_instances is true but data.instances gives no folder of instance maps.")
    return generator


def build_discriminator(recipe: Recipe, generator: Generator) -> Discriminator:
    """The discriminator that goes with the recipe's generator, with random weights."""
    config = generator.config
    return recipe.discriminator.build(config.labels.num_classes, config.use_instances)


def _validation(recipe: Recipe, generator: Generator, run: Path, accelerator: Any) -> Validation | None:
    if recipe.validation is None:
        return None
    config, processes = generator.config, Processes(accelerator.process_index, accelerator.num_processes)
    every = recipe.validation.every_images or recipe.snapshot_images
    return Validation(
        recipe.validation,
        config.labels,
        config.image_size,
        every,
        recipe.images,
        run / "best",
        accelerator.device,
        processes,
    )


def build_perceptual(objective: Objective) -> PerceptualLoss | None:
    """The perceptual loss of an objective, with its frozen network's weights; None when its weight is 0."""
    if not objective.perceptual:
        return None
    if objective.features == "vgg19":
        return PerceptualLoss(VGG19Features.from_file(objective.features_path))
    return PerceptualLoss(EfficientNetLite0Features.from_package(), LITE0_WEIGHTS)


def _initialize(
    recipe: Recipe, run: Path, resume: bool, generator: Generator, discriminator: Discriminator
) -> list[str]:
    """Start from another model if the recipe says so, and tell what was done; a resumed run has its checkpoint.

    If it was ended before the first one, it begins again as it was recorded to.
    """
    start = recipe.init_from
    if resume and (run / "recipe.yaml").is_file():
        start = load_recipe(run / "recipe.yaml").init_from if not any((run / "checkpoints").glob("*.pt")) else None
    return initialize(generator, discriminator, start) if start else []


def _features_note(objective: Objective) -> str:
    return f"perceptual features: {objective.features}" if objective.perceptual else "no perceptual loss"


def _prepare_folder(run: Path, recipe: Recipe, resume: bool) -> None:
    """Write the recipe into a new run folder, or check that a resumed run has the same one."""
    path = run / "recipe.yaml"
    if resume:
        if not path.is_file():
            raise CheckpointError(f"{run} holds no run to resume (there is no recipe.yaml).")
        recipe = recipe.model_copy(update={"init_from": _require_same_recipe(path, recipe).init_from})
    elif path.exists():
        raise RecipeError(f"{run} holds a run already; go on with --resume, or choose another folder with --out.")
    run.mkdir(parents=True, exist_ok=True)
    remove_unfinished(run)
    write_text(path, recipe.to_yaml())


def _require_same_recipe(path: Path, recipe: Recipe) -> Recipe:
    """The recipe at the path, which may differ in `MAY_CHANGE` only; raises RecipeError."""
    recorded = load_recipe(path)
    before, after = (one.model_dump(mode="json", exclude=MAY_CHANGE) for one in (recorded, recipe))
    different = [key for key in after if after[key] != before[key]]
    if different:
        raise RecipeError(
            f"the recipe differs from the one of the run ({path}) in {', '.join(different)}; a resumed run may only "
            f"change {', '.join(key for key in MAY_CHANGE if key not in ('data', 'optimizer'))}, the cache of shards, "
            "the learning rates and their decay."
        )
    return recorded


def training_view(recipe: Recipe, dataset: Dataset, generator: Generator) -> TrainingView:
    """The dataset as the recipe's generator reads it in training; raises DataError or LabelMapError."""
    config = generator.config
    height, width = config.image_size
    preprocess = recipe.preprocess or Preprocess(
        mode="resize_and_crop",
        load_size=(round(height * 286 / 256), round(width * 286 / 256)),
        crop_size=config.image_size,
        flip=True,
    )
    return TrainingView(
        dataset, preprocess, config.encoding_rule, recipe.seed, recipe.augmentation, recipe.position_cache
    )


def _check_first_sample(recipe: Recipe, view: TrainingView, generator: Generator, processes: int) -> None:
    """Find out before the run begins whether the network can use what the data gives."""
    layout = next(extra_batches(view, 1, 1, torch.device("cpu"))).layout
    generator.check(layout)
    if generator.config.use_instances:
        layout.edges()  # the discriminator reads them, even where the generator does not
    start = layout.size[0] * layout.size[1] // generator.config.size_multiple**2
    norms = [layer for layer in generator.modules() if isinstance(layer, _BatchNorm)]
    together = all(isinstance(norm, SynchronizedBatchNorm2d) for norm in norms)
    pictures = recipe.batch_size // recipe.accumulate // (1 if together else processes)
    if norms and pictures * start == 1:
        raise RecipeError(
            f"batch norm needs more than one value per channel, and one {layout.size[0]}x{layout.size[1]} picture "
            "starts from a single pixel: raise batch_size or the image size."
        )


def _shown_styles(recipe: Recipe, generator: Generator, batch: Batch) -> Style | None:
    """The styles of a sample grid: from the prior, the same at every call, or those of the photos if there is none."""
    if generator.config.style_kind is None:
        return None
    if generator.config.variational:
        return generator.sample_style(batch.layout, torch.Generator().manual_seed(recipe.seed))
    return generator.encode(batch.images, batch.layout).mean


def _finished_generator(
    recipe: Recipe, view: TrainingView, generator: Generator, average: Any, device: torch.device
) -> Generator:
    """The generator as it is saved: the average with its own statistics, or the trained network itself."""
    finished = generator.eval()
    if average is not None and recipe.ema is not None:
        batches = extra_batches(view, recipe.ema.statistics_batches, min(recipe.batch_size, len(view)), device)
        inputs = ((batch.layout, _shown_styles(recipe, generator, batch)) for batch in batches)
        frozen = recipe.freeze if recipe.thaw_images is None else ()
        finished = cast(Generator, averaged_generator(average, inputs, frozen))
    if finished.can_fit_styles:
        finished.fit_styles(training_photos(view, recipe.batch_size, device))
    return finished


@torch.no_grad()
def _draw_samples(recipe: Recipe, view: TrainingView, generator: Generator, device: torch.device) -> Any:
    """The sample grid: always the same layouts and styles."""
    count = min(recipe.samples, len(view))
    batch = next(extra_batches(view, 1, count, device))
    return sample_grid(batch, generator(batch.layout, _shown_styles(recipe, generator, batch)))


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _named(network: str, losses: dict[str, float]) -> dict[str, float]:
    """The losses of a network by network and name."""
    return {f"{network}/{name}": value for name, value in losses.items()}


def _seed_step(seed: int, images: int, process: int) -> None:
    """Decide what PyTorch's own generators draw in a step, so that no random state outlives it."""
    torch.manual_seed(int(np.random.SeedSequence([seed, images, process]).generate_state(1)[0]))


def _require_finite_weights(state: dict[str, Any], images: int, checkpoints: Checkpoints) -> None:
    """Raise TrainingError instead of saving networks that the last steps have broken."""
    for name in ("generator", "discriminator"):
        for key, weights in state[name].named_parameters():
            if not torch.isfinite(weights).all():
                raise checkpoints.diverged(f"the {name}'s {key} is not finite after {images} images")
