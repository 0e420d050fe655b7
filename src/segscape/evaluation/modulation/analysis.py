"""What the conditional norms of a generator do with a layout: how far the class alone determines gamma and beta.

Source: Tan et al., "Efficient Semantic Image Synthesis via Class-Adaptive Normalization", TPAMI 2021,
arXiv 2012.04644: section 3.1 with figures 2 and 3 (SPADE is nearly class-determined). The one number per layer is ours:
the paper shows histograms only.

`y = normalised x * gamma + beta` throughout, so SPADE's gamma includes its `1 +`. Every class counts, the unknown one
too, since the norms know it as any other. Tables of CLADE are in `class_tables.py`, drawing in
`figures.py`, text in `report.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segscape.errors import EvaluationError
from segscape.evaluation.modulation.class_moments import ClassHistogram, ClassMoments, Floats, region_interior
from segscape.evaluation.modulation.class_tables import ClassTable, PositionResponse, as_array
from segscape.labels import LabelSet
from segscape.layout import Layout, Size
from segscape.models.generator import Generator
from segscape.nn.clade import CLADE
from segscape.nn.conditional import ConditionalNorm, LayoutModulatedNorm
from segscape.nn.spade import SPADE

Quantity = Literal["gamma", "beta"]
QUANTITIES: tuple[Quantity, Quantity] = ("gamma", "beta")

REACH = 2
"""Pixels that two 3x3 convolutions see to each side."""


@dataclass(frozen=True)
class ClassDependence:
    """How far the class of a pixel determines gamma or beta in one layer.

    Attributes:
        within_share: within-class over total variance, in [0, 1]; 0 if the class alone determines the values. Per
            channel over the pixels of all images, averaged over channels with the total variance as weight. Too low
            where classes have few pixels: those of a single one have no variance. nan if all channels are constant.
        interior: the same, over the pixels inside regions only: all that the norm sees around them has one class.
            nan where there are none, or all have one value.
        constant_channels: channels with one value everywhere, which have no weight.
    """

    within_share: float
    interior: float
    constant_channels: int


@dataclass(frozen=True)
class LayerModulation:
    """One norm.

    Attributes:
        name: of the module in the generator.
        kind: `SPADE`, `CLADE` or `CLADE-ICPE`, or the class's name.
        size: (height, width) at which it works on these layouts.
        channels: how many it modulates.
        gamma, beta: how class-determined they are.
    """

    name: str
    kind: str
    size: Size
    channels: int
    gamma: ClassDependence
    beta: ClassDependence


@dataclass(frozen=True)
class ModulationHistogram:
    """Distribution of gamma and beta, or of their deviations, over the pixels and channels of norms of a kind and size.

    Attributes:
        kind, size: of the norms.
        gamma, beta: counts per class.
    """

    kind: str
    size: Size
    gamma: ClassHistogram
    beta: ClassHistogram


@dataclass(frozen=True)
class ModulationMaps:
    """Gamma and beta of some channels of one norm, on the example layouts.

    Attributes:
        layer: the name of the norm.
        channels: M indices.
        gamma, beta: float64 `[examples, M, h, w]`.
    """

    layer: str
    channels: tuple[int, ...]
    gamma: Floats
    beta: Floats


@dataclass(frozen=True)
class ModulationAnalysis:
    """Everything measured by `analyse_modulation`; layers are in the order of the forward pass.

    Attributes:
        labels: the label set of the generator.
        layouts: how many label maps were analysed.
        class_pixels: pixels of each class in them, at the generator's size, int64 `[K]`.
        layers: the norms whose gamma and beta follow from the layout.
        skipped: names of the norms whose do not.
        histograms: of gamma and beta, one per kind and size of the norms, small sizes first.
        deviations: the same for the distances of gamma and beta from their values in the midst of a large region of the
            class, divided by the standard deviation of those values over all classes, per channel.
        examples: the layouts to draw, one map each, at the generator's size.
        maps: of the layers to draw.
        tables: of the CLADE norms.
        positions: of the CLADE-ICPE norms.
    """

    labels: LabelSet
    layouts: int
    class_pixels: NDArray[np.int64]
    layers: tuple[LayerModulation, ...]
    skipped: tuple[str, ...]
    histograms: tuple[ModulationHistogram, ...]
    deviations: tuple[ModulationHistogram, ...]
    examples: tuple[Layout, ...]
    maps: tuple[ModulationMaps, ...]
    tables: tuple[ClassTable, ...]
    positions: tuple[PositionResponse, ...]

    def frequent_classes(self, count: int = 5) -> tuple[int, ...]:
        """The indices of the classes with the most pixels, the unknown one and absent ones left out."""
        order = np.argsort(-self.class_pixels, kind="stable").tolist()
        return tuple(k for k in order if k != self.labels.unknown and self.class_pixels[k])[:count]


@torch.inference_mode()
def analyse_modulation(
    model: Generator,
    layouts: Iterable[Layout],
    *,
    layers: Sequence[str] = (),
    channels: Sequence[int] | None = None,
    examples: Collection[int] = (0, 1),
) -> ModulationAnalysis:
    """Measure gamma and beta of every norm of a generator on layouts.

    Args:
        model: a generator; it is put into evaluation mode.
        layouts: of its label set, any size: they are resized to `model.config.image_size` (nearest). Read once, one at
            a time.
        layers: names of norms to keep maps of, beside the SPADE norm nearest to the picture at the highest resolution.
        channels: of which to keep maps; None takes the three whose gamma varies most.
        examples: the numbers of the label maps to draw; 0 is the first.

    Raises:
        EvaluationError: no layouts, an unknown layer or channel, or values that are not finite.
        LayoutError: a layout does not fit the model.
    """
    model.eval()
    measurement: _Measurement | None = None
    for layout in layouts:
        fitted = _fit(model, layout)
        if measurement is None:
            measurement = _Measurement(model, fitted, layers, channels)
        measurement.add(fitted, examples)
    if measurement is None:
        raise EvaluationError("there is no layout to analyse: give at least one.")
    return measurement.result()


def _fit(model: Generator, layout: Layout) -> Layout:
    """The layout at the model's size and on its device; the positional encoding is that of the objects as given."""
    rule = model.config.encoding_rule
    if rule is not None:
        layout = layout.with_position(rule)
    layout = layout.resize(model.config.image_size).to(next(model.parameters()).device)
    model.check(layout)
    return layout


class _Tally:
    """What is counted of gamma or beta in one norm.

    Args:
        region: the value in the midst of a large region of each class, `[K, C]`.
        histogram, deviation: those of the norm's kind and size, which norms share.
    """

    def __init__(self, region: Floats, histogram: ClassHistogram, deviation: ClassHistogram) -> None:
        self.everywhere, self.inside = ClassMoments(*region.shape), ClassMoments(*region.shape)
        self._histogram, self._deviation = histogram, deviation
        self._varies = np.ptp(region, axis=0) > 0
        self._region = region[:, self._varies, None]
        self._spread = self._region.std(axis=0)

    def add(self, values: Floats, classes: NDArray[np.int64], inside: NDArray[np.bool_]) -> None:
        """Add `values [C, P]` of pixels with `classes [P]`, which lie `inside [P]` their regions or not."""
        for index in np.unique(classes).tolist():
            own = classes == index
            of_class = values[:, own]
            self.everywhere.add(index, of_class)
            self.inside.add(index, of_class[:, inside[own]])
            self._histogram.add(index, of_class)
            self._deviation.add(index, (of_class[self._varies] - self._region[index]) / self._spread)

    @property
    def dependence(self) -> ClassDependence:
        """What the pixels so far say."""
        constant = int(self.everywhere.constant.sum())
        return ClassDependence(self.everywhere.within_share, self.inside.within_share, constant)


class _Measurement:
    """What `analyse_modulation` gathers, layout by layout."""

    def __init__(self, model: Generator, layout: Layout, layers: Sequence[str], channels: Sequence[int] | None) -> None:
        modules = dict(model.named_modules())
        self.labels, self.channels, self.sizes = model.config.labels, channels, norm_sizes(model, layout)
        found = {name: modules[name] for name in self.sizes}
        self.norms = {name: norm for name, norm in found.items() if isinstance(norm, LayoutModulatedNorm)}
        self.mapped = self._choose_layers(layers)
        self._check_channels()
        self.layouts = 0
        self.class_pixels = np.zeros(layout.num_classes, dtype=np.int64)
        self.examples: list[Layout] = []
        self.histograms, self.deviations = self._empty_histograms(), self._empty_histograms()
        self.tallies = {name: self._empty_tallies(name, layout) for name in self.norms}

    def _choose_layers(self, layers: Sequence[str]) -> list[str]:
        unknown = [name for name in layers if name not in self.norms]
        if unknown:
            raise EvaluationError(f"{unknown[0]!r} is no norm with maps to draw; there are {', '.join(self.norms)}.")
        spade = [name for name, norm in self.norms.items() if isinstance(norm, SPADE)]
        highest = sorted(spade, key=lambda name: self.sizes[name])[-1:]  # stable: of several the last
        return list(dict.fromkeys([*highest, *layers]))

    def _check_channels(self) -> None:
        for name in self.mapped:
            count = self.norms[name].channels
            wrong = [channel for channel in self.channels or () if not 0 <= channel < count]
            if wrong:
                raise EvaluationError(f"{name} has no channel {wrong[0]}: its channels are 0 to {count - 1}.")

    def _group(self, name: str) -> tuple[str, Size]:
        return norm_kind(self.norms[name]), self.sizes[name]

    def _empty_histograms(self) -> dict[tuple[str, Size], ModulationHistogram]:
        classes = self.labels.num_classes
        groups = sorted({self._group(name) for name in self.norms}, key=lambda group: (group[1], group[0]))
        return {
            group: ModulationHistogram(*group, ClassHistogram(classes), ClassHistogram(classes)) for group in groups
        }

    def _empty_tallies(self, name: str, layout: Layout) -> dict[Quantity, _Tally]:
        values, deviations = self.histograms[self._group(name)], self.deviations[self._group(name)]
        gamma, beta = _region_values(self.norms[name], layout)
        return {
            "gamma": _Tally(gamma, values.gamma, deviations.gamma),
            "beta": _Tally(beta, values.beta, deviations.beta),
        }

    def add(self, layout: Layout, examples: Collection[int]) -> None:
        """Count one layout of one or more maps in."""
        self.examples += [layout[i : i + 1] for i in range(layout.batch_size) if self.layouts + i in examples]
        self.layouts += layout.batch_size
        self.class_pixels += np.bincount(layout.label_map.cpu().numpy().ravel(), minlength=layout.num_classes)
        for name, norm in self.norms.items():
            label_map = layout.at(self.sizes[name])
            classes = label_map.cpu().numpy().ravel()
            inside = region_interior(label_map, _reach(norm)).ravel()
            for tally, values in zip(self.tallies[name].values(), self._values(name, layout), strict=True):
                tally.add(np.moveaxis(values, 1, 0).reshape(norm.channels, -1), classes, inside)

    def _values(self, name: str, layout: Layout) -> tuple[Floats, Floats]:
        """Gamma and beta of a norm, `[N, C, h, w]`."""
        gamma, beta = _modulation(self.norms[name], layout, self.sizes[name])
        if not (np.isfinite(gamma).all() and np.isfinite(beta).all()):
            raise EvaluationError(f"the modulation of {name} is not finite: this checkpoint is broken.")
        return gamma, beta

    def result(self) -> ModulationAnalysis:
        """The analysis of the layouts so far."""
        clade = {name: norm for name, norm in self.norms.items() if isinstance(norm, CLADE)}
        icpe = {name: norm for name, norm in clade.items() if norm.position == "modulation"}
        return ModulationAnalysis(
            labels=self.labels,
            layouts=self.layouts,
            class_pixels=self.class_pixels,
            layers=tuple(self._layer(name) for name in self.norms),
            skipped=tuple(name for name in self.sizes if name not in self.norms),
            histograms=tuple(self.histograms.values()),
            deviations=tuple(self.deviations.values()),
            examples=tuple(self.examples),
            maps=tuple(self._maps(name) for name in self.mapped if self.examples),
            tables=tuple(ClassTable.of(name, norm) for name, norm in clade.items()),
            positions=tuple(PositionResponse.of(name, norm, self.sizes[name]) for name, norm in icpe.items()),
        )

    def _layer(self, name: str) -> LayerModulation:
        kind, size = self._group(name)
        gamma, beta = (self.tallies[name][quantity].dependence for quantity in QUANTITIES)
        return LayerModulation(name, kind, size, self.norms[name].channels, gamma, beta)

    def _maps(self, name: str) -> ModulationMaps:
        variance = self.tallies[name]["gamma"].everywhere.total_variance
        varied = np.argsort(-variance, kind="stable")[:3].tolist()
        chosen = varied if self.channels is None else list(self.channels)
        pairs = [self._values(name, layout) for layout in self.examples]
        gamma, beta = (np.concatenate(values)[:, chosen] for values in zip(*pairs, strict=True))
        return ModulationMaps(name, tuple(chosen), gamma, beta)


def norm_sizes(model: Generator, layout: Layout) -> dict[str, Size]:
    """(height, width) of the features that each conditional norm sees, by name, in the order of the forward pass."""
    sizes: dict[str, Size] = {}

    def watch(name: str, norm: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sizes[name] = (inputs[0].shape[-2], inputs[0].shape[-1])

        return norm.register_forward_pre_hook(record)

    norms = {name: norm for name, norm in model.named_modules() if isinstance(norm, ConditionalNorm)}
    handles = [watch(name, norm) for name, norm in norms.items()]
    try:
        model(layout[0:1])
    finally:
        for handle in handles:
            handle.remove()
    return sizes


def norm_kind(norm: ConditionalNorm) -> str:
    """What to call the norm: `SPADE`, `CLADE`, `CLADE-ICPE`, or the name of its class."""
    if isinstance(norm, CLADE) and norm.position == "modulation":
        return "CLADE-ICPE"
    return type(norm).__name__


def _region_values(norm: LayoutModulatedNorm, layout: Layout) -> tuple[Floats, Floats]:
    """Gamma and beta in the midst of a large region of each class, `[K, C]` each."""
    reach = _reach(norm)
    side, classes = 2 * reach + 1, layout.num_classes
    label_maps = torch.arange(classes, device=layout.device).view(-1, 1, 1).expand(-1, side, side)
    regions = Layout(label_maps, layout.labels, torch.zeros_like(label_maps), check=False)
    gamma, beta = _modulation(norm, regions, (side, side))
    return gamma[:, :, reach, reach], beta[:, :, reach, reach]


def _modulation(norm: LayoutModulatedNorm, layout: Layout, size: Size) -> tuple[Floats, Floats]:
    gamma, beta = norm.modulation(layout, size, next(norm.parameters()).dtype)
    return as_array(gamma), as_array(beta)


def _reach(norm: LayoutModulatedNorm) -> int:
    """How far to each side the norm sees; for norms that see one pixel that of SPADE, so that layers compare."""
    return 2 * (norm.shared.kernel_size[0] // 2) if isinstance(norm, SPADE) else REACH
