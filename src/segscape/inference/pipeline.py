"""`Pipeline`: files, arrays or layouts of any size in, PIL images out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from typing_extensions import Self

from segscape.data.sample import image_array, image_tensor
from segscape.errors import CheckpointError, ConfigError, LayoutError, StyleError
from segscape.inference.acceleration import Precision
from segscape.inference.acceleration import accelerate as fast_copy
from segscape.inference.inputs import (
    InstancesLike,
    missing_to_multiple,
    pair_with_instances,
    read_arrays,
    require_instances,
    require_same_classes,
    require_samples,
    require_size,
)
from segscape.label_files import read_image
from segscape.labels import LabelSet
from segscape.layout import Layout, Size
from segscape.models import load_model
from segscape.models.generator import Generator
from segscape.nn.noise import noise_from
from segscape.style import Style
from segscape.style_shapes import STYLE_SUFFIX, require_style, require_style_shape

LayoutLike = Layout | str | Path | npt.NDArray[Any]
PhotoLike = str | Path | Image.Image


class Reference(NamedTuple):
    """A photo that lends its style, with its label map, which models with a style for each class or place need.

    The style of a model with codes for classes is where the classes are, in whatever layout; that of one with a map
    stays at its place in the picture.

    Attributes:
        photo: the picture or its path.
        label_map: in the model's label set: a path, an integer array `[H, W]`, or a `Layout` of one.
        instance_map: where the model needs one.
    """

    photo: PhotoLike
    label_map: LayoutLike
    instance_map: InstancesLike = None


StyleLike = Style | PhotoLike | Reference
"""A style; a path ends in `.safetensors` if `Style.save` wrote it, and is else that of a photo."""

SHIPPED_MODEL = Path(__file__).parents[1] / "assets"
"""The folder of the model that comes with Segscape."""


def model_title(path_or_id: str | Path | None) -> str:
    """What people call a model: its folder's own name, or its Hugging Face id; None is the shipped one."""
    if path_or_id is None:
        return "shipped model"
    return Path(path_or_id).resolve().name if Path(path_or_id).exists() else str(path_or_id)


class Pipeline:
    """Turns layouts into pictures with one model.

    Attributes:
        model: the generator, in evaluation mode on `device`.
        device: where it runs.

    Args:
        model: a generator, for example from `segscape.load_model`; it is moved and set to evaluation mode.
        device: `auto` (CUDA, else Apple's MPS, else the CPU) or a PyTorch device such as `cpu` or `cuda:1`.

    Raises:
        ConfigError: the device is unknown or not there.
    """

    def __init__(self, model: Generator, device: str | torch.device = "auto") -> None:
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path | None = None,
        device: str | torch.device = "auto",
        *,
        revision: str | None = None,
        accelerate: Precision | Literal["fast", "compiled"] | None = None,
    ) -> Self:
        """Load a saved model from a folder or the Hugging Face hub; None is the shipped one.

        Args:
            path_or_id: the folder or id.
            device: see `Pipeline`.
            revision: of a Hugging Face repository.
            accelerate: `float32`, `bfloat16` or `float16` make the fast copy of the model in that precision
                (`segscape.inference.accelerate`); `fast` is `float32`, which gives the same pictures. `compiled` goes
                through `torch.compile` instead (`segscape.inference.compile_generator`), in float32, on a GPU bfloat16.

        Raises:
            CheckpointError: nothing there, or the files are broken.
            ConfigError: a model that this Segscape does not know, an unknown device or precision.
        """
        if path_or_id is None and not (SHIPPED_MODEL / "config.json").is_file():
            raise CheckpointError(
                f"this installation has no shipped model ({SHIPPED_MODEL} holds none): name one, "
                "a folder or a Hugging Face id (--model on the command line)."
            )
        target = choose_device(device)
        model = load_model(SHIPPED_MODEL if path_or_id is None else path_or_id, revision=revision)
        if accelerate == "compiled":
            from segscape.inference.compilation import compile_generator

            model = compile_generator(model.to(target), "bfloat16" if target.type == "cuda" else "float32")
        elif accelerate is not None:
            model = fast_copy(model.to(target), "float32" if accelerate == "fast" else accelerate)
        return cls(model, target)

    @property
    def labels(self) -> LabelSet:
        """The label set that the model was trained with."""
        return self.model.config.labels

    @torch.inference_mode()
    def __call__(
        self,
        layouts: LayoutLike | Sequence[LayoutLike],
        *,
        seed: int | None = None,
        style: StyleLike | Mapping[str, StyleLike] | None = None,
        size: Size | None = None,
        samples: int = 1,
        instance_maps: InstancesLike | Sequence[InstancesLike] = None,
    ) -> list[Image.Image]:
        """Generate pictures of the size of their layouts.

        A size that the network cannot work at is padded (the border labels repeated) and cropped. A model with
        style latents works at its training size only: the layout is resized to it, the picture back (bicubic).

        Args:
            layouts: one or a list of: a `Layout`, the path of a label map file, an integer array `[H, W]`
                (files and arrays are read with the model's label set).
            seed: of the random styles, and of noise that the network adds (SEAN); every layout gets the same ones,
                whatever its place in the list, and all pictures of one call the same noise.
            style: None draws random styles if the model has any, and else takes its neutral one; a `Style` (or the
                file of one) for S images gives S pictures of each layout; a photo, or a `Reference` with its label map,
                lends its own style, and classes that it lacks stay neutral; for models with a code for each class, a
                mapping from class names to these takes each class from its own, and the rest as with None (`mix` takes
                the rest from another one).
            size: (height, width) to resize the layouts to first, nearest neighbour.
            samples: how many random styles to draw for each layout.
            instance_maps: for paths and arrays: the path or array `[H, W]` of each one's instance map.

        Returns:
            The pictures, those of the first label map first.

        Raises:
            LabelMapError: a file or array is no label map of the model's label set.
            LayoutError: other classes, no instance map where the model needs one, or too large.
            StyleError: a style of a wrong kind or length, for a model that takes none, or for a class that the
                reference lacks; or several random styles of a model that has none.
            DataError: the reference photo cannot be read.
        """
        by_class = style if isinstance(style, Mapping) else {}
        given = None if style is None or isinstance(style, Mapping) else style
        config = self.model.config
        require_samples(samples, config.style_shape, given is not None, config.model)
        look = None if given is None else self.style(given)
        class_looks = self._class_styles(by_class)
        seed = _any_seed() if seed is None else seed
        read = [self.read_layout(item, instances) for item, instances in pair_with_instances(layouts, instance_maps)]
        prepared = [self._sized(layout, size) for layout in read]
        pictures = []
        for layout in prepared:
            fitted = self._fitted(layout)
            styles = self.sample_styles(fitted, samples, seed) if look is None else list(look)
            pictures += self._pictures(layout.size, fitted, [self._mixed(one, class_looks) for one in styles], seed)
        return pictures

    def style(self, item: StyleLike) -> Style:
        """A `Style`, or that of a file, checked against the model; or that of a photo. Raises as `encode`."""
        if isinstance(item, (str, Path)) and Path(item).suffix == STYLE_SUFFIX:
            item = Style.load(item)
        if isinstance(item, Style):
            require_style_shape(item.values.shape, self.model.config.open_style_shape, self.model.config.model)
            return item
        if isinstance(item, Reference):
            return self.encode(*item)
        if isinstance(item, (str, Path, Image.Image)):
            return self.encode(item)
        raise StyleError(
            f"a style is a Style, a Reference, a PIL image, or the path of a photo, not a {type(item).__name__}."
        )

    def mix(self, base: StyleLike, by_class: Mapping[str, StyleLike]) -> Style:
        """A style with the codes of some classes, by name, taken from others.

        Raises:
            StyleError: the model has no code for each class, or a reference lacks the class it is given for.
            LabelMapError: there is no such class.
        """
        mixed = self._mixed(self.style(base), self._class_styles(by_class))
        assert mixed is not None
        return mixed

    def encode(
        self, photo: PhotoLike, label_map: LayoutLike | None = None, instance_map: InstancesLike = None
    ) -> Style:
        """The style of a photo, as the model's encoder finds it; of a distribution, the mean.

        The photo is resized to the training size (bicubic, aspect not kept), as in training.

        Args:
            photo: the picture or its path.
            label_map: the photo's label map, for models with a style for each class or place.
            instance_map: where the model needs one.

        Raises:
            StyleError: the model takes no style, or needs the label map.
            LabelMapError, LayoutError: the label map is none of the model's label set.
            DataError: the file cannot be read.
        """
        config = self.model.config
        require_style(config.style_shape, "a reference photo", config.model)
        if not isinstance(photo, Image.Image):
            photo = Image.fromarray(read_image(photo))
        height, width = config.image_size
        pixels = np.asarray(photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
        image = image_tensor(pixels).to(self.device)
        if label_map is not None:
            layout = self.read_layout(label_map, instance_map).resize(config.image_size)
        elif config.style_kind == "latent":  # its encoder does not look at the layout
            layout = Layout(torch.zeros(1, height, width, dtype=torch.long), self.labels)
        else:
            each = "class" if config.style_kind == "codes" else "place"
            raise StyleError(
                f"this {config.model} model takes a style for each {each}, so a photo needs its label map: give "
                "Reference(photo, label_map), or PHOTO:MAP on the command line."
            )
        with torch.inference_mode(False), torch.no_grad():  # so that the style can be optimised further
            return self.model.encode(image.unsqueeze(0), layout.to(self.device)).mean.to("cpu")

    def random_style(self, layout: LayoutLike, count: int = 1, seed: int | None = None) -> Style:
        """The random styles that a call with this seed and so many samples takes, as one `Style` for `count` images.

        Raises StyleError if the model draws none, and for the layout as a call does.
        """
        drawn = self.sample_styles(self._fitted(self._sized(self.read_layout(layout), None)), count, seed)
        styles = [style for style in drawn if style is not None]
        if not styles:
            raise StyleError(f"this {self.model.config.model} model draws no random styles: give a reference photo.")
        return Style.stack(styles)

    def sample_styles(self, layout: Layout, count: int = 1, seed: int | None = None) -> list[Style | None]:
        """Random styles for a layout, each for all its maps; None, the neutral style, of a model that draws none.

        Args:
            layout: one that the model can use.
            count: how many.
            seed: repeats them.

        Raises:
            StyleError: several, of a model that draws none.
        """
        config, seed = self.model.config, _any_seed() if seed is None else seed
        if config.variational and config.style_shape is not None:
            return list(Style.sample(count, config.style_shape, _source(seed)))
        if not self.model.random_styles:
            if count > 1:
                stored = " (or store some with segscape fit-styles)" if config.style_kind == "map" else ""
                raise StyleError(
                    f"this {config.model} model has no random styles, so {count} samples would be the same picture: "
                    f"give styles or reference photos{stored}."
                )
            return [None]
        by_map = [self._drawn(layout[place : place + 1], count, seed) for place in range(layout.batch_size)]
        return [Style.stack(styles) for styles in zip(*by_map, strict=True)]

    def _drawn(self, layout: Layout, count: int, seed: int) -> list[Style]:
        """Random styles of one map by the model itself, on the CPU."""
        source = _source(seed)
        drawn = (self.model.sample_style(layout, source) for _ in range(count))
        return [style.to("cpu") for style in drawn if style is not None]

    def read_layout(self, label_map: LayoutLike, instance_map: InstancesLike = None) -> Layout:
        """One layout from a file, an array `[H, W]` or a `Layout`, checked against the model's label set.

        Raises:
            LabelMapError: the file or array is no label map of this label set.
            LayoutError: other classes, an instance map of another size, or none where one is needed.
        """
        layout = self._read(label_map, instance_map)
        require_same_classes(layout.labels, self.labels)
        if self.model.config.reads_instances:
            require_instances(layout.has_instances)
        return layout

    def _read(self, label_map: LayoutLike, instance_map: InstancesLike) -> Layout:
        if isinstance(label_map, Layout):
            if instance_map is not None:
                raise LayoutError("instance_maps goes with files and arrays: a Layout brings its own instance map.")
            return label_map
        labels, instances = read_arrays(label_map, instance_map, self.labels)
        return Layout.from_array(labels, self.labels, instances)

    def _class_styles(self, by_class: Mapping[str, StyleLike]) -> dict[int, Style]:
        """The styles for some classes, by index; each has the class it is for."""
        if by_class and self.model.config.style_kind != "codes":
            raise StyleError("this model has no style of its own for each class: give one style, not one per class.")
        styles = {}
        for name, item in by_class.items():
            index = self.labels.index(name)
            styles[index] = style = self.style(item)
            if style.present is not None and not style.present[:, index].all():
                raise StyleError(f"the reference given for {name!r} has no {name!r} in it: choose another photo.")
        return styles

    def _mixed(self, base: Style | None, by_class: Mapping[int, Style]) -> Style | None:
        """The style with the codes of some classes taken from others; None is the neutral one."""
        if not by_class:
            return base
        style = self.model.neutral_style(1).to("cpu") if base is None else base
        for index, other in by_class.items():
            style = style.replace_classes(other, [index])
        return style

    def _sized(self, layout: Layout, size: Size | None) -> Layout:
        rule = self.model.config.encoding_rule
        if rule is not None:  # the encoding is that of the objects as they are given, as in training
            layout = layout.with_position(rule)
        if size is None:
            return layout
        require_size(size)
        return layout.resize(size)

    def _image(self, layout: Layout, style: Style | None, seed: int) -> Tensor:
        """The output of the network, `[N, 3, H, W]`; noise that it adds is drawn from the seed."""
        if style is not None:
            style = self.model.completed(style.to(self.device)).expand(layout.batch_size)
        with noise_from(self.model, _source(seed)):
            image: Tensor = self.model(layout, style).float()
            return image

    def _pictures(self, size: Size, layout: Layout, styles: Sequence[Style | None], seed: int) -> list[Image.Image]:
        """The pictures, of a (height, width), of a fitted `Layout` of N maps in S styles: N * S of them, map by map."""
        height, width = size
        try:
            batches = [self._image(layout, style, seed) for style in styles]
        except torch.OutOfMemoryError:
            raise LayoutError(
                f"a layout of {height}x{width} does not fit into the memory of {self.device}: "
                "give a smaller size (--size) or the CPU (--device cpu)."
            ) from None
        images = torch.stack(batches, dim=1).flatten(0, 1)  # [N * S, 3, H', W']
        if not self.model.config.fixed_size:
            return to_pictures(images[..., :height, :width])
        return [picture.resize((width, height), Image.Resampling.BICUBIC) for picture in to_pictures(images)]

    def _fitted(self, layout: Layout) -> Layout:
        """The layout on the device, at a size that the network takes."""
        layout = layout.to(self.device)
        if self.model.config.fixed_size:
            return layout.resize(self.model.config.image_size)
        bottom, right = missing_to_multiple(layout.size, self.model.config.size_multiple)
        return layout.pad(bottom, right) if bottom or right else layout


def _any_seed() -> int:
    """A seed from PyTorch's default generator."""
    return int(torch.randint(2**63 - 1, ()).item())


def _source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """PIL images of `[N, 3, H, W]` in [-1, 1], converted by `image_array`."""
    return [Image.fromarray(picture) for picture in image_array(images)]


def choose_device(name: str | torch.device) -> torch.device:
    """The device of a name; `auto` is CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: the name is unknown, or this machine has no such device.
    """
    if isinstance(name, str) and name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(
            f"the device {str(name)!r} is unknown or not on this machine: use auto, cpu, cuda, cuda:0 or mps."
        ) from None
    return device
