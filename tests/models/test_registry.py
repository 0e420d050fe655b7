from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segscape.errors import CheckpointError, ConfigError
from segscape.labels import LABEL_SETS, LabelSet
from segscape.models import create_model, list_models, load_model
from segscape.models.papers import PAPERS
from segscape.nn.noise import noise_from
from tests.zoo import SIZE, TINY, build_settled, random_inputs

NAMES = [
    *("spade", "spade-light", "clade", "clade-icpe", "pix2pixhd", "cc-fpse", "ca2-sis", "dagan"),
    *("sean", "sean-clade", "groupdnet", "groupdnet-clade"),
]


def test_names() -> None:
    assert list_models() == list(TINY) == NAMES == list(PAPERS)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_builds_loads_and_draws_the_same(name: str, tmp_path: Path) -> None:
    model = build_settled(name)
    assert model.config.model == name
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert type(loaded) is type(model) and loaded.config == model.config
    assert not loaded.training
    pictures = []
    for generator in (model, loaded):
        with torch.no_grad(), noise_from(generator, torch.Generator().manual_seed(0)):
            pictures.append(generator(*random_inputs(model, 2, SIZE)))
    assert torch.equal(*pictures) and pictures[0].shape == (2, 3, *SIZE)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="no model 'spode'; known models: spade, spade-light, clade, clade-icpe, "):
        create_model("spode", labels=3)


def test_labels_by_number_name_file_or_set(tmp_path: Path) -> None:
    own = LabelSet.numbered(6)
    own.save(tmp_path / "own.json")
    for labels, expected in ((6, own), (own, own), (str(tmp_path / "own.json"), own), ("camvid", LABEL_SETS["camvid"])):
        assert create_model("clade", labels=labels, base_channels=1).config.labels == expected


def test_options_override_the_preset() -> None:
    assert create_model("spade-light", labels=3, base_channels=2).config.base_channels == 2


def test_unknown_model_in_a_folder(tmp_path: Path) -> None:
    create_model("clade", labels=3, base_channels=1).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"model": "clade"', '"model": "cladette"'))
    with pytest.raises(ConfigError, match="no model 'cladette'"):
        load_model(tmp_path)


def test_nothing_there() -> None:
    with pytest.raises(CheckpointError, match=r"\./nowhere does not exist"):
        load_model("./nowhere")
