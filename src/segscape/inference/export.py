"""Writing a generator to a file for other runtimes: ONNX, OpenVINO, or a program of `torch.export`.

The exported model takes label indices: no runtime needs to know one-hot maps, label sets or spectral normalisation.
What does not depend on the input is folded: spectral normalisation, and the batch-norm statistics of CLADE into its
tables. SPADE's first convolution, which reads a one-hot map, becomes look-ups (measured in onnxruntime: four times
faster at 256x256 with 151 classes). Whatever generator takes a layout and a style exports, without code of its own.

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
from functools import reduce
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from segscape.errors import ConfigError, ExportError
from segscape.extras import require
from segscape.files import write_atomically
from segscape.inference.acceleration import AcceleratedGenerator
from segscape.inference.folding import plain_convolution, running_statistics
from segscape.inference.signature import Signature
from segscape.labels import LabelSet
from segscape.layout import Layout, Size
from segscape.models.generator import Generator, GeneratorConfig
from segscape.nn.clade import CLADE
from segscape.nn.conditional import LayoutModulatedNorm
from segscape.nn.noise import remove_noise
from segscape.nn.spade import SPADE
from segscape.nn.spectral import SpectralNorm
from segscape.style import Style

TOLERANCE: Final = 1e-4
"""Largest difference of a pixel in [-1, 1] between a file and the model it was made from (a grey level is 8e-3)."""

LARGEST_SIDE: Final = 16384
"""Of a layout of a model with dynamic sizes."""

Inputs = dict[str, Tensor]
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


class TracedLayout(Layout):
    """A layout of tensors that are traced: nothing is checked, and `windows` serve `SPADEByLookUp`.

    Args:
        label_map, labels, instance_map, position: as for `Layout`.
    """

    def __init__(
        self, label_map: Tensor, labels: LabelSet, instance_map: Tensor | None = None, position: Tensor | None = None
    ) -> None:
        super().__init__(label_map, labels, instance_map, position=position, check=False)
        self._windows: dict[tuple[str, int, bool], list[Tensor]] = {}

    def windows(self, size: Size, side: int, edges: bool) -> list[Tensor]:
        """The token at each place of a square around each pixel, row by row: `side * side` times int64 `[N, h, w]`.

        A token is the label, with `edges` `2 * label + edge`, and outside the image the next number.
        """
        key = (str(size), side, edges)
        if key not in self._windows:  # each is read by all layers of its size
            tokens = 2 * self.at(size) + self.edges(size)[:, 0].long() if edges else self.at(size)
            (height, width), margin = size, side // 2
            padded = F.pad(tokens, (margin, margin, margin, margin), value=self.num_classes * (1 + edges))
            places = [(row, column) for row in range(side) for column in range(side)]
            self._windows[key] = [padded[:, i : i + height, j : j + width] for i, j in places]
        return self._windows[key]


class GeneratorOfTensors(nn.Module):
    """A generator as a function of tensors.

    Args:
        generator: called with the layout and style that the tensors make up.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self,
        label_map: Tensor,
        instance_map: Tensor | None = None,
        position: Tensor | None = None,
        style: Tensor | None = None,
    ) -> Tensor:
        """Images `[N, 3, H, W]` in [-1, 1]; see `Signature.shapes` for the inputs."""
        layout = TracedLayout(label_map, self.generator.config.labels, instance_map, position)
        return cast(Tensor, self.generator(layout, None if style is None else Style(style)))


class SPADEByLookUp(LayoutModulatedNorm):
    """SPADE in evaluation mode, its first convolution as one look-up for each place of the kernel.

    Args:
        norm: the layer.
    """

    def __init__(self, norm: SPADE) -> None:
        super().__init__(norm.channels, "instance")
        self.statistics, self.gamma, self.beta = norm.statistics, norm.gamma, norm.beta
        self.instances, self.side = norm.instances, norm.shared.kernel_size[0]
        first, bias, _, _ = norm.look_up_weights()
        tables = [*first.detach().clone()]  # [tokens + 1, H] for each place
        tables[len(tables) // 2] += bias.detach()  # the place in the middle is always within the image
        self.tables = nn.ParameterList(nn.Parameter(table, requires_grad=False) for table in tables)

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """As `SPADE`, for a `TracedLayout`."""
        gamma, beta = self.modulation(layout, (x.shape[-2], x.shape[-1]))
        return cast(Tensor, self.statistics(x) * gamma + beta)

    def modulation(self, layout: Layout, size: Size, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """As `SPADE`, for a `TracedLayout`."""
        windows = cast(TracedLayout, layout).windows(size, self.side, self.instances)
        found = [F.embedding(window, table) for window, table in zip(windows, self.tables, strict=True)]
        hidden = F.relu(reduce(torch.add, found)).permute(0, 3, 1, 2)  # [N, H, h, w]
        return 1 + self.gamma(hidden), self.beta(hidden)


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
        "instance_map": config.use_instances,
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
        style_shape=_style_shape(config, size),
    )


def _style_shape(config: GeneratorConfig, size: Size | None) -> tuple[int | None, ...] | None:
    """Of one image's style; a map has the sides of the layout."""
    shape = config.style_shape
    if shape is None or config.style_kind != "map":
        return shape
    return (shape[0], None, None) if size is None else (shape[0], *size)


def fold(model: Generator) -> Generator:
    """A copy on the CPU, in evaluation mode, for tracing: spectral norm, CLADE's statistics and SPADE's look-ups.

    SEAN's noise is left out.
    """
    network = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    for encoder in ("encoder", "style_encoder"):
        if hasattr(network, encoder):
            delattr(network, encoder)  # no part of the forward pass
    remove_noise(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, SpectralNorm):
            network.set_submodule(name, plain_convolution(module))
        elif isinstance(module, SPADE):
            network.set_submodule(name, SPADEByLookUp(module))
        elif isinstance(module, CLADE):
            _fold_statistics(module)
    return network


def _fold_statistics(norm: CLADE) -> None:
    """Put the running statistics into the tables; with positional modulation they stay, as beta's factor is another."""
    statistics = running_statistics(norm)
    if statistics is None or norm.position == "modulation":
        return
    mean, factor = statistics
    norm.gamma.mul_(factor)
    norm.beta.sub_(norm.gamma * mean)
    norm.statistics = nn.Identity()


def _trace(model: Generator, signature: Signature) -> ExportedProgram:
    multiple = signature.size_multiple
    example = _example(signature, 2, signature.size or (2 * multiple, 3 * multiple))
    longest = LARGEST_SIDE // multiple
    batch, sides = Dim("N"), {}
    fixed = () if signature.style_kind == "map" else ("style",)
    if signature.size is None:  # sizes are traced as multiples, so that what is divided stays whole
        height, width = (Dim(name, min=1, max=longest) * multiple for name in ("h", "w"))
        sides = {-2: height, -1: width}
    dynamic = {
        name: {0: batch, **({} if name in fixed else {value.ndim + place: side for place, side in sides.items()})}
        for name, value in example.items()
    }
    with torch.no_grad():
        network = GeneratorOfTensors(fold(model))
        return torch.export.export(network, (), dict(example), dynamic_shapes=dynamic)


def _example(signature: Signature, batch: int, size: Size) -> Inputs:
    """Inputs of a batch of layouts of rectangles, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    block = max(1, min(size) // 8)
    shape = (batch, -(-size[0] // block), -(-size[1] // block))
    ids = torch.randint(0, 3 * signature.labels.num_classes, shape, generator=generator)
    ids = ids.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, : size[0], : size[1]].contiguous()
    layout = Layout(ids % signature.labels.num_classes, signature.labels, ids)
    inputs = {"label_map": layout.label_map, "instance_map": ids}
    if signature.position_rule is not None:
        inputs["position"] = layout.position(rule=signature.position_rule)
    if signature.style_shape is not None:
        sides = [size[place - 1] if side is None else side for place, side in enumerate(signature.style_shape)]
        inputs["style"] = torch.randn(batch, *sides, generator=generator)
    return {name: inputs[name] for name in signature.inputs}


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
        save(_trace(model, signature), signature, draft)
    inputs = _example(signature, 1, signature.size or (3 * signature.size_multiple, 2 * signature.size_multiple))
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
