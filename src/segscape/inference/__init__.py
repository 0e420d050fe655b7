"""From a layout to pictures."""

from __future__ import annotations

from segscape.inference.acceleration import accelerate
from segscape.inference.pipeline import SHIPPED_MODEL, Pipeline, to_pictures

__all__ = ["SHIPPED_MODEL", "Pipeline", "accelerate", "to_pictures"]
