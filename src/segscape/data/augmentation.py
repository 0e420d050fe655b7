"""Augmentation beyond flip and crop: other colours, other scales, forgotten classes, two layouts in one.

All of it is drawn from the generator of the sample's draw, so that a resumed run is the run. What changes the layout
(classes to unknown, merging) happens to the raw sample, before its positional encoding is computed; image, label map
and instance map stay in step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from PIL import Image, ImageEnhance
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from segscape.data.sample import Array, Dataset, Sample
from segscape.data.transforms import Preprocess, resize
from segscape.errors import DataError
from segscape.labels import LabelSet


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"a range is [least, greatest], but {bounds[0]} is more than {bounds[1]}")
    return bounds


Factors = Annotated[
    tuple[Annotated[float, Field(gt=0, le=10)], Annotated[float, Field(gt=0, le=10)]], AfterValidator(_ordered)
]
"""A range of factors, [least, greatest]; 1 changes nothing."""
Turns = Annotated[
    tuple[Annotated[float, Field(ge=-0.5, le=0.5)], Annotated[float, Field(ge=-0.5, le=0.5)]], AfterValidator(_ordered)
]
"""A range of angles on the colour circle, in whole turns."""
Probability = Annotated[float, Field(ge=0, le=1)]

_UNCHANGED = (1.0, 1.0)
_ENHANCEMENTS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColorJitter(_Section):
    """Changes the colours of the image only, in the order of the attributes; each value is uniform in its range.

    Attributes:
        brightness: factor on all values.
        contrast: factor on the distance from the picture's mean grey.
        saturation: factor on the distance from the pixel's grey.
        hue: angle added, in turns; 0.5 makes colours complementary.
    """

    brightness: Factors = _UNCHANGED
    contrast: Factors = _UNCHANGED
    saturation: Factors = _UNCHANGED
    hue: Turns = (0.0, 0.0)

    def apply(self, image: Array, rng: np.random.Generator) -> Array:
        """An image uint8 ``[H, W, 3]`` in other colours."""
        picture = Image.fromarray(image)
        for name, enhancement in _ENHANCEMENTS.items():
            factor = rng.uniform(*getattr(self, name))
            if factor != 1:
                picture = enhancement(picture).enhance(factor)
        turned = _turn_hue(picture, rng.uniform(*self.hue))
        return np.asarray(turned)


class ClassDrop(_Section):
    """Turns all pixels of a class into unknown, so that a network learns to fill in what nobody drew.

    Attributes:
        probability: of each class in each sample.
        classes: names of the classes that may be dropped; all but unknown by default.
    """

    probability: Probability
    classes: tuple[str, ...] | None = None

    def apply(self, sample: Sample, labels: LabelSet, rng: np.random.Generator) -> Sample:
        """The sample without some of its classes. In the instance map their objects become one, so no edge shows them.

        Raises:
            DataError: the label set has no unknown class.
            LabelMapError: the label set has no class of a chosen name.
        """
        unknown = self.check(labels)
        dropped = rng.random(labels.num_classes) < self.probability
        if self.classes is not None:
            dropped &= np.isin(labels.names, self.classes)
        dropped[unknown] = False
        return _forget(sample, dropped[sample.label_map], unknown)

    def check(self, labels: LabelSet) -> int:
        """The label set's unknown class; raises as :meth:`apply`."""
        for name in self.classes or ():
            labels.index(name)
        if labels.unknown is None:
            raise DataError(
                f"augmentation.drop turns classes into unknown, but the label set {labels.name!r} has none: "
                "add one to it and name its index as `unknown`, or leave drop out."
            )
        return labels.unknown


class Augmentation(_Section):
    """What happens to training samples beside crop and flip; everything is off by default.

    Attributes:
        color: other colours of the image.
        scale: factor on the size before the crop, as likely to enlarge as to shrink (uniform in its logarithm); needs a
            preprocessing mode that crops.
        drop: classes to unknown.
        merge: probability that regions of another random sample, each of its classes by a fair coin, are pasted over
            the sample: image, label map and instance map.
    """

    color: ColorJitter | None = None
    scale: Factors = _UNCHANGED
    drop: ClassDrop | None = None
    merge: Probability = 0.0

    def check(self, labels: LabelSet, preprocess: Preprocess) -> None:
        """Find out before the run begins whether data and preprocessing allow all of this.

        Raises:
            DataError: they do not.
            LabelMapError: a class to drop is not in the label set.
        """
        if self.drop is not None:
            self.drop.check(labels)
        if self.scale != _UNCHANGED and not preprocess.crops:
            raise DataError(
                f"augmentation.scale needs a crop after it, but preprocess.mode is {preprocess.mode!r}: choose "
                "resize_and_crop, scale_width_and_crop, scale_shortside_and_crop or crop."
            )

    def draw_scale(self, rng: np.random.Generator) -> float:
        """The factor on the size before the crop."""
        return 1.0 if self.scale == _UNCHANGED else float(np.exp(rng.uniform(*np.log(self.scale))))

    def change_layout(self, sample: Sample, dataset: Dataset, rng: np.random.Generator) -> Sample:
        """Merge with another sample of the dataset, then drop classes. Returns `sample` itself if nothing changes."""
        if self.merge and rng.random() < self.merge:
            other = dataset.sample(int(rng.integers(len(dataset))))
            sample = merge(sample, other, dataset.labels, rng)
        return sample if self.drop is None else self.drop.apply(sample, dataset.labels, rng)

    def change_colors(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Jitter the colours of the image, if the sample has one."""
        if self.color is None or sample.image is None:
            return sample
        return replace(sample, image=self.color.apply(sample.image, rng))


def merge(sample: Sample, other: Sample, labels: LabelSet, rng: np.random.Generator) -> Sample:
    """Paste whole classes of another sample, each by a fair coin and never unknown, over a sample.

    The other one is resized to the sample's size. Its instance ids are shifted past the sample's, so that objects stay
    apart. Image and instance map are there only if both samples have them; a positional encoding is not carried over,
    since objects change.
    """
    other = resize(other, sample.size)
    chosen = rng.random(labels.num_classes) < 0.5
    if labels.unknown is not None:
        chosen[labels.unknown] = False
    pasted = chosen[other.label_map]
    if not pasted.any():
        return sample
    image = instances = None
    if sample.image is not None and other.image is not None:
        image = np.where(pasted[..., None], other.image, sample.image)
    if sample.instance_map is not None and other.instance_map is not None:
        past = sample.instance_map.max() + 1 - other.instance_map.min()
        instances = np.where(pasted, other.instance_map + past, sample.instance_map)
    label_map = np.where(pasted, other.label_map, sample.label_map)
    return replace(sample, image=image, label_map=label_map, instance_map=instances, position=None)


def _forget(sample: Sample, forgotten: Array, unknown: int) -> Sample:
    """The sample with some pixels ``[H, W]`` unknown, and of one instance with what was unknown before."""
    if not forgotten.any():
        return sample
    instances = sample.instance_map
    if instances is not None:
        before = instances[sample.label_map == unknown]
        instances = np.where(forgotten, before[0] if before.size else instances.max() + 1, instances)
    label_map = np.where(forgotten, unknown, sample.label_map)
    return replace(sample, label_map=label_map, instance_map=instances, position=None)


def _turn_hue(picture: Image.Image, turns: float) -> Image.Image:
    """Turn the colour circle, in Pillow's 256 steps."""
    steps = round(turns * 256)
    if not steps:
        return picture
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point([(place + steps) % 256 for place in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")
