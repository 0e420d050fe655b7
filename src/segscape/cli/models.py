"""`segscape models`: the published systems, and what a saved model is and can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from segscape.labels import LabelSet
    from segscape.models.config import GeneratorConfig
    from segscape.models.generator import Generator

EXAMPLE_CLASSES = 151
"""Classes of the example size: ADE20K with its unknown class."""


def models(
    model: Annotated[
        str | None,
        typer.Argument(metavar="NAME|FOLDER", help="A system of the list, or a saved model's folder or id."),
    ] = None,
) -> None:
    """List the published systems, or describe one of them or a saved model with its classes."""
    from segscape.models import list_models, load_model
    from segscape.models.papers import PAPERS

    if model is None:
        print(f"{'name':<14}{'parameters':>14}  paper")
        for name in list_models():
            print(f"{name:<14}{_on_paper(name).count_parameters():>14,}  {PAPERS[name]}")
        print(f"\nParameters: {EXAMPLE_CLASSES} classes, 256x256, published width, without style encoders.")
    elif model in list_models():
        _describe(_on_paper(model), f"{EXAMPLE_CLASSES} classes, published width")
    else:
        generator = load_model(model)
        _describe(generator, "saved model")
        _print_classes(generator.config.labels)


def _on_paper(name: str) -> Generator:
    """The system at its published size, without memory for its weights."""
    import torch

    from segscape.models import create_model

    with torch.device("meta"):
        return create_model(name, labels=EXAMPLE_CLASSES)


def _describe(generator: Generator, title: str) -> None:
    from segscape.models.papers import PAPERS

    config = generator.config
    height, width = config.image_size
    rows = {
        "paper": PAPERS[config.model],
        "parameters": f"{generator.count_parameters():,}",
        "training size": f"{height}x{width} (height x width)",
        "other sizes": "resized" if config.fixed_size else f"yes, padded to multiples of {config.size_multiple}",
        "instance maps": "needed" if config.reads_instances else "not used",
        "styles": _styles(config),
        "labels": f"{config.labels.name}, {config.labels.num_classes} classes",
        "options": ", ".join(f"{name}={value}" for name, value in _own_options(config).items()),
    }
    print(f"{config.model} ({title})")
    for name, value in rows.items():
        print(f"  {name:<15}{value}")


def _styles(config: GeneratorConfig) -> str:
    if config.style_shape is None:
        return "none"
    return f"{config.style_kind}, {' x '.join(map(str, config.style_shape))} numbers"


def _own_options(config: GeneratorConfig) -> dict[str, object]:
    """The options that only this system has, as given or by default."""
    from segscape.models.config import GeneratorConfig

    return {name: value for name, value in config if name not in GeneratorConfig.model_fields}


def _print_classes(labels: LabelSet) -> None:
    print("\nindex  colour           name")
    for index, entry in enumerate(labels.classes):
        red, green, blue = entry.color
        remark = " (unknown)" if index == labels.unknown else " (thing)" if entry.thing else ""
        print(f"{index:>5}  ({red:>3}, {green:>3}, {blue:>3})  {entry.name}{remark}")
    if labels.unknown is not None and labels.ignore_value is not None:
        print(f"The value {labels.ignore_value} in a file is read as class {labels.unknown}.")
