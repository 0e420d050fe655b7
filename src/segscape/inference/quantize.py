"""8-bit weights and activations for CPUs: an exported model, calibrated on layouts.

What stays in float32 was chosen by measurement on the shipped model: peak signal-to-noise ratio against float32 on ten
layouts of CamVid, and time on one thread of a CPU with AVX2.

- All convolutions, ranges from the extremes of what the layouts give: 35 dB. Ranges from percentiles: 40 dB, in 62 % of
  float32's time.
- Convolutions behind the third-last up-sampling left in float32: 49 dB, in 68 % of the time, since they are narrow.
- The first convolution makes no difference. Those of positional and edge maps have too few channels to gain, and stay.
- Weights have 7 bits (`reduce_range`), as CPUs without VNNI saturate sums of 8-bit products.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from segscape.errors import ConfigError
from segscape.extras import require
from segscape.files import write_atomically
from segscape.inference.onnx import LayoutLike, OnnxPipeline

FLOAT_UPSAMPLINGS: Final = 3
"""Convolutions behind so many of the last up-samplings stay in float32."""

FEWEST_CHANNELS: Final = 3
"""Of the input of a convolution that is quantised."""

PERCENTILE: Final = 99.99
"""Of the activations on the calibration layouts that lie within the 8-bit range."""

COMPARED: Final = 4
"""Calibration layouts on which the quantised model is compared with the float32 one."""

Feeds = dict[str, Any]


@dataclass(frozen=True)
class Quantization:
    """A model in 8 bits.

    Attributes:
        path: its file, which `OnnxPipeline` reads.
        difference: mean absolute difference of a pixel in [-1, 1] from the float32 model, on calibration layouts.
    """

    path: Path
    difference: float


def quantize(
    onnx_path: str | Path, out_path: str | Path, layouts: Iterable[LayoutLike], *, style: Any = None
) -> Quantization:
    """Quantise the convolutions of an exported model statically, weights per channel (QDQ format).

    Args:
        onnx_path: a file of `export_onnx`.
        out_path: the file to write; may be `onnx_path`.
        layouts: a few dozen label maps like those to come: anything that `OnnxPipeline.read_layout` takes. They are
            resized to the size that the model was trained at.
        style: as `OnnxPipeline` takes it; each layout has the next of its S styles. None draws one for each.

    Raises:
        ConfigError: no layouts.
        DependencyError: onnx or onnxruntime is not installed.
        LabelMapError, LayoutError: a layout does not fit the model.
        StyleError: the style does not fit the model, or none is given to one that draws none.
        CheckpointError: `onnx_path` is no exported model.
    """
    onnx, quantization = require("onnx", "export"), require("onnxruntime.quantization", "export")
    path, pipeline = Path(out_path), OnnxPipeline(onnx_path)
    feeds = [_feeds(pipeline, layout, style, number) for number, layout in enumerate(layouts)]
    if not feeds:
        raise ConfigError("8 bits need layouts to calibrate on: give some label maps.")
    model = onnx.load(onnx_path)
    with redirect_stdout(StringIO()):  # the calibrator prints its progress
        ranges = _ranges(quantization, Path(onnx_path), feeds)
        quantizer = quantization.QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=True,
            weight_qType=quantization.QuantType.QInt8,
            activation_qType=quantization.QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=_worthwhile(model.graph),
            nodes_to_exclude=[],
            op_types_to_quantize=["Conv"],
            extra_options={},
        )
        quantizer.quantize_model()
    expected = [pipeline.run(feed) for feed in feeds[:COMPARED]]
    write_atomically(path, lambda draft: onnx.save(quantizer.model.model, draft))
    small = OnnxPipeline(path)
    differences = [np.abs(small.run(feed) - image).mean() for feed, image in zip(feeds, expected, strict=False)]
    return Quantization(path, float(np.mean(differences)))


def _feeds(pipeline: OnnxPipeline, item: LayoutLike, style: Any, number: int) -> Feeds:
    """The model's inputs for the layout of a number, with a style if it takes any."""
    layout = pipeline.read_layout(item).resize(tuple(pipeline.signature.config["image_size"]))
    by_style = pipeline.inputs(layout, pipeline.styles(style, seed=number))
    return by_style[number % len(by_style)]


def _ranges(quantization: Any, path: Path, feeds: list[Feeds]) -> Any:
    """The range of each tensor that a convolution reads or writes, over all layouts."""
    with tempfile.TemporaryDirectory() as folder:
        calibrator = quantization.create_calibrator(
            path,
            ["Conv"],
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"percentile": PERCENTILE, "symmetric": False},
        )
        for feed in feeds:  # one by one, since it keeps the tensors of all that it is given at once
            calibrator.collect_data(_Reader(feed))
        return calibrator.compute_data()


class _Reader:
    """What onnxruntime takes calibration data from: `get_next` until it gives None."""

    def __init__(self, *feeds: Feeds) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def _worthwhile(graph: Any) -> list[str]:
    """The names of the convolutions to quantise; nodes are in the order of computation."""
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    enlarging = [place for place, node in enumerate(graph.node) if node.op_type == "Resize"]
    last = enlarging[-FLOAT_UPSAMPLINGS] if len(enlarging) >= FLOAT_UPSAMPLINGS else len(graph.node)
    return [
        node.name
        for node in islice(graph.node, last)
        if node.op_type == "Conv" and node.input[1] in weights and weights[node.input[1]][1] >= FEWEST_CHANNELS
    ]
