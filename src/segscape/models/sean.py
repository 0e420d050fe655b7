"""SEAN and SEAN-CLADE: the generator of SPADE with a style for each class, read off a photo.

Source: Zhu et al., "SEAN: Image Synthesis with Semantic Region-Adaptive Normalization", CVPR 2020, arXiv 1911.12861,
official code ZPdesu/SEAN (nothing of it is used here: written from a specification and checked against stored outputs);
SEAN-CLADE: Tan et al., TPAMI 2021, arXiv 2012.04644, section 4.10 and Table VIII, for which no code is published. The
layer itself is `segscape.nn.sean.ACE`. Differences from the official code: any number of classes and images; styles are
arguments and not files; a class without a style can get the mean of the training set here, too, and not in an editor
only; the output has the size of the layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.errors import StyleError
from segscape.layout import Layout
from segscape.models.generator import Variant
from segscape.models.spade import SPADEGenerator, SPADEGeneratorConfig
from segscape.nn.clade import CLADE
from segscape.nn.conditional import ConditionalNorm, LayoutModulatedNorm
from segscape.nn.convolution import Conv2d
from segscape.nn.initialization import initialize_xavier
from segscape.nn.instance import instance_norm
from segscape.nn.region_pooling import region_means
from segscape.nn.sean import ACE
from segscape.style import Style, StyleDistribution
from segscape.style_shapes import StyleKind


class SEANGeneratorConfig(SPADEGeneratorConfig):
    """Configuration of SEAN; `norm` is the part of each norm that follows the layout, `clade` for SEAN-CLADE.

    Attributes:
        style_dim: length of a class's style code.
        encoder_channels: width of the style encoder's first layer.
    """

    model: str = "sean"
    style_dim: PositiveInt = 512
    encoder_channels: PositiveInt = 32
    upsampling: Literal["normal", "more"] = "normal"
    position: None = None
    latent_dim: None = None

    @property
    def num_codes(self) -> int:
        """Codes of a style: one for each class, then, with `use_instances`, one for instance edges."""
        return self.labels.num_classes + int(self.use_instances)

    @property
    def style_kind(self) -> StyleKind:
        """Codes, one for each class."""
        return "codes"

    @property
    def style_shape(self) -> tuple[int, ...]:
        """`(num_codes, style_dim)`."""
        return self.num_codes, self.style_dim


class RegionStyleEncoder(nn.Module):
    """A photo in, features at half its size out, which are averaged over the region of each class.

    Args:
        base_channels: width of the first layer; the widest has eight times as many.
        style_dim: length of a class's style code.
    """

    def __init__(self, base_channels: int, style_dim: int) -> None:
        super().__init__()
        base = base_channels
        self.layers = nn.ModuleList(
            [
                Conv2d(3, base, 3, padding=1, padding_mode="reflect"),
                Conv2d(base, 2 * base, 3, stride=2, padding=1),
                Conv2d(2 * base, 4 * base, 3, stride=2, padding=1),
                nn.ConvTranspose2d(4 * base, 8 * base, 3, stride=2, padding=1, output_padding=1),
            ]
        )
        self.to_style = Conv2d(8 * base, style_dim, 3, padding=1, padding_mode="reflect")

    def features(self, image: Tensor) -> Tensor:
        """`image [N, 3, H, W]` in [-1, 1] -> `[N, D, H / 2, W / 2]` in (-1, 1); H and W are multiples of 4."""
        x = image
        for layer in self.layers:
            x = F.leaky_relu(instance_norm(layer(x)), 0.2)
        return torch.tanh(self.to_style(x))

    def forward(self, image: Tensor, layout: Layout, instances: bool = False) -> Style:
        """The codes of photos `[N, 3, H, W]`; those of classes that a photo lacks are zero.

        Args:
            image: in [-1, 1].
            layout: theirs.
            instances: add the mean over the instance edges as the last code.
        """
        features = self.features(image)
        size = (features.shape[-2], features.shape[-1])
        codes, counts = region_means(features, layout.at(size), layout.num_classes)
        if instances:
            edge, edge_counts = region_means(features, layout.edges(size)[:, 0].long(), 2)
            codes, counts = torch.cat([codes, edge[:, 1:]], dim=1), torch.cat([counts, edge_counts[:, 1:]], dim=1)
        return Style(codes, counts > 0)


class SEANGenerator(SPADEGenerator):
    """SPADE's generator with `ACE` norms, their style encoder, and the mean style of a dataset.

    Attributes:
        mean_codes: `[num_codes, style_dim]`, what `forward` takes without a style; zeros before `fit_mean_codes`.
        code_counts: `[num_codes]`, of how many photos they are the means.
    """

    config: SEANGeneratorConfig
    config_class = SEANGeneratorConfig
    encoder_name = "style_encoder"
    encoder_counts = True
    mean_codes: Tensor
    code_counts: Tensor

    def __init__(self, config: SEANGeneratorConfig) -> None:
        super().__init__(config)
        self.style_encoder = RegionStyleEncoder(config.encoder_channels, config.style_dim)
        initialize_xavier(self.style_encoder)
        self.register_buffer("mean_codes", torch.zeros(config.style_shape))
        self.register_buffer("code_counts", torch.zeros(config.num_codes, dtype=torch.int64))

    def norm_of_block(self, place: int) -> Callable[[int], ConditionalNorm]:
        config = self.config

        def ace(channels: int) -> ACE:
            return ACE(
                self._layout_norm(place, channels),
                config.num_codes,
                config.style_dim,
                instances=config.use_instances,
                styled=place < len(config.block_norms) - 1,
            )

        return ace

    def _layout_norm(self, place: int, channels: int) -> LayoutModulatedNorm:
        config = self.config
        if config.block_norms[place] == "clade":  # its tables do not know of instance edges
            return CLADE(channels, config.labels.num_classes, statistics=config.statistics)
        return cast(LayoutModulatedNorm, super().norm_of_block(place)(channels))

    def forward(self, layout: Layout, style: Style | None = None) -> Tensor:
        """As `SPADEGenerator.forward`; the style is `codes`, of which None takes the means of the dataset.

        A code of zeros is that of an absent class, see `completed`. Noise is added to the features, in
        evaluation, too: `segscape.nn.noise.noise_from` seeds it.
        """
        if style is None:
            style = self.neutral_style(layout.batch_size)
        return super().forward(layout, style)

    def encode(self, image: Tensor, layout: Layout) -> StyleDistribution:
        """As `Generator.encode`: a code for each class of each photo, zeros for those that it lacks; no variance."""
        self.check(layout)
        return StyleDistribution(self.style_encoder(image, layout, self.config.use_instances))

    def neutral_style(self, count: int) -> Style:
        """The mean codes of the dataset; `present` says which classes have one."""
        return Style(self.mean_codes.unsqueeze(0), (self.code_counts > 0).unsqueeze(0)).expand(count)

    @property
    def can_fit_styles(self) -> bool:
        """True: `mean_codes`."""
        return True

    def fit_styles(self, photos: Iterable[tuple[Tensor, Layout]]) -> None:
        """`fit_mean_codes` of what `encode` says of photos; see `Generator.fit_styles`."""
        with torch.no_grad():
            self.fit_mean_codes(self.encode(image, layout).mean for image, layout in photos)

    @torch.no_grad()
    def fit_mean_codes(self, styles: Iterable[Style]) -> None:
        """Store the mean code of each class over the photos that have it.

        Args:
            styles: what `encode` says of photos, usually those of the training set: `model.encode(image,
                layout).mean`.

        Raises:
            StyleError: none, or styles of another shape.
        """
        sums, counts = torch.zeros_like(self.mean_codes, dtype=torch.float64), torch.zeros_like(self.code_counts)
        for style in styles:
            if style.values.shape[1:] != self.mean_codes.shape:
                raise StyleError(
                    f"a style of the shape {list(style.values.shape)} cannot be averaged in a model whose styles are "
                    f"[images, {self.config.num_codes}, {self.config.style_dim}]: encode the photos with this model."
                )
            known = torch.ones_like(style.values[..., 0]) if style.present is None else style.present
            sums += (style.values * known.unsqueeze(2)).sum(0, dtype=torch.float64)
            counts += known.sum(0).long()
        if not counts.any():
            raise StyleError("there are no styles to average: give those of at least one photo.")
        self.mean_codes.copy_(sums / counts.clamp(min=1).unsqueeze(1))
        self.code_counts.copy_(counts)


SEAN_VARIANTS = {
    "sean": Variant(SEANGenerator, {}),
    "sean-clade": Variant(SEANGenerator, {"norm": "clade"}),
}
"""Name -> variant of this system."""
