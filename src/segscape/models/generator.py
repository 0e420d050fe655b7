"""What every generator offers, whatever its system: the part of a model that the pipeline and the training loop use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pydantic import BeforeValidator, PositiveInt
from torch import Tensor

from segscape.errors import LayoutError, StyleError
from segscape.labels import LabelSet, as_label_set
from segscape.layout import Layout
from segscape.models.card import model_card
from segscape.models.pretrained import ModelConfig, PretrainedModel
from segscape.position import PositionRule
from segscape.style import Style, StyleDistribution, StyleKind

STYLE_AXES: dict[StyleKind, str] = {
    "latent": "layouts, latent_dim",
    "codes": "layouts, classes, code",
    "map": "layouts, channels, height, width",
}
"""What the axes of a style are, for messages."""


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
        """Height and width of a layout must be multiples of this."""
        raise NotImplementedError

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
    def variational(self) -> bool:
        """Whether styles are drawn: from the encoder's distribution in training, from N(0, 1) without a photo."""
        return False


class LatentStyleConfig(GeneratorConfig):
    """Configuration of a generator that can have a variational encoder, whose style is one latent for an image.

    Attributes:
        latent_dim: dimensions of the style; None for a model without.
    """

    latent_dim: PositiveInt | None = None

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


class Generator(PretrainedModel):
    """Base of the generators: `generator(layout, style=None) -> image [N, 3, H, W]` in [-1, 1].

    A network that only `encode` uses is the attribute `encoder`: published counts of variational generators leave it
    out. Where they count it, `encoder_counts` is true.
    """

    config: GeneratorConfig
    config_class: ClassVar[type[Any]] = GeneratorConfig
    encoder_counts: ClassVar[bool] = False

    def count_parameters(self) -> int:
        """How many numbers the network learns, without those of `encoder`, as published counts go."""
        encoder = getattr(self, "encoder", None)
        left_out = 0 if encoder is None else sum(parameter.numel() for parameter in encoder.parameters())
        return sum(parameter.numel() for parameter in self.parameters()) - left_out

    @property
    def random_styles(self) -> bool:
        """Whether `sample_style` draws a different style each time."""
        return self.config.variational

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """Generate images of the size of the layouts; without a style, of a neutral one. Raises what `check` raises."""
        raise NotImplementedError

    def forward_with_losses(self, layout: Layout, style: Style | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """For training: the images, and the losses that the system has beside the usual ones, by name, unweighted."""
        return self(layout, style), {}

    def encode(self, image: Tensor, layout: Layout) -> StyleDistribution:
        """The styles of photos.

        Args:
            image: `[N, 3, H, W]` in [-1, 1].
            layout: theirs; models whose style is one latent do not look at it.

        Raises:
            StyleError: the model takes no style.
            LayoutError: the layout does not fit.
        """
        raise StyleError(self._no_style("a reference photo was given"))

    def sample_style(self, layout: Layout, generator: torch.Generator | None = None) -> Style | None:
        """Draw a style for each layout without a photo; None if the model has no random ones.

        Args:
            layout: N layouts.
            generator: a seeded CPU generator repeats the draw; torch's default one if None.
        """
        if not self.config.variational or self.config.style_shape is None:
            return None
        return Style.sample(layout.batch_size, self.config.style_shape, generator).to(layout.device)

    def neutral_style(self, count: int) -> Style:
        """What `forward` takes for `count` images where it is given no style: zeros, unless a system has better."""
        shape = self.config.style_shape
        if shape is None:
            raise StyleError(self._no_style("a neutral style was asked for"))
        return Style(next(self.parameters()).new_zeros(count, *shape))

    def completed(self, style: Style) -> Style:
        """Codes with the neutral ones for the classes that their photo lacks; any other style as it is."""
        if style.present is None:
            return style
        neutral = self.neutral_style(style.count).to(style.values.device)
        return neutral.replace_classes(style, range(style.values.shape[1]))

    @property
    def can_fit_styles(self) -> bool:
        """Whether the model stores styles of a dataset, see `fit_styles`."""
        return False

    def fit_styles(self, photos: Iterable[tuple[Tensor, Layout]]) -> None:
        """Store what a dataset tells about styles, for pictures without a reference photo.

        Args:
            photos: images `[N, 3, H, W]` in [-1, 1] with their layouts: the training data, unaugmented.

        Raises:
            StyleError: the model stores nothing of the kind, or there are no photos.
        """
        raise StyleError(
            f"this {self.config.model} model stores no styles of a dataset: SEAN does (mean codes), and pix2pixHD "
            "with feature_channels (clusters)."
        )

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
        if config.reads_instances:
            layout.edges()
        if style is not None:
            self._check_style(layout, style)

    def _check_style(self, layout: Layout, style: Style) -> None:
        kind, shape = self.config.style_kind, self.config.style_shape
        if kind is None:
            raise StyleError(self._no_style(f"a style ({style.kind}) was given"))
        if style.kind != kind:
            raise StyleError(f"the style is of the kind {style.kind!r}, this {self.config.model} model takes {kind!r}.")
        if shape is not None and tuple(style.values.shape) != (layout.batch_size, *shape):
            raise StyleError(
                f"the style is {list(style.values.shape)}, expected {[layout.batch_size, *shape]} ({STYLE_AXES[kind]})."
            )

    def _no_style(self, found: str) -> str:
        hint = ": it was built without latent_dim" if "latent_dim" in type(self.config).model_fields else ""
        return f"{found}, but this {self.config.model} model takes none{hint}."

    def _check_size(self, layout: Layout) -> None:
        (height, width), multiple = layout.size, self.config.size_multiple
        if self.config.fixed_size and layout.size != self.config.image_size:
            raise LayoutError(
                f"the layout is {height}x{width}, but this {self.config.model} model has the fixed size "
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
