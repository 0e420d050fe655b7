"""`Score`: one measured number, and everything that has to be said with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["fidelity", "agreement", "diversity", "cost"]


@dataclass(frozen=True)
class Score:
    """A number that carries how it was measured; scores of different protocols are never put in one column.

    Attributes:
        name: of the metric, with the network it looks through where that is not the published one:
            `FID`, but `FD-EfficientNetLite0`.
        value: the number, in `unit`.
        unit: `%`, `M`, `G`, `s`, `MB`, or empty.
        better: whether a higher or a lower value is better, where either is.
        group: what it says something about; the reports order scores by it.
        protocol: how it was measured, in full (see `segscape.evaluation.protocol`).
        note: what else a reader must know, for example that a covariance was singular.
    """

    name: str
    value: float
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    group: Group = "fidelity"
    protocol: str = ""
    note: str = ""
