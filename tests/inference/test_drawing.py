"""Drawing on layouts: which pixels an operation covers, and that nothing else changes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from segscape.errors import DependencyError, LabelMapError, LayoutError
from segscape.inference import draw_rectangle, draw_stroke, fill_region
from segscape.inference.drawing import Point
from segscape.labels import LabelSet, label_set
from segscape.layout import Layout

LABELS = LabelSet.numbered(4)
NEW = LABELS.names[3]
SIZE = (20, 28)

maps = arrays.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2))
points = st.tuples(st.integers(-20, 50), st.integers(-20, 40))


def blank() -> Layout:
    return Layout.from_array(np.zeros(SIZE, np.int64), LABELS)


def changed(before: Layout, after: Layout) -> np.ndarray:
    """`[H, W]`, of layouts of one map."""
    return (before.label_map != after.label_map)[0].numpy()


def distance_to_segment(start: Point, end: Point) -> np.ndarray:
    """Of each pixel of `SIZE`."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    along = np.subtract(end, start).astype(float)
    x, y = columns - start[0], rows - start[1]
    share = np.clip((x * along[0] + y * along[1]) / max(along @ along, 1e-9), 0, 1)
    return np.hypot(x - share * along[0], y - share * along[1])


@given(start=points, end=points, thickness=st.integers(1, 12))
def test_a_stroke_is_what_is_near_its_line(start: Point, end: Point, thickness: int) -> None:
    drawn = changed(blank(), draw_stroke(blank(), [start, end], NEW, thickness))
    distance = distance_to_segment(start, end)
    assert (distance[drawn] <= thickness / 2 + 2.5).all()  # OpenCV widens a line that leaves the map by up to 2 pixels
    assert drawn[distance < thickness / 2 - 1].all()


def test_a_stroke_goes_through_all_points_and_keeps_the_layout_it_was_drawn_on() -> None:
    before = blank()
    after = draw_stroke(before, [(2, 2), (2, 15), (20, 15)], NEW, 1)
    expected = torch.zeros(1, *SIZE, dtype=torch.int64)
    expected[0, 2:16, 2] = expected[0, 15, 2:21] = 3
    assert torch.equal(after.label_map, expected)
    assert not before.label_map.any()  # so this is how to undo


@given(start=points, end=points)
def test_a_rectangle_is_all_between_its_corners(start: Point, end: Point) -> None:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = (columns >= min(start[0], end[0])) & (columns <= max(start[0], end[0]))
    inside &= (rows >= min(start[1], end[1])) & (rows <= max(start[1], end[1]))
    assert (changed(blank(), draw_rectangle(blank(), start, end, NEW)) == inside).all()


def region_with_holes(label_map: np.ndarray, at: Point) -> np.ndarray:
    """Walked pixel by pixel: the region around a point, and all from which no way leads around it to the border."""
    height, width = label_map.shape

    def reached(starts: list[tuple[int, int]], open_to: np.ndarray, corners: bool) -> np.ndarray:
        seen, waiting = np.zeros_like(open_to), [place for place in starts if open_to[place]]
        while waiting:
            row, column = waiting.pop()
            if not (0 <= row < height and 0 <= column < width) or seen[row, column] or not open_to[row, column]:
                continue
            seen[row, column] = True
            steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if corners or a == 0 or b == 0]
            waiting += [(row + a, column + b) for a, b in steps]
        return seen

    region = reached([(at[1], at[0])], label_map == label_map[at[1], at[0]], corners=True)
    border = [(r, c) for r in range(height) for c in range(width) if r in (0, height - 1) or c in (0, width - 1)]
    return ~reached(border, ~region, corners=False)


@given(data=st.data(), label_map=maps)
def test_filling_changes_a_region_with_its_holes_only(data: st.DataObject, label_map: np.ndarray) -> None:
    height, width = label_map.shape
    at = data.draw(st.tuples(st.integers(0, width - 1), st.integers(0, height - 1)))
    before = Layout.from_array(label_map, LABELS)
    assert (changed(before, fill_region(before, at, NEW)) == region_with_holes(label_map, at)).all()


def test_several_maps_are_drawn_on_at_once_and_filled_each_by_itself() -> None:
    label_maps = np.zeros((2, 6, 6), np.int64)
    label_maps[1, :, 3:] = 1
    layout = Layout.from_array(label_maps, LABELS)
    assert (draw_rectangle(layout, (0, 0), (1, 1), NEW).label_map == 3).sum((1, 2)).tolist() == [4, 4]
    assert (fill_region(layout, (0, 0), NEW).label_map == 3).sum((1, 2)).tolist() == [36, 18]


def test_what_is_drawn_is_an_object_of_its_own() -> None:
    layout = Layout.from_array(np.zeros((4, 4), np.int64), LABELS, np.full((4, 4), 7))
    instance_map = draw_rectangle(layout, (0, 0), (1, 3), LABELS.names[0]).instance_map
    assert instance_map is not None and instance_map[0].tolist() == [[8, 8, 7, 7]] * 4
    assert draw_rectangle(blank(), (0, 0), (1, 1), NEW).instance_map is None


def test_what_cannot_be_drawn_is_refused() -> None:
    layout = Layout.from_array(np.zeros(SIZE, np.int64), label_set("camvid"))
    for draw in (
        lambda: draw_stroke(layout, [(0, 0), (3, 3)], "skyy"),
        lambda: draw_rectangle(layout, (0, 0), (3, 3), "skyy"),
        lambda: fill_region(layout, (0, 0), "skyy"),
    ):
        with pytest.raises(LabelMapError, match="skyy"):
            draw()
    with pytest.raises(LayoutError, match="at least two points, and 1 came; give"):
        draw_stroke(layout, [(0, 0)], "sky")
    with pytest.raises(LayoutError, match=r"thickness of a stroke is 0; give 1 to"):
        draw_stroke(layout, [(0, 0), (3, 3)], "sky", 0)
    with pytest.raises(LayoutError, match=r"\(99999, 0\) is not that of a pixel; give whole numbers from -32767"):
        draw_rectangle(layout, (0, 0), (99999, 0), "sky")
    with pytest.raises(LayoutError, match=r"\(0.5, 0\) is not that of a pixel"):
        fill_region(layout, (0.5, 0), "sky")  # type: ignore[arg-type]
    for outside in ((-1, 0), (28, 0), (0, 20)):
        with pytest.raises(LayoutError, match="28 wide and 20 high"):
            fill_region(layout, outside, "sky")


def test_a_stroke_without_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DependencyError, match=r"segscape\[drawing\]"):
        draw_stroke(blank(), [(0, 0), (3, 3)], NEW)
    draw_rectangle(blank(), (0, 0), (3, 3), NEW)
