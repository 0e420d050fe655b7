"""Exported files give the model's pictures, at other sizes and batches than were traced, for every norm and input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch

from segscape.errors import ConfigError, ExportError
from segscape.inference import accelerate, export
from segscape.inference.export import EXPORTERS, export_onnx, export_openvino, export_pt2
from segscape.inference.signature import PREFIX, Signature
from segscape.labels import LABEL_SETS
from segscape.models import create_model, list_models
from segscape.models.clade import mixed_norms
from segscape.models.generator import Generator
from tests.inference.tiny import feeds, random_inputs, settled, tiny

EVERYTHING = "spade-and-clade-feature-instances-latent"
KINDS: dict[str, dict[str, object]] = {
    "spade": {"norms": ("spade", "spade")},
    "spade-instances": {"norms": ("spade", "spade"), "use_instances": True},
    "clade": {},
    "clade-instance-statistics": {"statistics": "instance"},
    "clade-icpe": {"position": "modulation"},
    EVERYTHING: {
        "norms": ("spade", "clade"),
        "position": "feature",
        "use_instances": True,
        "latent_dim": 3,
    },
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


def check(model: Generator, path: Path, format: str, sizes: list[tuple[int, tuple[int, int]]]) -> None:
    for number, (batch, size) in enumerate(sizes):
        layout, style = random_inputs(model, batch, size, seed=number)
        with torch.no_grad():
            expected = model(layout, style).numpy()
        assert expected.std() > 0.02, "a flat picture shows nothing"
        found = RUN[format](path, feeds(layout, style, model))
        assert found.dtype == np.float32 and found.shape == (batch, 3, *size)
        assert np.abs(found - expected).max() < CLOSE


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind not in ("clade-icpe", EVERYTHING)]


@pytest.mark.parametrize("kind", ["clade-icpe", EVERYTHING, *SLOW])
def test_onnx_at_any_size_and_batch(kind: str, tmp_path: Path) -> None:
    model = tiny(**KINDS[kind])
    written = export_onnx(model, tmp_path / "model.onnx")
    assert written.difference < CLOSE
    check(model, tmp_path / "model.onnx", "onnx", SIZES)


@pytest.mark.parametrize("format", ["pt2", "openvino"])
@pytest.mark.parametrize("kind", ["clade-icpe", pytest.param(EVERYTHING, marks=pytest.mark.slow)])
def test_other_formats_at_any_size_and_batch(format: str, kind: str, tmp_path: Path) -> None:
    model, path = tiny(**KINDS[kind]), tmp_path / FILE[format]
    assert EXPORTERS[format](model, path).difference < CLOSE
    check(model, path, format, SIZES)
    files = {"onnx": ["model.onnx"], "pt2": ["model.pt2"], "openvino": ["model.bin", "model.xml"]}
    assert sorted(file.name for file in tmp_path.iterdir()) == files[format]


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_model_of_the_registry(name: str, tmp_path: Path) -> None:
    model = settled(create_model(name, labels=5, image_size=(64, 64), base_channels=2))
    export_onnx(model, tmp_path / "model.onnx", size=(64, 96))
    check(model, tmp_path / "model.onnx", "onnx", [(2, (64, 96))])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"norm": mixed_norms(1), "use_instances": True, "position": "feature", "upsampling": "more"},
        {"position": "input", "use_instances": True},
        {"latent_dim": 3},
    ],
    ids=["mixed", "position input", "latent"],
)
def test_options_of_the_registry_at_any_size(options: dict[str, object], tmp_path: Path) -> None:
    model = settled(create_model("clade", labels=5, image_size=(64, 64), base_channels=2, **options))
    export_onnx(model, tmp_path / "model.onnx")
    check(model, tmp_path / "model.onnx", "onnx", [(1, (64, 64))] if model.config.fixed_size else [(2, (64, 128))])


def test_the_label_map_is_the_only_input_unless_the_model_reads_more() -> None:
    assert export.sign(tiny()).shapes() == {"label_map": "int64 [N, H, W]"}
    every = export.sign(tiny(**KINDS[EVERYTHING]), (8, 12))
    assert every.shapes() == {
        "label_map": "int64 [N, 8, 12]",
        "instance_map": "int64 [N, 8, 12]",
        "position": "float32 [N, 2, 8, 12]",
        "style": "float32 [N, 3]",
    }


def test_each_format_holds_the_signature(tmp_path: Path) -> None:
    model = tiny()
    for format, exporter in EXPORTERS.items():
        assert exporter(model, tmp_path / FILE[format], size=(8, 8)).path == tmp_path / FILE[format]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    extra = {PREFIX + name: "" for name in Signature.model_fields}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    information = openvino.Core().read_model(tmp_path / "model.xml").get_rt_info([PREFIX[:-1]]).value
    places = [session.get_modelmeta().custom_metadata_map, extra]
    places.append({PREFIX + name: value for name, value in information.items()})
    for metadata in places:
        found = Signature.from_metadata(metadata, "a file")
        assert found.labels == LABEL_SETS["camvid"]
        assert (found.size, found.size_multiple, found.model) == ((8, 8), 4, "tiny")
        assert found.config["image_size"] == [256, 256]


def test_neither_statistics_nor_one_hot_maps_are_left_at_full_size(tmp_path: Path) -> None:
    import onnx

    export_onnx(tiny(norms=("spade", "clade")), tmp_path / "model.onnx", size=(8, 8))
    operations = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert operations.count("ScatterElements") <= 1  # the stem's, on the smallest map
    assert not {"Sqrt", "ReduceSum", "MatMul"} & set(operations)  # of spectral normalisation


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_file_that_disagrees_is_not_kept(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fold_wrongly(model: Generator) -> Generator:
        network = folded(model)
        network.get_submodule("to_rgb").bias.add_(0.01)
        return network

    folded = export.fold
    (tmp_path / FILE[format]).write_text("precious")
    monkeypatch.setattr(export, "fold", fold_wrongly)
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
