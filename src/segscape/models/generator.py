"""What every generator offers, whatever its system: the part of a model that the pipeline and the training loop use."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BeforeValidator, PositiveInt
from torch import Tensor

from segscape.errors import LayoutError, StyleError
from segscape.labels import LabelSet, label_set
from segscape.layout import Layout
from segscape.models.card import model_card
from segscape.models.pretrained import ModelConfig, PretrainedModel
from segscape.position import PositionRule
from segscape.style import Style


def as_label_set(labels: LabelSet | str | int | dict[str, object]) -> LabelSet:
    """A label set from itself, its published name or JSON file, a number of classes, or its stored form."""
    if isinstance(labels, int):
        return LabelSet.numbered(labels)
    if isinstance(labels, str):
        return label_set(labels)
    return LabelSet.model_validate(labels)


class GeneratorConfig(ModelConfig):
    """The part of a generator's configuration that all systems have.

    Attributes:
        labels: the label set, its name, or a number of classes.
        image_size: (height, width) of training.
        use_instances: condition on the edges of an instance map.
        latent_dim: dimensions of a global style; None for models without.
    """

    labels: Annotated[LabelSet, BeforeValidator(as_label_set)]
    image_size: tuple[PositiveInt, PositiveInt] = (256, 256)
    use_instances: bool = False
    latent_dim: PositiveInt | None = None

    @property
    def size_multiple(self) -> int:
        """Height and width of a layout must be multiples of this."""
        raise NotImplementedError

    @property
    def fixed_size(self) -> bool:
        """Whether the generator works at `image_size` only."""
        return False

    @property
    def encoding_rule(self) -> PositionRule | None:
        """The rule of the positional encoding that the generator reads; None if it reads none."""
        return None


class Generator(PretrainedModel):
    """Base of the generators: `generator(layout, style=None) -> image [N, 3, H, W]` in [-1, 1]."""

    config: GeneratorConfig
    config_class: ClassVar[type[Any]] = GeneratorConfig

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """Generate images of the size of the layouts; raises what `check` raises."""
        raise NotImplementedError

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The style distribution of photos `[N, 3, H, W]` in [-1, 1]: `(mean [N, D], log_variance [N, D])`.

        Raises StyleError if the model has no encoder.
        """
        raise StyleError("this model takes no style: it was built without latent_dim.")

    def card(self) -> str:
        """The model card, with the table of classes."""
        return model_card(self)

    def check(self, layout: Layout, style: Style | None = None) -> None:
        """Find out whether the generator can use a layout and a style.

        Raises:
            LayoutError: the size or number of classes does not fit, or the instance map is missing.
            StyleError: a style for a model that takes none, or of another dimension.
        """
        self._check_size(layout)
        config = self.config
        if layout.num_classes != config.labels.num_classes:
            raise LayoutError(
                f"the layout has {layout.num_classes} classes ({layout.labels.name}), "
                f"the model was built for {config.labels.num_classes} ({config.labels.name})."
            )
        if config.use_instances:
            layout.edges()
        if style is None:
            return
        if not config.latent_dim:
            raise StyleError("a style was given, but this model takes none: it was built without latent_dim.")
        if tuple(style.latent.shape) != (layout.batch_size, config.latent_dim):
            raise StyleError(
                f"the style is {list(style.latent.shape)}, expected [{layout.batch_size}, {config.latent_dim}] "
                "(layouts, latent_dim)."
            )

    def _check_size(self, layout: Layout) -> None:
        (height, width), multiple = layout.size, self.config.size_multiple
        if self.config.fixed_size and layout.size != self.config.image_size:
            raise LayoutError(
                f"the layout is {height}x{width}, but a model with a latent style has the fixed size "
                f"{self.config.image_size[0]}x{self.config.image_size[1]}: resize the layout to it."
            )
        if height % multiple or width % multiple:
            padded = tuple(math.ceil(side / multiple) * multiple for side in layout.size)
            raise LayoutError(
                f"the layout is {height}x{width} (height x width), the model needs multiples of {multiple}: "
                f"pad it to {padded[0]}x{padded[1]}, or use Pipeline, which pads and crops."
            )


class Variant(NamedTuple):
    """A published system by name.

    Attributes:
        generator: its class.
        paper: where it was published.
        options: what differs from the defaults of the class's config.
    """

    generator: type[Generator]
    paper: str
    options: dict[str, object]
