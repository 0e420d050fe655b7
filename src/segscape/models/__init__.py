"""The published systems: one file each, a registry of their names, and the conversion of official checkpoints."""

from segscape.models.registry import create_model, list_models, load_model

__all__ = ["create_model", "list_models", "load_model"]
