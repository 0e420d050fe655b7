"""8-bit models: what is quantised, what they lose, and that they are used as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from segscape.errors import ConfigError, LabelMapError, StyleError
from segscape.inference import OnnxPipeline
from segscape.inference.export import export_onnx
from segscape.inference.quantize import _worthwhile, quantize
from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS
from tests.inference.tiny import tiny

pytestmark = pytest.mark.xdist_group("quantize")  # one worker, as what it shares is dear

CAMVID = LABEL_SETS["camvid"]


def layouts(count: int) -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    return [noise.integers(0, 12, (8, 12)).repeat(4, 0).repeat(4, 1) for _ in range(count)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "float.onnx"
    export_onnx(tiny(norms=("clade", "spade"), image_size=(32, 48), latent_dim=3), path, size=(32, 48))
    return path


def test_pictures_change_little(exported: Path, tmp_path: Path) -> None:
    write_label_map(tmp_path / "first.png", layouts(1)[0], CAMVID)
    result = quantize(exported, tmp_path / "int8.onnx", [tmp_path / "first.png", *layouts(6)[1:]])
    before, after = OnnxPipeline(exported), OnnxPipeline(result.path)
    assert after.signature == before.signature
    latents = np.random.default_rng(1).normal(size=(1, 3)).astype(np.float32)
    feed = before.inputs(before.read_layout(layouts(9)[8]), latents)[0]
    difference = np.abs(before.run(feed) - after.run(feed)).mean()
    assert 0 < difference < 0.05 and 0 < result.difference < 0.05
    assert before.run(feed).std() > 0.2


def test_weights_are_in_8_bits_per_channel(exported: Path, tmp_path: Path) -> None:
    quantize(exported, tmp_path / "int8.onnx", layouts(2))
    graph = onnx.load(tmp_path / "int8.onnx").graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    producer = {output: node for node in graph.node for output in node.output}
    kernels = [producer.get(node.input[1]) for node in graph.node if node.op_type == "Conv"]
    quantised = [stored[node.input[0]] for node in kernels if node is not None and node.op_type == "DequantizeLinear"]
    scales = [stored[node.input[1]] for node in kernels if node is not None]
    assert len(quantised) == len(kernels) > 5  # too few up-samplings for late layers to be spared
    assert {tensor.data_type for tensor in quantised} == {TensorProto.INT8}
    assert [scale.dims[0] for scale in scales] == [tensor.dims[0] for tensor in quantised]
    values = np.concatenate([onnx.numpy_helper.to_array(tensor).ravel() for tensor in quantised])
    assert np.abs(values).max() <= 64, "seven bits, so that sums do not saturate"


def test_late_and_thin_convolutions_are_spared() -> None:
    def layer(name: str, channels: int) -> None:
        weights.append(helper.make_tensor(f"w-{name}", TensorProto.FLOAT, [2, channels, 1, 1], [0.0] * (2 * channels)))
        nodes.append(helper.make_node("Conv", ["x", f"w-{name}"], [name], name=name))

    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    layer("first", 12)
    for number in range(4):
        nodes.append(helper.make_node("Resize", ["x"], [f"up-{number}"], name=f"up-{number}"))
        layer(f"block-{number}", 8)
        layer(f"position-{number}", 2)
    assert _worthwhile(helper.make_graph(nodes, "graph", [], [], weights)) == ["first", "block-0"]
    assert _worthwhile(helper.make_graph(nodes[:6], "graph", [], [], weights)) == ["first", "block-0", "block-1"]


def test_a_model_that_draws_no_styles_is_calibrated_with_given_ones(tmp_path: Path) -> None:
    model = tiny(norms=("sean", "clade"), image_size=(32, 48))
    export_onnx(model, tmp_path / "float.onnx", size=(32, 48))
    with pytest.raises(StyleError, match="draws no random styles"):
        quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", layouts(2))
    assert not (tmp_path / "int8.onnx").exists()
    style = np.stack([np.zeros((12, 3)), np.ones((12, 3))])
    result = quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", layouts(4), style=style)
    assert 0 < result.difference < 0.1


def test_layouts_are_needed_and_checked(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="calibrate"):
        quantize(exported, tmp_path / "int8.onnx", [])
    with pytest.raises(LabelMapError):
        quantize(exported, tmp_path / "int8.onnx", [np.full((8, 8), 200)])
    assert not list(tmp_path.iterdir())
