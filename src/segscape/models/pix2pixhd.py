"""pix2pixHD: residual networks over the one-hot map, at full size around one at half the size, and styles of objects.

Source: Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs", CVPR 2018, arXiv
1711.11585, official code NVIDIA/pix2pixHD (BSD; nothing of it is used here: written from a specification and checked
against stored outputs). The spectral norms are those of its re-implementation in the code of SPADE and CLADE, which the
CLADE paper compares with.

Differences from the official code: the class of an object is its label and not a part of its instance id, so any
instance map will do; where a class has no stored styles the style is zero, and not left-over memory; names of weights
do not depend on how many enhancers there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import LayoutError, StyleError
from segscape.extras import require
from segscape.layout import Layout
from segscape.models.config import GeneratorConfig
from segscape.models.generator import Generator, Variant
from segscape.nn.convolution import Conv2d
from segscape.nn.initialization import initialize_normal, initialize_xavier
from segscape.nn.normed_convolution import ConvolutionNorm, NormedConvolution
from segscape.nn.region_pooling import region_means, spread
from segscape.style import Style, StyleDistribution
from segscape.style_shapes import StyleKind, require_style

LEAST_AREA = 0.5
"""Objects smaller than this share of 1/32 of the image have no part in the clusters (official value)."""


class Pix2PixHDConfig(GeneratorConfig):
    """Configuration of pix2pixHD's generator.

    Attributes:
        base_channels: width of the global network at its full size; each enhancer halves it once more (the official
            `ngf` is the width of the last one).
        num_downsamplings: how often the global network halves its features.
        num_blocks: residual blocks of the global network.
        enhancers: local enhancers around it; each doubles the size at which it works.
        num_enhancer_blocks: residual blocks of each enhancer.
        norm: after every convolution but the last; see `NormedConvolution`. Also of the encoder.
        stem_kernel_size, block_kernel_size: odd kernels of the first layer and of the residual blocks.
        feature_channels: channels of the style map; None for a model without.
        feature_regions: what shares one style: each object of the instance map, or each class.
        encoder_channels, encoder_downsamplings: width and depth of the encoder.
        num_clusters: at most so many styles are stored for each class.
    """

    model: str = "pix2pixhd"
    base_channels: PositiveInt = 64
    num_downsamplings: PositiveInt = 4
    num_blocks: PositiveInt = 9
    enhancers: Annotated[int, Field(ge=0, le=2)] = 0
    num_enhancer_blocks: PositiveInt = 3
    norm: ConvolutionNorm = "instance"
    stem_kernel_size: PositiveInt = 7
    block_kernel_size: PositiveInt = 3
    feature_channels: PositiveInt | None = None
    feature_regions: Literal["instance", "class"] = "instance"
    encoder_channels: PositiveInt = 16
    encoder_downsamplings: PositiveInt = 4
    num_clusters: PositiveInt = 10

    @property
    def size_multiple(self) -> int:
        """Every halving must come out even."""
        return 1 << (self.num_downsamplings + self.enhancers)

    @property
    def least_size(self) -> int:
        """Below this a side of the smallest features has one place, which cannot be reflected."""
        return (self.block_kernel_size // 2 + 1) * self.size_multiple

    @property
    def style_kind(self) -> StyleKind | None:
        """`map` if there is one."""
        return "map" if self.feature_channels else None

    @property
    def style_shape(self) -> tuple[int, ...] | None:
        """`(feature_channels, height, width)` if there is a style; maps of other sizes are resized to the layout's."""
        return (self.feature_channels, *self.image_size) if self.feature_channels else None

    @property
    def open_style_shape(self) -> tuple[int | None, ...] | None:
        """`(feature_channels, None, None)` if there is a style."""
        return (self.feature_channels, None, None) if self.feature_channels else None

    @property
    def reads_objects(self) -> bool:
        """Whether styles belong to the objects of an instance map."""
        return self.feature_channels is not None and self.feature_regions == "instance"

    @property
    def input_channels(self) -> int:
        """Channels that the networks read: one-hot map, edges, style map."""
        return self.labels.num_classes + int(self.use_instances) + (self.feature_channels or 0)

    @model_validator(mode="after")
    def _consistent(self) -> Pix2PixHDConfig:
        if min(self.image_size) < self.least_size:
            raise ValueError(
                f"image_size {self.image_size} must be {self.least_size} at least "
                f"({self.num_downsamplings} halvings, {self.enhancers} enhancers)"
            )
        if self.base_channels % (1 << self.enhancers):
            raise ValueError(f"base_channels {self.base_channels} cannot be halved {self.enhancers} times")
        if self.feature_channels and self.encoder_downsamplings > self.num_downsamplings + self.enhancers:
            raise ValueError("the encoder halves more often than the generator: lower encoder_downsamplings")
        if self.stem_kernel_size % 2 == 0 or self.block_kernel_size % 2 == 0:
            raise ValueError("stem_kernel_size and block_kernel_size must be odd")
        return self


class Block(nn.Module):
    """A residual block: `x + norm(conv(relu(norm(conv(x)))))`, borders reflected."""

    def __init__(self, norm: ConvolutionNorm, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.first = NormedConvolution(norm, channels, channels, kernel_size)
        self.second = NormedConvolution(norm, channels, channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """`x [N, channels, h, w]` -> the same shape."""
        y: Tensor = x + self.second(F.relu(self.first(x)))
        return y


class Head(Conv2d):
    """From features to values in [-1, 1]: a 7x7 convolution over reflected borders, and tanh."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 7)

    def forward(self, x: Tensor) -> Tensor:
        """`x [N, in_channels, h, w] -> [N, out_channels, h, w]`."""
        return torch.tanh(super().forward(F.pad(x, (3, 3, 3, 3), mode="reflect")))


class Hourglass(nn.Module):
    """Down by strided convolutions, residual blocks, up by transposed ones: the global network, and the encoder.

    Args:
        norm: after every convolution but the head's.
        in_channels: channels of the input.
        base_channels: width at full size, doubled at each halving.
        depth: halvings.
        blocks: residual blocks at the bottom.
        out_channels: of the head; None for features of `base_channels` instead.
        stem_kernel_size, block_kernel_size: odd.
    """

    def __init__(
        self,
        norm: ConvolutionNorm,
        in_channels: int,
        base_channels: int,
        depth: int,
        blocks: int,
        out_channels: int | None,
        stem_kernel_size: int = 7,
        block_kernel_size: int = 3,
    ) -> None:
        super().__init__()
        widths = [base_channels << level for level in range(depth + 1)]
        levels = range(depth)
        self.stem = NormedConvolution(norm, in_channels, base_channels, stem_kernel_size)
        self.down = nn.ModuleList(NormedConvolution(norm, widths[i], widths[i + 1], scaling="half") for i in levels)
        self.blocks = nn.ModuleList(Block(norm, widths[-1], block_kernel_size) for _ in range(blocks))
        self.up = nn.ModuleList(
            NormedConvolution(norm, widths[i + 1], widths[i], scaling="double") for i in reversed(levels)
        )
        self.head = Head(base_channels, out_channels) if out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`x [N, in_channels, h, w] -> [N, out_channels or base_channels, h, w]`; h and w divide by `2 ** depth`."""
        for layer in (self.stem, *self.down):
            x = F.relu(layer(x))
        for block in self.blocks:
            x = block(x)
        for layer in self.up:
            x = F.relu(layer(x))
        y: Tensor = self.head(x)
        return y


class Enhancer(nn.Module):
    """A local enhancer: a shallow network at twice the size of the one below, whose features it adds to its own.

    Args:
        norm, in_channels, stem_kernel_size, block_kernel_size: as for `Hourglass`.
        channels: width at full size; half that of the network below.
        blocks: residual blocks, at half the size.
        out_channels: of the head; None for features of `channels`.
    """

    def __init__(
        self,
        norm: ConvolutionNorm,
        in_channels: int,
        channels: int,
        blocks: int,
        out_channels: int | None,
        stem_kernel_size: int = 7,
        block_kernel_size: int = 3,
    ) -> None:
        super().__init__()
        self.stem = NormedConvolution(norm, in_channels, channels, stem_kernel_size)
        self.down = NormedConvolution(norm, channels, 2 * channels, scaling="half")
        self.blocks = nn.ModuleList(Block(norm, 2 * channels, block_kernel_size) for _ in range(blocks))
        self.up = NormedConvolution(norm, 2 * channels, channels, scaling="double")
        self.head = Head(channels, out_channels) if out_channels else nn.Identity()

    def forward(self, x: Tensor, below: Tensor) -> Tensor:
        """`x [N, in_channels, h, w]`, `below [N, 2 channels, h/2, w/2]` -> `[N, out_channels or channels, h, w]`."""
        features = F.relu(self.down(F.relu(self.stem(x)))) + below
        for block in self.blocks:
            features = block(features)
        y: Tensor = self.head(F.relu(self.up(features)))
        return y


@dataclass(frozen=True)
class Regions:
    """What shares one style in a batch of layouts, numbered alike in all of them.

    Attributes:
        index: the number of the region at each place, int64 `[N, H, W]`; by ascending instance id, then class.
        classes: the class of each region, int64 `[R]`.
    """

    index: Tensor
    classes: Tensor


class Pix2PixHDGenerator(Generator):
    """The generator of pix2pixHD, with the encoder and the stored styles if it has `feature_channels`.

    Attributes:
        coarse: the global network.
        enhancers: the local enhancers, coarsest first; the last one ends in the image.
        encoder: from a photo to a style at each place.
        cluster_centres, cluster_counts: the styles of each class, `[C, num_clusters, D]`, of which the first so many
            (int64 `[C]`) are there; see `fit_styles`.
    """

    config: Pix2PixHDConfig
    config_class = Pix2PixHDConfig
    cluster_centres: Tensor
    cluster_counts: Tensor

    def __init__(self, config: Pix2PixHDConfig) -> None:
        super().__init__(config)
        norm, inputs, base = config.norm, config.input_channels, config.base_channels
        kernels = (config.stem_kernel_size, config.block_kernel_size)
        last = config.enhancers
        depth, blocks = config.num_downsamplings, config.num_blocks
        self.coarse = Hourglass(norm, inputs, base, depth, blocks, None if last else 3, *kernels)
        self.enhancers = nn.ModuleList(
            Enhancer(norm, inputs, base >> i, config.num_enhancer_blocks, 3 if i == last else None, *kernels)
            for i in range(1, last + 1)
        )
        self.encoder: Hourglass | None = None
        if config.feature_channels:
            width, depth = config.encoder_channels, config.encoder_downsamplings
            self.encoder = Hourglass(norm, 3, width, depth, 0, config.feature_channels)
            classes = config.labels.num_classes
            self.register_buffer("cluster_centres", torch.zeros(classes, config.num_clusters, config.feature_channels))
            self.register_buffer("cluster_counts", torch.zeros(classes, dtype=torch.int64))
        (initialize_xavier if norm.startswith("spectral") else initialize_normal)(self)

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """Generate images.

        Args:
            layout: N layouts of height and width divisible by `config.size_multiple`, and twice as large at least.
            style: a style map `[N, feature_channels, h, w]`, resized to the layout by nearest neighbour; None: zeros.

        Raises:
            LayoutError: size or number of classes do not fit, or the instance map is missing.
            StyleError: a style for a model that takes none, or of another kind or number of channels.
        """
        self.check(layout, style)
        inputs = [self.network_input(layout, style)]
        for _ in self.enhancers:
            inputs.append(F.avg_pool2d(inputs[-1], 3, stride=2, padding=1, count_include_pad=False))
        x: Tensor = self.coarse(inputs.pop())
        for enhancer in self.enhancers:
            x = enhancer(inputs.pop(), x)
        return x

    def network_input(self, layout: Layout, style: Style | None) -> Tensor:
        """One-hot map, edges and style map, `[N, input_channels, H, W]`."""
        weight = self.coarse.stem.convolution.weight
        semantic = layout.semantic_map(layout.size, edges=self.config.use_instances).to(weight)
        if self.config.feature_channels is None:
            return semantic
        if style is None:
            return F.pad(semantic, (0, 0, 0, 0, 0, self.config.feature_channels))
        return torch.cat([semantic, F.interpolate(style.values.to(weight), size=layout.size, mode="nearest")], dim=1)

    def encode(self, image: Tensor, layout: Layout) -> StyleDistribution:
        """The style of each region, from the photo: a map, `[N, feature_channels, H, W]` of the layout's size.

        Photos of another size are resized to the layout's. Arguments and errors as `Generator.encode`.
        """
        means, _, regions = self._encode_regions(image, layout)
        return StyleDistribution(Style(spread(means, regions.index)))

    def sample_style(self, layout: Layout, generator: torch.Generator | None = None) -> Style | None:
        """For each region one of its class's stored styles, all as likely; zeros where there are none.

        Arguments as `Generator.sample_style`; None for a model without styles.
        """
        if self.encoder is None:
            return None
        regions = self.regions(layout)
        counts = self.cluster_counts[regions.classes]
        chance = torch.rand(len(regions.classes), generator=generator).to(counts.device)
        return self.stored_style(regions, (chance * counts).long())

    @property
    def random_styles(self) -> bool:
        """Whether there are stored styles."""
        return self.encoder is not None and bool(self.cluster_counts.any())

    def stored_style(self, regions: Regions, choice: Tensor) -> Style:
        """The style map with the stored style of number `choice`, int64 `[R]`, at each region."""
        centres = self.cluster_centres[regions.classes, choice]  # [R, D], zeros where a class has none
        return Style(spread(centres.expand(len(regions.index), -1, -1), regions.index))

    @property
    def can_fit_styles(self) -> bool:
        """Whether the model takes styles."""
        return self.encoder is not None

    def fit_styles(self, photos: Iterable[tuple[Tensor, Layout]]) -> None:
        """Find the styles of each class that `sample_style` draws from, by k-means over the objects of photos.

        Args:
            photos: images `[N, 3, H, W]` in [-1, 1] with their layouts: the training data, unaugmented.

        Raises:
            StyleError: a model without styles, or no photos.
            DependencyError: scikit-learn is not installed.
        """
        kmeans = require("sklearn.cluster", "train").KMeans
        with torch.no_grad():
            found = [self.region_features(image, layout) for image, layout in photos]
        if not found:
            raise StyleError("there are no photos to find styles in: give at least one.")
        features, classes, areas = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
        self.cluster_centres.zero_()
        for label in range(self.config.labels.num_classes):
            rows = features[(classes == label) & (areas > LEAST_AREA)]
            count = min(self.config.num_clusters, len(rows))
            self.cluster_counts[label] = count
            if count:
                centres = kmeans(count, n_init=10, random_state=0).fit(rows.numpy()).cluster_centers_
                self.cluster_centres[label, :count] = torch.from_numpy(centres)

    def region_features(self, image: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
        """The encoded style, class and area of each region of each photo, by class, then instance id.

        Arguments as `encode`.

        Returns:
            `[M, D]`, int64 `[M]`, and `[M]`: the area in units of 1/32 of the image.
        """
        means, counts, regions = self._encode_regions(image, layout)
        present = counts > 0
        classes = regions.classes.expand_as(counts)[present]
        order = classes.argsort(stable=True)
        height, width = layout.size
        return means[present][order], classes[order], (counts[present] / (height * width // 32))[order]

    def regions(self, layout: Layout) -> Regions:
        """What shares one style; raises LayoutError if the styles are objects' and the layout has no instance map."""
        keys, classes = layout.label_map, layout.num_classes
        if self.config.reads_objects:
            if layout.instance_map is None:
                raise LayoutError(
                    "the styles of this model belong to objects, and the layout has no instance map: give one."
                )
            keys = layout.instance_map * classes + keys
        found, index = torch.unique(keys, return_inverse=True)
        return Regions(index, found.remainder(classes))

    def _encode_regions(self, image: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Regions]:
        """Means `[N, R, D]` and places `[N, R]` of the regions in each photo."""
        require_style(self.config.style_shape, "a reference photo", self.config.model)
        assert self.encoder is not None
        self.check(layout)
        if image.shape[-2:] != layout.size:
            image = F.interpolate(image, size=layout.size, mode="bilinear", antialias=True)
        regions = self.regions(layout)
        means, counts = region_means(self.encoder(image), regions.index, len(regions.classes))
        return means, counts, regions

    def _check_size(self, layout: Layout) -> None:
        super()._check_size(layout)
        least = self.config.least_size
        if min(layout.size) < least:
            raise LayoutError(
                f"the layout is {layout.size[0]}x{layout.size[1]} (height x width), the model needs {least} at least."
            )

    def input_convolutions(self) -> Iterator[tuple[str, nn.Module]]:
        """The convolutions that read `network_input`, by name."""
        for name, part in self.named_modules():
            if isinstance(part, (Hourglass, Enhancer)) and part is not self.encoder:
                yield f"{name}.stem.convolution", part.stem.convolution


PIX2PIXHD_VARIANTS = {"pix2pixhd": Variant(Pix2PixHDGenerator, {})}
"""Name -> variant of this system."""
