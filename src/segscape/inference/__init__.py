"""From a layout to pictures. Each name is imported on first use: `OnnxPipeline` must work where there is no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "SHIPPED_MODEL",
    "OnnxPipeline",
    "Pipeline",
    "Reference",
    "accelerate",
    "compile_generator",
    "draw_rectangle",
    "draw_stroke",
    "fill_region",
    "to_pictures",
]

if TYPE_CHECKING:
    from segscape.inference.acceleration import accelerate
    from segscape.inference.compilation import compile_generator
    from segscape.inference.drawing import draw_rectangle, draw_stroke, fill_region
    from segscape.inference.onnx import OnnxPipeline
    from segscape.inference.pipeline import SHIPPED_MODEL, Pipeline, Reference, to_pictures
else:
    _MODULE_OF = {
        "SHIPPED_MODEL": "segscape.inference.pipeline",
        "OnnxPipeline": "segscape.inference.onnx",
        "Pipeline": "segscape.inference.pipeline",
        "Reference": "segscape.inference.pipeline",
        "accelerate": "segscape.inference.acceleration",
        "compile_generator": "segscape.inference.compilation",
        "draw_rectangle": "segscape.inference.drawing",
        "draw_stroke": "segscape.inference.drawing",
        "fill_region": "segscape.inference.drawing",
        "to_pictures": "segscape.inference.pipeline",
    }

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
