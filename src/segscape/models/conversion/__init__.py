"""Official checkpoints of every system as models of ours: one file per system, found by the keys in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from segscape.discriminators import Discriminator
from segscape.errors import CheckpointError, ConfigError
from segscape.labels import LabelSet
from segscape.models.conversion import ca2_sis, cc_fpse, dagan, groupdnet, pix2pixhd, sean, spade
from segscape.models.conversion.official import State, has_keys, read_official
from segscape.models.generator import Generator

__all__ = ["SYSTEMS", "convert_checkpoint", "convert_discriminator"]

SYSTEMS: Mapping[str, ModuleType] = {
    "pix2pixHD": pix2pixhd,
    "CC-FPSE": cc_fpse,
    "DAGAN": dagan,
    "SEAN": sean,
    "CA2-SIS": ca2_sis,
    "GroupDNet": groupdnet,
    "SPADE and CLADE": spade,
}
"""Systems by the name to use in messages; those built on SPADE's code come before it.

Each module has `recognises(state) -> bool` and `convert(state, *, labels, image_size, source, ...)`.
"""

STRIDE_2 = ("sean", "sean-clade", "ca2-sis")
"""Models whose discriminators have stride 2 in the last inner layer, too."""

_GIVEN = ("official", "labels", "image_size", "encoder", "source")


def convert_checkpoint(
    generator_path: str | Path,
    *,
    labels: LabelSet | str | int,
    image_size: tuple[int, int],
    encoder_path: str | Path | None = None,
    **options: Any,
) -> Generator:
    """Load an official generator, in evaluation mode; `save_pretrained` then writes it as one of ours.

    Args:
        generator_path: the `*_net_G.pth` file.
        labels: the label set that it was trained with, its name, or the number of classes (the unknown class counts).
        image_size: (height, width) of its images.
        encoder_path: the `*_net_E.pth` file of a system that has one.
        options: what else the `convert` in the system's file here takes, for example `upsampling="more"`.

    Raises:
        CheckpointError: a file is missing, damaged, of an unknown network, or does not fit the arguments.
        ConfigError: an option that the system does not have, or an impossible one.
    """
    official, source = read_official(generator_path), str(generator_path)
    name, module = _system_of(official, source)
    known = list(signature(module.convert).parameters)
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ConfigError(
            f"{source} is a checkpoint of {name}, which has no option {unknown[0]!r}; "
            f"it has {', '.join(name for name in known if name not in _GIVEN) or 'none'}."
        )
    if encoder_path is not None:
        if "encoder" not in known:
            raise CheckpointError(f"{source} is a checkpoint of {name}, which has no encoder file: leave it out.")
        options["encoder"] = read_official(encoder_path)
    return cast(Generator, module.convert(official, labels=labels, image_size=image_size, source=source, **options))


def convert_discriminator(
    path: str | Path, *, labels: LabelSet | str | int, model: str | None = None, **options: Any
) -> Discriminator:
    """Load an official discriminator (`*_net_D.pth`) of any system, in training mode: it is of use to go on training.

    Args:
        path: the file.
        labels: the label set that it was trained with, its name, or the number of classes.
        model: name of the generator that it judges: those of SEAN and CA2-SIS have strides that weights do not tell.
        options: what else the system's `discriminator_from_state` takes.

    Raises:
        CheckpointError: the file is missing, damaged, of another network, or of other labels.
    """
    official, source = read_official(path), str(path)
    if model in STRIDE_2:
        options = {"last_stride": 2, **options}
    if has_keys(official, "embedding."):
        module: ModuleType = cc_fpse
    elif has_keys(official, "scale0_layer0.", "layer0."):
        module = pix2pixhd
    else:
        module = spade
    return cast(Discriminator, module.discriminator_from_state(official, labels=labels, source=source, **options))


def _system_of(official: State, source: str) -> tuple[str, ModuleType]:
    """The system that a generator's state dict belongs to; raises CheckpointError if none knows it."""
    for name, module in SYSTEMS.items():
        if module.recognises(official):
            return name, module
    first = next(iter(official), "none")
    raise CheckpointError(
        f"{source} holds no generator of {', '.join(SYSTEMS)} (first key: {first}): give the file that ends in "
        "_net_G.pth; the networks of changed codes cannot be converted."
    )
