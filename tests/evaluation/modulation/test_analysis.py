from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segscape.errors import EvaluationError, LayoutError
from segscape.evaluation.modulation.analysis import QUANTITIES, ModulationAnalysis, analyse_modulation
from segscape.labels import LabelClass, LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.models.clade import mixed_norms
from segscape.models.generator import Generator
from segscape.nn import SPADE, ConditionalNorm, LayoutModulatedNorm
from segscape.style import Style

LABELS = LabelSet(
    name="planted", classes=tuple(LabelClass(name=name, color=(i, i, i)) for i, name in enumerate("abcd")), unknown=3
)
SIZE = (64, 96)


def tiny(name: str = "spade", **options: object) -> Generator:
    """A generator with random weights and no zeros in the tables."""
    torch.manual_seed(0)
    options = {"labels": LABELS, "image_size": SIZE, "base_channels": 1, **options}
    if name == "spade":
        options = {"hidden_channels": 4, **options}
    model = create_model(name, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def layout(seed: int, size: tuple[int, int] = SIZE, batch: int = 1) -> Layout:
    """Large rectangles of classes 0 to 2 and a few pixels of class 3."""
    generator = torch.Generator().manual_seed(seed)
    label_map = torch.randint(0, 3, (batch, 2, 3), generator=generator)
    label_map = label_map.repeat_interleave(size[0] // 2, 1).repeat_interleave(size[1] // 3, 2)
    label_map[:, :3, :3] = 3
    return Layout(label_map, LABELS)


def norms(model: Generator) -> dict[str, LayoutModulatedNorm]:
    return {name: norm for name, norm in model.named_modules() if isinstance(norm, LayoutModulatedNorm)}


def pooled_share(norm: LayoutModulatedNorm, layouts: list[Layout], size: tuple[int, int], place: int) -> float:
    """The within-class share by numpy over all pixels at once."""
    with torch.no_grad():
        values = torch.cat([norm.modulation(item, size)[place].double() for item in layouts])
    values = values.movedim(1, 0).flatten(1).numpy()
    classes = torch.cat([item.at(size) for item in layouts]).flatten().numpy()
    within = sum(values[:, classes == k].var(axis=1) * (classes == k).mean() for k in np.unique(classes))
    return float(within.sum() / values.var(axis=1).sum())


def shares(analysis: ModulationAnalysis) -> list[float]:
    return [getattr(layer, quantity).within_share for layer in analysis.layers for quantity in QUANTITIES]


def interiors(analysis: ModulationAnalysis) -> list[float]:
    return [getattr(layer, quantity).interior for layer in analysis.layers for quantity in QUANTITIES]


@pytest.mark.parametrize("name", ["spade", "clade-icpe"])
def test_shares_are_those_of_all_pixels_pooled(name: str) -> None:
    model, layouts = tiny(name), [layout(0), layout(1), layout(2)]
    analysis = analyse_modulation(model, layouts)
    named = norms(model)
    assert [layer.name for layer in analysis.layers] != [] and {x.name for x in analysis.layers} == named.keys()
    for layer in analysis.layers:
        for place, quantity in enumerate(QUANTITIES):
            expected = pooled_share(named[layer.name], layouts, layer.size, place)
            assert getattr(layer, quantity).within_share == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_layers_come_in_the_order_of_the_forward_pass() -> None:
    layers = analyse_modulation(tiny(), [layout(0)]).layers
    assert [layer.name for layer in layers[:2]] == ["blocks.0.norm_0", "blocks.0.norm_1"]
    assert [layer.name for layer in layers[-3:]] == ["blocks.6.norm_s", "blocks.6.norm_0", "blocks.6.norm_1"]
    assert layers[0].size == (2, 3) and layers[-1].size == SIZE
    assert layers[0].channels == 16 and layers[-1].channels == 1
    assert {layer.kind for layer in layers} == {"SPADE"}


def test_spade_that_sees_its_own_pixel_only_is_a_function_of_the_class() -> None:
    model = tiny()
    for norm in norms(model).values():
        assert isinstance(norm, SPADE)
        for conv in (norm.shared, norm.gamma, norm.beta):
            with torch.no_grad():
                centre = conv.weight[:, :, 1, 1].clone()
                conv.weight.zero_()
                conv.weight[:, :, 1, 1] = centre
    found = [share for share in shares(analyse_modulation(model, [layout(0), layout(1)])) if not math.isnan(share)]
    assert found and max(found) < 1e-10


def test_spade_depends_less_on_the_class_at_low_resolution() -> None:
    analysis = analyse_modulation(tiny(), [layout(seed) for seed in range(3)])
    by_size = {layer.size: layer.gamma.within_share for layer in analysis.layers}
    assert by_size[2, 3] > 3 * by_size[SIZE] > 0


def test_spade_is_a_function_of_the_class_inside_regions() -> None:
    analysis = analyse_modulation(tiny(), [layout(0), layout(1)])
    high = [layer for layer in analysis.layers if layer.size[0] >= 16]
    assert high
    for layer in high:
        assert layer.gamma.interior < 1e-9 < layer.gamma.within_share
        assert layer.beta.interior < 1e-9 < layer.beta.within_share
    assert all(math.isnan(layer.gamma.interior) for layer in analysis.layers if layer.size == (2, 3))


def test_the_interior_is_as_wide_as_the_norm_sees() -> None:
    analysis = analyse_modulation(tiny(kernel_size=5), [layout(0), layout(1)])
    found = [share for share in interiors(analysis) if not math.isnan(share)]
    assert found and max(found) < 1e-9


def test_clade_is_a_function_of_the_class_and_icpe_is_not() -> None:
    assert set(shares(analyse_modulation(tiny("clade"), [layout(0), layout(1)]))) == {0}
    analysis = analyse_modulation(tiny("clade-icpe"), [layout(0), layout(1)])
    assert min(shares(analysis)) > 0
    assert len(analysis.positions) == len(analysis.tables) == len(analysis.layers)
    assert {layer.kind for layer in analysis.layers} == {"CLADE-ICPE"}


def test_mixed_generators_have_both_parts() -> None:
    model = tiny("clade", norm=mixed_norms(2), hidden_channels=4)
    analysis = analyse_modulation(model, [layout(0)])
    kinds = {layer.name: layer.kind for layer in analysis.layers}
    assert [name for name, kind in kinds.items() if kind == "CLADE"] == [table.layer for table in analysis.tables]
    assert {name.split(".")[1] for name, kind in kinds.items() if kind == "SPADE"} == {"0", "1"}
    assert [maps.layer for maps in analysis.maps] == ["blocks.1.norm_1"]
    groups = [(group.kind, group.size) for group in analysis.histograms]
    assert groups == sorted(groups, key=lambda group: group[1]) and len(set(groups)) == len(groups)
    assert ("SPADE", (4, 6)) in groups and ("CLADE", (4, 6)) in groups


def test_histograms_hold_every_value_of_their_layers() -> None:
    model = tiny()
    analysis = analyse_modulation(model, [layout(0), layout(1)])
    for groups in (analysis.histograms, analysis.deviations):
        for group in groups:
            channels = sum(layer.channels for layer in analysis.layers if layer.size == group.size)
            assert group.gamma.counts.sum() == group.beta.counts.sum() == 2 * math.prod(group.size) * channels
    last = [norm for name, norm in norms(model).items() if name.startswith("blocks.6")]
    with torch.no_grad():
        values = torch.cat([norm.modulation(layout(i), SIZE)[0].flatten() for norm in last for i in range(2)])
    edges = analysis.histograms[-1].gamma.edges
    expected = np.histogram(values.double().numpy(), edges)[0]
    np.testing.assert_array_equal(analysis.histograms[-1].gamma.counts.sum(axis=0), expected)


def test_deviations_are_zero_inside_regions_only() -> None:
    model = tiny()
    analysis = analyse_modulation(model, [layout(0)])
    histogram = analysis.deviations[-1].gamma
    near = np.abs(histogram.edges[:-1] + histogram.width / 2) < histogram.width
    inside = 1 - np.count_nonzero(_border(layout(0))) / math.prod(SIZE)
    assert inside <= histogram.counts[:, near].sum() / histogram.counts.sum() < 1
    clade = analyse_modulation(tiny("clade"), [layout(0)]).deviations
    assert all(np.count_nonzero(group.gamma.counts.sum(axis=0)) == 1 for group in clade)


def _border(item: Layout) -> np.ndarray:
    """The pixels that see another class or the border of the map within 2 pixels."""
    padded = np.pad(item.label_map[0].numpy(), 2, constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    return windows.min(axis=(2, 3)) != windows.max(axis=(2, 3))


def test_batches_and_order_do_not_matter() -> None:
    model = tiny()
    both = Layout.cat([layout(0), layout(1)])
    expected = shares(analyse_modulation(model, [layout(0), layout(1)]))
    assert shares(analyse_modulation(model, iter([both]))) == pytest.approx(expected, rel=1e-5)
    assert shares(analyse_modulation(model, [layout(1), layout(0)])) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_layouts_are_resized_to_the_model() -> None:
    model = tiny("clade-icpe")
    large = layout(3, (96, 192))
    analysis = analyse_modulation(model, [large])
    resized = large.with_position("official").resize(SIZE)
    assert analysis.class_pixels.tolist() == torch.bincount(resized.label_map.flatten(), minlength=4).tolist()
    last = analysis.layers[-1]
    expected = pooled_share(norms(model)[last.name], [resized], SIZE, 0)
    assert last.gamma.within_share == pytest.approx(expected, rel=1e-6)


def test_maps_are_of_the_layers_channels_and_layouts_asked_for() -> None:
    model = tiny()
    name = "blocks.3.norm_1"
    analysis = analyse_modulation(
        model, [layout(seed) for seed in range(4)], layers=[name], channels=[0], examples=(1, 3)
    )
    assert [maps.layer for maps in analysis.maps] == ["blocks.6.norm_1", name]
    assert [item.label_map.tolist() for item in analysis.examples] == [layout(i).label_map.tolist() for i in (1, 3)]
    maps = analysis.maps[1]
    with torch.no_grad():
        gamma, beta = norms(model)[name].modulation(layout(3), (8, 12))
    assert maps.channels == (0,) and maps.gamma.shape == maps.beta.shape == (2, 1, 8, 12)
    np.testing.assert_allclose(maps.gamma[1, 0], gamma[0, 0], rtol=1e-6)
    np.testing.assert_allclose(maps.beta[1, 0], beta[0, 0], rtol=1e-6)


def test_by_default_the_channels_that_vary_most_are_mapped() -> None:
    model = tiny(base_channels=8)
    norm = norms(model)["blocks.6.norm_1"]
    analysis = analyse_modulation(model, [layout(0)])
    with torch.no_grad():
        gamma, _ = norm.modulation(layout(0), SIZE)
    variance = gamma[0].double().flatten(1).var(dim=1, correction=0)
    assert list(analysis.maps[0].channels) == variance.argsort(descending=True)[:3].tolist()


def test_models_of_instances_and_styles_can_be_analysed() -> None:
    item = layout(0)
    with_instances = Layout(item.label_map, LABELS, item.label_map)
    model = tiny(use_instances=True, latent_dim=4)
    assert len(analyse_modulation(model, [with_instances]).layers) == 18
    with pytest.raises(LayoutError, match="instance map"):
        analyse_modulation(model, [item])


class Unconditional(ConditionalNorm):
    """A norm without gamma and beta of the layout."""

    def forward(self, x: Tensor, layout: Layout, style: Style | None = None) -> Tensor:
        return self.statistics(x)


def test_other_norms_are_skipped() -> None:
    model = tiny()
    block = model.get_submodule("blocks.0")
    block.norm_0 = Unconditional(16, "batch")
    analysis = analyse_modulation(model, [layout(0)])
    assert analysis.skipped == ("blocks.0.norm_0",) and len(analysis.layers) == 17
    for name in norms(model):
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, Unconditional(norms(model)[name].channels, "batch"))
    empty = analyse_modulation(model, [layout(0)])
    assert not (empty.layers or empty.maps or empty.histograms or empty.tables) and len(empty.skipped) == 18


def test_frequent_classes_are_known_and_there() -> None:
    label_map = torch.full((1, *SIZE), 3)
    label_map[0, :10], label_map[0, 10:30] = 2, 0
    analysis = analyse_modulation(tiny("clade"), [Layout(label_map, LABELS)])
    assert analysis.frequent_classes() == (0, 2) and analysis.frequent_classes(1) == (0,)


def test_wrong_wishes_are_refused() -> None:
    model = tiny()
    with pytest.raises(EvaluationError, match="no layout to analyse"):
        analyse_modulation(model, [])
    with pytest.raises(EvaluationError, match=r"'blocks.9' is no norm .* blocks.0.norm_0"):
        analyse_modulation(model, [layout(0)], layers=["blocks.9"])
    with pytest.raises(EvaluationError, match=r"blocks.6.norm_1 has no channel 7: its channels are 0 to 0"):
        analyse_modulation(model, [layout(0)], channels=[7])
    with pytest.raises(LayoutError, match=r"the layout has 5 classes"):
        analyse_modulation(model, [Layout(torch.zeros(1, *SIZE, dtype=torch.long), LabelSet.numbered(5))])


def test_a_broken_checkpoint_is_named() -> None:
    model = tiny()
    nn.init.constant_(norms(model)["blocks.2.norm_1"].beta.bias, math.nan)
    with pytest.raises(EvaluationError, match=r"blocks.2.norm_1 is not finite"):
        analyse_modulation(model, [layout(0)])
