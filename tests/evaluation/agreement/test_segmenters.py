from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segscape.data.sample import Sample
from segscape.errors import CheckpointError, EvaluationError
from segscape.evaluation.agreement.confusion import Agreement
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.evaluation.agreement.segmenters import (
    SHIPPED_SEGMENTER,
    CallableSegmenter,
    HuggingFaceSegmenter,
    UNetSegmenter,
    agreement_on_photographs,
    default_segmenter,
    open_segmenter,
    weights_hash,
)
from segscape.evaluation.agreement.unet import UNet, UNetConfig
from segscape.inference import Pipeline
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Layout
from segscape.models import create_model

EXAMPLES = Path(__file__).parents[3] / "examples" / "layouts"
NAMES = {0: "sky", 1: "building", 2: "road", 3: "car"}
SIZE = (40, 56)


def pictures(count: int = 2) -> Tensor:
    noise = torch.rand(count, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    return F.interpolate(noise, size=SIZE, mode="bilinear").mul(255).to(torch.uint8)


def unet(folder: Path) -> UNet:
    torch.manual_seed(0)
    model = UNet(UNetConfig.build(labels="camvid", encoder="plain", base_channels=2, image_size=(32, 48)))
    varied(model, model.head, model)
    model.save_pretrained(folder)
    return model


def varied(model: nn.Module, head: nn.Module, run: Callable[[Tensor], object]) -> None:
    """Give a random network the statistics of its own maps and centred logits, so that it predicts several classes."""
    model.train()
    with torch.no_grad():
        for _ in range(30):
            run(torch.randn(4, 3, 32, 32))
    means = []
    hook = head.register_forward_hook(lambda _, __, logits: means.append(logits.detach().mean((0, 2, 3))))
    model.eval()
    with torch.no_grad():
        run(pictures().float() / 127.5 - 1)
        head.bias.sub_(means[0])
    hook.remove()


def huggingface(kind: str, folder: Path) -> None:
    """A tiny transformers model with random weights, large enough to predict several classes."""
    torch.manual_seed(0)
    stages = [f"stage{number}" for number in range(1, 5)]
    swin = transformers.SwinConfig(
        image_size=32, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, out_features=stages
    )
    masks: dict[str, Any] = {
        "backbone_config": swin,
        "hidden_dim": 32,
        "encoder_feedforward_dim": 16,
        "dim_feedforward": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "num_attention_heads": 2,
        "num_queries": 6,
        "id2label": NAMES,
    }
    side = {"height": 32, "width": 32}
    model: Any
    if kind == "segformer":
        model = transformers.SegformerForSemanticSegmentation(
            transformers.SegformerConfig(
                hidden_sizes=[4, 4, 8, 8], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8,
                id2label=NAMES,
            )
        )  # fmt: skip
    elif kind == "upernet":
        convnext = transformers.ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1] * 4, out_features=stages)
        model = transformers.UperNetForSemanticSegmentation(
            transformers.UperNetConfig(
                backbone_config=convnext, hidden_size=8, auxiliary_in_channels=8, auxiliary_channels=8, id2label=NAMES
            )
        )
    elif kind == "mask2former":
        config = transformers.Mask2FormerConfig(feature_size=32, mask_feature_size=32, **masks)
        model = transformers.Mask2FormerForUniversalSegmentation(config)
    else:
        options = {"text_encoder_width": 8, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 60}
        config = transformers.OneFormerConfig(
            conv_dim=32, mask_dim=32, text_encoder_proj_layers=1, text_encoder_n_ctx=2, **options, **masks
        )
        model = transformers.OneFormerForUniversalSegmentation(config)
    if kind in ("segformer", "upernet"):
        varied(model, model.decode_head.classifier, lambda noise: model(pixel_values=noise))
    model.save_pretrained(folder)
    if kind == "mask2former":
        transformers.Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    elif kind == "oneformer":
        images = transformers.OneFormerImageProcessor(
            size={"height": 64, "width": 64}, class_info_file=None, num_text=6
        )
        transformers.OneFormerProcessor(images, tokenizer(folder)).save_pretrained(folder)
    else:
        transformers.SegformerImageProcessor(size=side).save_pretrained(folder)


def tokenizer(folder: Path) -> Any:
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


@pytest.mark.parametrize("kind", ["segformer", "upernet", "mask2former", "oneformer"])
def test_hugging_face_models(kind: str, tmp_path: Path) -> None:
    huggingface(kind, tmp_path)
    segmenter = open_segmenter(tmp_path, "cpu")
    assert isinstance(segmenter, HuggingFaceSegmenter)
    assert segmenter.classes == ("sky", "building", "road", "car")
    side = 64 if "former" in kind and kind != "segformer" else 32
    assert segmenter.description == (
        f"{tmp_path.name} {weights_hash(segmenter.model)}, pictures resized to height {side}, width {side}"
    )
    found = segmenter(pictures())
    assert found.dtype == torch.int64 and found.shape == (2, *SIZE)
    assert set(found.unique().tolist()) <= set(NAMES)
    assert torch.equal(found[1:], segmenter(pictures()[1:]))  # alone as in company


@pytest.mark.parametrize("kind", ["segformer", "upernet"])
def test_logits_are_brought_to_the_size_of_the_picture(kind: str, tmp_path: Path) -> None:
    """Prepared by hand: resized (bilinear), ImageNet statistics, and the logits enlarged before the decision."""
    huggingface(kind, tmp_path)
    segmenter = HuggingFaceSegmenter(tmp_path, "cpu")
    photo = Image.fromarray(pictures(1)[0].permute(1, 2, 0).numpy())
    small = np.asarray(photo.resize((32, 32), Image.Resampling.BILINEAR)) / 255
    normal = (small - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = segmenter.model(pixel_values=torch.from_numpy(normal).permute(2, 0, 1)[None].float()).logits
    wanted = F.interpolate(logits, size=SIZE, mode="bilinear", align_corners=False).argmax(1)
    assert len(wanted.unique()) > 1
    assert (segmenter(pictures(1)) == wanted).float().mean() > 0.999


def test_a_unet(tmp_path: Path) -> None:
    model = unet(tmp_path)
    segmenter = open_segmenter(tmp_path, "cpu")
    assert isinstance(segmenter, UNetSegmenter)
    assert segmenter.classes == LABEL_SETS["camvid"].names
    assert weights_hash(model) in segmenter.description and "trained at 32x48" in segmenter.description
    with torch.inference_mode():
        wanted = model(pictures().float() / 127.5 - 1).argmax(1)
    assert len(wanted.unique()) > 1
    assert (segmenter(pictures()) == wanted).float().mean() > 0.999
    assert torch.equal(segmenter(pictures())[1:], segmenter(pictures()[1:]))


def test_the_hash_is_of_the_weights() -> None:
    layer = nn.Linear(2, 1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    content = b"bias torch.float32 [1]\n" + np.zeros(1, "<f4").tobytes()
    content += b"weight torch.float32 [1, 2]\n" + np.ones((1, 2), "<f4").tobytes()
    assert weights_hash(layer) == hashlib.sha256(content).hexdigest()[:12]


def test_a_function() -> None:
    segmenter = CallableSegmenter(lambda images: images[:, 0].int() % 3, ["a", "b", "c"], "red modulo 3")
    assert segmenter.description == "red modulo 3" and segmenter.classes == ("a", "b", "c")
    assert torch.equal(segmenter(pictures()), pictures()[:, 0].long() % 3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images: images, r"returned torch.uint8 \[2, 3, 40, 56\]: it must return .* \[2, 40, 56\]"),
        (lambda images: images[:, 0].float(), r"returned torch.float32 \[2, 40, 56\]"),
        (lambda images: None, "returned NoneType"),
    ],
)
def test_a_function_of_another_form(function: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        CallableSegmenter(function, ["a"], "mine")(pictures())


@pytest.mark.parametrize("images", [pictures().float(), pictures()[0], pictures()[:, :1]])
def test_only_pictures_are_segmented(images: Tensor) -> None:
    with pytest.raises(EvaluationError, match=r"takes uint8 pictures \[N, 3, H, W\]"):
        CallableSegmenter(lambda images: images[:, 0], ["a"], "mine")(images)


def test_what_is_no_segmenter(tmp_path: Path) -> None:
    def refused(spec: str | Path, message: str) -> None:
        with pytest.raises(EvaluationError, match=message):
            open_segmenter(spec, "cpu")

    refused(tmp_path / "nowhere", "nowhere does not exist: give the folder")
    refused(tmp_path, r"holds no config\.json, so it is no saved segmenter")
    (tmp_path / "config.json").write_text("[")
    refused(tmp_path, "is damaged")
    refused(tmp_path / "config.json", "is a file: give the folder")
    (tmp_path / "config.json").write_text("{}")
    refused(tmp_path, "cannot be loaded with transformers")
    transformers.BertConfig().save_pretrained(tmp_path)
    refused(tmp_path, "is a bert model, which transformers cannot segment with")
    transformers.SegformerConfig().save_pretrained(tmp_path)
    refused(tmp_path, "cannot be loaded with transformers")  # there are no weights
    create_model("clade", labels="camvid", image_size=(32, 32), base_channels=1).save_pretrained(tmp_path)
    refused(tmp_path, "holds a clade model, which generates pictures: no segmenter")


def test_a_unet_without_weights(tmp_path: Path) -> None:
    unet(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="the model folder is incomplete"):
        open_segmenter(tmp_path, "cpu")


def test_a_hugging_face_model_without_all_of_its_weights(tmp_path: Path) -> None:
    huggingface("segformer", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file({key: value for key, value in weights.items() if "classifier" not in key}, file, {"format": "pt"})
    with pytest.raises(EvaluationError, match=r"no trained weights for 2 of its .*decode_head\.classifier\.bias"):
        open_segmenter(tmp_path, "cpu")
    file.write_bytes(b"broken")
    with pytest.raises(EvaluationError, match="cannot be loaded with transformers"):
        open_segmenter(tmp_path, "cpu")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    huggingface("segformer", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights["decode_head.classifier.bias"][1] = torch.nan
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(EvaluationError, match=r"not finite \(first: decode_head\.classifier\.bias\)"):
        open_segmenter(tmp_path, "cpu")
    model = unet(tmp_path / "unet")
    with torch.no_grad():
        model.head.bias[0] = torch.inf
    with pytest.raises(EvaluationError, match=r"the U-Net are not finite \(first: head\.bias\)"):
        UNetSegmenter(model, "cpu")


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(EvaluationError, match=r"someone/streets is neither a folder nor a segmenter .*ConnectionError"):
        open_segmenter("someone/streets", "cpu")


def test_the_default_is_for_camvid_only() -> None:
    assert default_segmenter(LABEL_SETS["camvid"]) == SHIPPED_SEGMENTER
    assert default_segmenter(LABEL_SETS["cityscapes"]) is None


def test_the_shipped_segmenter_recognises_what_the_shipped_model_draws() -> None:
    files = {path.name: path.stat().st_size for path in SHIPPED_SEGMENTER.iterdir()}
    assert files.keys() == {"README.md", "config.json", "model.safetensors"} and sum(files.values()) < 10e6
    segmenter, labels = open_segmenter(SHIPPED_SEGMENTER, "cpu"), LABEL_SETS["camvid"]
    layout = Layout.from_file(EXAMPLES / "town-junction.png", labels).resize((192, 256))
    picture = np.array(Pipeline.from_pretrained(device="cpu")(layout)[0])
    found = ClassMapping.by_name(segmenter.classes, labels).apply(
        segmenter(torch.from_numpy(picture).permute(2, 0, 1)[None])
    )
    agreement = Agreement.of(layout.label_map, found, 12, [11])
    assert agreement.accuracy > 0.6
    assert Agreement.of(layout.label_map, found.flip(1), 12, [11]).accuracy < 0.4  # upside down


class ColoredScenes:
    """Label maps drawn in their colours: the photographs of a perfect segmenter's dreams."""

    labels: LabelSet = LABEL_SETS["camvid"]

    def __init__(self, photographs: bool = True) -> None:
        self.photographs = photographs
        self.maps = np.random.default_rng(0).integers(0, 12, size=(3, 4, 6)).repeat(8, axis=1).repeat(8, axis=2)

    def __len__(self) -> int:
        return len(self.maps)

    def sample(self, index: int) -> Sample:
        image = self.labels.colorize(self.maps[index]) if self.photographs else None
        return Sample(image, self.maps[index].astype(np.int64), name=f"scene {index}")


def read_colors(images: Tensor) -> Tensor:
    distances = [
        (images.permute(0, 2, 3, 1).long() - torch.from_numpy(color).long()).square().sum(-1)
        for color in LABEL_SETS["camvid"].colors
    ]
    return torch.stack(distances).argmin(0)


def test_agreement_on_photographs() -> None:
    data = ColoredScenes()
    mapping = ClassMapping.by_name(data.labels.names, data.labels)
    perfect = CallableSegmenter(read_colors, data.labels.names, "colours")
    agreement = agreement_on_photographs(perfect, mapping, data)
    assert agreement.mean_iou == 1 and agreement.accuracy == 1
    assert agreement.pixels == (data.maps != 11).sum()
    blind = CallableSegmenter(lambda images: torch.zeros_like(images[:, 0]), data.labels.names, "all is sky")
    assert agreement_on_photographs(blind, mapping, data).accuracy == (data.maps == 0).sum() / (data.maps != 11).sum()


def test_photographs_and_label_maps_are_resized_together() -> None:
    data, seen = ColoredScenes(), []
    mapping = ClassMapping.by_name(data.labels.names, data.labels)
    segmenter = CallableSegmenter(lambda images: seen.append(images) or read_colors(images), data.labels.names, "mine")  # type: ignore[func-returns-value]
    agreement = agreement_on_photographs(segmenter, mapping, data, (16, 24))
    total = Agreement.zero(12, [11])
    for number, images in enumerate(seen):
        sample = data.sample(number)
        photo = Image.fromarray(sample.image).resize((24, 16), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(images[0].permute(1, 2, 0).numpy(), np.asarray(photo))
        labels = np.array(Image.fromarray(sample.label_map.astype(np.uint8)).resize((24, 16), Image.Resampling.NEAREST))
        total += Agreement.of(torch.from_numpy(labels)[None], read_colors(images), 12, [11])
    assert torch.equal(agreement.counts, total.counts)


def test_scenes_without_photographs() -> None:
    data = ColoredScenes(photographs=False)
    mapping = ClassMapping.by_name(data.labels.names, data.labels)
    with pytest.raises(EvaluationError, match="'scene 0' has no photograph"):
        agreement_on_photographs(CallableSegmenter(read_colors, data.labels.names, "mine"), mapping, data)
