"""Official checkpoints: reading `.pth` files without unpickling anything but tensors, and giving tensors our names.

Each system's file beside this one holds tables `official key -> ours`. A key that no table has is an error, so nothing
is dropped silently.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from segscape.discriminators import Discriminator
from segscape.errors import CheckpointError
from segscape.labels import LABEL_SETS, LabelSet

State = Mapping[str, Tensor]

PLAIN = {"weight": "weight", "bias": "bias"}
RUNNING = {name: name for name in ("running_mean", "running_var", "num_batches_tracked")}
CONV = {**PLAIN, "weight_orig": "weight", "weight_u": "weight_u", "weight_v": "weight_v"}
"""A convolution with (`weight_orig`, `weight_u`, `weight_v`) or without (`weight`) spectral normalisation."""


def under(official: str, ours: str, keys: Mapping[str, str]) -> dict[str, str]:
    """The table `keys` below the prefixes `official` and `ours`."""
    return {f"{official}.{key}": f"{ours}.{name}" for key, name in keys.items()}


def rename(official: State, keys: Mapping[str, str], source: str = "the state dict") -> dict[str, Tensor]:
    """The tensors of a state dict under the names that the table `keys` gives; raises CheckpointError on others."""
    state = modernize(official)
    unknown = [key for key in state if key not in keys]
    if unknown:
        raise CheckpointError(
            f"{source} holds {len(unknown)} keys that its system's official networks do not have (first: "
            f"{unknown[0]}); it belongs to another system or a changed network."
        )
    return {keys[key]: value for key, value in state.items()}


def modernize(official: State) -> dict[str, Tensor]:
    """The state as a current PyTorch would have saved it: float32, spectral norm with its vector v, all counters."""
    state = {
        key: value.float() if value.is_floating_point() else value for key, value in without_prefix(official).items()
    }
    for key in [key for key in state if key.endswith(".weight_orig")]:
        weight = key.removesuffix("_orig")
        normalized = state.pop(weight, None)  # a derived copy, saved by very old files
        if normalized is not None and f"{weight}_u" in state and f"{weight}_v" not in state:
            state[f"{weight}_v"] = _right_vector(state[key], normalized, state[f"{weight}_u"])
    for key in [key for key in state if key.endswith(".running_mean")]:
        state.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return state


def _right_vector(weight: Tensor, normalized: Tensor, u: Tensor) -> Tensor:
    """The v that files of PyTorch < 1.0 lack: pinv(W) u, scaled so that u^T W v is the sigma they divided by."""
    matrix, left = weight.flatten(1).double(), u.double()
    sigma = (weight.double() * normalized.double()).sum() / normalized.double().square().sum()
    inverse: Tensor = torch.linalg.pinv(matrix @ matrix.t(), rtol=1e-10, hermitian=True)
    v = matrix.t() @ (inverse @ left)
    return (v * sigma / torch.dot(left, matrix @ v)).float()


def read_official(path: str | Path) -> dict[str, Tensor]:
    """The state dict in an official `.pth` file, on the CPU; nothing but tensors is unpickled.

    Raises:
        CheckpointError: the file is missing, cannot be read, or holds something else.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"{file} {'is a folder' if file.is_dir() else 'does not exist'}: give a .pth file.")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"{file} cannot be read as a PyTorch state dict ({type(error).__name__}): it is damaged, or holds more "
            "than tensors, which is refused because unpickling it could run code."
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        found = type(state).__name__
        raise CheckpointError(f"{file} does not hold a state dict (names with tensors) but something else ({found}).")
    return {str(key): value for key, value in state.items()}


def without_prefix(official: State) -> dict[str, Tensor]:
    """The state without the `module.` that parallel training puts before its keys; tensors are not copied."""
    return {key.removeprefix("module."): value for key, value in official.items()}


def has_keys(official: State, *prefixes: str) -> bool:
    """Whether a key begins with one of the prefixes."""
    return any(key.startswith(prefixes) for key in without_prefix(official))


def check_classes(found: int, described: str, labels: LabelSet, source: str) -> None:
    """Raise CheckpointError, which calls the classes found as `described`, if they are not those of `labels`."""
    if found != labels.num_classes:
        raise CheckpointError(
            f"{source} was trained with {described} classes, but the label set {labels.name!r} has "
            f"{labels.num_classes}: give the label set of the checkpoint (an unknown class counts)."
        )


def reads_edges(channels: int, labels: LabelSet, wish: bool | None, source: str) -> bool:
    """Whether a layer reads instance edges beside the classes.

    Args:
        channels: of the layout that it reads.
        labels: the label set of the checkpoint.
        wish: what the caller says; None: it does if it has one channel more than classes.
        source: what errors call the state dict.

    Raises:
        CheckpointError: the classes are not those of `labels`.
    """
    edges = channels == labels.num_classes + 1 if wish is None else wish
    described = f"{channels} (or {channels - 1} and instance edges)" if wish is None else str(channels - int(edges))
    check_classes(channels - int(edges), described, labels, source)
    return edges


def load_discriminator(discriminator: Discriminator, state: State, source: str) -> None:
    """Load weights under our names, in place; raises CheckpointError if they are not all there."""
    try:
        discriminator.load_state_dict(dict(state))
    except RuntimeError as error:
        raise CheckpointError(f"{source} does not hold a complete discriminator: {error}") from None


def with_classes_of(
    labels: LabelSet, state: State, class_axis: Callable[[str, Tensor], int | None]
) -> dict[str, Tensor]:
    """The weights of an official network with the classes in the order of `labels`.

    The official codes mean to shift the labels of ADE20K (0 to 150, k to k - 1) but throw the result away, so channel
    0 of their networks is unknown and channel k is class k. For the label set `ade20k` the channels are put where its
    indices are; for any other, as `ade20k-official`, they stay.

    Args:
        labels: the label set of the result.
        state: under our names.
        class_axis: which axis of a tensor, given its name, runs over the classes (and then, perhaps, over other
            inputs); None if none does.
    """
    if labels != LABEL_SETS["ade20k"]:
        return dict(state)
    count = labels.num_classes
    return {
        name: value if (axis := class_axis(name, value)) is None else _last_first(value, axis, count)
        for name, value in state.items()
    }


def _last_first(value: Tensor, axis: int, classes: int) -> Tensor:
    """Entry 0 behind entry `classes` - 1; what comes after stays."""
    order = [*range(1, classes), 0, *range(classes, value.shape[axis])]
    return value.index_select(axis, torch.tensor(order, device=value.device))
