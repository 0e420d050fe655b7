"""Shape editing: which embeddings the decoder sees, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segscape.errors import ConfigError, StyleError
from segscape.inference import Pipeline
from segscape.inference.shapes import edit_shapes
from segscape.models.ca2_sis import CA2SISGenerator
from segscape.style import Style
from tests.zoo import build_settled


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(build_settled("ca2-sis", labels="camvid"), "cpu")


def halves(upper: int, lower: int, row: int) -> np.ndarray:
    """The model's size, so that no picture is resized."""
    label_map = np.full((32, 64), lower)
    label_map[:row] = upper
    return label_map


def test_the_shapes_of_shared_classes_are_those_of_the_other_layout(pipeline: Pipeline) -> None:
    model = pipeline.model
    assert isinstance(model, CA2SISGenerator)
    mine, theirs = halves(0, 3, 10), halves(0, 4, 25)
    (moved,) = edit_shapes(pipeline, mine, theirs, classes=["sky", "road"])
    with torch.no_grad():
        own, other = (
            model.mask_embedding(pipeline.read_layout(m).resize(model.config.image_size)) for m in (mine, theirs)
        )
        first = int(model.config.exclude_background)
        own[:, 0 - first] = other[:, 0 - first]  # the sky alone: the other layout has no road
        expected = model.decode(own, None)
    pixels = (expected[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert moved.size == (64, 32) and np.abs(np.asarray(moved) - pixels).max() <= 1


def test_amounts_lead_from_one_to_the_other(pipeline: Pipeline) -> None:
    mine, theirs = halves(0, 3, 10), halves(0, 3, 25)
    pictures = [np.asarray(p).astype(int) for p in edit_shapes(pipeline, mine, theirs, amounts=(0, 0.5, 1))]
    alone = np.asarray(pipeline(mine)[0]).astype(int)
    assert np.abs(pictures[0] - alone).max() <= 1
    assert np.abs(pictures[2] - pictures[0]).max() > 0


def test_a_style_is_completed_and_for_one_image(pipeline: Pipeline) -> None:
    mine = halves(0, 3, 10)
    values = torch.randn(2, *pipeline.model.config.style_shape, generator=torch.Generator().manual_seed(0))
    style = Style(values, torch.arange(12).expand(2, -1) < 3)  # a photo without road
    (edited,) = edit_shapes(pipeline, mine, mine, style=style[0])
    assert np.abs(np.asarray(edited).astype(int) - np.asarray(pipeline(mine, style=style[0])[0])).max() <= 1
    with pytest.raises(StyleError, match="for 2 images"):
        edit_shapes(pipeline, mine, mine, style=style)


def test_what_cannot_be_edited(pipeline: Pipeline) -> None:
    with pytest.raises(StyleError, match="none of road is in both layouts"):
        edit_shapes(pipeline, halves(0, 3, 20), halves(0, 4, 20), classes=["road"])
    with pytest.raises(ConfigError, match="edited in ca2-sis models, and this one is clade"):
        edit_shapes(Pipeline(build_settled("clade", labels="camvid"), "cpu"), halves(0, 3, 9), halves(0, 3, 9))
