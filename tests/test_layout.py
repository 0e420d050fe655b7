"""The conditioning value: derived maps are right, kept, and stay in step when the layout changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segscape.errors import LabelMapError, LayoutError
from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Layout, instance_edges
from segscape.patterns import pattern_index
from segscape.position import intra_class_position

LABELS = LabelSet.numbered(5)
sides = st.integers(1, 40)


def _random_map(batch, height, width, values=5, seed=0):
    return torch.randint(0, values, (batch, height, width), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layout():
    return Layout(_random_map(2, 12, 16), LABELS, _random_map(2, 12, 16, seed=1))


@settings(max_examples=80, deadline=None)
@given(sides, sides, sides, sides)
def test_pyramid_equals_interpolate_nearest(height, width, new_height, new_width):
    label_map = _random_map(2, height, width)
    resized = Layout(label_map, LABELS).at((new_height, new_width))
    expected = F.interpolate(label_map[:, None].float(), size=(new_height, new_width), mode="nearest")[:, 0]
    assert resized.dtype == torch.int64
    torch.testing.assert_close(resized, expected.long())


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides)
def test_resize_equals_pillow_nearest(height, width, new_height, new_width):
    label_map = _random_map(1, height, width)
    resized = Layout(label_map, LABELS).resize((new_height, new_width))
    image = Image.fromarray(label_map[0].numpy().astype(np.uint8))
    expected = image.resize((new_width, new_height), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resized.label_map[0].numpy(), np.asarray(expected))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 1000))
def test_edges_equal_a_plain_loop(height, width, seed):
    instances = _random_map(2, height, width, values=3, seed=seed)
    expected = torch.zeros(2, 1, height, width)
    for n, row, column in np.ndindex(2, height, width):
        for near_row, near_column in (
            (row - 1, column),
            (row + 1, column),
            (row, column - 1),
            (row, column + 1),
        ):
            inside = 0 <= near_row < height and 0 <= near_column < width
            if inside and instances[n, near_row, near_column] != instances[n, row, column]:
                expected[n, 0, row, column] = 1
    assert torch.equal(instance_edges(instances), expected)


def test_semantic_map(layout):
    one_hot = F.one_hot(layout.at((6, 8)), 5).permute(0, 3, 1, 2).float()
    assert torch.equal(layout.one_hot((6, 8)), one_hot)
    assert torch.equal(layout.semantic_map((6, 8)), one_hot)
    with_edges = layout.semantic_map((6, 8), edges=True)
    assert torch.equal(with_edges, torch.cat([one_hot, layout.edges((6, 8))], dim=1))
    assert layout.semantic_map(edges=True).shape == (2, 6, 12, 16)


@pytest.mark.parametrize("rule", ["official", "official-all", "paper"])
def test_position_is_found_at_full_size_and_then_resized(layout, rule):
    full = np.stack([intra_class_position(label_map, rule) for label_map in layout.label_map.numpy()])
    assert torch.equal(layout.position(rule=rule), torch.from_numpy(full))
    expected = F.interpolate(torch.from_numpy(full), size=(5, 7), mode="nearest")
    assert torch.equal(layout.position((5, 7), rule), expected)


def test_derived_maps_are_made_once(layout, monkeypatch):
    first = [layout.at((6, 8)), layout.edges((6, 8)), layout.position((6, 8)), layout.one_hot((6, 8))]
    first.append(layout.semantic_map((6, 8), edges=True))
    monkeypatch.setattr("segscape.layout.intra_class_position", None)
    monkeypatch.setattr("segscape.layout.instance_edges", None)
    again = [layout.at((6, 8)), layout.edges((6, 8)), layout.position((6, 8)), layout.one_hot((6, 8))]
    again.append(layout.semantic_map((6, 8), edges=True))
    assert all(one is two for one, two in zip(first, again, strict=True))
    layout.position((3, 4))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_patterns_are_those_of_labels_and_edges(layout, kernel_size):
    plain = layout.patterns((6, 8), kernel_size=kernel_size)
    seen = pattern_index(layout.at((6, 8)), 5, kernel_size)
    assert plain.num_tokens == 5 and torch.equal(plain.index, seen.index) and torch.equal(plain.tokens, seen.tokens)
    with_edges = layout.patterns((6, 8), kernel_size=kernel_size, edges=True)
    centre = kernel_size**2 // 2
    tokens = with_edges.tokens[with_edges.inner[with_edges.index][..., centre]][..., centre]
    assert with_edges.num_tokens == 10
    assert torch.equal(tokens // 2, layout.at((6, 8)))
    assert torch.equal(tokens % 2, layout.edges((6, 8))[:, 0].long())


def test_patterns_are_found_once_and_moved(layout):
    assert layout.patterns() is layout.patterns((12, 16), kernel_size=3, edges=False)
    kinds = [layout.patterns(), layout.patterns(edges=True), layout.patterns(kernel_size=1), layout.patterns((6, 8))]
    assert len({id(kind) for kind in kinds}) == 4
    moved = layout.to("meta").patterns((6, 8))
    assert moved.index.device.type == "meta" and moved.num_patterns == layout.patterns((6, 8)).num_patterns


def test_patterns_with_edges_need_an_instance_map():
    with pytest.raises(LayoutError, match="no instance map"):
        Layout(_random_map(1, 4, 4), LABELS).patterns(edges=True)


def test_full_size_is_the_map_itself(layout):
    assert layout.at(layout.size) is layout.label_map
    assert layout.edges() is layout.edges((12, 16))


def test_maps_cached_in_inference_mode_serve_training(layout):
    with torch.inference_mode():
        layout.one_hot((6, 8))
    weight = torch.ones(5, 5, 1, 1, requires_grad=True)
    F.conv2d(layout.one_hot((6, 8)), weight).sum().backward()
    assert weight.grad is not None


def test_given_maps_are_used():
    edges, position = torch.ones(1, 1, 4, 6), torch.rand(1, 2, 4, 6)
    layout = Layout(_random_map(1, 4, 6), LABELS, edges=edges, position=position)
    assert layout.has_instances and layout.instance_map is None
    assert torch.equal(layout.edges(), edges)
    assert torch.equal(layout.position(rule="paper"), position)
    assert torch.equal(layout.position((2, 3)), F.interpolate(position, size=(2, 3), mode="nearest"))


def test_attributes(layout):
    assert (layout.batch_size, layout.size, layout.num_classes) == (2, (12, 16), 5)
    assert layout.device == torch.device("cpu") and layout.has_instances
    assert repr(layout) == "Layout(2 x 12 x 16, labels='numbered-5', with instances, device='cpu')"


def test_pad_repeats_the_border():
    layout = Layout(_random_map(1, 3, 4), LABELS, _random_map(1, 3, 4), position=torch.rand(1, 2, 3, 4))
    padded = layout.pad(2, 5)
    assert padded.size == (5, 9)
    expected = F.pad(layout.position(), (0, 5, 0, 2), mode="replicate")
    assert torch.equal(padded.position(), expected)
    assert torch.equal(padded.label_map[:, :3, :4], layout.label_map)
    assert (padded.label_map[:, 3:, :4] == layout.label_map[:, 2:]).all()
    assert (padded.instance_map[:, :, 4:] == padded.instance_map[:, :, 3:4]).all()


def test_cut_and_join(layout):
    first, second = layout[:1], layout[1:]
    assert first.batch_size == 1
    joined = Layout.cat([first, second])
    assert torch.equal(joined.label_map, layout.label_map)
    assert torch.equal(joined.instance_map, layout.instance_map)
    with pytest.raises(TypeError, match="slice"):
        layout[0]


def test_cat_refuses_what_does_not_fit(layout):
    plain = Layout(layout.label_map, LABELS)
    with pytest.raises(LayoutError, match="zero layouts"):
        Layout.cat([])
    with pytest.raises(LayoutError, match="with and without"):
        Layout.cat([layout, plain])
    with pytest.raises(LayoutError, match="different label sets or sizes"):
        Layout.cat([plain, Layout(layout.label_map[:, :4], LABELS)])
    with pytest.raises(LayoutError, match="different label sets or sizes"):
        Layout.cat([plain, Layout(layout.label_map, LabelSet.numbered(6))])


def test_to_keeps_what_was_derived(layout):
    assert layout.to("cpu") is layout
    layout.position((6, 8))
    moved = layout.to("meta")
    assert moved.device.type == moved.position((6, 8)).device.type == moved.edges().device.type == "meta"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layout(torch.zeros(4, 4, dtype=torch.long), LABELS), r"non-empty \[N, H, W\], not \[4, 4\]"),
        (lambda: Layout(torch.zeros(0, 4, 4, dtype=torch.long), LABELS), "non-empty"),
        (lambda: Layout(torch.zeros(1, 4, 4), LABELS), "not torch.float32"),
        (lambda: Layout(_random_map(1, 4, 4), LABELS, _random_map(1, 4, 5)), "the instance map is"),
        (lambda: Layout(_random_map(1, 4, 4), LABELS, torch.rand(1, 4, 4)), "integer ids"),
        (lambda: Layout(_random_map(1, 4, 4), LABELS, edges=torch.rand(1, 4, 4)), "the edge map is"),
        (
            lambda: Layout(_random_map(1, 4, 4), LABELS, position=torch.rand(1, 1, 4, 4)),
            "positional encoding is",
        ),
        (lambda: Layout.from_array(np.zeros(4, dtype=int), LABELS), r"not int64 \[4\]"),
        (lambda: Layout.from_array(np.zeros((4, 4)), LABELS), "integer array"),
        (lambda: Layout(_random_map(1, 4, 4), LABELS).edges(), "no instance map"),
        (lambda: Layout(_random_map(1, 4, 4), LABELS).position(rule="other"), "unknown position rule"),
    ],
)
def test_bad_layouts(make, message):
    with pytest.raises(LayoutError, match=message):
        make()


def test_an_index_out_of_range_is_found_before_any_network():
    label_map = _random_map(3, 4, 4)
    label_map[1, 2, 3] = 200
    with pytest.raises(LabelMapError, match=r"label map 1 of the layout: .*200 in 1 pixel; first at row 2, column 3"):
        Layout(label_map, LABELS)
    assert Layout(label_map, LABELS, check=False).label_map.max() == 200


def test_from_array_turns_ignored_pixels_into_unknown():
    raw = np.array([[0, 255], [3, 4]], dtype=np.uint8)
    layout = Layout.from_array(raw, LabelSet.numbered(12, unknown=11, ignore_value=255), np.stack([raw]))
    assert layout.label_map.tolist() == [[[0, 11], [3, 4]]]
    assert layout.has_instances


def test_from_file(tmp_path):
    labels = LABEL_SETS["camvid"]
    label_map = np.arange(12).reshape(3, 4)
    write_label_map(tmp_path / "labels.png", label_map, labels)
    np.save(tmp_path / "instances.npy", label_map * 1000)
    layout = Layout.from_file(tmp_path / "labels.png", labels, tmp_path / "instances.npy")
    np.testing.assert_array_equal(layout.label_map[0], label_map)
    np.testing.assert_array_equal(layout.instance_map[0], label_map * 1000)
    np.save(tmp_path / "small.npy", label_map[:2])
    with pytest.raises(LayoutError, match=r"\[1, 2, 4\], but this label map needs \[1, 3, 4\]"):
        Layout.from_file(tmp_path / "labels.png", labels, tmp_path / "small.npy")


def test_with_position_keeps_the_encoding_of_the_objects_as_they_are():
    labels = LabelSet.numbered(3)
    layout = Layout(torch.tensor([[[1, 1, 2], [1, 1, 2]]]), labels)
    kept = layout.with_position("official")
    assert torch.equal(kept.position(), layout.position())
    padded = kept.pad(2, 1)
    assert torch.equal(padded.position()[..., :2, :3], layout.position())
    assert not torch.equal(layout.pad(2, 1).position()[..., :2, :3], layout.position())


def test_present_classes() -> None:
    label_map = torch.tensor([[[0, 2]], [[1, 1]]])
    expected = [[True, False, True], [False, True, False]]
    assert Layout(label_map, LabelSet.numbered(3)).present_classes().tolist() == expected
