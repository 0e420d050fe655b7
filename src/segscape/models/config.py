"""What models are built from: typed configurations, and what those of all generators have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PositiveInt, ValidationError, model_validator
from typing_extensions import Self

from segscape.errors import ConfigError
from segscape.labels import LabelSet, as_label_set
from segscape.position import PositionRule
from segscape.style_shapes import StyleKind


class ModelConfig(BaseModel):
    """Base of the typed configurations; `model` is the name in the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str

    @classmethod
    def build(cls, **options: Any) -> Self:
        """Validate options; raises ConfigError with one sentence per wrong option."""
        try:
            return cls(**options)
        except ValidationError as error:
            raise ConfigError(f"the model configuration is invalid: {explain(error, list(cls.model_fields))}") from None


def explain(error: ValidationError, known: list[str]) -> str:
    """One sentence per mistake that pydantic found; unknown keys are answered with the `known` ones."""
    parts = []
    for mistake in error.errors():
        where = ".".join(str(step) for step in mistake["loc"])
        if mistake["type"] == "extra_forbidden":
            parts.append(f"unknown option {where!r} (known: {', '.join(known)})")
        else:
            what = mistake["msg"].removeprefix("Value error, ")
            parts.append(f"{where}: {what}" if where else what)
    return "; ".join(parts) + "."


class GeneratorConfig(ModelConfig):
    """The part of a generator's configuration that all systems have.

    Attributes:
        labels: the label set, its name, or a number of classes.
        image_size: (height, width) of training.
        use_instances: condition on the edges of an instance map.
    """

    labels: Annotated[LabelSet, BeforeValidator(as_label_set)]
    image_size: tuple[PositiveInt, PositiveInt] = (256, 256)
    use_instances: bool = False

    @property
    def size_multiple(self) -> int:
        """Height and width of a layout must be multiples of this; any will do unless a system says otherwise."""
        return 1

    @property
    def fixed_size(self) -> bool:
        """Whether the generator works at `image_size` only."""
        return False

    @property
    def reads_instances(self) -> bool:
        """Whether the generator itself needs instance maps, and not just the discriminator."""
        return self.use_instances

    @property
    def encoding_rule(self) -> PositionRule | None:
        """The rule of the positional encoding that the generator reads; None if it reads none."""
        return None

    @property
    def style_kind(self) -> StyleKind | None:
        """The kind of style that the generator takes; None if it takes none."""
        return None

    @property
    def style_shape(self) -> tuple[int, ...] | None:
        """Shape of the style of one image of `image_size`, such as `(D,)` or `(classes, D)`; None if it takes none."""
        return None

    @property
    def open_style_shape(self) -> tuple[int | None, ...] | None:
        """`style_shape` with None for sides that may have any length."""
        return self.style_shape

    @property
    def variational(self) -> bool:
        """Whether styles are drawn: from the encoder's distribution in training, from N(0, 1) without a photo."""
        return False

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        multiple = self.size_multiple
        if any(side % multiple for side in self.image_size):
            nearest = tuple(max(1, round(side / multiple)) * multiple for side in self.image_size)
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of {multiple} in height and width; the nearest size "
                f"is {nearest}"
            )
        return self


class LatentStyleConfig(GeneratorConfig):
    """Configuration of a generator that can have a variational encoder, whose style is one latent for an image.

    Attributes:
        latent_dim: dimensions of the style; None for a model without.
    """

    latent_dim: PositiveInt | None = None

    @property
    def fixed_size(self) -> bool:
        """A latent enters through a linear layer that makes the whole start tensor."""
        return self.latent_dim is not None

    @property
    def style_kind(self) -> StyleKind | None:
        """`latent` if there is one."""
        return "latent" if self.latent_dim else None

    @property
    def style_shape(self) -> tuple[int, ...] | None:
        """`(latent_dim,)` if there is one."""
        return (self.latent_dim,) if self.latent_dim else None

    @property
    def variational(self) -> bool:
        """Whether there is a latent."""
        return self.latent_dim is not None
