"""One conformance vector: what a network of the official code computed, and how exactly it must be met."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor


@dataclass(frozen=True)
class Vector:
    """A file `*.safetensors`: its tensors by role, without the role's prefix, and its metadata.

    Attributes:
        name: what to call it in messages; nothing is read from it.
        system, network, mode: metadata; mode is `eval` or `train`.
        config: the options of the official code; `kind`, else `op`, `arch` or `case`, names what to build; else it is
            the network itself.
        tolerances: largest absolute difference of each output.
        state: weights under their official keys, float32.
        inputs, outputs: the data; the outputs `debug.*` are left out.
        metadata: all of it, as text.
    """

    name: str
    system: str
    network: str
    mode: str
    config: dict[str, Any]
    tolerances: dict[str, float]
    state: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    metadata: dict[str, str]

    @classmethod
    def load(cls, file: Path) -> Vector:
        with safe_open(file, framework="pt") as content:
            metadata = content.metadata() or {}
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
        outputs = _role(tensors, "output.")
        tolerances = json.loads(metadata.get("tolerances") or metadata.get("tolerance_per_output", "{}"))
        return cls(
            name=file.stem,
            system=metadata.get("system", ""),
            network=metadata.get("network", ""),
            mode=metadata.get("mode", ""),
            config={k: metadata[k] for k in ("kind",) if k in metadata} | json.loads(metadata.get("config", "{}")),
            tolerances={name: float(tolerances.get(name, metadata.get("tolerance", 0))) for name in outputs},
            state={key: value.float() if value.is_floating_point() else value
                   for key, value in _role(tensors, "state.").items()},
            inputs=_role(tensors, "input."),
            outputs=outputs,
            metadata=metadata,
        )  # fmt: skip

    @property
    def kind(self) -> str:
        """`system/network/kind`, by which an adapter is chosen."""
        kinds = (self.config[key] for key in ("kind", "op", "arch", "case") if key in self.config)
        return f"{self.system}/{self.network}/{next(kinds, self.network)}"

    @property
    def training(self) -> bool:
        return self.mode == "train"

    def state_of(self, network: str) -> dict[str, Tensor]:
        """The weights of one network where several take part: `G`, `D` or `E`."""
        return _role(self.state, f"{network}.")

    def outputs_below(self, prefix: str) -> list[str]:
        """The rest of the names of the outputs that begin with `prefix`."""
        return [name.removeprefix(prefix) for name in self.outputs if name.startswith(prefix)]

    def leaf(self, name: str) -> Tensor:
        """An input of which the gradient is wanted."""
        return self.inputs[name].clone().requires_grad_()


def _role(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def by_official_key(
    vector: Vector, module: torch.nn.Module, keys: dict[str, str], prefix: str = ""
) -> dict[str, Tensor]:
    """The gradients and buffers of `module` that the vector asks for, under its names.

    Args:
        keys: official key -> ours, from `segscape.models.conversion.spade`.
        prefix: of the keys in the vector, for example `G.`.
    """
    found = {}
    for key in vector.outputs_below(f"grad.{prefix}"):
        if key in keys:
            gradient = module.get_parameter(keys[key]).grad
            assert gradient is not None, f"{keys[key]} has no gradient"
            found[f"grad.{prefix}{key}"] = gradient
    for key in vector.outputs_below(f"buffer.{prefix}"):
        if key in keys:
            found[f"buffer.{prefix}{key}"] = module.get_buffer(keys[key])
    return found
