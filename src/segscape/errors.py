"""The errors a user can meet: each says what was found, where, and how to mend it.

Every message is one sentence written for the person who made the input. The command line prints it
after ``error:`` and leaves with exit code 2; in Python they are ordinary ``ValueError`` subclasses.
"""

from __future__ import annotations


class SegscapeError(ValueError):
    """Base class of everything that Segscape raises about its input.

    Attributes:
        kind: one short stable word for the sort of fault, such as `empty` or `off-by-one`, where a caller may want to
            count or sort them (`segscape dataset inspect` does); else the empty string.
    """

    def __init__(self, message: str = "", kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class LabelMapError(SegscapeError):
    """A label map (or label set) is not what it should be: wrong indices, colours, format."""


class LayoutError(SegscapeError):
    """A layout cannot condition this network: wrong size, shape, or a missing instance map."""


class StyleError(SegscapeError):
    """A style does not fit the model: wrong size, or the model takes none."""


class DataError(SegscapeError):
    """A dataset or an image file is missing, broken, or does not pair up."""


class ConfigError(SegscapeError):
    """A model configuration is invalid, or names an unknown model."""


class RecipeError(SegscapeError):
    """A training recipe is invalid."""


class CheckpointError(SegscapeError):
    """A checkpoint is missing, broken, or belongs to another model."""


class HubError(SegscapeError):
    """The Hugging Face hub could not be reached, or refused an upload."""


class ExportError(SegscapeError):
    """A model cannot be exported, or the exported file does not give the model's pictures."""


class TrainingError(SegscapeError):
    """Training cannot go on, for example because a loss is no longer finite."""


class EvaluationError(SegscapeError):
    """Something cannot be measured: too few images, classes that do not correspond, an unknown protocol."""


class DependencyError(SegscapeError):
    """A package of an optional extra is not installed."""
