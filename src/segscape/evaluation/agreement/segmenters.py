"""Networks that segment photographs, behind one interface: our U-Net, a Hugging Face model, or any function.

Every picture goes through a network alone, so that its labels do not depend on how pictures are batched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from segscape.data.sample import Dataset, image_tensor
from segscape.data.transforms import resize
from segscape.errors import EvaluationError
from segscape.evaluation.agreement.confusion import Agreement
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.evaluation.agreement.unet import UNet
from segscape.extras import require
from segscape.inference.pipeline import choose_device
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Size

SHIPPED_SEGMENTER = Path(__file__).parents[2] / "assets" / "segmenter"
"""The folder of the U-Net for CamVid's classes that comes with Segscape."""

HASH_DIGITS = 12


class Segmenter(Protocol):
    """What measures agreement: pictures in, class indices out."""

    @property
    def description(self) -> str:
        """For protocols: its name, a hash of its weights, and the size at which it looks at pictures."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes, in the order of the indices that it returns."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Segment `images`, uint8 `[N, 3, H, W]`, into class indices, int64 `[N, H, W]` on the CPU."""
        ...


class UNetSegmenter:
    """A U-Net of `segscape segmenter train`.

    Attributes:
        classes: the names of its label set.
        description: name, hash of the weights, size rule.

    Args:
        model: the network, or the folder (or Hugging Face id) that it was saved in.
        device: as for `Pipeline`.

    Raises:
        CheckpointError, ConfigError: no U-Net is there, or an unknown device.
        EvaluationError: its weights are not finite.
    """

    def __init__(self, model: UNet | str | Path, device: str | torch.device = "auto") -> None:
        self.device = choose_device(device)
        loaded = model if isinstance(model, UNet) else UNet.from_pretrained(model)
        self.model = loaded.to(self.device).eval()
        _require_finite_weights(loaded, "the U-Net")
        config = loaded.config
        self.classes: tuple[str, ...] = config.labels.names
        height, width = config.image_size
        self.description = (
            f"U-Net ({config.encoder}, {config.labels.name}) {weights_hash(loaded)}, "
            f"at the pictures' own size (trained at {height}x{width})"
        )

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Segment `images`, uint8 `[N, 3, H, W]`, into class indices, int64 `[N, H, W]` on the CPU."""
        _require_pictures(images)
        prepared = image_tensor(images.movedim(1, -1).cpu().numpy())
        return torch.cat([self.model(image[None].to(self.device)).argmax(1).cpu() for image in prepared])


class HuggingFaceSegmenter:
    """A semantic or universal segmentation model of transformers: SegFormer, UperNet, Mask2Former, OneFormer, ...

    Pictures are prepared by the model's own image processor; its logits or masks are brought back to the pictures'
    size by the processor's `post_process_semantic_segmentation`.

    Attributes:
        classes: the names in the model's `id2label`.
        description: name, hash of the weights, size rule.

    Args:
        path_or_id: a folder with config.json and preprocessor_config.json, or a Hugging Face id.
        device: as for `Pipeline`.

    Raises:
        EvaluationError: it cannot be loaded, is no model for segmentation, or lacks trained weights.
        DependencyError: transformers is not installed.
        ConfigError: an unknown device.
    """

    def __init__(self, path_or_id: str | Path, device: str | torch.device = "auto") -> None:
        self.device = choose_device(device)
        self.name = str(path_or_id)
        self.processor, model = _load_huggingface(self.name)
        _require_finite_weights(model, self.name)
        self.model = model.to(self.device).eval()
        labels = self.model.config.id2label
        self.classes: tuple[str, ...] = tuple(str(labels[index]) for index in sorted(labels))
        self.description = f"{Path(self.name).name} {weights_hash(self.model)}, {_size_rule(self.processor)}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Segment `images`, uint8 `[N, 3, H, W]`, into class indices, int64 `[N, H, W]` on the CPU."""
        _require_pictures(images)
        return torch.stack([self._segment(Image.fromarray(image)) for image in images.movedim(1, -1).cpu().numpy()])

    def _segment(self, photo: Image.Image) -> Tensor:
        task = {"task_inputs": ["semantic"]} if self.model.config.model_type == "oneformer" else {}
        inputs = self.processor(images=[photo], return_tensors="pt", **task).to(self.device)
        size = (photo.height, photo.width)
        maps = self.processor.post_process_semantic_segmentation(self.model(**inputs), target_sizes=[size])
        label_map: Tensor = maps[0].long().cpu()
        return label_map


class CallableSegmenter:
    """Any function as a segmenter.

    Args:
        function: uint8 `[N, 3, H, W]` to integer class indices `[N, H, W]`.
        classes: the names of its classes.
        name: for protocols; say which weights it has.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], classes: Sequence[str], name: str) -> None:
        self.function = function
        self.classes: tuple[str, ...] = tuple(classes)
        self.description = name

    def __call__(self, images: Tensor) -> Tensor:
        """Segment `images`, uint8 `[N, 3, H, W]`; raises EvaluationError if the function returns another form."""
        _require_pictures(images)
        found = self.function(images)
        wanted = (images.shape[0], *images.shape[2:])
        if not isinstance(found, Tensor) or found.is_floating_point() or tuple(found.shape) != wanted:
            form = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise EvaluationError(
                f"the segmenter {self.description!r} returned {form}: "
                f"it must return integer class indices {list(wanted)}."
            )
        return found.long().cpu()


def open_segmenter(spec: str | Path, device: str | torch.device = "auto") -> Segmenter:
    """The segmenter in a folder or a Hugging Face repository: a U-Net of ours, or a model of transformers.

    Raises:
        EvaluationError: nothing is there, or it is no segmenter.
        CheckpointError, ConfigError, DependencyError: as the two classes say.
    """
    content = _read_config(spec)
    options = content.get("config")
    if "format" not in content or not isinstance(options, dict):
        return HuggingFaceSegmenter(spec, device)
    if options.get("model") != "unet":
        raise EvaluationError(f"{spec} holds a {options.get('model')} model, which generates pictures: no segmenter.")
    return UNetSegmenter(spec, device)


def default_segmenter(labels: LabelSet) -> Path | None:
    """The folder of the shipped segmenter if it knows these classes, else None."""
    fits = labels.names == LABEL_SETS["camvid"].names
    return SHIPPED_SEGMENTER if fits and (SHIPPED_SEGMENTER / "config.json").is_file() else None


def agreement_on_photographs(
    segmenter: Segmenter, mapping: ClassMapping, dataset: Dataset, size: Size | None = None
) -> Agreement:
    """The agreement of a segmenter with the label maps of real photographs: the ceiling for generated ones.

    Args:
        segmenter: the judge.
        mapping: from its classes to those of the dataset.
        dataset: photographs and label maps.
        size: (height, width) to resize both to first, bicubic and nearest; None for their own size.

    Raises:
        EvaluationError: a sample has no photograph.
    """
    total = Agreement.zero(mapping.labels.num_classes, mapping.excluded)
    for index in tqdm(range(len(dataset)), unit="photo", disable=None, leave=False):
        sample = dataset.sample(index)
        if sample.image is None:
            raise EvaluationError(f"{sample.name!r} has no photograph to segment: give the folder of images too.")
        sized = sample if size is None else resize(sample, size)
        image = torch.from_numpy(np.array(sized.image)).permute(2, 0, 1)
        found = mapping.apply(segmenter(image[None]))
        truth = torch.from_numpy(np.array(sized.label_map))[None]
        total += Agreement.of(truth, found, mapping.labels.num_classes, mapping.excluded)
    return total


def weights_hash(model: nn.Module) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a network's state dict: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:HASH_DIGITS]


def _require_pictures(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise EvaluationError(
            f"a segmenter takes uint8 pictures [N, 3, H, W], not {images.dtype} {list(images.shape)}: convert them."
        )


def _read_config(spec: str | Path) -> Mapping[str, Any]:
    """The config.json of a folder or a Hugging Face repository."""
    folder = Path(spec)
    path = folder / "config.json"
    if not folder.is_dir():
        path = _fetch_config(spec)
    elif not path.is_file():
        raise EvaluationError(f"{folder} holds no config.json, so it is no saved segmenter.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError):
        content = None
    if not isinstance(content, dict):
        raise EvaluationError(f"{path} is damaged: it is no JSON object; copy or download the segmenter again.")
    return content


def _fetch_config(spec: str | Path) -> Path:
    """The config.json of a Hugging Face repository, downloaded or from the cache."""
    name = str(spec)
    if Path(spec).exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        found = "is a file" if Path(spec).exists() else "does not exist"
        raise EvaluationError(
            f"{name} {found}: give the folder of a segmenter, or a Hugging Face id such as owner/name."
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise EvaluationError(
            f"{name} is neither a folder nor a segmenter that could be fetched from the Hugging Face hub "
            f"({type(error).__name__}); check the name, or download it first and give its folder."
        ) from None


def _load_huggingface(name: str) -> tuple[Any, Any]:
    """The processor and the network of a transformers model for segmentation."""
    transformers: Any = require("transformers", "eval")
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        kind = _auto_class(transformers, config, name)
        processor_kind = (
            transformers.AutoProcessor if config.model_type == "oneformer" else transformers.AutoImageProcessor
        )
        processor = processor_kind.from_pretrained(name)
        model, found = kind.from_pretrained(name, output_loading_info=True)
    except EvaluationError:
        raise
    except Exception as error:  # transformers and safetensors raise a dozen unrelated types
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise EvaluationError(f"the segmenter {name} cannot be loaded with transformers: {reason}.") from None
    _require_all_weights(model, found["missing_keys"], name)
    return processor, model


def _require_all_weights(model: nn.Module, missing: Iterable[str], name: str) -> None:
    """transformers draws weights that the file does not hold at random, with a mere warning: no judge."""
    parameters = dict(model.named_parameters())
    without = sorted(key for key in missing if key in parameters)
    if without:
        raise EvaluationError(
            f"the segmenter {name} has no trained weights for {len(without)} of its parameters (first: {without[0]}): "
            "choose one that was fine-tuned for semantic segmentation."
        )


def _require_finite_weights(model: nn.Module, name: str) -> None:
    for key, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise EvaluationError(f"the weights of {name} are not finite (first: {key}): train or download it again.")


def _auto_class(transformers: Any, config: Any, name: str) -> Any:
    auto = transformers.models.auto.modeling_auto
    if type(config) in auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING:
        return transformers.AutoModelForSemanticSegmentation
    if type(config) in auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING:
        return transformers.AutoModelForUniversalSegmentation
    raise EvaluationError(
        f"{name} is a {config.model_type} model, which transformers cannot segment with: "
        "choose one for semantic segmentation, such as SegFormer, UperNet or Mask2Former."
    )


def _size_rule(processor: Any) -> str:
    """`pictures resized to height 512, width 512`, from the image processor's options."""
    processor = getattr(processor, "image_processor", processor)
    size = getattr(processor, "size", None)
    if not getattr(processor, "do_resize", False) or not size:
        return "at the pictures' own size"
    sides = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in dict(size).items() if value is not None)
    return f"pictures resized to {sides}"
