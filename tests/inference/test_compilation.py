"""The compiled generator: the same pictures, and few compilations."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from segscape.errors import ConfigError
from segscape.inference import accelerate, compile_generator
from segscape.models.generator import Generator
from tests.inference.tiny import tiny
from tests.zoo import build_settled, random_inputs


@torch.no_grad()
def difference(compiled: Generator, model: Generator, batch: int, size: tuple[int, int], seed: int) -> float:
    layout, style = random_inputs(model, batch, size, seed)
    found: Tensor = compiled(layout, style)
    return (found - model(layout, style)).abs().max().item()


@pytest.mark.parametrize(
    "options",
    [{"norms": ("spade", "clade"), "use_instances": True, "latent_dim": 3}],
    ids=["spade, instances and style"],
)
def test_layouts_and_sizes_share_few_graphs(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def keep(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))  # the graphs without machine code
    model = tiny(**options)
    compiled = compile_generator(model)
    for number, (batch, size) in enumerate([(2, (16, 24)), (2, (16, 24)), (1, (16, 24)), (2, (32, 16)), (3, (40, 40))]):
        assert difference(compiled, model, batch, size, number) < 3e-5
    assert 1 <= len(graphs) <= 3  # sizes, then also batches, become variables


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.1)])
def test_machine_code_draws_the_same(precision: str, tolerance: float) -> None:
    model = tiny()
    compiled = compile_generator(model, precision)  # type: ignore[arg-type]
    assert difference(compiled, model, 2, (16, 24), 0) < tolerance
    assert next(model.parameters()).dtype == torch.float32


def test_a_style_map_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    model = build_settled("pix2pixhd")
    compiled = compile_generator(model)
    layout, _ = random_inputs(model, 2, (48, 80))
    _, style = random_inputs(model, 2, (48, 80), seed=1)
    assert style is not None and style.values.shape[2:] == model.config.image_size
    with torch.no_grad():
        for look in (style, None):
            torch.testing.assert_close(compiled(layout, look), model(layout, look), atol=3e-5, rtol=0)


def test_the_model_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    model = tiny().train()
    compile_generator(model)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_cannot_be_compiled() -> None:
    with pytest.raises(ConfigError, match="accelerated already"):
        compile_generator(accelerate(tiny()))
    with pytest.raises(ConfigError, match="'fp16' is unknown: use float32, bfloat16, float16"):
        compile_generator(tiny(), "fp16")  # type: ignore[arg-type]
