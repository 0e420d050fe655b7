"""The learning-rate schedule of the SPADE family."""

from __future__ import annotations


def linear_decay(progress: float, constant: float, decay: float) -> float:
    """Factor on the learning rate: 1 up to `constant`, then linearly to 0 over `decay`.

    Args:
        progress: work done so far, in any unit: images here, completed epochs in the official code, whose decay
            begins one epoch late because it is set at an epoch's start from what has been completed then.
        constant: progress at which the decay begins.
        decay: length of the decay; 0 for none.
    """
    if decay <= 0 or progress <= constant:
        return 1.0
    return max(0.0, 1 - (progress - constant) / decay)
