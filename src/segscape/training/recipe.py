"""Training recipes: typed, validated descriptions of a run, read from YAML and set with `key=value`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from segscape.data.sample import Dataset
from segscape.data.transforms import Preprocess
from segscape.discriminators.multiscale import DiscriminatorNorm
from segscape.errors import RecipeError
from segscape.losses import GANMode


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CamVidData(_Section):
    """CamVid in `root/{train,val}/{images,labels}`."""

    kind: Literal["camvid"]
    root: Path
    split: Literal["train", "val"] = "train"

    def open(self) -> Dataset:
        """The dataset; raises DataError."""
        from segscape.data.camvid import CamVid

        return CamVid(self.root, self.split)


class FolderData(_Section):
    """Your own photographs and label maps, paired by file name; `label_set` is a published name or a JSON file."""

    kind: Literal["folder"]
    images: Path
    labels: Path
    label_set: str
    instances: Path | None = None

    def open(self) -> Dataset:
        """The dataset; raises DataError or LabelMapError."""
        from segscape.data.folder import FolderDataset
        from segscape.labels import label_set

        return FolderDataset(self.images, self.labels, label_set(self.label_set), self.instances)


class ScenesData(_Section):
    """Procedural scenes: `count` pictures of `size` (height, width), drawn once and kept in memory."""

    kind: Literal["scenes"]
    count: PositiveInt = 512
    size: tuple[PositiveInt, PositiveInt] = (128, 128)
    seed: NonNegativeInt = 0

    def open(self) -> Dataset:
        """The dataset."""
        from segscape.data.memory import InMemory
        from segscape.data.procedural import ProceduralScenes

        return InMemory(ProceduralScenes(self.count, size=self.size, seed=self.seed))


Data = Annotated[CamVidData | FolderData | ScenesData, Field(discriminator="kind")]


class ModelSection(BaseModel):
    """`name` as in `segscape models`; every other key is a field of that model's config (labels come from the data)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The options for `create_model`."""
        return dict(self.model_extra or {})


class DiscriminatorSection(_Section):
    """Options of `MultiScaleDiscriminator`."""

    base_channels: PositiveInt = 64
    num_scales: PositiveInt = 2
    num_layers: PositiveInt = 4
    norm: DiscriminatorNorm = "instance"
    spectral: bool = True


class Objective(_Section):
    """Losses and their weights (the official ones by default).

    Attributes:
        gan_mode: the adversarial loss.
        feature_matching, perceptual, kl: weights; 0 leaves a loss out. `kl` acts in models with a latent.
        features: the network of the perceptual loss.
        features_path: weights of VGG-19; the torch-hub cache by default.
        fresh_fake: generate again for the discriminator step, after the generator's update, as the official code does;
            false judges the image of the generator step (the same but one update old, and one forward cheaper).
    """

    gan_mode: GANMode = "hinge"
    feature_matching: NonNegativeFloat = 10.0
    perceptual: NonNegativeFloat = 10.0
    kl: NonNegativeFloat = 0.05
    features: Literal["vgg19", "efficientnet-lite0"] = "vgg19"
    features_path: Path | None = None
    fresh_fake: bool = True


class OptimizerSection(_Section):
    """Adam with two learning rates (TTUR), constant and then linearly down to zero over the last `decay_images`."""

    generator_lr: PositiveFloat = 1e-4
    discriminator_lr: PositiveFloat = 4e-4
    betas: tuple[float, float] = (0.0, 0.9)
    decay_images: NonNegativeInt = 0


class EMASection(_Section):
    """Exponential moving average of the generator's weights.

    Attributes:
        half_life_images: after so many images an old weight counts half.
        statistics_batches: training batches from which the average's batch-norm statistics are estimated anew.
    """

    half_life_images: PositiveInt = 10_000
    statistics_batches: PositiveInt = 20


class Recipe(_Section):
    """A training run.

    Attributes:
        data: what to learn from.
        preprocess: resize, crop, flip; by default resize by 286/256 and crop to the model's image size.
        model: what to train.
        discriminator, objective, optimizer, ema: as documented there; `ema: null` saves the weights as they are.
        images: length of the run, in images shown.
        batch_size: over all processes.
        seed: decides weights, order, augmentation and noise.
        precision: of the forward passes.
        snapshot_images: a checkpoint, the saved model and a sample grid every so many images, and at the end.
        log_images: a line of metrics every so many images.
        samples: layouts in the grid.
        keep_checkpoints: how many of the newest checkpoints stay.
        workers: processes that read data.
    """

    data: Data
    model: ModelSection
    preprocess: Preprocess | None = None
    discriminator: DiscriminatorSection = DiscriminatorSection()
    objective: Objective = Objective()
    optimizer: OptimizerSection = OptimizerSection()
    ema: EMASection | None = EMASection()
    images: PositiveInt
    batch_size: PositiveInt = 1
    seed: NonNegativeInt = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    snapshot_images: PositiveInt = 10_000
    log_images: PositiveInt = 500
    samples: PositiveInt = 6
    keep_checkpoints: PositiveInt = 2
    workers: NonNegativeInt = 0

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.optimizer.decay_images > self.images:
            raise ValueError(
                f"optimizer.decay_images ({self.optimizer.decay_images}) is more than images ({self.images})"
            )
        return self

    def to_yaml(self) -> str:
        """The resolved recipe as YAML, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: a YAML file. Relative paths in it are relative to the working directory.
        overrides: `a.b=value` settings, the value in YAML.

    Raises:
        RecipeError: missing or unreadable file, unknown key (the nearest known one is named), wrong value.
    """
    file = Path(path)
    if not file.is_file():
        found = "is a folder" if file.is_dir() else "does not exist"
        raise RecipeError(f"the recipe {file} {found}; give a YAML file such as recipes/quickstart.yaml.")
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f" (line {line + 1})" if line is not None else ""
        raise RecipeError(f"the recipe {file} is not valid YAML{where}.") from None
    if not isinstance(content, dict):
        raise RecipeError(f"the recipe {file} must be a mapping with the keys data, model, images, ...")
    for override in overrides or []:
        _set(content, override)
    return parse_recipe(content, str(file))


def parse_recipe(content: dict[str, Any], source: str) -> Recipe:
    """Validate a mapping; raises RecipeError with one sentence that names every mistake."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(_explain(mistake) for mistake in error.errors())
        raise RecipeError(f"the recipe {source} is invalid: {mistakes}.") from None


def _set(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override!r} is not of the form key=value, for example batch_size=4.")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise RecipeError(f"--set {override!r}: {parent} is a value, it has no fields.")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {override!r}: the value is not valid YAML.") from None


def _explain(mistake: Any) -> str:
    where = ".".join(str(step) for step in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        *parents, key = mistake["loc"]
        known = _known_keys(list(parents))
        nearest = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
        return f"unknown key {where!r}, {hint}"
    if mistake["type"] == "missing":
        return f"the key {where!r} is missing"
    return f"{where or 'recipe'}: {mistake['msg'].removeprefix('Value error, ')} (found {mistake['input']!r:.60})"


def _known_keys(parents: list[Any]) -> list[str]:
    """The fields of the section at a path; pydantic puts the union's tag into it, as in data.camvid."""
    sections: dict[Any, type[BaseModel]] = {
        "camvid": CamVidData,
        "folder": FolderData,
        "scenes": ScenesData,
        "preprocess": Preprocess,
        "discriminator": DiscriminatorSection,
        "objective": Objective,
        "optimizer": OptimizerSection,
        "ema": EMASection,
    }
    section = sections[parents[-1]] if parents else Recipe
    return list(section.model_fields)
