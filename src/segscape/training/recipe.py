"""Training recipes: typed, validated descriptions of a run, read from YAML and set with `key=value`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from segscape.data.augmentation import Augmentation, ClassDrop, ColorJitter
from segscape.data.sample import Dataset
from segscape.data.transforms import Preprocess
from segscape.discriminators import Discriminator, FeaturePyramidDiscriminator, MultiScaleDiscriminator
from segscape.discriminators.multiscale import DiscriminatorNorm
from segscape.errors import RecipeError
from segscape.losses import GANMode
from segscape.nn.spade import ModulationPath


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


PublishedKind = Literal["ade20k", "camvid", "celebamask-hq", "cityscapes", "coco-stuff", "deepfashion"]


class PublishedData(_Section):
    """A published dataset in its published layout (docs/data.md).

    Attributes:
        kind: which one.
        root: its folder, or the list of a part of it, as `segscape dataset outdoor` writes.
        split: which split; the `test` folders of DeepFashion are `val`.
        label_set: the published one by default; `ade20k-official` has ADE20K's labels as official checkpoints do.
        instances: read the instance maps, if there are any; false spares the time in models that do not use them.
    """

    kind: PublishedKind
    root: Path
    split: Literal["train", "val", "test"] = "train"
    label_set: str | None = None
    instances: bool = True

    def open(self) -> Dataset:
        """The dataset; raises DataError or LabelMapError."""
        from segscape.data.folder import FileDataset
        from segscape.data.open import find_listing
        from segscape.labels import label_set

        labels = None if self.label_set is None else label_set(self.label_set)
        listing = find_listing(self.root, self.split, self.kind, labels)
        return FileDataset(listing if self.instances else listing.without_instances())


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


class ShardsData(_Section):
    """Tar shards, as `segscape dataset convert --to shards` writes them.

    Attributes:
        url: the folder, or any fsspec URL (`s3://...`, `hf://datasets/...`, `https://...`).
        cache: folder that keeps whole shards once they were read from; null reads each sample from `url`.
        cache_bytes: what the cache may hold.
        window: how many samples are shuffled among each other while the shards are read one after another; on a local
            disk, as many as there are.
    """

    kind: Literal["shards"]
    url: str
    cache: Path | None = None
    cache_bytes: PositiveInt = 20_000_000_000
    window: PositiveInt = 10_000

    def open(self) -> Dataset:
        """The dataset; raises DataError."""
        from segscape.data.shards.dataset import ShardDataset

        return ShardDataset(self.url, cache=self.cache, cache_bytes=self.cache_bytes, window=self.window)


Data = Annotated[PublishedData | FolderData | ShardsData | ScenesData, Field(discriminator="kind")]


class ModelSection(BaseModel):
    """`name` as in `segscape models`; every other key is a field of that model's config (labels come from the data)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The options for `create_model`."""
        return dict(self.model_extra or {})


class MultiScaleSection(_Section):
    """Options of `MultiScaleDiscriminator`, the patch discriminators of pix2pixHD and the SPADE family."""

    kind: Literal["multi-scale"] = "multi-scale"
    base_channels: PositiveInt = 64
    num_scales: PositiveInt = 2
    num_layers: PositiveInt = 4
    norm: DiscriminatorNorm = "instance"
    spectral: bool = True
    bias: bool = False
    last_stride: Literal[1, 2] = 1

    def build(self, num_classes: int, instances: bool) -> Discriminator:
        """The discriminator, with random weights."""
        return MultiScaleDiscriminator(num_classes, instances=instances, **self.model_dump(exclude={"kind"}))


class FeaturePyramidSection(_Section):
    """Options of `FeaturePyramidDiscriminator`, that of CC-FPSE."""

    kind: Literal["feature-pyramid"]
    base_channels: PositiveInt = 64

    def build(self, num_classes: int, instances: bool) -> Discriminator:
        """The discriminator, with random weights."""
        return FeaturePyramidDiscriminator(num_classes, instances=instances, base_channels=self.base_channels)


def _as_written(value: Any) -> Any:
    """`no` as the word that it is in a recipe; YAML reads it as false."""
    return "no" if value is False else value


def _with_kind(section: Any) -> Any:
    """The multi-scale discriminator where a recipe does not say which."""
    return {"kind": "multi-scale", **section} if isinstance(section, dict) else section


DiscriminatorSection = Annotated[
    Annotated[MultiScaleSection | FeaturePyramidSection, Field(discriminator="kind")], BeforeValidator(_with_kind)
]


class Objective(_Section):
    """Losses and their weights (the official ones by default).

    Attributes:
        gan_mode: the adversarial loss.
        adversarial: weight of the generator's adversarial loss. The losses of the scales are averaged; pix2pixHD adds
            them up, which is a weight as large as their number.
        feature_matching, perceptual, kl, attention: weights; 0 leaves a loss out. `kl` acts in variational models,
            `attention` in CA2-SIS.
        kl_samples: the divergence of a style from the prior, averaged over the batch, counts this many times: 4 as in
            the published runs, which summed over the 4 images of each GPU (batches of 32 on 8). `official` sums over
            the images of each part of the batch, so that the weight depends on how the batch is split.
        features: the network of the perceptual loss.
        features_path: weights of VGG-19; the torch-hub cache by default.
        fresh_fake: generate again for the discriminator step, after the generator's update, as the official code does;
            false judges the image of the generator step (the same but one update old, and one forward cheaper).
        pool: half of the generated images that the discriminator judges are exchanged for one of the last so many
            (pix2pixHD's image pool, of each process); 0 for none.
        r1: weight of the gradient penalty on real photos, `r1 / 2 * |gradient|^2` (Mescheder et al., ICML 2018).
        r1_every: the penalty is taken in every so many steps and weighs so many times as much there (Karras et al.,
            CVPR 2020).
    """

    gan_mode: GANMode = "hinge"
    adversarial: PositiveFloat = 1.0
    feature_matching: NonNegativeFloat = 10.0
    perceptual: NonNegativeFloat = 10.0
    kl: NonNegativeFloat = 0.05
    attention: NonNegativeFloat = 1.0
    kl_samples: PositiveInt | Literal["official"] = 4
    features: Literal["vgg19", "efficientnet-lite0"] = "vgg19"
    features_path: Path | None = None
    fresh_fake: bool = True
    pool: NonNegativeInt = 0
    r1: NonNegativeFloat = 0.0
    r1_every: PositiveInt = 16

    def own_weights(self, batch_size: int) -> dict[str, float]:
        """The weights of the losses that generators have of their own, by name, for a part of so many images."""
        samples = self.kl_samples
        return {"kl": self.kl if samples == "official" else self.kl * samples / batch_size, "attention": self.attention}

    def r1_at(self, step: int) -> float:
        """The weight of the gradient penalty in a step."""
        return self.r1 * self.r1_every if step % self.r1_every == 0 else 0.0


AugmentationKind = Literal["color", "translation", "cutout"]


class DiscriminatorAugmentation(_Section):
    """What happens to the photos and generated images, with their layouts, before the discriminator sees them.

    For small datasets: without it the discriminator learns some hundred photos by heart.

    Attributes:
        kinds: which changes; see `segscape.training.augment`.
        probability: of each kind for each pair; by default 1 (DiffAugment), or 0 to begin with if there is a target.
        target: steer the probability such that the mean sign of the discriminator's scores of photos stays here (ADA;
            the paper: 0.6); None keeps the probability.
        ramp_images: over so many images the probability can rise from 0 to 1 (the paper: 500,000).
    """

    kinds: tuple[AugmentationKind, ...] = ("color", "translation", "cutout")
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    target: Annotated[float, Field(ge=-1, le=1)] | None = None
    ramp_images: PositiveInt = 500_000

    @property
    def start(self) -> float:
        """The probability at the beginning of a run."""
        if self.probability is not None:
            return self.probability
        return 1.0 if self.target is None else 0.0


class OptimizerSection(_Section):
    """Adam with two learning rates (TTUR), constant and then linearly down to zero over the last `decay_images`.

    `clip_norm` is the largest norm of a network's gradients in a step; longer ones are shortened to it.
    """

    generator_lr: PositiveFloat = 1e-4
    discriminator_lr: PositiveFloat = 4e-4
    betas: tuple[float, float] = (0.0, 0.9)
    decay_images: NonNegativeInt = 0
    clip_norm: PositiveFloat | None = None


class EMASection(_Section):
    """Exponential moving average of the generator's weights.

    Attributes:
        half_life_images: after so many images an old weight counts half.
        statistics_batches: training batches from which the average's batch-norm statistics are estimated anew.
    """

    half_life_images: PositiveInt = 10_000
    statistics_batches: PositiveInt = 20


class SpeedSection(_Section):
    """How a step is computed; what it computes stays the same, to rounding.

    Attributes:
        spade_path: how SPADE finds gamma and beta: `patterns`, once for each distinct neighbourhood of labels, or
            `dense`, by convolutions over the one-hot map.
        checkpoint_activations: `blocks` keeps only the inputs of the generator's residual blocks until the backward
            pass, which computes the rest again: less memory, one more forward pass of the generator.
        compile: let `torch.compile` make kernels of the perceptual network; it needs a C++ compiler, on a GPU Triton.
            The first step takes minutes.
    """

    spade_path: ModulationPath = "patterns"
    checkpoint_activations: Literal["none", "blocks"] = "none"
    compile: bool = False


class ValidationSection(_Section):
    """Scores of the averaged model during training, by which `RUN/best` is chosen (protocol `validation`).

    Attributes:
        data: photographs and label maps to measure on, with the label set of the training data.
        every_images: how often; at every snapshot by default. The end of the run is measured too.
        metric: by which the best model is chosen: `fd` (Frechet distance over EfficientNet-Lite0), `miou`, `accuracy`.
        count: at most so many samples, evenly spread over the data.
        segmenter: folder or Hugging Face id, for mIoU and accuracy; the one that comes with the label set by default.
    """

    data: Data
    every_images: PositiveInt | None = None
    metric: Literal["fd", "miou", "accuracy"] = "fd"
    count: PositiveInt = 200
    segmenter: str | None = None


class Tolerance(_Section):
    """What may go wrong before a run stops; each case is a warning, and counted in the metrics.

    Attributes:
        steps: so many steps in a row with losses or gradients that are not finite are left out.
        samples: in place of one that cannot be read, so many following samples are tried.
    """

    steps: NonNegativeInt = 20
    samples: NonNegativeInt = 10


BoardName = Literal[
    "tensorboard", "wandb", "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "trackio"
]  # fmt: skip


class Recipe(_Section):
    """A training run.

    Attributes:
        data: what to learn from.
        preprocess: resize, crop, flip; by default resize by 286/256 and crop to the model's image size.
        augmentation: what else happens to samples in training; nothing by default.
        position_cache: folder to keep positional encodings in; worth it for large label maps. None computes them anew.
        model: what to train.
        init_from: start from this saved model, run or checkpoint; see `segscape.training.initialize`.
        freeze: parts of the generator that stay as they are, by patterns such as `blocks.0.*` over the names of its
            weights; see `segscape.training.freeze`.
        thaw_images: after so many images the frozen parts are trained, too; never by default. So pix2pixHD trains its
            outermost enhancer first.
        discriminator, objective, optimizer, ema: as documented there; `ema: null` saves the weights as they are.
        discriminator_augmentation: as documented there; for small datasets, `{}` is a good choice.
        trackers: where metrics and sample grids go beside the run folder; each needs its package.
        images: length of the run, in images shown.
        batch_size: images per step, over all processes and micro-batches.
        accumulate: micro-batches per step, each of batch_size / accumulate images over all processes; more take less
            memory. Batch norm sees a micro-batch, and its running statistics move once for each.
        seed: decides weights, order, augmentation and noise.
        precision: of the forward passes; `fp16` needs a GPU.
        speed: as documented there.
        snapshot_images: a checkpoint, the saved model and a sample grid every so many images, and at the end.
        log_images: a line of metrics every so many images.
        samples: layouts in the grid.
        keep_checkpoints: how many of the newest checkpoints stay.
        workers: processes that read data.
        validation, tolerance: as documented there; without `validation` nothing is measured during training.
    """

    data: Data
    model: ModelSection
    preprocess: Preprocess | None = None
    augmentation: Augmentation = Augmentation()
    position_cache: Path | None = None
    init_from: str | None = None
    freeze: tuple[str, ...] = ()
    thaw_images: PositiveInt | None = None
    discriminator: DiscriminatorSection = MultiScaleSection()
    discriminator_augmentation: DiscriminatorAugmentation | None = None
    objective: Objective = Objective()
    optimizer: OptimizerSection = OptimizerSection()
    ema: EMASection | None = EMASection()
    images: PositiveInt
    batch_size: PositiveInt = 1
    accumulate: PositiveInt = 1
    seed: NonNegativeInt = 0
    precision: Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(_as_written)] = "no"
    speed: SpeedSection = SpeedSection()
    snapshot_images: PositiveInt = 10_000
    log_images: PositiveInt = 500
    samples: PositiveInt = 6
    trackers: tuple[BoardName, ...] = ("tensorboard",)
    keep_checkpoints: PositiveInt = 2
    workers: NonNegativeInt = 0
    validation: ValidationSection | None = None
    tolerance: Tolerance = Tolerance()

    def thaws_at(self, images: int) -> bool:
        """Whether the step that begins after so many images is the first one in which nothing is frozen any more."""
        return self.thaw_images is not None and images - self.batch_size < self.thaw_images <= images

    def frozen_at(self, images: int) -> tuple[str, ...]:
        """The patterns of the parts that are frozen after so many images."""
        return self.freeze if self.thaw_images is None or images < self.thaw_images else ()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.optimizer.decay_images > self.images:
            raise ValueError(
                f"optimizer.decay_images ({self.optimizer.decay_images}) is more than images ({self.images})"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size ({self.batch_size}) is not a multiple of accumulate ({self.accumulate})")
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
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
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
        **dict.fromkeys(get_args(PublishedKind), PublishedData),
        "folder": FolderData,
        "shards": ShardsData,
        "scenes": ScenesData,
        "preprocess": Preprocess,
        "augmentation": Augmentation,
        "color": ColorJitter,
        "drop": ClassDrop,
        "multi-scale": MultiScaleSection,
        "feature-pyramid": FeaturePyramidSection,
        "discriminator_augmentation": DiscriminatorAugmentation,
        "objective": Objective,
        "optimizer": OptimizerSection,
        "ema": EMASection,
        "speed": SpeedSection,
        "validation": ValidationSection,
        "tolerance": Tolerance,
    }
    section = sections[parents[-1]] if parents else Recipe
    return list(section.model_fields)
