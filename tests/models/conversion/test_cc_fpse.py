from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor, nn

from segscape.discriminators import FeaturePyramidDiscriminator
from segscape.errors import CheckpointError
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.cc_fpse import CCFPSEGenerator
from segscape.models.conversion.cc_fpse import (
    DISCRIMINATOR_KEYS,
    GENERATOR_KEYS,
    convert,
    discriminator_from_state,
    recognises,
)
from segscape.models.conversion.official import State
from segscape.models.conversion.spade import ENCODER_KEYS
from segscape.nn.spectral import SpectralNormConv2d
from segscape.style import Style


def official(module: nn.Module, keys: dict[str, str]) -> dict[str, Tensor]:
    """The weights of one of our networks under official keys."""
    own = module.state_dict()
    spectral = {key: name for key, name in keys.items() if name in own and f"{name}_u" in own}
    plain = {key: name for key, name in keys.items() if name in own and name not in spectral.values()}
    return {key: own[name] for key, name in plain.items()} | {
        key: own[name] for key, name in spectral.items() if key.endswith("_orig")
    }


def digest(state: State) -> str:
    lines = sorted(f"{key}:{','.join(map(str, value.shape))}" for key, value in state.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def small(**options: object) -> CCFPSEGenerator:
    torch.manual_seed(0)
    defaults = {"labels": 5, "image_size": (64, 64), "base_channels": 2, "hidden_channels": 4, "latent_dim": None}
    return create_model("cc-fpse", **{**defaults, **options}).eval()  # type: ignore


DATASETS: dict[str, dict[str, object]] = {
    "ade20k": {"labels": 151},
    "coco-stuff": {"labels": 183, "use_instances": True},
    "cityscapes": {"labels": 35, "use_instances": True, "image_size": (256, 512), "upsampling": "more"},
}


@pytest.mark.parametrize(
    ("dataset", "latent_dim", "keys", "found"),
    [
        ("ade20k", 256, 495, "70310341956a4b2d"),
        ("ade20k", None, 495, "6c693172a5b33014"),
        ("coco-stuff", 256, 495, "5371d659bc21047f"),
        ("coco-stuff", None, 495, "8fad154207e9261e"),
        ("cityscapes", 256, 519, "9461d9dc777f36a8"),
        ("cityscapes", None, 519, "e0ec4994b94afb77"),
    ],
)
def test_names_and_shapes_of_the_published_generators(
    dataset: str, latent_dim: int | None, keys: int, found: str
) -> None:
    with torch.device("meta"):
        model = create_model("cc-fpse", **{**DATASETS[dataset], "latent_dim": latent_dim})  # type: ignore[arg-type]
    state = official(model, GENERATOR_KEYS)
    assert (len(state), digest(state)) == (keys, found)
    if latent_dim:
        assert digest(official(model.encoder, ENCODER_KEYS)) == "cad1902e55aa6656"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dataset", "found"),
    [("ade20k", "5b58eeeacf34c837"), ("coco-stuff", "542713ac9a71a6fc"), ("cityscapes", "33d5bfbaa20a042b")],
)
def test_names_and_shapes_of_the_published_discriminators(dataset: str, found: str) -> None:
    options = DATASETS[dataset]
    with torch.device("meta"):
        model = FeaturePyramidDiscriminator(options["labels"], instances="use_instances" in options)  # type: ignore
    state = official(model, DISCRIMINATOR_KEYS)
    assert (len(state), digest(state)) == (42, found)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_instances": True, "image_size": (64, 128), "upsampling": "more"},
        {"latent_dim": 6, "image_size": (64, 96)},
    ],
)
def test_configuration_and_weights_come_back(options: dict[str, object]) -> None:
    model = small(**options)
    encoder = None if model.encoder is None else official(model.encoder, ENCODER_KEYS)
    state = {f"module.{key}": value for key, value in official(model, GENERATOR_KEYS).items()}
    assert recognises(state)
    converted = convert(state, labels=5, image_size=model.config.image_size, encoder=encoder)
    assert converted.config == model.config
    own = model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in converted.state_dict().items())


@pytest.mark.parametrize("instances", [False, True])
def test_a_discriminator_comes_back(instances: bool) -> None:
    model = FeaturePyramidDiscriminator(5, instances=instances, base_channels=2)
    converted = discriminator_from_state(official(model, DISCRIMINATOR_KEYS), labels=5)
    assert converted.instances is instances
    own = model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in converted.state_dict().items())


def test_the_classes_of_ade20k_are_put_in_order() -> None:
    """Official label 0 is unknown, the last one of ours; official label k is our k - 1."""
    labels = LABEL_SETS["ade20k"]
    official_model = small(labels=151, base_channels=1, hidden_channels=2)
    with torch.no_grad():
        for parameter in official_model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for layer in official_model.modules():
        if isinstance(layer, SpectralNormConv2d):
            layer.power_iteration()
    label_map = torch.randint(0, 151, (1, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    expected = official_model(Layout(label_map, LabelSet.numbered(151)))
    converted = convert(official(official_model, GENERATOR_KEYS), labels="ade20k", image_size=(64, 64))
    assert expected.std() > 0.01
    torch.testing.assert_close(converted(Layout((label_map - 1) % 151, labels)), expected)

    judge, image = FeaturePyramidDiscriminator(151, base_channels=2).eval(), torch.rand(1, 3, 64, 64)
    same = discriminator_from_state(official(judge, DISCRIMINATOR_KEYS), labels="ade20k").eval()
    expected = judge(Layout(label_map, LabelSet.numbered(151)), image).scores[0]
    torch.testing.assert_close(same(Layout((label_map - 1) % 151, labels), image).scores[0], expected)


def test_what_does_not_fit() -> None:
    model = small(latent_dim=6)
    state = official(model, GENERATOR_KEYS)
    with pytest.raises(CheckpointError, match="give its encoder too"):
        convert(state, labels=5, image_size=(64, 64))
    with pytest.raises(CheckpointError, match="starts from 4 places, but images of 64x96 start from 6"):
        convert(state, labels=5, image_size=(64, 96))
    with pytest.raises(CheckpointError, match=r"trained with 5 \(or 4 and instance edges\) classes.*has 7"):
        convert(state, labels=7, image_size=(64, 64))
    with pytest.raises(CheckpointError, match=r"is incomplete: stem\.weight"):
        convert({key: value for key, value in state.items() if key != "fc.weight"}, labels=5, image_size=(64, 64))
    with pytest.raises(CheckpointError, match="holds 1 keys"):
        convert(state | {"up_4.conv_1.weight": torch.zeros(1)}, labels=5, image_size=(64, 64))


def test_a_converted_model_takes_a_style() -> None:
    model = small(latent_dim=6)
    encoder = official(model.encoder, ENCODER_KEYS)  # type: ignore[arg-type]
    converted = convert(official(model, GENERATOR_KEYS), labels=5, image_size=(64, 64), encoder=encoder)
    layout = Layout(torch.zeros(1, 64, 64, dtype=torch.long), model.config.labels)
    style = Style(torch.randn(1, 6))
    torch.testing.assert_close(converted(layout, style), model(layout, style))
