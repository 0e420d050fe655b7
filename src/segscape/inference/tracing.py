"""Generators as functions of tensors, folded and traced: what export writes to files and `torch.compile` compiles.

The layout is built inside the trace, so that a new model is traced without code of its own. What does not depend on the
input is folded: spectral normalisation, and the batch-norm statistics of CLADE into its tables. SPADE's first
convolution, which reads a one-hot map, becomes look-ups (measured in onnxruntime: four times faster at 256x256 with 151
classes).
"""

from __future__ import annotations

import copy
from functools import reduce
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

from segscape.inference.folding import plain_convolution, running_statistics
from segscape.inference.signature import Signature
from segscape.labels import LabelSet
from segscape.layout import Layout, Size
from segscape.models.generator import Generator
from segscape.nn.clade import CLADE
from segscape.nn.conditional import LayoutModulatedNorm
from segscape.nn.noise import remove_noise
from segscape.nn.spade import SPADE
from segscape.nn.spectral import SpectralNorm
from segscape.style import Style

LARGEST_SIDE: Final = 16384
"""Of a layout of a model with dynamic sizes."""

Inputs = dict[str, Tensor]


class TracedLayout(Layout):
    """A layout of tensors that are traced: nothing is checked, and `windows` serve `SPADEByLookUp`.

    Args:
        label_map, labels, instance_map, position: as for `Layout`.
    """

    def __init__(
        self, label_map: Tensor, labels: LabelSet, instance_map: Tensor | None = None, position: Tensor | None = None
    ) -> None:
        super().__init__(label_map, labels, instance_map, position=position, check=False)
        self._windows: dict[tuple[str, int, bool], list[Tensor]] = {}

    def windows(self, size: Size, side: int, edges: bool) -> list[Tensor]:
        """The token at each place of a square around each pixel, row by row: `side * side` times int64 `[N, h, w]`.

        A token is the label, with `edges` `2 * label + edge`, and outside the image the next number.
        """
        key = (str(size), side, edges)
        if key not in self._windows:  # each is read by all layers of its size
            (height, width), margins = size, [side // 2] * 4
            padded = F.pad(self._tokens(size, edges), margins, value=self.num_classes * (1 + edges))
            lines = [padded.narrow(1, row, height) for row in range(side)]
            self._windows[key] = [line.narrow(2, column, width) for line in lines for column in range(side)]
        return self._windows[key]


class GeneratorOfTensors(nn.Module):
    """A generator as a function of tensors.

    Args:
        generator: called with the layout and style that the tensors make up.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self,
        label_map: Tensor,
        instance_map: Tensor | None = None,
        position: Tensor | None = None,
        style: Tensor | None = None,
    ) -> Tensor:
        """Images `[N, 3, H, W]` in [-1, 1]; see `Signature.shapes` for the inputs."""
        layout = TracedLayout(label_map, self.generator.config.labels, instance_map, position)
        weight = next(self.generator.parameters())
        chosen = None if style is None else Style(style.to(weight.dtype))
        return cast(Tensor, self.generator(layout, chosen)).float()


class SPADEByLookUp(LayoutModulatedNorm):
    """SPADE in evaluation mode, its first convolution as one look-up for each place of the kernel.

    Args:
        norm: the layer.
    """

    def __init__(self, norm: SPADE) -> None:
        super().__init__(norm.channels, "instance")
        self.statistics, self.gamma, self.beta = norm.statistics, norm.gamma, norm.beta
        self.instances, self.side = norm.instances, norm.shared.kernel_size[0]
        first, bias, _, _ = norm.look_up_weights()
        tables = [*first.detach().clone()]  # [tokens + 1, H] for each place
        tables[len(tables) // 2] += bias.detach()  # the place in the middle is always within the image
        self.tables = nn.ParameterList(nn.Parameter(table, requires_grad=False) for table in tables)

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        """As `SPADE`, for a `TracedLayout`."""
        gamma, beta = self.modulation(layout, (x.shape[-2], x.shape[-1]))
        return cast(Tensor, self.statistics(x) * gamma + beta)

    def modulation(self, layout: Layout, size: Size, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """As `SPADE`, for a `TracedLayout`."""
        windows = cast(TracedLayout, layout).windows(size, self.side, self.instances)
        found = [F.embedding(window, table) for window, table in zip(windows, self.tables, strict=True)]
        hidden = F.relu(reduce(torch.add, found)).permute(0, 3, 1, 2)  # [N, H, h, w]
        return 1 + self.gamma(hidden), self.beta(hidden)


def fold(model: Generator) -> Generator:
    """A copy on the CPU, in evaluation mode, for tracing: spectral norm, CLADE's statistics and SPADE's look-ups.

    SEAN's noise is left out.
    """
    network = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    if network.style_network is not None:
        delattr(network, network.encoder_name)  # no part of the forward pass
    remove_noise(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, SpectralNorm):
            network.set_submodule(name, plain_convolution(module))
        elif isinstance(module, SPADE):
            network.set_submodule(name, SPADEByLookUp(module))
        elif isinstance(module, CLADE):
            _fold_statistics(module)
    return network


def _fold_statistics(norm: CLADE) -> None:
    """Put the running statistics into the tables; with positional modulation they stay, as beta's factor is another."""
    statistics = running_statistics(norm)
    if statistics is None or norm.position == "modulation":
        return
    mean, factor = statistics
    norm.gamma.mul_(factor)
    norm.beta.sub_(norm.gamma * mean)
    norm.statistics = nn.Identity()


def trace(
    model: Generator, signature: Signature, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> ExportedProgram:
    """A generator's forward pass as a graph of tensor operations; noise that it would add is left out.

    Args:
        model: any generator.
        signature: of its inputs; where it leaves the size open, the graph takes any multiples.
        dtype: of weights and features; the output is float32.
        device: of the graph.
    """
    multiple = signature.size_multiple
    shown = example(signature, 2, signature.size or (2 * multiple, 3 * multiple))
    given = {name: value.to(device) for name, value in shown.items()}
    longest = LARGEST_SIDE // multiple
    batch, sides = Dim("N"), {}
    fixed = () if signature.style_kind == "map" else ("style",)
    if signature.size is None:  # sizes are traced as multiples, so that what is divided stays whole
        height, width = (Dim(name, min=1, max=longest) * multiple for name in ("h", "w"))
        sides = {-2: height, -1: width}
    dynamic = {
        name: {0: batch, **({} if name in fixed else {value.ndim + place: side for place, side in sides.items()})}
        for name, value in given.items()
    }
    with torch.no_grad():
        network = GeneratorOfTensors(fold(model).to(device, dtype))
        return torch.export.export(network, (), given, dynamic_shapes=dynamic)


def example(signature: Signature, batch: int, size: Size) -> Inputs:
    """Inputs of a batch of layouts of rectangles, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    block = max(1, min(size) // 8)
    shape = (batch, -(-size[0] // block), -(-size[1] // block))
    ids = torch.randint(0, 3 * signature.labels.num_classes, shape, generator=generator)
    ids = ids.repeat_interleave(block, 1).repeat_interleave(block, 2)[:, : size[0], : size[1]].contiguous()
    layout = Layout(ids % signature.labels.num_classes, signature.labels, ids)
    inputs = {"label_map": layout.label_map, "instance_map": ids}
    if signature.position_rule is not None:
        inputs["position"] = layout.position(rule=signature.position_rule)
    if signature.style_shape is not None:
        sides = [size[place - 1] if side is None else side for place, side in enumerate(signature.style_shape)]
        inputs["style"] = torch.randn(batch, *sides, generator=generator)
    return {name: inputs[name] for name in signature.inputs}
