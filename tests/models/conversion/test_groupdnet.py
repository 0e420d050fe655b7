from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segscape.errors import CheckpointError
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.conversion import SYSTEMS
from segscape.models.conversion.groupdnet import convert, recognises
from segscape.models.conversion.spade import ENCODER_KEYS, GENERATOR_KEYS
from segscape.models.groupdnet import GroupDNet

OPTIONS: dict[str, dict[str, object]] = {
    "by-class": {},
    "edges": {"use_instances": True},
    "by-group": {"modulation": "by-group", "groups": (4, 4, 2, 2, 1, 1, 1), "hidden_channels": 8},
    "class-to-group": {"modulation": "class-to-group", "groups": (4, 8, 8, 4, 4, 2, 1)},
    "clade": {"model": "groupdnet-clade", "norm": "clade"},
}


def build(**options: object) -> GroupDNet:
    torch.manual_seed(0)
    small = {"labels": 4, "image_size": (32, 64), "upsampling": "normal", "base_channels": 4, "encoder_channels": 2}
    return create_model("groupdnet", **{**small, **options}).eval()  # type: ignore[arg-type,return-value]


def official(model: GroupDNet) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of generator and encoder under official keys, the generator with a block that never runs."""
    state = model.state_dict()
    names = {
        name: key
        for key, name in GENERATOR_KEYS.items()
        if not key.endswith(("conv_s.weight", "conv_0.weight", "conv_1.weight"))
    }
    generator = {names[name]: value for name, value in state.items() if not name.startswith("encoder.")}
    generator |= {key.replace("up_3", "up_4"): value for key, value in generator.items() if key.startswith("up_3")}
    heads = {
        name: key for key, name in ENCODER_KEYS.items() if not (key.startswith("layer") and key.endswith(".weight"))
    }
    encoder = {heads[name[8:]]: value for name, value in state.items() if name.startswith("encoder.")}
    return generator, encoder


@pytest.mark.parametrize("kind", OPTIONS)
def test_everything_is_read_from_the_weights(kind: str) -> None:
    model = build(**OPTIONS[kind])
    generator, encoder = official(model)
    assert next(name for name, module in SYSTEMS.items() if module.recognises(generator)) == "GroupDNet"
    converted = convert(generator, encoder=encoder, labels=4, image_size=(32, 64), upsampling="normal")
    assert converted.config == model.config
    label_map = torch.randint(0, 4, (1, 32, 64))
    layout = Layout(label_map, LabelSet.numbered(4), label_map)
    style = model.sample_style(layout)
    assert torch.equal(converted(layout, style), model(layout, style))


def test_other_systems_are_not_recognised() -> None:
    spade = create_model("spade", labels=4, image_size=(64, 64), base_channels=1)
    keys = {name: key for key, name in GENERATOR_KEYS.items()}
    assert not recognises({keys[name]: value for name, value in spade.state_dict().items()})


def test_errors() -> None:
    generator, encoder = official(build())
    options = {"image_size": (32, 64), "upsampling": "normal"}
    with pytest.raises(CheckpointError, match="give its encoder too"):
        convert(generator, labels=4, **options)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="was not trained with the 5 classes"):
        convert(generator, encoder=encoder, labels=5, **options)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="is incomplete"):
        convert({key: generator[key] for key in generator if "up_2" not in key}, encoder=encoder, labels=4, **options)  # type: ignore[arg-type]
    clade, encoder = official(build(**OPTIONS["clade"]))
    with pytest.raises(CheckpointError, match="was not trained with the 5 classes"):
        convert(clade, encoder=encoder, labels=5, **options)  # type: ignore[arg-type]


def test_the_order_of_ade20k_cannot_be_changed() -> None:
    widths = {"labels": 151, "base_channels": 2, "widths": (151, 151, 16, 16, 16, 8, 4, 2), "encoder_channels": 1}
    groups = {"groups": (151, 1, 16, 8, 4, 2, 1), "modulation": "class-to-group"}
    generator, encoder = official(build(**widths, **groups))
    options = {"image_size": (32, 64), "upsampling": "normal"}
    with pytest.raises(CheckpointError, match="ade20k-official"):
        convert(generator, encoder=encoder, labels="ade20k", **options)  # type: ignore[arg-type]
    assert convert(generator, encoder=encoder, labels="ade20k-official", **options).config.labels.unknown == 0  # type: ignore[arg-type]
