"""The model card: what a saved model is, which classes it knows, how it was trained and how well it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segscape.labels import LabelSet
from segscape.models.config import GeneratorConfig
from segscape.models.papers import PAPERS

SAMPLES_FILE = "samples.png"
"""Beside the card, where there is one: rows of layout, generated picture, photograph."""
TAGS = ["semantic-image-synthesis", "image-to-image", "gan"]


@dataclass(frozen=True)
class TrainingFacts:
    """How a model was trained.

    Attributes:
        images: how many it has seen.
        recipe: YAML, with every default written out.
        metrics: by name, as measured last.
        samples: whether `SAMPLES_FILE` lies beside the card.
    """

    images: int
    recipe: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples: bool = False


def model_card(
    config: GeneratorConfig, parameters: int, facts: TrainingFacts | None = None, license: str | None = None
) -> str:
    """The text of `README.md`, with the header that the Hugging Face hub reads.

    Args:
        config: of the model.
        parameters: how many it has.
        facts: how it was trained, if that is known.
        license: identifier as the hub lists them (`apache-2.0`, `cc-by-nc-4.0`, ...); left out by default.
    """
    labels = config.labels
    parts = [
        _header(license),
        f"# {config.model} for {labels.name}\n",
        _description(config, parameters),
        *(_training(facts) if facts else []),
        _class_table(labels),
    ]
    return "\n".join(parts)


def with_license(card: str, license: str) -> str:
    """A card, with or without a header, under another license."""
    from huggingface_hub import ModelCard

    content: Any = ModelCard(card, ignore_metadata_errors=True)
    content.data.license = license
    return str(content)


def _header(license: str | None) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(license=license, library_name="segscape", pipeline_tag="image-to-image", tags=TAGS)
    return f"---\n{data.to_yaml()}\n---\n"


def _description(config: GeneratorConfig, parameters: int) -> str:
    height, width = config.image_size
    needs = ["a label map", *(["an instance map"] if config.reads_instances else [])]
    source = PAPERS.get(config.model, "unpublished")
    shape = " x ".join(map(str, config.style_shape or ()))
    needs += [f"a style ({config.style_kind}, {shape} numbers), if one is wanted"] if shape else []
    return (
        f"Turns layouts into pictures: {', '.join(needs)} in, a photograph out. System: `{config.model}` "
        f"({source}); {parameters:,} parameters; trained at {height}x{width} (height x width).\n\n"
        "```python\nfrom segscape import Pipeline\n\n"
        "pipeline = Pipeline.from_pretrained('...')  # this folder, or its id on the hub; or `segscape.load_model`\n"
        "pipeline('layout.png')[0].save('picture.png')\n```\n"
    )


def _training(facts: TrainingFacts) -> list[str]:
    parts = [f"## Training\n\nTrained with Segscape on {facts.images:,} images shown.\n"]
    if facts.samples:
        parts.append(f"![layouts, generated pictures, photographs]({SAMPLES_FILE})\n")
    if facts.metrics:
        rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in facts.metrics.items())
        parts.append(f"## Metrics\n\n| | |\n|---|---|\n{rows}\n")
    parts.append(f"## Recipe\n\n```yaml\n{facts.recipe.rstrip()}\n```\n")
    return parts


def _class_table(labels: LabelSet) -> str:
    rows = []
    for index, entry in enumerate(labels.classes):
        kind = "unknown" if index == labels.unknown else "thing" if entry.thing else "stuff"
        rows.append(f"| {index} | {entry.name} | {', '.join(map(str, entry.color))} | {kind} |")
    ignored = ""
    if labels.unknown is not None and labels.ignore_value is not None:
        ignored = f"\nThe value {labels.ignore_value} in a file is read as class {labels.unknown}.\n"
    header = "| index | name | colour (red, green, blue) | |\n|---:|---|---|---|"
    return f"## Classes: {labels.name}\n\n{header}\n" + "\n".join(rows) + "\n" + ignored
