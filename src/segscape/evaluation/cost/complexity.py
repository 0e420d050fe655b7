"""Parameters and multiply-accumulates of a generator, split into backbone and norms and per layer; nothing is computed.

Two rules of counting, since a paper's "FLOPs" are seldom what a profiler counts:

- plain: multiply-accumulates of convolutions, linear layers and matrix products, as PyTorch's `FlopCounterMode`
  counts them (one multiplication with its addition is one);
- the paper's: the same, plus one for every output element of a convolution with a bias, and transposed convolutions
  counted at the size of their output, without their bias. Found by fitting: it gives the figures of the CLADE paper
  (Tan et al., TPAMI 2021, arXiv 2012.04644), Tables I and IV, to the printed digit.

Both leave the style encoder out, as the papers do, and what costs neither multiplication nor matrix: look-ups,
resizing, activations, statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segscape.evaluation.plotting import new_figure, save_figure
from segscape.evaluation.score import Score
from segscape.layout import Layout, Size
from segscape.models.generator import Generator
from segscape.nn.clade import CLADE
from segscape.nn.conditional import ConditionalNorm
from segscape.nn.sean import StyleModulation
from segscape.style import Style

PLAIN_RULE: Final = "multiply-accumulates of convolutions, linear layers and matrix products; no style encoder"
PAPER_RULE: Final = (
    "as the CLADE paper: multiply-accumulates, plus one per output element of a biased convolution, "
    "transposed convolutions at their output size and without bias; no style encoder"
)


@dataclass(frozen=True)
class Cost:
    """What something costs: its parameters, and its multiply-accumulates for one image by either rule."""

    parameters: int = 0
    macs: int = 0
    paper_macs: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.macs + other.macs, self.paper_macs + other.paper_macs)

    def __sub__(self, other: Cost) -> Cost:
        return self + Cost(-other.parameters, -other.macs, -other.paper_macs)


@dataclass(frozen=True)
class Pair:
    """The cost of a norm beside that of the convolution after it."""

    norm: Cost
    convolution: Cost

    @property
    def parameter_ratio(self) -> float:
        """Parameters of the norm over those of the convolution."""
        return self.norm.parameters / self.convolution.parameters

    @property
    def mac_ratio(self) -> float:
        """Multiply-accumulates of the norm over those of the convolution, by the plain rule."""
        return self.norm.macs / self.convolution.macs


@dataclass(frozen=True)
class LayerPair:
    """One norm of a residual block and the convolution after it: one place on the axis of the paper's Figure 5.

    Attributes:
        name: of the norm in the generator, for example `blocks.3.norm_0`.
        resolution: (height, width) of the features.
        counted: what the layers really cost.
        equations: the cost by the paper's equations 3 to 17: every kernel of the convolutions 3x3 (also the 1x1
            shortcuts), no biases, and one operation for every value that is read from a CLADE table.
    """

    name: str
    resolution: Size
    counted: Pair
    equations: Pair


@dataclass(frozen=True)
class Complexity:
    """The cost of a generator for one image.

    Attributes:
        size: (height, width) of the image.
        total: without the style encoder; the sum of the next two.
        backbone: everything but the norms, as in Table III of the CLADE paper.
        norms: the conditional norms, with the weights of convolutions that read channels which a norm appends.
        encoder_parameters: of a style encoder that does not count, 0 if there is none.
        table_parameters: of the total, those in the tables of CLADE.
        layers: from deep to shallow, that is from the smallest features to the image.
    """

    size: Size
    total: Cost
    backbone: Cost
    norms: Cost
    encoder_parameters: int
    table_parameters: int
    layers: tuple[LayerPair, ...]

    def scores(self) -> list[Score]:
        """Parameters and multiply-accumulates by both rules, for a report."""
        size = f"{self.size[0]}x{self.size[1]}, one image"
        return [
            Score("Parameters", self.total.parameters / 1e6, "M", "lower", "cost", "no style encoder"),
            Score("MACs", self.total.macs / 1e9, "G", "lower", "cost", f"{size}; {PLAIN_RULE}"),
            Score("FLOPs", self.total.paper_macs / 1e9, "G", "lower", "cost", f"{size}; {PAPER_RULE}"),
        ]


class Macs(NamedTuple):
    """Multiply-accumulates by the plain rule, by the paper's, and plain plus one per value read from a table."""

    plain: int = 0
    paper: int = 0
    with_reads: int = 0


def count(model: Generator, size: Size | None = None) -> Complexity:
    """Count what a generator costs for one image, on a copy without memory that is built from its config.

    Args:
        model: any generator, on any device (`torch.device("meta")` does).
        size: (height, width) of the image; the training size by default.

    Raises:
        LayoutError: the generator cannot work at this size.
    """
    size = model.config.image_size if size is None else size
    with torch.device("meta"):
        twin = type(model)(model.config).eval()
        layout, photo = _empty_layout(twin, size), torch.zeros(1, 3, *size)
    for part in twin.modules():
        if isinstance(part, StyleModulation):
            part.path = "dense"  # as published; the other path takes a fraction
    norms = outermost_norms(twin)
    resolutions = _record_resolutions(norms)
    macs = count_macs(twin, lambda: twin(layout, _counted_style(twin, layout, photo)))
    counted = {name: _pair(twin, name, macs) for name in norms}
    total = Cost(twin.count_parameters(), macs[""].plain, macs[""].paper)
    encoder_parameters = parameters(twin) - total.parameters
    inside = sum((pair.norm for pair in counted.values()), Cost())
    layers = tuple(
        LayerPair(name, resolutions[name], pair, _by_equations(twin, name, resolutions[name], macs[name]))
        for name, pair in counted.items()
        if pair.convolution.parameters
    )
    tables = sum(norm.gamma.numel() + norm.beta.numel() for norm in twin.modules() if isinstance(norm, CLADE))
    return Complexity(size, total, total - inside, inside, encoder_parameters, tables, layers)


def count_macs(module: nn.Module, forward: Callable[[], object]) -> dict[str, Macs]:
    """Count the multiply-accumulates of what `forward` runs, for `module` (key `""`) and each part of it by name.

    Parts that did not run are there with zeros. Tensors may be on the meta device, so that nothing is computed.
    """
    aten = torch.ops.aten
    counter = FlopCounterMode(display=False, custom_mapping={aten.embedding: _table_reads})
    paper_counter = FlopCounterMode(display=False, custom_mapping={aten.convolution: _paper_convolution})
    with counter, paper_counter, torch.no_grad():
        forward()
    counted, by_paper = counter.get_flop_counts(), paper_counter.get_flop_counts()
    root = type(module).__name__
    macs = {}
    for name, _ in module.named_modules():
        key = f"{root}.{name}" if name else "Global"
        flops = counted.get(key, {})
        everything, paper = sum(flops.values()), sum(by_paper.get(key, {}).values())
        macs[name] = Macs((everything - flops.get(aten.embedding, 0)) // 2, paper // 2, everything // 2)
    return macs


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def outermost_norms(module: nn.Module) -> dict[str, ConditionalNorm]:
    """The conditional norms of a network by name, in order; a norm inside another belongs to that one."""
    found: dict[str, ConditionalNorm] = {}
    for name, part in module.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(part, ConditionalNorm) and not inside:
            found[name] = part
    return found


def average(pairs: Iterable[Pair]) -> Pair:
    """All norms beside all convolutions, whose ratios are the averages of the paper's section 3.3."""
    pairs = list(pairs)
    return Pair(sum((pair.norm for pair in pairs), Cost()), sum((pair.convolution for pair in pairs), Cost()))


def plot_layers(models: Mapping[str, Complexity], path: Path) -> None:
    """Draw Figure 5 of the paper, by its equations: ratios, parameters and multiply-accumulates layer by layer.

    Args:
        models: what `count` found, by the name for the legend; those without pairs of norm and convolution are left
            out.
        path: of the PNG, SVG or PDF file.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    figure, axes = new_figure(1, 3, width=12, height=4)
    ratios, sizes, work = axes[0]
    drawn: dict[tuple[Cost, ...], str] = {}
    for number, (name, complexity) in enumerate(models.items()):
        pairs = [layer.equations for layer in complexity.layers]
        layers = range(1, len(pairs) + 1)
        # curves that coincide stay visible: each is thinner than the one below it
        line = {"color": f"C{number}", "linewidth": max(1.0, 3.0 - number), "marker": "o", "markersize": 3}
        ratios.plot(layers, [100 * pair.parameter_ratio for pair in pairs], label=f"{name}: parameters", **line)
        ratios.plot(layers, [100 * pair.mac_ratio for pair in pairs], "--", label=f"{name}: MACs", **line)
        sizes.plot(layers, [pair.norm.parameters / 1e6 for pair in pairs], label=f"{name}: norms", **line)
        work.plot(layers, [pair.norm.macs / 1e9 for pair in pairs], label=f"{name}: norms", **line)
        drawn.setdefault(tuple(pair.convolution for pair in pairs), name)
    for convolutions, name in drawn.items():
        label = "convolutions" if len(drawn) == 1 else f"{name}: convolutions"
        layers = range(1, len(convolutions) + 1)
        sizes.plot(layers, [cost.parameters / 1e6 for cost in convolutions], ":", color="#555555", label=label)
        work.plot(layers, [cost.macs / 1e9 for cost in convolutions], ":", color="#555555", label=label)
    titles = ("norm over the convolution after it (%)", "parameters (M)", "multiply-accumulates (G)")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(f"{title}, by the paper's equations", fontsize=9)
        axis.set_xlabel("layer, from deep to shallow")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=7, frameon=False)
    ratios.set_yscale("log")
    save_figure(figure, path)


def _paper_convolution(
    _x: object,
    weight: tuple[int, ...],
    bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    *_: object,
    out_shape: tuple[int, ...],
    **__: object,
) -> int:
    """Twice the paper's count of one convolution, since the counter halves; tensors come as their shapes."""
    products = out_shape[0] * prod(out_shape[2:]) * prod(weight)
    return 2 * (products + (0 if bias is None or transposed else prod(out_shape)))


def _table_reads(*_: object, out_shape: tuple[int, ...], **__: object) -> int:
    """Twice the number of values that a look-up reads (equation 9)."""
    return 2 * prod(out_shape)


def _empty_layout(model: Generator, size: Size) -> Layout:
    """A layout of class 0."""
    config = model.config
    label_map = torch.zeros(1, *size, dtype=torch.long)
    return Layout(
        label_map,
        config.labels,
        label_map if config.reads_instances else None,
        position=torch.zeros(1, 2, *size) if config.encoding_rule else None,
        check=False,
    )


def _counted_style(model: Generator, layout: Layout, photo: Tensor) -> Style | None:
    """That of a photo where the encoder counts, else the neutral one."""
    return model.encode(photo, layout).mean if model.encoder_counts else None


def _record_resolutions(norms: dict[str, ConditionalNorm]) -> dict[str, Size]:
    """A dictionary that the next forward pass fills: the feature size of each norm by name."""
    resolutions: dict[str, Size] = {}
    for name, norm in norms.items():

        def record(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
            resolutions[name] = (output.shape[-2], output.shape[-1])

        norm.register_forward_hook(record)
    return resolutions


def _convolution(model: nn.Module, norm_name: str) -> tuple[str, nn.Conv2d | None]:
    """The convolution after a norm, by the names that residual blocks have: `conv_x` beside `norm_x`; None if none."""
    parent, dot, leaf = norm_name.rpartition(".")
    sibling = leaf.replace("norm", "conv", 1)
    convolution = getattr(model.get_submodule(parent), sibling, None)
    return f"{parent}{dot}{sibling}", convolution if isinstance(convolution, nn.Conv2d) else None


def _pair(model: nn.Module, norm_name: str, macs: dict[str, Macs]) -> Pair:
    """A norm and the convolution after it (nothing if there is none), whose weights for appended channels are moved."""
    norm = cast(ConditionalNorm, model.get_submodule(norm_name))
    name, convolution = _convolution(model, norm_name)
    own = Cost(parameters(norm), macs[norm_name].plain, macs[norm_name].paper)
    if convolution is None:
        return Pair(own, Cost())
    whole = Cost(parameters(convolution), macs[name].plain, macs[name].paper)
    more, inputs = norm.out_channels - norm.channels, convolution.in_channels
    products = whole.macs * more // inputs
    appended = Cost(convolution.weight.numel() * more // inputs, products, products)
    return Pair(own + appended, whole - appended)


def _by_equations(model: nn.Module, norm_name: str, resolution: Size, macs: Macs) -> Pair:
    """Equations 3 to 17; the convolution reads the norm's own channels only, and its output has the norm's size."""
    norm = cast(ConditionalNorm, model.get_submodule(norm_name))
    convolution = cast(nn.Conv2d, _convolution(model, norm_name)[1])
    pixels = prod(resolution)
    weights = 9 * norm.channels * convolution.out_channels // convolution.groups
    tables = sum(parameter.numel() for parameter in norm.parameters() if parameter.ndim > 1)
    operations = macs.with_reads
    if isinstance(norm, CLADE) and norm.position == "modulation":
        operations += 2 * norm.channels * pixels  # equation 17: gamma and beta are multiplied once more
    return Pair(Cost(tables, operations, operations), Cost(weights, weights * pixels, weights * pixels))
