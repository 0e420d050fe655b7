"""Starting a run from a trained model with other classes, instead of from random weights.

Wherever a weight has one row or column per class, those of classes with the same name (label sets travel with models;
case and surrounding spaces do not matter, and two unknown classes match) are copied, and a class that the model has not
known gets the mean over all that it has known. Columns of an edge map or a positional encoding are found in the same
way; new ones are zero, so that the network begins as what it was. Everything else must have the same shape and is
copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.discriminators import Discriminator, MultiScaleDiscriminator
from segscape.errors import CheckpointError
from segscape.labels import LabelSet
from segscape.models.config import GeneratorConfig
from segscape.models.generator import Generator
from segscape.models.pix2pixhd import Pix2PixHDGenerator
from segscape.models.pretrained import find_folder, read_config
from segscape.models.registry import create_model, load_model
from segscape.models.spade import SPADEGenerator
from segscape.nn.clade import CLADE
from segscape.nn.residual import ResidualBlock
from segscape.nn.spade import SPADE
from segscape.training.checkpoint import read_sealed
from segscape.training.recipe import load_recipe

_AT_WILL = frozenset(
    (
        *("model", "labels", "image_size", "use_instances", "latent_dim", "statistics", "position", "position_rule"),
        *("enhancers", "num_enhancer_blocks", "feature_channels", "feature_regions"),
    )
)
"""Options of a generator that may differ from those of the model it starts from."""
_MAY_DIFFER = "only classes, instances, positional encoding, style and enhancers may differ"
_SHOWN = 8
_Value = TypeVar("_Value")


class Axis(NamedTuple):
    """What the rows or columns of a weight stand for.

    Attributes:
        dimension: of the weight.
        roles: one name per place: `class:NAME` for a class, others for other channels.
    """

    dimension: int
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """What a run starts from.

    Attributes:
        name: as given.
        generator: the trained one, in evaluation mode.
        discriminator: its opponent, if a checkpoint was given.
    """

    name: str
    generator: Generator
    discriminator: Discriminator | None


def initialize(generator: Generator, discriminator: Discriminator, path_or_id: str | Path) -> list[str]:
    """Take weights over from a trained model, in place, and say what was done.

    Args:
        generator: the new one, with the classes of the new data.
        discriminator: the new one; it is kept as it is unless a run or a checkpoint is given.
        path_or_id: a saved model's folder or hub id, the folder of a run, or a checkpoint in it. From a run come the
            averaged weights and the discriminator of the newest (or the given) checkpoint.

    Returns:
        Lines for the user: which classes were matched, averaged, left out, and which weights stayed new.

    Raises:
        CheckpointError: nothing is there, it is damaged, or its networks have another shape (width, kind of norm, ...).
    """
    source = _open(path_or_id)
    old, new = source.generator.config, generator.config
    _require_same_shape(old, new, source.name)
    known, wanted = comparable_names(old.labels, new.labels)
    fresh = transfer(source.generator, generator, known, wanted, source.name)
    lines = [f"starting from {source.name} ({old.model}, {old.labels.num_classes} classes)"]
    named = [
        dict(zip(names, labels.names, strict=True)) for names, labels in ((known, old.labels), (wanted, new.labels))
    ]
    lines += _compare_classes(*named)
    if fresh:
        lines.append(f"  new, not in the model: {_listing(_parts(fresh))}")
    if source.discriminator is None:
        return [*lines, "  the discriminator is new (give the run or its checkpoint to start with its discriminator)"]
    fresh = transfer(source.discriminator, discriminator, known, wanted, f"the discriminator of {source.name}")
    return [*lines, "  the discriminator was taken over, too" + (f", but {_listing(_parts(fresh))}" if fresh else "")]


def comparable_names(known: LabelSet, wanted: LabelSet) -> tuple[list[str], list[str]]:
    """The names of the classes of two label sets, in index order, such that classes that match have the same name."""
    old, new = ([name.strip().casefold() for name in labels.names] for labels in (known, wanted))
    if known.unknown is not None and wanted.unknown is not None:
        name, other = old[known.unknown], new[wanted.unknown]
        if name not in new and other not in old:
            new[wanted.unknown] = name
    return old, new


def transfer(old: nn.Module, new: nn.Module, known: Sequence[str], wanted: Sequence[str], name: str) -> list[str]:
    """Copy the weights of one network into another, in place, by the names of classes.

    Args:
        old, new: two generators, or two discriminators.
        known, wanted: the names of the classes of the old and of the new one, in index order.
        name: of the old network, for errors.

    Returns:
        The names of the new network's weights that the old one has not; they stay as they are.

    Raises:
        CheckpointError: a weight has another shape.
    """
    old_axes, new_axes = _from_coarsest(layout_axes(old, known), old, new), layout_axes(new, wanted)
    weights = _from_coarsest(old.state_dict(), old, new)
    state, fresh = new.state_dict(), []
    for key, value in state.items():
        if key not in weights or _is_other_stem(key, weights[key], value):
            fresh.append(key)
            continue
        taken = weights[key].to(value)
        if key in new_axes:
            taken = _rearrange(taken, old_axes[key], new_axes[key])
        if taken.shape != value.shape:
            raise CheckpointError(
                f"{name} does not fit this recipe: its {key} is {list(taken.shape)} and {list(value.shape)} is needed; "
                f"{_MAY_DIFFER}."
            )
        state[key] = taken
    new.load_state_dict(state)
    return fresh


def _from_coarsest(by_name: Mapping[str, _Value], old: nn.Module, new: nn.Module) -> dict[str, _Value]:
    """What belongs to an old discriminator's weights, by the names they get in a new one with more or fewer scales.

    A scale keeps its weights and gets a finer one before it, as pictures become larger (Wang et al., CVPR 2018).
    """
    if not (isinstance(old, MultiScaleDiscriminator) and isinstance(new, MultiScaleDiscriminator)):
        return dict(by_name)
    more = len(new.scales) - len(old.scales)
    parts = {name: name.split(".", 2) for name in by_name}
    return {f"{top}.{int(scale) + more}.{rest}": by_name[name] for name, (top, scale, rest) in parts.items()}


def layout_axes(network: nn.Module, names: Sequence[str]) -> dict[str, Axis]:
    """The weights of a network that have a row or a column for each channel of the layout, and what those stand for."""
    return dict(_layout_axes(network, tuple(f"class:{name}" for name in names)))


def _layout_axes(network: nn.Module, classes: tuple[str, ...]) -> Iterator[tuple[str, Axis]]:
    for prefix, layer in network.named_modules():
        if isinstance(layer, CLADE):
            yield from ((f"{prefix}.{table}", Axis(0, classes)) for table in ("gamma", "beta"))
        elif isinstance(layer, SPADE):
            yield f"{prefix}.shared.weight", Axis(1, classes + ("edge",) * layer.instances)
        elif isinstance(layer, ResidualBlock):
            yield from _appended_channels(prefix, layer)
        elif isinstance(layer, MultiScaleDiscriminator):
            roles = (*classes, *("edge",) * layer.instances, "red", "green", "blue")
            yield from ((f"scales.{number}.convs.0.weight", Axis(1, roles)) for number in range(len(layer.scales)))
        elif isinstance(layer, SPADEGenerator) and not layer.config.latent_dim:
            roles = classes + ("edge",) * layer.config.use_instances
            yield "stem.weight", Axis(1, roles + ("vertical", "horizontal") * (layer.config.position == "input"))
        elif isinstance(layer, Pix2PixHDGenerator):
            yield from _style_map_axes(layer, classes)


def _style_map_axes(generator: Pix2PixHDGenerator, classes: tuple[str, ...]) -> Iterator[tuple[str, Axis]]:
    """The first layers of pix2pixHD's networks, and its stored styles: a new class has none."""
    styles = tuple(f"style:{number}" for number in range(generator.config.feature_channels or 0))
    roles = classes + ("edge",) * generator.config.use_instances + styles
    for name, convolution in generator.input_convolutions():
        yield f"{name}.weight", Axis(1, roles)
        if hasattr(convolution, "weight_v"):
            yield f"{name}.weight_v", Axis(0, roles)
    stored = tuple(f"styles of {name}" for name in classes)
    yield from ((name, Axis(0, stored)) for name in ("cluster_centres", "cluster_counts"))


def _appended_channels(prefix: str, block: ResidualBlock) -> Iterator[tuple[str, Axis]]:
    """The convolutions of a block, which read the channels that CLADE appends to the features."""
    for which in ("0", "1", "s") if block.learned_shortcut else ("0", "1"):
        norm = getattr(block, f"norm_{which}")
        if not isinstance(norm, CLADE):
            continue
        roles = tuple(f"feature:{number}" for number in range(norm.channels))
        roles += ("edge",) * norm.instances + ("position",) * (norm.position == "feature")
        yield f"{prefix}.conv_{which}.weight", Axis(1, roles)
        if hasattr(getattr(block, f"conv_{which}"), "weight_v"):
            yield f"{prefix}.conv_{which}.weight_v", Axis(0, roles)


def _rearrange(weight: Tensor, old: Axis, new: Axis) -> Tensor:
    """The weight with its places in the new order: known ones copied, new classes averaged, other new ones zero."""
    if old.roles == new.roles:
        return weight
    if weight.ndim == 1 and weight.is_floating_point():  # a vector of spectral normalisation, kernel by kernel
        return F.normalize(_chosen(weight.view(len(old.roles), -1), old.roles, new.roles).flatten(), dim=0)
    return _chosen(weight.movedim(old.dimension, 0), old.roles, new.roles).movedim(0, new.dimension)


def _chosen(places: Tensor, old: Sequence[str], new: Sequence[str]) -> Tensor:
    by_role = dict(zip(old, places, strict=True))
    classes = [place for role, place in by_role.items() if role.startswith("class:")]
    zero = torch.zeros_like(places[0])
    mean = torch.stack(classes).mean(0) if classes else zero
    return torch.stack([by_role.get(role, mean if role.startswith("class:") else zero) for role in new])


def _is_other_stem(key: str, old: Tensor, new: Tensor) -> bool:
    """Whether a generator's first layer is of another kind: over a style instead of the layout, or the reverse."""
    return key.startswith("stem.") and (old.ndim, old.shape[0]) != (new.ndim, new.shape[0])


def _open(path_or_id: str | Path) -> Source:
    path = Path(path_or_id)
    checkpoints = sorted((path / "checkpoints").glob("*.pt")) if path.is_dir() else [path] if path.is_file() else []
    if checkpoints:
        return _open_checkpoint(checkpoints[-1], str(path_or_id))
    folder = path / "model" if (path / "model" / "config.json").is_file() else find_folder(path_or_id)
    return Source(str(path_or_id), load_model(folder), None)


def _open_checkpoint(path: Path, name: str) -> Source:
    """The averaged generator and the discriminator of a checkpoint; the run's folder says how they are built."""
    run = path.resolve().parent.parent
    if not (run / "recipe.yaml").is_file() or not (run / "model" / "config.json").is_file():
        raise CheckpointError(
            f"{path} does not lie in its run's folder, beside recipe.yaml and model/, which say what is in it: give "
            "the checkpoint there, or the folder of a saved model."
        )
    content = read_sealed(path)
    if content is None:
        raise CheckpointError(f"{path} is damaged (its checksum does not match): give another checkpoint of the run.")
    options = read_config(run / "model")
    generator = create_model(options.pop("model"), **options)
    section, config = load_recipe(run / "recipe.yaml").discriminator, generator.config
    discriminator = section.build(config.labels.num_classes, config.use_instances)
    generator.load_weights(_generator_weights(content), str(path))
    try:
        discriminator.load_state_dict(content["discriminator"])
    except RuntimeError:
        raise CheckpointError(f"{path} does not hold the discriminator of {run / 'recipe.yaml'}.") from None
    return Source(name, generator.eval(), discriminator)


def _generator_weights(content: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    if "average" not in content:
        return dict(content["generator"])
    prefix = "module."
    return {key.removeprefix(prefix): value for key, value in content["average"].items() if key.startswith(prefix)}


def _require_same_shape(old: GeneratorConfig, new: GeneratorConfig, name: str) -> None:
    before, after = old.model_dump(), new.model_dump()
    different = [key for key in after if key not in _AT_WILL and before.get(key) != after[key]]
    if before.get("latent_dim") and after.get("latent_dim") and before["latent_dim"] != after["latent_dim"]:
        different.append("latent_dim")
    if "norm" in different and getattr(old, "block_norms", ()) == getattr(new, "block_norms", None):
        different.remove("norm")
    if different:
        listed = ", ".join(f"{key} is {before.get(key)} there and {after[key]} here" for key in different)
        raise CheckpointError(f"{name} does not fit this recipe: {listed}; {_MAY_DIFFER}.")


def _compare_classes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """What became of the classes, both given by comparable name."""
    groups = {
        "classes matched by name": [new[name] for name in new if name in old],
        "classes not known before, from the mean of all": [new[name] for name in new if name not in old],
        "classes left out": [old[name] for name in old if name not in new],
    }
    return [f"  {title}: {_listing(names)}" for title, names in groups.items()]


def _parts(keys: Sequence[str]) -> list[str]:
    """The layers of weights, each once."""
    return list(dict.fromkeys(key.rpartition(".")[0] for key in keys))


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{len(names)} ({shown}{', ...' if len(names) > _SHOWN else ''})" if names else "none"
