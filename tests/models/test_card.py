"""The model card: header, classes, training."""

from __future__ import annotations

import yaml

from segscape.labels import LABEL_SETS
from segscape.models.card import TrainingFacts, model_card, with_license
from segscape.models.generator import Generator
from segscape.models.registry import create_model


def card_of(model: Generator, facts: TrainingFacts | None = None, license: str | None = None) -> str:
    return model_card(model.config, model.count_parameters(), facts, license)


def header(card: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_header_and_classes() -> None:
    card = card_of(create_model("clade", labels="camvid", image_size=(32, 64), base_channels=1), license="mit")
    assert header(card)["license"] == "mit" and header(card)["library_name"] == "segscape"
    assert header(card)["pipeline_tag"] == "image-to-image"
    labels = LABEL_SETS["camvid"]
    for index, entry in enumerate(labels.classes):
        assert f"| {index} | {entry.name} | {', '.join(map(str, entry.color))} |" in card
    assert "32x64" in card and "in a file is read" not in card
    coco = card_of(create_model("clade", labels="coco-stuff", image_size=(32, 32), base_channels=1))
    assert "The value 255 in a file is read as class 182." in coco
    assert "(Tan et al., TPAMI 2021, arXiv 2012.04644);" in card
    assert "## Recipe" not in card and "samples.png" not in card


def test_inputs_and_training() -> None:
    model = create_model("spade", labels=3, image_size=(32, 32), base_channels=1, use_instances=True, latent_dim=8)
    card = card_of(model, TrainingFacts(1234, "images: 1234", {"FID": 12.3456}, samples=True))
    assert "a label map, an instance map, a style (latent, 8 numbers)" in card
    assert "on 1,234 images" in card and "| FID | 12.35 |" in card and "```yaml\nimages: 1234\n```" in card
    assert "(samples.png)" in card and "license" not in header(card)


def test_the_license_can_be_set_later_with_and_without_a_header() -> None:
    card = card_of(create_model("clade", labels=2, image_size=(32, 32), base_channels=1), license="mit")
    changed = with_license(card, "apache-2.0")
    assert header(changed) == header(card) | {"license": "apache-2.0"}
    assert changed.split("---\n", 2)[2].strip() == card.split("---\n", 2)[2].strip()
    bare = with_license("# Mine\n", "apache-2.0")
    assert header(bare) == {"license": "apache-2.0"} and bare.rstrip().endswith("# Mine")


def test_the_count_is_that_of_papers() -> None:
    model = create_model("clade", labels=3, image_size=(32, 32), base_channels=1, latent_dim=8)
    everything, encoder = (sum(part.numel() for part in one.parameters()) for one in (model, model.encoder))
    assert model.count_parameters() == everything - encoder < everything
    assert f"{everything - encoder:,} parameters" in card_of(model)
