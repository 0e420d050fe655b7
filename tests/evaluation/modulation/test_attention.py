from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segscape.errors import ConfigError
from segscape.evaluation.modulation.attention import BlockAttention, analyse_attention, draw_classes, write_attention
from segscape.labels import LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from tests.models.test_ca2_sis import layout_of, photo, small


def test_shares_of_the_own_class() -> None:
    weights = np.zeros((3, 1, 4), dtype=np.float32)
    weights[:, 0] = [[0.6, 0.1, 0.3, 0.0], [0.3, 0.7, 0.3, 0.0], [0.1, 0.2, 0.4, 1.0]]
    block = BlockAttention(weights, np.array([[0, 0, 1, 2]]))
    assert block.size == (1, 4) and block.favourite.tolist() == [[0, 1, 2, 2]]
    assert block.own_share == 0.5 and block.own_weight == pytest.approx((0.6 + 0.1 + 0.3 + 1.0) / 4)


def test_blocks_are_those_of_the_first_image() -> None:
    model, layout = small(), layout_of()
    style = model.encode(photo(), layout).draw(None)
    blocks = analyse_attention(model, layout, style)
    for block, weights in zip(blocks, model.attention(layout, style), strict=True):
        np.testing.assert_array_equal(block.weights, weights[0].detach().numpy())
        np.testing.assert_array_equal(block.label_map, layout.at(block.size)[0].numpy())


def test_a_class_that_is_looked_at_is_bright_on_its_sheet(tmp_path: Path) -> None:
    weights = np.zeros((2, 4, 4), dtype=np.float32)
    weights[0] = 1
    layout = Layout(torch.zeros(1, 4, 4, dtype=torch.long), LabelSet.numbered(2))
    block = BlockAttention(weights, layout.label_map[0].numpy())
    figure = draw_classes(block, layout, tmp_path / "sheet.png", "block 0")
    pixels = np.asarray(Image.open(figure.path).convert("RGB")).astype(int)
    middle = pixels[pixels.shape[0] // 2]
    left, right = (middle[place] for place in (pixels.shape[1] // 5, pixels.shape[1] * 3 // 5))
    assert left.sum() > right.sum() + 150 and "block 0 (4x4)" in figure.caption


def test_pictures_and_numbers_are_written(tmp_path: Path) -> None:
    model, layout = small(), layout_of()
    blocks = analyse_attention(model, layout)
    figures = write_attention(blocks, layout, tmp_path)
    assert [figure.path.name for figure in figures] == ["attention.png", *(f"attention-{i}.png" for i in range(5))]
    assert all(figure.path.is_file() for figure in figures)
    numbers = json.loads((tmp_path / "attention.json").read_text())
    assert numbers["labels"] == layout.labels.name and len(numbers["blocks"]) == 5
    assert sum(numbers["blocks"][0]["mean_weight"].values()) == pytest.approx(1, abs=1e-5)
    assert numbers["blocks"][4]["size"] == [64, 64]


def test_of_many_classes_those_looked_at_most_are_drawn(tmp_path: Path) -> None:
    weights = np.full((30, 2, 2), 1 / 30, dtype=np.float32)
    layout = Layout(torch.zeros(1, 2, 2, dtype=torch.long), LabelSet.numbered(30))
    figure = draw_classes(BlockAttention(weights, layout.label_map[0].numpy()), layout, tmp_path / "s.png", "block 1")
    assert "10 classes that were looked at less are left out" in figure.caption


def test_other_models_are_refused() -> None:
    model = create_model("clade", labels=5, image_size=(32, 32), base_channels=1)
    with pytest.raises(ConfigError, match="this clade model has no attention"):
        analyse_attention(model, layout_of((32, 32)))
