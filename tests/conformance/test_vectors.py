"""Every vector file: weights in through the converter, outputs within the file's tolerances; generators fast, too.

What to build is read from the metadata alone. A file that no adapter knows fails, and so does an adapter that
leaves an output out.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from .adapters import ADAPTERS, CORRECTIONS, FAST
from .vector import Vector


def test_vector(vector_file: Path) -> None:
    vector = Vector.load(vector_file)
    if vector.kind not in ADAPTERS:
        pytest.fail(f"no adapter knows {vector.kind!r} (system/network/kind) of {vector_file.name}")
    torch.manual_seed(0)
    found = ADAPTERS[vector.kind](vector)
    assert vector.outputs or vector.network == "keys", "the file holds no outputs"
    if vector.kind in FAST and not vector.training:
        fast = FAST[vector.kind](vector)["image"]
        assert (problem := mismatch(vector, "image", fast)) is None, f"accelerated {problem}"
    problems = [problem for name in vector.outputs if (problem := mismatch(vector, name, found.get(name)))]
    assert not problems, "\n".join(problems)


def mismatch(vector: Vector, name: str, found: Tensor | None) -> str | None:
    """What is wrong with an output, or None."""
    if found is None:
        return f"{name}: the adapter leaves it uncompared"
    correction = CORRECTIONS.get((vector.kind, name))
    expected = correction.expected(vector) if correction else vector.outputs[name]
    if found.numel() == 1:  # scalars are stored as [1]
        found = found.reshape(expected.shape)
    if found.shape != expected.shape:
        return f"{name}: the shape is {tuple(found.shape)}, expected {tuple(expected.shape)}"
    difference, tolerance = (found.double() - expected.double()).abs().max().item(), vector.tolerances[name]
    if difference <= tolerance:  # False for NaN
        return None
    return f"{name}: differs by {difference:.3g}, allowed are {tolerance:.3g}"
