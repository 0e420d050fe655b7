"""CA2-SIS: no conditional norm, but pixels that attend to the style codes of all classes, and shapes that are vectors.

Source: Fontanini et al., "Semantic Image Synthesis via Class-Adaptive Cross-Attention", IEEE Access 2025, arXiv
2308.16071, official code TFonta/CA2SIS (CC BY-NC-SA 4.0; nothing of it is used here: written from a specification and
checked against stored outputs). A grouped encoder makes one style code per class from a photo; a linear layer makes one
small map per class, its shape, from the layout; the decoder reads nothing else, so both can be edited class by class.
Differences from the official code: any size that is a multiple of 16, the attention loss on maps that are not square,
`exclude_background` also where styles come from noise, edits that the official scripts cannot run.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import pairwise
from typing import ClassVar, Literal, cast

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from segscape.errors import ConfigError, StyleError
from segscape.layout import Layout, Size
from segscape.models.config import GeneratorConfig
from segscape.models.generator import Generator, Variant
from segscape.nn.cross_attention import CrossAttentionTransformer, Observe, attention_loss, mean_logits, mean_weights
from segscape.nn.spectral import conv2d
from segscape.style import Style, StyleDistribution

ENLARGEMENT = 16
"""Height and width of an image over those of a shape embedding."""

STYLE_LEVELS = 6
"""Halvings in the style encoder; a code joins what it found on the way back, at `STYLE_LEVELS` - 1 resolutions."""


class CA2SISConfig(GeneratorConfig):
    """Configuration of CA2-SIS; `image_size` is 16 times the grid of the shape embeddings.

    Attributes:
        base_channels: width of the last blocks; the first layer has 16 times as many.
        exclude_background: class 0 has no shape embedding (it keeps its style code).
        norm_groups: groups of the decoder's group norms.
        heads, head_channels: of the attention in all blocks but the last.
        last_heads, last_head_channels: of the attention in the last block.
        mask_size: height and width at which the mask of a class is read.
        style_features: channels per class of the style encoder's first layer.
        style_channels: of a style code per resolution.
        mapping_dim: noise from which the mapping network makes styles; None for a model without it.
        mapping_channels: width of the mapping network.
        random_styles: the mapping network is trained (the official second stage, `use_noise`), so that styles can be
            drawn; training photo by photo leaves it as it was.
        final_tanh: the image is a tanh; checkpoints from before 19 December 2023 lack it.
    """

    model: str = "ca2-sis"
    base_channels: PositiveInt = 32
    exclude_background: bool = False
    norm_groups: PositiveInt = 32
    heads: PositiveInt = 8
    head_channels: PositiveInt = 64
    last_heads: PositiveInt = 4
    last_head_channels: PositiveInt = 32
    mask_size: PositiveInt = 128
    style_features: PositiveInt = 4
    style_channels: PositiveInt = 256
    mapping_dim: PositiveInt | None = 16
    mapping_channels: PositiveInt = 512
    random_styles: bool = False
    final_tanh: bool = True

    @property
    def size_multiple(self) -> int:
        """The decoder enlarges the grid 16 times."""
        return ENLARGEMENT

    @property
    def fixed_size(self) -> bool:
        """A shape embedding has a fixed number of cells, whatever the size of the layout."""
        return True

    @property
    def grid(self) -> Size:
        """(height, width) of a shape embedding."""
        return self.image_size[0] // ENLARGEMENT, self.image_size[1] // ENLARGEMENT

    @property
    def style_kind(self) -> Literal["codes"]:
        """One code per class."""
        return "codes"

    @property
    def style_shape(self) -> tuple[int, int]:
        """Classes and channels of the codes of one image, coarse to fine."""
        return self.labels.num_classes, (STYLE_LEVELS - 1) * self.style_channels

    @model_validator(mode="after")
    def _consistent(self) -> CA2SISConfig:
        if self.base_channels % self.norm_groups:
            raise ValueError(f"base_channels {self.base_channels} cannot be parted into {self.norm_groups} norm_groups")
        if self.use_instances:
            raise ValueError("use_instances: CA2-SIS has no place for instance edges, it knows classes only")
        if self.exclude_background and self.labels.num_classes == 1:
            raise ValueError("exclude_background leaves nothing of a label set with one class")
        return self


def _conv_norm(in_channels: int, out_channels: int, classes: int, *, stride: int = 1, groups: int) -> nn.Sequential:
    """3x3 convolution, a group norm with one group per class, ReLU."""
    conv = conv2d(False, in_channels, out_channels, 3, stride=stride, padding=1, groups=groups)
    return nn.Sequential(conv, nn.GroupNorm(classes, out_channels), nn.ReLU())


class GroupedStyleEncoder(nn.Module):
    """One code per class from a photo and its layout: a U-shaped network whose convolutions have a group per class.

    The classes are not kept apart as the groups suggest: the first convolution is not grouped, and on the way back the
    features of all classes stand before the skipped features of all classes, so that a group reads neighbouring classes
    of one or the other. Published weights are trained so.

    Args:
        num_classes: C.
        features: channels per class of the first layer, doubled at each halving.
        style_channels: S, of a code per resolution.
        levels: halvings; a code has (levels - 1) * S channels, coarse to fine.
    """

    def __init__(
        self, num_classes: int, features: int = 4, style_channels: int = 256, levels: int = STYLE_LEVELS
    ) -> None:
        super().__init__()
        self.num_classes, self.levels = num_classes, levels
        widths = [num_classes * features * 2**i for i in range(levels + 1)]
        self.first = _conv_norm(3, widths[0], num_classes, groups=1)
        self.down = nn.ModuleList(
            _conv_norm(before, after, num_classes, stride=2, groups=num_classes) for before, after in pairwise(widths)
        )
        back = widths[:0:-1]  # the deepest first
        self.up = nn.ModuleList(
            _conv_norm(before * (1 if i == 0 else 2), after, num_classes, groups=num_classes)
            for i, (before, after) in enumerate(pairwise(back))
        )
        self.heads = nn.ModuleList(
            nn.Conv1d(width, num_classes * style_channels, 1, groups=num_classes) for width in back[1:]
        )

    def forward(self, image: Tensor, layout: Layout) -> Tensor:
        """`image [N, 3, H, W]` in [-1, 1] -> `[N, C, (levels - 1) * S]` in (-1, 1).

        Any H and W; photos of other than multiples of 2^levels are enlarged to them (bilinear).
        """
        x = self.first(_to_multiple(image, 2**self.levels))
        skipped = []
        for layer in self.down:
            x = layer(x)
            skipped.append(x)
        codes = []
        for i, (layer, head) in enumerate(zip(self.up, self.heads, strict=True)):
            x = x if i == 0 else torch.cat([x, skipped[-1 - i]], dim=1)
            x = layer(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
            codes.append(self._coded(head(self._class_means(x, layout))))
        return torch.cat(codes, dim=2)

    def absent(self) -> Tensor:
        """The code of a class without pixels, `[C, (levels - 1) * S]`: that of a mean of 0."""
        biases = [cast(Tensor, head.bias).view(1, -1, 1) for head in self.heads]
        return torch.cat([self._coded(bias) for bias in biases], dim=2)[0]

    def _class_means(self, x: Tensor, layout: Layout) -> Tensor:
        """The mean over its pixels of the features that belong to each class, 0 if it has none: `[N, channels, 1]`."""
        masks = layout.one_hot((x.shape[-2], x.shape[-1])).to(x.dtype)
        own = x.reshape(x.shape[0], self.num_classes, -1, *x.shape[2:]) * masks.unsqueeze(2)
        means = own.sum((3, 4)) / (masks.sum((2, 3)).unsqueeze(2) + 1e-5)  # [N, C, channels of a class]
        return means.flatten(1).unsqueeze(2)

    def _coded(self, found: Tensor) -> Tensor:
        """`[N, C * S, 1]` -> `[N, C, S]`."""
        return torch.tanh(found).view(found.shape[0], self.num_classes, -1)


def _to_multiple(image: Tensor, multiple: int) -> Tensor:
    height, width = (math.ceil(side / multiple) * multiple for side in image.shape[-2:])
    if (height, width) == tuple(image.shape[-2:]):
        return image
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)


class MappingNetwork(nn.Module):
    """Style codes from noise: four shared layers, then three layers and a linear one for each class.

    Args:
        num_classes: C.
        noise_dim: dimensions of the noise.
        channels: of the layers between.
        out_channels: D, of a code.
    """

    def __init__(self, num_classes: int, noise_dim: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        widths = [noise_dim, *[channels] * 4]
        self.shared = nn.Sequential(*(part for b, a in pairwise(widths) for part in (nn.Linear(b, a), nn.ReLU())))
        inner, groups = num_classes * channels, num_classes
        hidden = [part for _ in range(3) for part in (nn.Conv1d(inner, inner, 1, groups=groups), nn.ReLU())]
        self.per_class = nn.Sequential(*hidden, nn.Conv1d(inner, num_classes * out_channels, 1, groups=groups))

    def forward(self, noise: Tensor) -> Tensor:
        """`[N, noise_dim]` -> `[N, C, D]`."""
        shared = self.shared(noise).repeat(1, self.num_classes).unsqueeze(2)
        return cast(Tensor, self.per_class(shared)).view(noise.shape[0], self.num_classes, -1)


class GroupNormResidualBlock(nn.Module):
    """Group norm, SiLU, 3x3 convolution, twice, beside an identity or a 1x1 convolution; enlarged after the first SiLU.

    The last convolution starts at zero.
    """

    def __init__(self, in_channels: int, out_channels: int, *, groups: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.norm_0 = nn.GroupNorm(groups, in_channels)
        self.conv_0 = conv2d(False, in_channels, out_channels, 3, padding=1)
        self.norm_1 = nn.GroupNorm(groups, out_channels)
        self.conv_1 = conv2d(False, out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == out_channels else conv2d(False, in_channels, out_channels, 1)
        nn.init.zeros_(self.conv_1.weight)
        nn.init.zeros_(cast(Tensor, self.conv_1.bias))

    def forward(self, x: Tensor) -> Tensor:
        """`[N, in_channels, h, w] -> [N, out_channels, h, w]`, or twice the height and width."""
        y = F.silu(self.norm_0(x))
        if self.up:
            x, y = (F.interpolate(features, scale_factor=2, mode="nearest") for features in (x, y))
        y = self.conv_1(F.silu(self.norm_1(self.conv_0(y))))
        return cast(Tensor, self.shortcut(x) + y)


class DecoderBlock(nn.Module):
    """A residual block, and a transformer over what it made.

    Attributes:
        recomputed: keep only the input until the backward pass, which computes the rest again.
    """

    recomputed: bool = False

    def __init__(self, residual: GroupNormResidualBlock, transformer: CrossAttentionTransformer) -> None:
        super().__init__()
        self.residual = residual
        self.transformer = transformer

    def forward(self, x: Tensor, codes: Tensor, observe: Observe | None = None) -> tuple[Tensor, Tensor | None]:
        """Features and codes as for `CrossAttentionTransformer`; the height and width may double."""
        if not (self.recomputed and torch.is_grad_enabled()):
            return self._compute(x, codes, observe)
        again = checkpoint(self._compute, x, codes, observe, use_reentrant=False, preserve_rng_state=False)
        return cast(tuple[Tensor, Tensor | None], again)

    def _compute(self, x: Tensor, codes: Tensor, observe: Observe | None) -> tuple[Tensor, Tensor | None]:
        return cast(tuple[Tensor, Tensor | None], self.transformer(self.residual(x), codes, observe))


class CA2SISGenerator(Generator):
    """The generator of CA2-SIS with its style encoder and, unless `mapping_dim` is None, its mapping network.

    Styles are codes `[N, C, D]`, one per class; every pixel may look at every code, also at those of classes that are
    not in the layout. `mask_embedding` and `decode` are the two halves of the generator, between which shapes can be
    edited without drawing: see `with_shapes`.
    """

    config: CA2SISConfig
    config_class = CA2SISConfig
    encoder_name: ClassVar[str] = "style_encoder"
    encoder_counts: ClassVar[bool] = True

    def __init__(self, config: CA2SISConfig) -> None:
        super().__init__(config)
        classes, code_channels = config.style_shape
        base, cells = config.base_channels, config.grid[0] * config.grid[1]
        self.mask_embedder = nn.Linear(config.mask_size**2, cells)
        self.style_encoder = GroupedStyleEncoder(classes, config.style_features, config.style_channels)
        self.mapping = None
        if config.mapping_dim:
            self.mapping = MappingNetwork(classes, config.mapping_dim, config.mapping_channels, code_channels)
        self.stem = conv2d(False, classes - int(config.exclude_background), 16 * base, 1)
        widths = [16 * base, 8 * base, 4 * base, 2 * base, base, base]
        self.blocks = nn.ModuleList(self._block(i, *pair) for i, pair in enumerate(pairwise(widths)))
        self.to_rgb = conv2d(False, base, 3, 1)

    def _block(self, number: int, in_channels: int, out_channels: int) -> DecoderBlock:
        """Block 0 keeps the size, the last one has smaller heads; the last two are too large for self-attention."""
        config, last = self.config, number == 4
        transformer = CrossAttentionTransformer(
            out_channels,
            config.style_shape[1],
            heads=config.last_heads if last else config.heads,
            head_channels=config.last_head_channels if last else config.head_channels,
            self_attention=number < 3,
            groups=config.norm_groups,
        )
        residual = GroupNormResidualBlock(in_channels, out_channels, groups=config.norm_groups, up=number > 0)
        return DecoderBlock(residual, transformer)

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """Generate images.

        Args:
            layout: N layouts of `config.image_size`.
            style: codes `[N, C, D]`; None takes `neutral_style`.

        Raises:
            LayoutError: size or number of classes do not fit.
            StyleError: a style of another kind or shape.
        """
        self.check(layout, style)
        return self.decode(self.mask_embedding(layout), style)

    def forward_with_losses(self, layout: Layout, style: Style | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """As `forward`, with `attention`: whether pixels look at their own class, see `decode_with_losses`."""
        self.check(layout, style)
        return self.decode_with_losses(self.mask_embedding(layout), style, layout)

    def encode(self, image: Tensor, layout: Layout) -> StyleDistribution:
        """The codes of photos `[N, 3, H, W]` in [-1, 1] with their layouts, which may be of another size.

        `present` says which classes the layouts have; the code of another is the same for every photo.

        Raises LayoutError for layouts of another number of classes.
        """
        self._check_classes(layout)
        return StyleDistribution(Style(self.style_encoder(image, layout), layout.present_classes()), None)

    def mask_embedding(self, layout: Layout) -> Tensor:
        """The shapes of layouts of any size: `[N, classes, cells]`, one row per class.

        Without a row for class 0 if `exclude_background`. A class without pixels has the bias of the layer.
        """
        masks = layout.one_hot((self.config.mask_size, self.config.mask_size))
        masks = masks[:, int(self.config.exclude_background) :]
        return cast(Tensor, self.mask_embedder(masks.flatten(2).to(self.mask_embedder.weight)))

    def with_shapes(
        self,
        embedding: Tensor,
        other: Tensor,
        classes: Collection[int] | None = None,
        *,
        amount: float = 1.0,
        where: Tensor | None = None,
    ) -> Tensor:
        """Shapes of which some classes come from elsewhere: shape transfer, or interpolation between shapes.

        Where shapes overlap or leave holes, the decoder finds a way; no label map has to be drawn.

        Args:
            embedding, other: of `mask_embedding`.
            classes: indices in the label set; None means all. Class 0 has no shape if `exclude_background`.
            amount: 1 replaces the shapes, less leaves them on the straight line between the two.
            where: bool `[N, C]`, over all classes of the label set: only these are changed. For shape transfer, give
                `layout.present_classes() & other_layout.present_classes()`.

        Raises:
            StyleError: an index outside the label set.
        """
        count = self.config.labels.num_classes
        chosen = torch.ones(count, dtype=torch.bool, device=embedding.device)
        if classes is not None:
            chosen = _chosen(classes, count).to(embedding.device)
        chosen = chosen.expand(embedding.shape[0], count) if where is None else chosen & where
        chosen = chosen[:, int(self.config.exclude_background) :].unsqueeze(2)
        return torch.where(chosen, torch.lerp(embedding, other, amount), embedding)

    def decode(self, embedding: Tensor, style: Style | None = None) -> Tensor:
        """Images `[N, 3, H, W]` of shapes (`mask_embedding`) and a style; arguments as for `forward`."""
        return self._decode(embedding, style)[0]

    def decode_with_losses(
        self, embedding: Tensor, style: Style | None, layout: Layout
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As `decode`, with `attention`: the mean over blocks of `attention_loss` against `layout`, of any size."""
        image, logits = self._decode(embedding, style, mean_logits)
        losses = [attention_loss(found, layout.at((found.shape[-2], found.shape[-1]))) for found in logits]
        return image, {"attention": torch.stack(losses).mean()}

    def attention(self, layout: Layout, style: Style | None = None) -> list[Tensor]:
        """How much each pixel looked at the code of each class: per block `[N, C, h, w]`, which sums to 1 over C.

        The average over heads; arguments and errors as for `forward`.
        """
        self.check(layout, style)
        return self._decode(self.mask_embedding(layout), style, mean_weights)[1]

    def neutral_style(self, count: int) -> Style:
        """Every class has the code that the style encoder gives to one without pixels."""
        return Style(self.style_encoder.absent().expand(count, -1, -1))

    def codes_from_noise(self, layout: Layout, noise: Tensor) -> Style:
        """Codes of the mapping network for noise `[N, mapping_dim]` from N(0, 1), zero for classes not in the layout.

        Raises ConfigError if the model has no mapping network.
        """
        if self.mapping is None:
            raise ConfigError("this model makes no styles from noise: it was built without mapping_dim.")
        present = layout.present_classes()
        return Style(self.mapping(noise) * present.unsqueeze(2), present)

    @property
    def random_styles(self) -> bool:
        """Whether there is a mapping network that was trained."""
        return self.config.mapping_dim is not None and self.config.random_styles

    def sample_style(self, layout: Layout, generator: torch.Generator | None = None) -> Style | None:
        """A random style from the mapping network; None for a model without, or with one that was never trained."""
        if self.config.mapping_dim is None or not self.random_styles:
            return None
        noise = torch.randn(layout.batch_size, self.config.mapping_dim, generator=generator)
        return self.codes_from_noise(layout, noise.to(self.stem.weight))

    def _decode(
        self, embedding: Tensor, style: Style | None, observe: Observe | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Images, and what was observed in each block."""
        style = self.neutral_style(embedding.shape[0]) if style is None else style
        codes = style.values.to(self.stem.weight)
        x = self.stem(embedding.reshape(*embedding.shape[:2], *self.config.grid))
        observed = []
        for block in self.blocks:
            x, found = block(x, codes, observe)
            observed.append(found)
        image = self.to_rgb(x)
        return torch.tanh(image) if self.config.final_tanh else image, observed


def _chosen(classes: Collection[int], count: int) -> Tensor:
    wrong = [index for index in classes if not 0 <= index < count]
    if wrong:
        raise StyleError(f"there is no class {wrong[0]}: the label set has {count}, 0 to {count - 1}.")
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[list(classes)] = True
    return chosen


CA2_SIS_VARIANTS = {"ca2-sis": Variant(CA2SISGenerator, {})}
"""Name -> variant of this system."""
