"""A short trial before a long run: learn four pairs by heart, and say whether data, losses and model work.

The networks, data and losses are those of the recipe, from random weights. What cannot learn four pictures by heart
will not learn a thousand.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from tqdm import tqdm

from segscape.data.sample import Batch
from segscape.layout import Layout
from segscape.losses import PerceptualLoss
from segscape.models.generator import Generator
from segscape.models.registry import load_model
from segscape.training.balance import clip_gradients
from segscape.training.ema import estimate_statistics
from segscape.training.loop import build_discriminator, build_generator, build_perceptual, training_view
from segscape.training.parts import style_noise, total
from segscape.training.reading import extra_batches
from segscape.training.recipe import Recipe
from segscape.training.steps import StyledGenerator, discriminator_step_losses, generator_step_losses

PAIRS: Final = 4
LOSS_STEPS: Final = 20
"""Steps with all losses of the recipe and its learning rates, before the overfitting."""
SHARE: Final = 0.5
"""Of its start, to which the distance to the photographs must fall."""
OVERFIT_STEPS: Final = 200
"""Divided by the share: how many steps that may take, with the learning rate falling over their second half."""
OVERFIT_RATE: Final = 2e-3
LAYOUT_FACTOR: Final = 1.15
"""How much larger the distance must be with another pair's layout."""
SAVED_FACTOR: Final = 1.25
"""How much larger the distance may be for the saved model, whose batch norm uses running statistics."""
FLAT: Final = 0.02
"""Standard deviation, in [-1, 1], below which a photograph shows nothing."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        passed: whether it is as it should be.
        topic: in a word or two.
        sentence: what was found, and if it is not as it should be, what to do.
    """

    passed: bool
    topic: str
    sentence: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.topic}: {self.sentence}"


def check_sanity(recipe: Recipe, share: float = SHARE) -> Iterator[Finding]:
    """Try a recipe on four of its pairs; each finding comes as soon as it is known.

    `init_from` and `freeze` are left out: the trial is about learning from nothing. It stops at the first finding that
    makes the rest meaningless.

    Args:
        recipe: what to try.
        share: how far the distance to the photographs must fall, of its start; the trial is over once it has.

    Raises:
        DataError, LabelMapError, LayoutError, ConfigError, CheckpointError: as the parts of a run say.
    """
    trial = _Trial(recipe)
    data = look_at_pairs(trial.batch)
    yield data
    if not data.passed:
        return
    losses = trial.try_losses()
    yield from losses
    if not all(finding.passed for finding in losses):
        return
    yield trial.overfit(share, round(OVERFIT_STEPS / share))
    yield trial.try_other_layouts()
    yield trial.try_saved_model()


def look_at_pairs(batch: Batch) -> Finding:
    """Whether photographs and layouts hold anything to learn from."""
    names, labels = batch.names, batch.layout.labels
    flat = [name for name, image in zip(names, batch.images, strict=True) if image.std() < FLAT]
    if flat:
        return Finding(False, "data", f"the photograph {flat[0]} is one colour nearly everywhere: look at the files.")
    present = torch.unique(batch.layout.label_map).tolist()
    if len(present) == 1:
        only = labels.names[present[0]]
        return Finding(
            False, "data", f"all pixels of the layouts are {only!r}: check the label maps and the label set."
        )
    if len(torch.unique(batch.layout.label_map, dim=0)) == 1:
        return Finding(False, "data", "the layouts are all the same, so nothing tells the pictures apart: check them.")
    height, width = batch.layout.size
    found = f"{len(names)} pairs of {height}x{width}; {len(present)} of {labels.num_classes} classes occur in them."
    return Finding(True, "data", found)


class _Trial:
    """Networks, losses and one batch of a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        dataset = recipe.data.open()
        self.recipe = recipe
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.generator: Generator = _placed(build_generator(recipe, dataset.labels), self.device).train()
        self.discriminator = _placed(build_discriminator(recipe, self.generator), self.device)
        perceptual = build_perceptual(recipe.objective)
        self.perceptual: PerceptualLoss | None = None if perceptual is None else _placed(perceptual, self.device)
        view = training_view(recipe, dataset, self.generator)
        self.batch = next(extra_batches(view, 1, min(PAIRS, len(view)), self.device))
        self.generator.check(self.batch.layout)
        config = self.generator.config
        shape = config.style_shape if config.variational else None
        self.noise = style_noise(recipe.seed, range(len(self.batch.names)), shape).to(self.device) if shape else None
        self.network = StyledGenerator(self.generator)
        with torch.no_grad():
            self.start = self.best = self.distance(self.batch.layout).item()

    def try_losses(self) -> list[Finding]:
        """Some steps of the run itself."""
        reached: dict[str, set[str]] = {"generator": set(), "discriminator": set()}
        rates = self.recipe.optimizer
        history: list[dict[str, float]] = []
        optimizers = [
            Adam(network.parameters(), lr=rate, betas=rates.betas)
            for network, rate in (
                (self.generator, rates.generator_lr),
                (self.discriminator, rates.discriminator_lr),
            )
        ]
        for _ in range(LOSS_STEPS):
            values = self._step(optimizers, reached)
            broken = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
            if broken:
                lower = "lower the learning rates, and look for photographs that cannot be right."
                return [Finding(False, "losses", f"after {len(history)} steps {', '.join(broken)}: {lower}")]
            history.append(values)
        return [_judge_losses(history), self._judge_gradients(reached)]

    def _step(self, optimizers: list[Adam], reached: dict[str, set[str]]) -> dict[str, float]:
        layout, image, objective = self.batch.layout, self.batch.images, self.recipe.objective
        self.discriminator.requires_grad_(False)
        losses, fake = generator_step_losses(
            self.network,
            self.discriminator,
            layout,
            image,
            objective=objective,
            perceptual=self.perceptual,
            noise=self.noise,
        )
        self._update(optimizers[0], self.generator, losses, reached["generator"])
        self.discriminator.requires_grad_(True)
        judged, _ = discriminator_step_losses(
            self.discriminator, layout, image, fake.detach(), objective=objective, r1=objective.r1
        )
        self._update(optimizers[1], self.discriminator, judged, reached["discriminator"])
        values = {f"generator/{name}": loss.item() for name, loss in losses.items()}
        return values | {f"discriminator/{name}": loss.item() for name, loss in judged.items()}

    def _update(self, optimizer: Adam, network: nn.Module, losses: dict[str, Tensor], reached: set[str]) -> None:
        optimizer.zero_grad()
        total(losses).backward()  # type: ignore[no-untyped-call]
        clip_gradients(network, self.recipe.optimizer.clip_norm)
        for name, parameter in network.named_parameters():
            if parameter.grad is not None and bool(parameter.grad.any()):
                reached.add(name.rpartition(".")[0])
        optimizer.step()

    def _judge_gradients(self, reached: dict[str, set[str]]) -> Finding:
        missed, count = [], 0
        for kind, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            learning = (name for name, parameter in network.named_parameters() if parameter.requires_grad)
            layers = list(dict.fromkeys(name.rpartition(".")[0] for name in learning))
            missed += [f"{kind}.{layer}" for layer in layers if layer not in reached[kind]]
            count += len(layers)
        if missed:
            listed = ", ".join(missed[:4]) + (", ..." if len(missed) > 4 else "")
            return Finding(
                False, "gradients", f"{len(missed)} of {count} layers have none ({listed}): they learn nothing."
            )
        return Finding(True, "gradients", f"they reach all {count} layers of both networks.")

    @property
    def measure(self) -> str:
        """What the distance to the photographs is."""
        return "mean absolute" if self.perceptual is None else "perceptual"

    def distance(self, layout: Layout) -> Tensor:
        """Of pictures of a layout to the photographs of the pairs."""
        noise = None if self.noise is None else torch.zeros_like(self.noise)
        return self._compare(self.network(layout, self.batch.images, noise)[0])

    def _compare(self, fake: Tensor) -> Tensor:
        image = self.batch.images
        return F.l1_loss(fake, image) if self.perceptual is None else self.perceptual(fake, image)

    def overfit(self, share: float, steps: int) -> Finding:
        """Make the four pictures as much like the photographs as possible, with nothing else to care for."""
        optimizer = Adam(self.generator.parameters(), lr=OVERFIT_RATE, betas=(0.0, 0.9))
        step = 0
        for step in tqdm(range(steps + 1), desc="learning four pairs by heart", unit="step", leave=False):
            for group in optimizer.param_groups:
                group["lr"] = OVERFIT_RATE * min(1.0, 2 * (1 - step / steps))
            distance = self.distance(self.batch.layout)
            self.best = distance.item()
            if step == steps or not self.best > share * self.start:
                break
            optimizer.zero_grad()
            distance.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        fallen = self.best / self.start
        course = f"the {self.measure} distance to the photographs fell to {fallen:.2f} of its start"
        course += f" ({self.start:.3f} to {self.best:.3f}) in {step} steps"
        if fallen <= share:
            return Finding(True, "overfitting", f"{course}.")
        advice = "a larger model.base_channels, or layouts that do not belong to their photographs, may be why."
        return Finding(False, "overfitting", f"{course}, and {share} was expected: {advice}")

    @torch.no_grad()
    def try_other_layouts(self) -> Finding:
        """Whether pictures of another pair's layout are less like a photograph."""
        layout = self.batch.layout
        others = float(self.distance(Layout.cat([layout[1:], layout[:1]])))
        factor = others / self.best
        found = f"with another pair's layout the distance is {factor:.2f} times as large"
        if factor >= LAYOUT_FACTOR:
            return Finding(True, "layouts", f"{found}, so the model looks at them.")
        return Finding(
            False, "layouts", f"{found}: the pictures hardly depend on them; check that files are paired right."
        )

    @torch.no_grad()
    def try_saved_model(self) -> Finding:
        """Whether the model as it is saved and loaded draws what the network in training drew."""
        copied = copy.deepcopy(self.generator)
        layout = self.batch.layout
        style = None
        if self.generator.config.style_kind is not None:
            style = self.generator.encode(self.batch.images, layout).mean
        estimate_statistics(copied, [(layout, style)])
        with tempfile.TemporaryDirectory() as folder:
            copied.save_pretrained(folder)
            loaded = load_model(folder).to(self.device)
        factor = float(self._compare(loaded(layout, style))) / self.best
        found = f"saved and loaded, its distance to the photographs is {factor:.2f} times that in training"
        if factor <= SAVED_FACTOR:
            return Finding(True, "saved model", f"{found}.")
        few = "statistics of batch norm from few values differ; a larger size or batch helps."
        return Finding(False, "saved model", f"{found}: {few}")


def _judge_losses(history: list[dict[str, float]]) -> Finding:
    """Whether the losses fell that have a direction from the first steps on."""
    directed = {
        "the discriminator's": ("discriminator/fake", "discriminator/real"),
        "the generator's perceptual one": ("generator/perceptual",),
    }
    courses, passed = [], True
    for title, names in directed.items():
        sums = [sum(values[name] for name in names if name in values) for values in history]
        first, last = float(np.mean(sums[:3])), float(np.mean(sums[-3:]))
        if any(sums):
            passed &= last < first
            courses.append(f"{title} {'fell' if last < first else 'did not fall'} from {first:.2f} to {last:.2f}")
    found = f"all finite in {len(history)} steps of the run; {', '.join(courses)}"
    return Finding(passed, "losses", f"{found}{'.' if passed else ': try other learning rates.'}")


def _placed(network: Any, device: torch.device) -> Any:
    return network.to(device, memory_format=torch.channels_last)
