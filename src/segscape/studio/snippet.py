"""The Python program that makes a picture of the studio once more."""

from __future__ import annotations

from segscape.inference.pipeline import Reference
from segscape.studio.engine import Painting, Photo


def snippet(painting: Painting) -> str:
    """A program that draws the pictures of a painting from the files that the studio saves.

    The layout is `layout.png`; photos of style are `style.png` (with `style-layout.png`), and `NAME.png` (with
    `NAME-layout.png`) for a class.
    """
    classes = [(name, _reference(photo, _file_name(name))) for name, photo in painting.class_styles.items()]
    style = None if painting.style is None else _reference(painting.style, "style")
    return "\n".join(
        [
            "from segscape import Pipeline",
            *(["from segscape.inference.pipeline import Reference"] if _uses_reference(painting) else []),
            "",
            f"pipeline = Pipeline.from_pretrained({_source(painting)}accelerate='fast')",
            *_style_lines(style, classes),
            f"pictures = pipeline({', '.join(_arguments(painting, style is not None or bool(classes)))})",
            "for number, picture in enumerate(pictures):",
            "    picture.save(f'picture-{number}.png')",
            "",
        ]
    )


def _arguments(painting: Painting, has_style: bool) -> list[str]:
    arguments = ["'layout.png'"]
    if painting.model.pipeline.model.config.reads_instances:
        arguments.append("instance_maps='layout.png'")
    if painting.size is not None:
        arguments.append(f"size={tuple(painting.size)}")
    if painting.model.random_styles or painting.model.has_noise:
        arguments.append(f"seed={painting.seed}")
    if painting.samples > 1:
        arguments.append(f"samples={painting.samples}")
    if has_style:
        arguments.append("style=style")
    return arguments


def _style_lines(style: str | None, classes: list[tuple[str, str]]) -> list[str]:
    by_class = "{" + ", ".join(f"{name!r}: {reference}" for name, reference in classes) + "}"
    if style is None:
        return [f"style = {by_class}"] if classes else []
    return [f"style = pipeline.mix({style}, {by_class})" if classes else f"style = {style}"]


def _reference(photo: Photo, name: str) -> str:
    if isinstance(photo, Reference):
        return f"Reference('{name}.png', '{name}-layout.png')"
    return f"'{name}.png'"


def _uses_reference(painting: Painting) -> bool:
    return any(isinstance(photo, Reference) for photo in (painting.style, *painting.class_styles.values()))


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _source(painting: Painting) -> str:
    source = painting.model.source
    return "" if source is None else f"{source!r}, "
