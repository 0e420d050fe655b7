"""Steps that are not finite: they are undone, counted and logged, and stop the run only if they do not end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from segscape.training.reading import Incident


class Guard:
    """Keeps a step whose losses or gradients are NaN or infinite from changing anything.

    Call `begin`, then `accepts` before each optimiser's step, then `settle`. What the forward passes of a refused step
    have done to running statistics and to the vectors of spectral normalisation is undone; once one network's step was
    refused, so are the others' that follow. All processes decide the same, as losses and gradients are sums over them.

    Args:
        networks: all that are trained.
        limit: how many steps in a row may be refused; at one more, `settle` gives up.
        incident: is told of `skipped_steps`.
        give_up: makes the error of a run that cannot go on from what was found.
        scaler: of float16 training, which looks at the gradients itself; else None.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        limit: int,
        incident: Incident,
        give_up: Callable[[str], Exception],
        scaler: Any = None,
    ) -> None:
        self.buffers = [buffer for network in networks for buffer in network.buffers()]
        self.kept = [buffer.clone() for buffer in self.buffers]
        self.limit = limit
        self.incident = incident
        self.give_up = give_up
        self.scaler = scaler
        self.in_a_row = 0
        self.reason = ""

    def state_dict(self) -> dict[str, Any]:
        """How many steps in a row were refused."""
        return {"in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it over."""
        self.in_a_row = int(state_dict["in_a_row"])

    @torch.no_grad()
    def begin(self) -> None:
        """Remember the buffers of the networks."""
        self.reason = ""
        if self.buffers:
            torch._foreach_copy_(self.kept, self.buffers)

    def accepts(self, values: dict[str, float], gradient_norm: float) -> bool:
        """Whether a network may be updated: losses and the gradients' norm, and all before in this step, are finite."""
        broken = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if not broken and self.scaler is None and not math.isfinite(gradient_norm):
            broken = [f"the norm of the gradients = {gradient_norm}"]
        self.reason = self.reason or ", ".join(broken)
        return not self.reason

    @torch.no_grad()
    def settle(self, images: int) -> bool:
        """End a step that began at image number `images`: true if all of it was accepted, else it is undone.

        Raises what `give_up` makes if it is one too many in a row.
        """
        if not self.reason:
            self.in_a_row = 0
            return True
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.kept)
        if self.scaler is not None:
            self.scaler.update(self.scaler.get_scale())  # forgets the gradients that it may have looked at
        self.in_a_row += 1
        found = f"after {images} images a step is not finite ({self.reason})"
        if self.in_a_row > self.limit:
            raise self.give_up(found + (f", and {self.limit} before it were not" if self.limit else ""))
        self.incident("skipped_steps", f"{found}: it is left out.")
        return False
