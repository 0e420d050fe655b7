"""Exported files give the model's pictures, at other sizes and batches than were traced, for every norm and input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch.export import ExportedProgram

from segscape.errors import ConfigError, ExportError
from segscape.inference import accelerate, export, tracing
from segscape.inference.export import EXPORTERS, export_onnx, export_openvino, export_pt2
from segscape.inference.signature import PREFIX, Signature
from segscape.labels import LABEL_SETS
from segscape.layout import Size
from segscape.models import create_model
from segscape.models.clade import mixed_norms
from segscape.models.generator import Generator
from segscape.nn.noise import AddedNoise
from tests.inference.tiny import tiny
from tests.zoo import SIZE, TINY, build_settled, feeds, random_inputs

EVERYTHING = "spade-and-clade-feature-instances-latent"
KINDS: dict[str, dict[str, object]] = {
    "clade-icpe": {"position": "modulation"},
    "instance-statistics": {"norms": ("spade", "clade"), "statistics": "instance"},
    "sean": {"norms": ("sean", "clade"), "use_instances": True},
    EVERYTHING: {
        "norms": ("spade", "clade"),
        "position": "feature",
        "use_instances": True,
        "latent_dim": 3,
    },
}
WRITTEN = {
    "pix2pixhd": ["pt2", "onnx", "openvino"],
    "ca2-sis": ["pt2", "onnx"],
    "groupdnet": ["onnx"],
}
SIZES = [(1, (8, 8)), (3, (12, 24)), (2, (32, 16))]  # batch and size
CLOSE = 2e-5


def run_onnx(path: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["image"], {name: value.numpy() for name, value in inputs.items()})[0]


def run_pt2(path: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    with torch.no_grad():
        return torch.export.load(path).module()(**inputs).numpy()


def run_openvino(path: Path, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled({name: value.numpy() for name, value in inputs.items()})["image"]


RUN = {"onnx": run_onnx, "pt2": run_pt2, "openvino": run_openvino}
FILE = {"onnx": "model.onnx", "pt2": "model.pt2", "openvino": "model.xml"}


def silence(model: Generator) -> None:
    """Let a model draw as its files do: without noise."""
    for layer in model.modules():
        if isinstance(layer, AddedNoise):
            layer.weight.data.zero_()


def check(model: Generator, path: Path, format: str, sizes: list[tuple[int, tuple[int, int]]]) -> None:
    silence(model)
    for number, (batch, size) in enumerate(sizes):
        layout, style = random_inputs(model, batch, size, seed=number)
        with torch.no_grad():
            expected = model(layout, style).numpy()
        assert expected.std() > 0.02, "a flat picture shows nothing"
        found = RUN[format](path, feeds(layout, style, model))
        assert found.dtype == np.float32 and found.shape == (batch, 3, *size)
        assert np.abs(found - expected).max() < CLOSE


def check_formats(
    model: Generator, folder: Path, formats: list[str], sizes: list[tuple[int, tuple[int, int]]], size: Size | None
) -> ExportedProgram:
    """Write a model in some formats, of one trace, which is returned, and check each file."""
    program = tracing.trace(model, export.sign(model, size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "trace", lambda *_: program)
        differences = [EXPORTERS[format](model, folder / FILE[format], size=size).difference for format in formats]
    assert max(differences, default=0) < CLOSE
    for format in formats:
        check(model, folder / FILE[format], format, sizes)
    return program


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_any_size_and_batch(kind: str, tmp_path: Path) -> None:
    formats = ["onnx", "pt2"] if kind == EVERYTHING else ["onnx"]
    check_formats(tiny(**KINDS[kind]), tmp_path, formats, SIZES, None)
    assert sorted(file.name for file in tmp_path.iterdir()) == [FILE[format] for format in formats]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TINY if name != "spade-light"])  # a width of SPADE
def test_every_system(name: str, tmp_path: Path) -> None:
    """At one size, as any size costs a trace three times as long; files, where other tests do not write the layers."""
    model = build_settled(name)
    program = check_formats(model, tmp_path, WRITTEN.get(name, []), [(3, SIZE)], SIZE)
    check_trace(program, model, SIZE)


def check_trace(program: ExportedProgram, model: Generator, size: Size) -> None:
    silence(model)
    layout, style = random_inputs(model, 3, size)
    with torch.no_grad():
        expected = model(layout, style)
        assert expected.std() > 0.1
        assert (program.module()(**feeds(layout, style, model)) - expected).abs().max() < CLOSE


@pytest.mark.slow
def test_mixed_norms_and_the_encoding_as_input() -> None:
    model = build_settled("clade", norm=mixed_norms(1), position="input", upsampling="more", image_size=(64, 64))
    program = tracing.trace(model, export.sign(model, (64, 128)))
    check_trace(program, model, (64, 128))


def test_the_label_map_is_the_only_input_unless_the_model_reads_more() -> None:
    assert export.sign(tiny()).shapes() == {"label_map": "int64 [N, H, W]"}
    every = export.sign(tiny(**KINDS[EVERYTHING]), (8, 12))
    assert every.shapes() == {
        "label_map": "int64 [N, 8, 12]",
        "instance_map": "int64 [N, 8, 12]",
        "position": "float32 [N, 2, 8, 12]",
        "style": "float32 [N, 3]",
    }


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model, for layouts of 8x8, in every format."""
    folder = tmp_path_factory.mktemp("files")
    check_formats(tiny(norms=("spade", "clade")), folder, [*EXPORTERS], [(1, (8, 8))], (8, 8))
    return folder


def test_each_format_holds_the_signature(small_files: Path) -> None:
    names = sorted(file.name for file in small_files.iterdir())
    assert names == ["model.bin", "model.onnx", "model.pt2", "model.xml"]
    session = onnxruntime.InferenceSession(str(small_files / "model.onnx"))
    extra = {PREFIX + name: "" for name in Signature.model_fields}
    torch.export.load(small_files / "model.pt2", extra_files=extra)
    information = openvino.Core().read_model(small_files / "model.xml").get_rt_info([PREFIX[:-1]]).value
    places = [session.get_modelmeta().custom_metadata_map, extra]
    places.append({PREFIX + name: value for name, value in information.items()})
    for metadata in places:
        found = Signature.from_metadata(metadata, "a file")
        assert found.labels == LABEL_SETS["camvid"]
        assert (found.size, found.size_multiple, found.model) == ((8, 8), 4, "tiny")
        assert found.config["image_size"] == [256, 256]


def test_neither_statistics_nor_one_hot_maps_are_left_at_full_size(small_files: Path) -> None:
    import onnx

    operations = [node.op_type for node in onnx.load(small_files / "model.onnx").graph.node]
    assert operations.count("ScatterElements") <= 1  # the stem's, on the smallest map
    assert not {"Sqrt", "ReduceSum", "MatMul"} & set(operations)  # of spectral normalisation


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_file_that_disagrees_is_not_kept(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fold_wrongly(model: Generator) -> Generator:
        network = folded(model)
        network.get_submodule("to_rgb").bias.add_(0.01)
        return network

    folded = tracing.fold
    (tmp_path / FILE[format]).write_text("precious")
    monkeypatch.setattr(tracing, "fold", fold_wrongly)
    with pytest.raises(ExportError, match=r"differs from the original by 0\.0"):
        EXPORTERS[format](tiny(), tmp_path / FILE[format], size=(8, 8))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(FILE[format], "precious")]


def test_what_is_not_a_number_is_no_agreement(tmp_path: Path) -> None:
    model = tiny()
    model.to_rgb.bias.data.fill_(float("nan"))
    with pytest.raises(ExportError, match="finite"):
        export_pt2(model, tmp_path / "model.pt2", size=(8, 8))


def test_the_model_stays_as_it_is(tmp_path: Path) -> None:
    model = tiny(norms=("spade", "clade")).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export_pt2(model, tmp_path / "model.pt2", size=(8, 8))
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="export the model that it was made from"):
        export_onnx(accelerate(tiny()), tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="10x12 is not a multiple of 4"):
        export_onnx(tiny(), tmp_path / "model.onnx", size=(10, 12))
    fixed = create_model("clade", labels=5, image_size=(64, 64), base_channels=1, latent_dim=2)
    with pytest.raises(ConfigError, match="fixed size 64x64"):
        export_onnx(fixed, tmp_path / "model.onnx", size=(64, 128))
    with pytest.raises(ConfigError, match=r"model\.xml"):
        export_openvino(tiny(), tmp_path / "model.bin")
    assert not list(tmp_path.iterdir())
