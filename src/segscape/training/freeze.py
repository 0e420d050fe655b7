"""Parts of a network that training leaves as they are, chosen by patterns over the names of its weights."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from segscape.errors import RecipeError


def freeze(network: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze, in place, what the patterns match, and nothing else; call again after each `network.train()`.

    Frozen parameters get no gradient. A layer that is frozen as a whole is put in evaluation mode: its batch norm keeps
    its statistics (and normalises with them), its spectral norm keeps its vectors.

    Args:
        network: a generator in training mode.
        patterns: shell patterns (`*`, `?`, `[...]`) over the names in its `state_dict()`, such as `blocks.0.*` or
            `*.conv_0.*`.

    Raises:
        RecipeError: a pattern matches nothing; the message lists the nearest names.
    """
    names = list(network.state_dict())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RecipeError(f"freeze: no weight's name matches {pattern!r}; {_nearest(pattern, names)}.")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not _matches(name, patterns))
    for layer in frozen_layers(network, patterns):
        layer.eval()


def frozen_layers(network: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """The layers all of whose own parameters are matched; of those without parameters, all of whose buffers are."""
    frozen = []
    for prefix, layer in network.named_modules():
        own = [name for name, _ in layer.named_parameters(prefix, recurse=False)]
        own = own or [name for name, _ in layer.named_buffers(prefix, recurse=False)]
        if own and all(_matches(name, patterns) for name in own):
            frozen.append(layer)
    return frozen


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _nearest(pattern: str, names: list[str]) -> str:
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4)
    if near:
        return f"near it are {', '.join(near)}"
    tops = dict.fromkeys(name.split(".")[0] for name in names)
    return f"names begin with {', '.join(tops)}"
