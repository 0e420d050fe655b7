"""Segscape: semantic image synthesis. A label map in, a photograph out.

The names below are the short way in; each is imported on first use, so ``import segscape`` stays cheap::

    import segscape

    pipeline = segscape.Pipeline.from_pretrained("path/or/hub-id")
    layout = segscape.Layout.from_file("street.png", pipeline.labels)
    photo = pipeline(layout, seed=0)[0]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "LABEL_SETS",
    "LabelSet",
    "Layout",
    "OnnxPipeline",
    "Pipeline",
    "Reference",
    "Style",
    "__version__",
    "create_model",
    "label_set",
    "list_models",
    "load_model",
]

if TYPE_CHECKING:
    from segscape.inference.onnx import OnnxPipeline
    from segscape.inference.pipeline import Pipeline, Reference
    from segscape.labels import LABEL_SETS, LabelSet, label_set
    from segscape.layout import Layout
    from segscape.models import create_model, list_models, load_model
    from segscape.style import Style
else:
    _MODULE_OF = {
        "LABEL_SETS": "segscape.labels",
        "LabelSet": "segscape.labels",
        "Layout": "segscape.layout",
        "OnnxPipeline": "segscape.inference.onnx",
        "Pipeline": "segscape.inference.pipeline",
        "Reference": "segscape.inference.pipeline",
        "Style": "segscape.style",
        "create_model": "segscape.models",
        "label_set": "segscape.labels",
        "list_models": "segscape.models",
        "load_model": "segscape.models",
    }

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
