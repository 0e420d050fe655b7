"""What every generator offers, whatever its system: the part of a model that the pipeline and the training loop use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from segscape.errors import LayoutError, StyleError
from segscape.layout import Layout
from segscape.models.card import model_card
from segscape.models.config import GeneratorConfig
from segscape.models.pretrained import PretrainedModel
from segscape.style import Style, StyleDistribution
from segscape.style_shapes import require_style, require_style_shape


class Generator(PretrainedModel):
    """Base of the generators: `generator(layout, style=None) -> image [N, 3, H, W]` in [-1, 1].

    The network that only `encode` uses is the attribute that `encoder_name` names. Published counts of variational
    generators leave it out; where they count it, `encoder_counts` is true.
    """

    config: GeneratorConfig
    config_class: ClassVar[type[Any]] = GeneratorConfig
    encoder_name: ClassVar[str] = "encoder"
    encoder_counts: ClassVar[bool] = False

    @property
    def style_network(self) -> nn.Module | None:
        """What makes styles of photos: no part of the forward pass, and in float32 always. None if there is none."""
        network: nn.Module | None = getattr(self, self.encoder_name, None)
        return network

    def count_parameters(self) -> int:
        """How many numbers the network learns, as published counts go: see `encoder_counts`."""
        encoder = None if self.encoder_counts else self.style_network
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
        require_style(self.config.style_shape, "a reference photo", self.config.model)
        raise NotImplementedError

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
        shape = require_style(self.config.style_shape, "a neutral style", self.config.model)
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
        return model_card(self.config, self.count_parameters())

    def check(self, layout: Layout, style: Style | None = None) -> None:
        """Find out whether the generator can use a layout and a style.

        Raises:
            LayoutError: the size or number of classes does not fit, or the instance map is missing.
            StyleError: a style for a model that takes none, or of another dimension.
        """
        self._check_size(layout)
        self._check_classes(layout)
        if self.config.reads_instances:
            layout.edges()
        if style is not None:
            config = self.config
            require_style_shape(style.values.shape, config.open_style_shape, config.model, layout.batch_size)

    def _check_classes(self, layout: Layout) -> None:
        labels = self.config.labels
        if layout.num_classes != labels.num_classes:
            raise LayoutError(
                f"the layout has {layout.num_classes} classes ({layout.labels.name}), "
                f"the model was built for {labels.num_classes} ({labels.name})."
            )

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
    """A published system by name; where it was published, `PAPERS` says.

    Attributes:
        generator: its class.
        options: what differs from the defaults of the class's config.
    """

    generator: type[Generator]
    options: dict[str, object]
