"""`Style`: what the result should look like, beside the layout that says what should be where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from segscape.errors import StyleError
from segscape.files import write_atomically
from segscape.style_shapes import StyleKind, style_kind


@dataclass(frozen=True)
class Style:
    """The looks of N images, of the kind that the shape of `values` says; a model takes one kind.

    Attributes:
        values: `[N, D]`, a `latent` for the whole image (SPADE, CLADE); `[N, C, D]`, `codes`, one for each class (SEAN,
            GroupDNet, CA2-SIS); `[N, D, h, w]`, a `map` with a vector for each place (pix2pixHD).
        present: of codes, bool `[N, C]`: which classes the photo has that they were taken from; None if all are known.
    """

    values: Tensor
    present: Tensor | None = None

    def __post_init__(self) -> None:
        if style_kind(self.values.shape) is None:
            raise StyleError(
                "a style is a latent [N, D], codes [N, classes, D] or a map [N, D, h, w]; found the shape "
                f"{tuple(self.values.shape)}."
            )
        if self.present is not None and self.present.shape != self.values.shape[:2]:
            raise StyleError(
                f"present is {tuple(self.present.shape)} beside style values {tuple(self.values.shape)}: it says for "
                "each image and class whether there is a code, so it is [N, classes]."
            )

    @property
    def kind(self) -> StyleKind:
        """`latent`, `codes` or `map`."""
        kind = style_kind(self.values.shape)
        assert kind is not None
        return kind

    @property
    def count(self) -> int:
        """How many images it is for, N."""
        return self.values.shape[0]

    @classmethod
    def sample(cls, count: int, shape: int | Sequence[int], generator: torch.Generator | None = None) -> Style:
        """Draw `count` styles from the prior N(0, 1); pass a seeded CPU generator to repeat them.

        Args:
            count: N.
            shape: of one image's style: D for a latent, `(classes, D)` for codes.
            generator: where the numbers come from; torch's default one if None.
        """
        size = (shape,) if isinstance(shape, int) else tuple(shape)
        return cls(torch.randn(count, *size, generator=generator))

    @classmethod
    def stack(cls, styles: Iterable[Style]) -> Style:
        """The styles one after another, as one for all their images; raises StyleError if their shapes differ."""
        parts = list(styles)
        for part in parts[1:]:
            parts[0]._require_like(part)
        known = [part._known() for part in parts]
        present = (
            None if all(part.present is None for part in parts) else torch.cat([k for k in known if k is not None])
        )
        return cls(torch.cat([part.values for part in parts]), present)

    def __iter__(self) -> Iterator[Style]:
        """The styles of the images, each with N = 1."""
        return (self[image] for image in range(self.count))

    def __getitem__(self, image: int) -> Style:
        """The style of one image, with N = 1; raises IndexError if there is none."""
        chosen = [range(self.count)[image]]
        return Style(self.values[chosen], None if self.present is None else self.present[chosen])

    def expand(self, count: int) -> Style:
        """The style of one image for `count` images; raises StyleError if it is for several."""
        if self.count not in (1, count):
            raise StyleError(f"the style is for {self.count} images, so it cannot be used for {count}.")
        present = None if self.present is None else self.present.expand(count, -1)
        return Style(self.values.expand(count, *self.values.shape[1:]), present)

    def interpolate(self, other: Style, amount: float) -> Style:
        """The style at `amount` (0 = this one, 1 = the other) on the straight line between two.

        Where one has no code for a class, the other's is taken. Raises StyleError if the shapes differ.
        """
        self._require_like(other)
        mixed = torch.lerp(self.values, other.values, amount)
        if self.present is None and other.present is None:
            return Style(mixed)
        mine, theirs = self._known(), other._known()
        mixed = torch.where(mine.unsqueeze(2), mixed, other.values)
        mixed = torch.where(theirs.unsqueeze(2), mixed, self.values)
        return Style(mixed, mine | theirs)

    def replace_classes(self, other: Style, classes: Iterable[int]) -> Style:
        """These codes with those of some classes taken from another style.

        Args:
            other: codes of as many images, or of one, for all.
            classes: indices of the label set. Those for which `other` has no code stay as they are.

        Raises:
            StyleError: no codes, other shapes, or a class that does not exist.
        """
        if self.kind != "codes" or other.kind != "codes":
            raise StyleError(
                "styles are mixed by class where each class has its own code; these are a "
                f"{self.kind} and a {other.kind}."
            )
        other = other.expand(self.count)
        self._require_like(other)
        wanted = list(classes)
        for index in wanted:
            if not 0 <= index < self.values.shape[1]:
                raise StyleError(f"there is no class {index} in a style of {self.values.shape[1]} classes.")
        taken = torch.zeros(self.values.shape[:2], dtype=torch.bool, device=self.values.device)
        taken[:, wanted] = True
        if other.present is not None:
            taken &= other.present
        present = None if self.present is None else self.present | taken
        return Style(torch.where(taken.unsqueeze(2), other.values, self.values), present)

    def to(self, device: torch.device | str) -> Style:
        """The same style on another device."""
        return Style(self.values.to(device), None if self.present is None else self.present.to(device))

    def save(self, path: str | Path) -> None:
        """Write the style into a `.safetensors` file."""
        tensors = {"style": self.values.detach().cpu().contiguous()}
        if self.present is not None:
            tensors["present"] = self.present.cpu().contiguous()
        write_atomically(Path(path), lambda part: save_file(tensors, part))

    @classmethod
    def load(cls, path: str | Path) -> Style:
        """Read what `save` wrote; raises StyleError if the file is missing or is no style."""
        file = Path(path)
        try:
            tensors = load_file(file)
        except (SafetensorError, OSError) as error:
            found = "cannot be read" if file.is_file() else "is a folder" if file.is_dir() else "does not exist"
            raise StyleError(
                f"the style {file} {found} ({type(error).__name__}): give a file that Style.save wrote."
            ) from None
        if "style" not in tensors:
            raise StyleError(f"{file} holds no style (its first tensor is {next(iter(tensors), 'none')!r}).")
        return cls(tensors["style"], tensors.get("present"))

    def _known(self) -> Tensor:
        """Of codes, which are known, bool `[N, C]`."""
        if self.present is not None:
            return self.present
        return torch.ones(self.values.shape[:2], dtype=torch.bool, device=self.values.device)

    def _require_like(self, other: Style) -> None:
        if self.values.shape[1:] != other.values.shape[1:]:
            raise StyleError(
                f"the styles do not fit each other: {self.kind} {list(self.values.shape)} and {other.kind} "
                f"{list(other.values.shape)} are not of one model."
            )


@dataclass(frozen=True)
class StyleDistribution:
    """What an encoder says of photos: their styles, or a normal distribution over them.

    Attributes:
        mean: the styles.
        log_variance: of each value, in the shape of `mean.values`; None for an encoder that is certain.
    """

    mean: Style
    log_variance: Tensor | None = None

    def draw(self, noise: Tensor | None) -> Style:
        """A draw through which gradients flow, `mean + noise * exp(log_variance / 2)`; the mean of a certain encoder.

        Args:
            noise: of N(0, 1), in the shape of the mean; None takes the mean.
        """
        if self.log_variance is None or noise is None:
            return self.mean
        return Style(self.mean.values + noise * (0.5 * self.log_variance).exp(), self.mean.present)
