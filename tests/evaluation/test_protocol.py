"""Named protocols and what they do to pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segscape.errors import EvaluationError
from segscape.evaluation.protocol import PROTOCOLS, find_protocol


def test_every_protocol_is_listed_under_its_name() -> None:
    assert all(name == protocol.name and protocol.version >= 1 for name, protocol in PROTOCOLS.items())


def test_the_paper_compares_with_training_images() -> None:
    assert find_protocol("clade").reference == "train"
    assert find_protocol("clade/1") is find_protocol("clade")


@pytest.mark.parametrize("name", ["fid", "clade/0", "clade/x", ""])
def test_unknown_protocols_are_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(EvaluationError, match=r"known protocols: clade/1, validation/1, product/1"):
        find_protocol(name)


def test_truncation_and_rounding_differ_as_in_numpy() -> None:
    image = torch.linspace(-1.2, 1.2, 3 * 8 * 8).reshape(1, 3, 8, 8)
    pixels = np.clip((image.numpy()[0].transpose(1, 2, 0) + 1) / 2 * 255, 0, 255)
    truncated = PROTOCOLS["clade"].quantize(image)[0]
    rounded = PROTOCOLS["product"].quantize(image)[0]
    assert np.array_equal(truncated, np.floor(pixels).astype(np.uint8))
    assert np.abs(rounded - pixels).max() <= 0.5 + 1e-4
    assert (rounded.astype(int) - truncated).max() == 1


def test_two_texts_are_equal_only_for_equal_protocols() -> None:
    texts = {protocol.describe((64, 128)) for protocol in PROTOCOLS.values()}
    assert len(texts) == len(PROTOCOLS)
    clade = PROTOCOLS["clade"]
    assert clade.describe((64, 128)) != clade.describe((128, 64))
    assert clade.describe((64, 64)) != clade.model_copy(update={"seed": 1}).describe((64, 64))
