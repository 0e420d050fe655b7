"""The names of the published systems, and how to build or load one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segscape.errors import ConfigError
from segscape.labels import LabelSet
from segscape.models.ca2_sis import CA2_SIS_VARIANTS
from segscape.models.cc_fpse import CC_FPSE_VARIANTS
from segscape.models.clade import CLADE_VARIANTS
from segscape.models.dagan import DAGAN_VARIANTS
from segscape.models.generator import Generator, Variant
from segscape.models.groupdnet import GROUPDNET_VARIANTS
from segscape.models.pix2pixhd import PIX2PIXHD_VARIANTS
from segscape.models.pretrained import find_folder, read_config
from segscape.models.sean import SEAN_VARIANTS
from segscape.models.spade import SPADE_VARIANTS

MODELS: dict[str, Variant] = {
    **SPADE_VARIANTS,
    **CLADE_VARIANTS,
    **PIX2PIXHD_VARIANTS,
    **CC_FPSE_VARIANTS,
    **CA2_SIS_VARIANTS,
    **DAGAN_VARIANTS,
    **SEAN_VARIANTS,
    **GROUPDNET_VARIANTS,
}
"""Every published system by name."""


def list_models() -> list[str]:
    """The names that `create_model` knows."""
    return list(MODELS)


def variant(name: str) -> Variant:
    """The system of a name; raises ConfigError, with the known names, if there is none."""
    if name not in MODELS:
        raise ConfigError(f"there is no model {name!r}; known models: {', '.join(MODELS)}.")
    return MODELS[name]


def create_model(name: str, *, labels: LabelSet | str | int, **options: Any) -> Generator:
    """Build a generator with fresh weights.

    Args:
        name: one of `list_models()`.
        labels: the label set, the name of a published one, or a number of classes.
        options: fields of the model's config, for example `image_size=(256, 256)`, `base_channels=64`,
            `norm=["spade"] * 2 + ["clade"] * 5`, `use_instances=True`, `latent_dim=256`.

    Raises:
        ConfigError: unknown name or option, or options that contradict each other.
    """
    kind, preset = variant(name)
    return kind(kind.config_class.build(**{**preset, "model": name, "labels": labels, **options}))


def load_model(path_or_id: str | Path, *, revision: str | None = None) -> Generator:
    """Load a saved model of any system, in evaluation mode, from a folder or the Hugging Face hub.

    Raises:
        CheckpointError: nothing there, or the files are broken.
        ConfigError: the folder names a model that this Segscape does not know.
    """
    folder = find_folder(path_or_id, revision)
    return variant(read_config(folder)["model"]).generator.from_pretrained(folder)
