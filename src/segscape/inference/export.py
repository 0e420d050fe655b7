"""Writing a generator to a file for other runtimes: ONNX, OpenVINO, or a program of `torch.export`.

The exported model takes label indices: no runtime needs to know one-hot maps, label sets or spectral normalisation.
Whatever generator takes a layout and a style exports, without code of its own (`tracing.py`).

Each file is run after it was written and compared with the model; one that disagrees by more than `TOLERANCE` is not
kept.
"""

from __future__ import annotations

import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.export import ExportedProgram

from segscape.errors import ConfigError, ExportError
from segscape.extras import require
from segscape.files import write_atomically
from segscape.inference.acceleration import AcceleratedGenerator
from segscape.inference.signature import Signature
from segscape.inference.tracing import GeneratorOfTensors, Inputs, example, trace
from segscape.layout import Size
from segscape.models.generator import Generator
from segscape.nn.noise import remove_noise

TOLERANCE: Final = 1e-4
"""Largest difference of a pixel in [-1, 1] between a file and the model it was made from (a grey level is 8e-3)."""

Outputs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Export:
    """A file that was written and checked.

    Attributes:
        path: where it is; for OpenVINO the `.xml`, which has a `.bin` beside it.
        signature: what the model in it takes.
        difference: the largest difference of a pixel in [-1, 1] from the model, on a small layout.
    """

    path: Path
    signature: Signature
    difference: float


def export_onnx(model: Generator, path: str | Path, *, size: Size | None = None) -> Export:
    """Write a generator as ONNX, for onnxruntime and `OnnxPipeline`.

    Args:
        model: any generator that was not accelerated; it stays as it is.
        path: the file to write.
        size: (height, width) of the layouts; None leaves them and the batch open, where the model has no fixed size.

    Raises:
        ConfigError: the model was accelerated, or cannot work at this size.
        DependencyError: onnx, onnxscript or onnxruntime is not installed.
        ExportError: the file does not give the model's pictures; it is not kept.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "export")
    signature, path, differences = sign(model, size), Path(path), list[float]()
    write_atomically(path, lambda draft: differences.append(_write(draft, model, signature, _save_onnx, _run_onnx)))
    return Export(path, signature, differences[0])


def export_pt2(model: Generator, path: str | Path, *, size: Size | None = None) -> Export:
    """Write a generator as a program of `torch.export`: `torch.export.load(path).module()(label_map=...)` runs it.

    The metadata are an extra file of the archive for each key. Arguments and errors are those of `export_onnx`.
    """
    signature, path, differences = sign(model, size), Path(path), list[float]()
    write_atomically(path, lambda draft: differences.append(_write(draft, model, signature, _save_pt2, _run_pt2)))
    return Export(path, signature, differences[0])


def export_openvino(model: Generator, path: str | Path, *, size: Size | None = None) -> Export:
    """Write a generator in OpenVINO's format: `path`, which ends in `.xml`, and the weights beside it as `.bin`.

    The metadata are in `rt_info`. On some CPUs OpenVINO computes in bfloat16 unless it is asked for
    `INFERENCE_PRECISION_HINT="f32"`, as the check does. Arguments and errors are those of `export_onnx`.
    """
    for package in ("onnx", "onnxscript", "openvino"):
        require(package, "openvino")
    signature, path = sign(model, size), Path(path)
    if path.suffix != ".xml":
        raise ConfigError(f"OpenVINO's files end in .xml and .bin, not in {path.suffix!r}: name it {path.stem}.xml.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        draft = Path(folder) / path.name
        difference = _write(draft, model, signature, _save_openvino, _run_openvino)
        for file in (draft.with_suffix(".bin"), draft):
            file.replace(path.with_name(file.name))
    return Export(path, signature, difference)


EXPORTERS: Final = {"onnx": export_onnx, "openvino": export_openvino, "pt2": export_pt2}
"""Name of a format -> what writes it."""


def sign(model: Generator, size: Size | None = None) -> Signature:
    """The signature of a generator's export; raises ConfigError as `export_onnx`."""
    config = model.config
    if isinstance(model, AcceleratedGenerator):
        raise ConfigError("an accelerated model cannot be exported: export the model that it was made from.")
    if config.fixed_size:
        if size not in (None, config.image_size):
            raise ConfigError(f"this model has the fixed size {_cross(config.image_size)}: omit size.")
        size = config.image_size
    if size is not None and (min(size) < 1 or any(side % config.size_multiple for side in size)):
        raise ConfigError(f"size {_cross(size)} is not a multiple of {config.size_multiple}, as this model needs.")
    reads = {
        "label_map": True,
        "instance_map": config.reads_instances,
        "position": config.encoding_rule is not None,
        "style": config.style_kind is not None,
    }
    return Signature(
        model=config.model,
        labels=config.labels,
        config=config.model_dump(mode="json", exclude={"model", "labels"}),
        inputs=tuple(name for name, is_read in reads.items() if is_read),
        size=size,
        size_multiple=config.size_multiple,
        position_rule=config.encoding_rule,
        style_kind=config.style_kind,
        style_shape=_style_shape(config.open_style_shape, size),
        variational=config.variational,
    )


def _style_shape(shape: tuple[int | None, ...] | None, size: Size | None) -> tuple[int | None, ...] | None:
    """Of one image's style; the open sides, of a map, are those of the layout."""
    if shape is None or size is None:
        return shape
    return tuple(size[place - 1] if side is None else side for place, side in enumerate(shape))


def _write(
    draft: Path,
    model: Generator,
    signature: Signature,
    save: Callable[[ExportedProgram, Signature, Path], None],
    run: Callable[[Path, Inputs], Outputs],
) -> float:
    """Save a traced model, run the file at another size and batch, and return its difference from the model.

    Raises ExportError if it is beyond `TOLERANCE`.
    """
    with _quiet():
        save(trace(model, signature), signature, draft)
    inputs = example(signature, 1, signature.size or (3 * signature.size_multiple, 2 * signature.size_multiple))
    with torch.no_grad():
        plain = copy.deepcopy(model).cpu().float().eval()
        remove_noise(plain)
        expected = GeneratorOfTensors(plain)(**inputs).numpy()
    found = run(draft, inputs)
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    if not difference <= TOLERANCE:  # a NaN is no agreement
        raise ExportError(
            f"the exported model differs from the original by {difference:.2g} where {TOLERANCE:g} is allowed, so no "
            "file was written: check that the weights are finite, and report the versions of torch and the runtime."
        )
    return difference


def _save_onnx(program: ExportedProgram, signature: Signature, path: Path) -> None:
    exported = torch.onnx.export(
        program, dynamo=True, input_names=[*signature.inputs], output_names=["image"], verbose=False
    )
    assert exported is not None
    exported.model.metadata_props.update(signature.to_metadata())
    exported.save(path)


def _run_onnx(path: Path, inputs: Inputs) -> Outputs:
    onnxruntime = require("onnxruntime", "export")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images: Outputs = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    return images


def _save_pt2(program: ExportedProgram, signature: Signature, path: Path) -> None:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=signature.to_metadata())
    path.write_bytes(buffer.getvalue())


def _run_pt2(path: Path, inputs: Inputs) -> Outputs:
    program = torch.export.load(io.BytesIO(path.read_bytes()))
    with torch.no_grad():
        images: Outputs = program.module()(**inputs).numpy()
    return images


def _save_openvino(program: ExportedProgram, signature: Signature, path: Path) -> None:
    openvino = require("openvino", "openvino")
    with tempfile.TemporaryDirectory() as folder:  # by way of ONNX, whose sizes stay dynamic
        _save_onnx(program, signature, Path(folder) / "model.onnx")
        converted = openvino.convert_model(Path(folder) / "model.onnx")
        for key, value in signature.to_metadata().items():
            converted.set_rt_info(value, key.split("."))
        openvino.save_model(converted, path, compress_to_fp16=False)


def _run_openvino(path: Path, inputs: Inputs) -> Outputs:
    openvino = require("openvino", "openvino")
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images: Outputs = compiled({name: value.numpy() for name, value in inputs.items()})["image"]
    return images


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes on packages that are not there and on their own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _cross(size: Any) -> str:
    return "x".join(map(str, size))
