"""`OnnxPipeline` gives the pictures and the errors of `Pipeline`, and needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segscape.errors import CheckpointError, ConfigError, LabelMapError, LayoutError, StyleError
from segscape.inference import OnnxPipeline, Pipeline
from segscape.inference.export import export_onnx
from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS
from segscape.layout import Layout
from segscape.style import Style
from tests.inference.tiny import tiny
from tests.zoo import build_settled

pytestmark = pytest.mark.xdist_group("onnx")  # one worker, as what it shares is dear

CAMVID = LABEL_SETS["camvid"]
Pair = tuple[Pipeline, OnnxPipeline]


def pair(folder: Path, **options: object) -> Pair:
    model = tiny(**options)
    export_onnx(model, folder / "model.onnx")
    return Pipeline(model, "cpu"), OnnxPipeline(folder / "model.onnx", threads=1)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `plain` is exported."""
    return tmp_path_factory.mktemp("plain") / "model.onnx"


@pytest.fixture(scope="module")
def plain(model_file: Path) -> Pair:
    return pair(model_file.parent, position="modulation", use_instances=True)


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("styled"), image_size=(24, 32), fixed=True, latent_dim=20)


def street(height: int = 21, width: int = 30) -> tuple[np.ndarray, np.ndarray]:
    label_map = np.zeros((height, width), dtype=np.int64)
    label_map[height // 2 :] = CAMVID.index("road")
    label_map[height // 3 : -4, 5:20] = CAMVID.index("car")
    instance_map = (label_map == CAMVID.index("car")) * np.arange(width) // 10
    return label_map, instance_map


def difference(first: list[Image.Image], second: list[Image.Image]) -> int:
    assert [picture.size for picture in first] == [picture.size for picture in second]
    assert all(np.asarray(picture).std() > 2 for picture in first), "a flat picture shows nothing"
    pairs = zip(first, second, strict=True)
    return max(int(np.abs(np.asarray(a).astype(int) - np.asarray(b)).max()) for a, b in pairs)


@pytest.mark.parametrize("size", [None, (16, 24), (37, 15)])
def test_pictures_of_any_size(plain: Pair, size: tuple[int, int] | None) -> None:
    label_map, instance_map = street()
    pictures = [pipeline(label_map, instance_maps=instance_map, size=size) for pipeline in plain]
    assert pictures[1][0].size == ((30, 21) if size is None else size[::-1])
    assert difference(*pictures) <= 1


def test_files_arrays_layouts_and_lists(plain: Pair, tmp_path: Path) -> None:
    label_map, instance_map = street()
    write_label_map(tmp_path / "street.png", label_map, CAMVID)
    Image.fromarray(instance_map.astype(np.uint8)).save(tmp_path / "ids.png")
    reference, exported = plain
    expected = reference(label_map, instance_maps=instance_map)
    layout = Layout.from_array(label_map, CAMVID, instance_map)
    files = exported([tmp_path / "street.png", str(tmp_path / "street.png")], instance_maps=[tmp_path / "ids.png"] * 2)
    ready = exported.read_layout(label_map, instance_map)
    assert difference(expected * 4, [*files, *exported([layout, ready])]) <= 1
    turned = Layout(layout.label_map.flip(-1), CAMVID, layout.instance_map.flip(-1))
    batch = Layout.cat([layout, turned])
    assert difference(reference(batch), exported(batch)) <= 1


def test_a_given_encoding_is_used(plain: Pair) -> None:
    layout = Layout.from_array(*street()[:1], CAMVID, street()[1])
    turned = Layout(layout.label_map, CAMVID, layout.instance_map, position=-layout.position())
    assert difference(plain[0](turned), plain[1](turned)) <= 1
    assert difference(plain[1](turned), plain[1](layout)) > 1


def test_a_seed_draws_the_same_styles(styled: Pair) -> None:
    label_map, _ = street()
    pictures = [pipeline([label_map, label_map[::-1].copy()], seed=7, samples=3) for pipeline in styled]
    assert len(pictures[1]) == 6 and difference(*pictures) <= 1
    assert difference(pictures[1][:1], pictures[1][1:2]) > 1


def test_styles_that_are_given(styled: Pair) -> None:
    reference, exported = styled
    latents = np.random.default_rng(0).normal(size=(2, 20)).astype(np.float32)
    style = Style(torch.from_numpy(latents))
    expected = reference(street()[0], style=style)
    assert difference(expected, exported(street()[0], style=latents)) <= 1
    assert difference(expected, exported(street()[0], style=style)) <= 1


def test_no_style_is_drawn_where_styles_are_not_normal(tmp_path: Path) -> None:
    model = build_settled("pix2pixhd")
    export_onnx(model, tmp_path / "model.onnx")
    reference, exported = Pipeline(model, "cpu"), OnnxPipeline(tmp_path / "model.onnx", threads=1)
    label_map, instance_map = street(40, 72)
    for samples in (1, 2):
        with pytest.raises(StyleError, match=r"draws no random styles: give a style.*neutral_style"):
            exported(label_map, instance_maps=instance_map, samples=samples)
    model.neutral_style(1).save(tmp_path / "neutral.safetensors")
    pictures = exported(label_map, instance_maps=instance_map, style=tmp_path / "neutral.safetensors")
    assert difference(reference(label_map, instance_maps=instance_map), pictures) <= 1
    maps = Style(torch.randn(2, 2, *model.config.image_size, generator=torch.Generator().manual_seed(0)))
    expected = reference(label_map, instance_maps=instance_map, style=maps)  # of another size than the layout
    assert difference(expected, exported(label_map, instance_maps=instance_map, style=maps)) <= 1
    assert difference(expected[:1], pictures) > 1


def test_one_vocabulary(plain: Pair, styled: Pair) -> None:
    for reference, exported in (plain, styled):
        assert exported.labels == reference.labels
        assert exported.signature.style_shape == reference.model.config.style_shape


def test_the_same_errors(plain: Pair, styled: Pair) -> None:
    label_map, instance_map = street()
    other = Layout.from_array(label_map, LABEL_SETS["scenes"], instance_map)
    calls = [
        (plain, {"layouts": label_map}),
        (plain, {"layouts": label_map, "instance_maps": [instance_map] * 2}),
        (plain, {"layouts": label_map, "instance_maps": instance_map[:, 1:]}),
        (plain, {"layouts": label_map / 2, "instance_maps": instance_map}),
        (plain, {"layouts": label_map + 20, "instance_maps": instance_map}),
        (plain, {"layouts": label_map, "instance_maps": instance_map, "size": (0, 4)}),
        (plain, {"layouts": label_map, "instance_maps": instance_map, "samples": 2}),
        (plain, {"layouts": "missing.png", "instance_maps": instance_map}),
        (plain, {"layouts": 3, "instance_maps": instance_map}),
        (plain, {"layouts": label_map[None], "instance_maps": instance_map}),
        (plain, {"layouts": other}),
        (plain, {"layouts": other, "instance_maps": instance_map}),
        (styled, {"layouts": label_map, "samples": 0}),
    ]
    for pipelines, arguments in calls:
        layouts = arguments.pop("layouts")
        raised = []
        for pipeline in pipelines:
            with pytest.raises((LayoutError, LabelMapError, StyleError)) as caught:
                pipeline(layouts, **arguments)
            raised.append(type(caught.value))
        assert raised[0] is raised[1], f"{raised} for {arguments}"


@pytest.mark.parametrize(
    ("style", "found"),
    [
        (np.zeros((1, 5)), r"\[1, 5\], this tiny model takes \[styles, 20\] \(styles, latent_dim\)"),
        (np.zeros(20), r"\[20\], this tiny model takes \[styles, 20\]"),
        (np.zeros((1, 5, 2)), "of the kind 'codes', this tiny model takes 'latent'"),
        (3.5, "not a float"),
        ("photo.jpg", "Pipeline.encode"),
        (Image.new("RGB", (4, 4)), "Pipeline.encode"),
    ],
)
def test_wrong_styles(styled: Pair, style: object, found: str) -> None:
    with pytest.raises(StyleError, match=found):
        styled[1](street()[0], style=style)


def test_files_that_are_no_exported_model(tmp_path: Path) -> None:
    import onnx

    with pytest.raises(CheckpointError, match="does not exist"):
        OnnxPipeline(tmp_path / "missing.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not onnx")
    with pytest.raises(CheckpointError, match="cannot be read as an ONNX model"):
        OnnxPipeline(tmp_path / "broken.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "foreign", [value], [other])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(CheckpointError, match="not exported by Segscape"):
        OnnxPipeline(tmp_path / "foreign.onnx")
    onnx.helper.set_model_props(model, {"segscape.format": "99"})
    onnx.save(model, tmp_path / "newer.onnx")
    with pytest.raises(CheckpointError, match="format 99"):
        OnnxPipeline(tmp_path / "newer.onnx")


def test_an_unknown_provider(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CPUExecutionProvider"):
        OnnxPipeline(tmp_path / "model.onnx", providers=["AbacusExecutionProvider"])


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails
from segscape.inference import OnnxPipeline
(picture,) = OnnxPipeline(sys.argv[1])(sys.argv[2], instance_maps=sys.argv[3])
picture.save(sys.argv[4])
assert not any(name.startswith("torch.") for name in sys.modules)
"""


def test_a_process_without_torch(plain: Pair, model_file: Path, tmp_path: Path) -> None:
    label_map, instance_map = street()
    files = [tmp_path / name for name in ("street.png", "ids.png", "picture.png")]
    write_label_map(files[0], label_map, CAMVID)
    Image.fromarray(instance_map.astype(np.uint8)).save(files[1])
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, model_file, *files], check=True)
    assert difference(plain[0](label_map, instance_maps=instance_map), [Image.open(files[2])]) <= 1
