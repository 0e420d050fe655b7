"""The vocabulary: colours, names, ignore values, and what a wrong index or colour is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from segscape.errors import LabelMapError
from segscape.labels import LABEL_SETS, LabelClass, LabelSet, label_set

CAMVID = LABEL_SETS["camvid"]


@st.composite
def sets_and_maps(draw):
    labels = LabelSet.numbered(draw(st.integers(1, 300)))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    dtype = draw(st.sampled_from([np.int64, np.uint16, np.int32]))
    return labels, draw(hnp.arrays(dtype, shape, elements=st.integers(0, labels.num_classes - 1)))


@settings(max_examples=60, deadline=None)
@given(sets_and_maps())
def test_colours_round_trip(case):
    labels, label_map = case
    rgb = labels.colorize(label_map)
    assert rgb.dtype == np.uint8 and rgb.shape == (*label_map.shape, 3)
    np.testing.assert_array_equal(labels.indices(rgb), label_map)


@pytest.mark.parametrize("count", [1, 2, 12, 256, 1000])
def test_numbered_colours_are_distinct(count):
    labels = LabelSet.numbered(count)
    assert len({entry.color for entry in labels.classes}) == count == labels.num_classes


@pytest.mark.parametrize(("count", "unknown"), [(0, None), (-3, None), (4, 4), (4, -1)])
def test_numbered_refuses_bad_counts(count, unknown):
    with pytest.raises(LabelMapError, match="cannot number"):
        LabelSet.numbered(count, unknown)


def test_published_sets():
    assert {name: labels.num_classes for name, labels in LABEL_SETS.items()} == {
        "ade20k": 151,
        "ade20k-official": 151,
        "camvid": 12,
        "celebamask-hq": 19,
        "cityscapes": 35,
        "coco-stuff": 183,
        "deepfashion": 8,
        "scenes": 12,
    }
    assert CAMVID.names[CAMVID.unknown] == "unlabelled"
    cityscapes = LABEL_SETS["cityscapes"]
    assert cityscapes.index("car") == 26 and cityscapes.index("license plate") == 34
    assert cityscapes.unknown == 0 and cityscapes.ignore_value is None
    assert sum(entry.thing for entry in cityscapes.classes) == 10


def test_ids_of_the_large_sets():
    ade, official, coco = (LABEL_SETS[name] for name in ("ade20k", "ade20k-official", "coco-stuff"))
    assert [ade.index(name) for name in ("wall", "sky", "person", "sea", "flag", "unknown")] == [0, 2, 12, 26, 149, 150]
    assert [official.index(name) for name in ("unknown", "wall", "flag")] == [0, 1, 150] and official.unknown == 0
    assert sorted(official.names) == sorted(ade.names) and sum(entry.thing for entry in ade.classes) == 100
    ids = {"person": 1, "stop sign": 13, "zebra": 24, "toothbrush": 90, "banner": 92, "sky-other": 157, "wood": 182}
    assert {name: coco.index(name) + 1 for name in ids} == ids
    assert [entry.thing for entry in coco.classes] == [True] * 91 + [False] * 92
    assert (coco.unknown, coco.ignore_value, ade.unknown) == (182, 255, 150)
    assert len(np.unique(coco.colors, axis=0)) == 183


def test_shared_colour_means_the_first_class():
    cityscapes = LABEL_SETS["cityscapes"]
    rgb = cityscapes.colorize(np.array([[34, 3]]))
    np.testing.assert_array_equal(cityscapes.indices(rgb), [[26, 0]])


def test_index_names_the_nearest_class():
    assert CAMVID.index("road") == 3
    with pytest.raises(LabelMapError, match="did you mean 'pavement'"):
        CAMVID.index("pavment")
    with pytest.raises(LabelMapError, match="it has sky, building"):
        CAMVID.index("zzzz")


@pytest.mark.parametrize("name", sorted(LABEL_SETS))
def test_json_round_trip(tmp_path, name):
    path = tmp_path / "labels.json"
    LABEL_SETS[name].save(path)
    assert LabelSet.load(path) == label_set(path) == label_set(name) == LABEL_SETS[name]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "set.json"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("segscape.files.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        LABEL_SETS["camvid"].save(path)
    assert path.read_text() == "old"


def test_label_set_lists_the_known_ones():
    with pytest.raises(LabelMapError, match=r"unknown label set 'camvit'; known are ade20k, .*, camvid, .*, scenes"):
        label_set("camvit")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Invalid JSON"),
        ("{}", "name: Field required"),
        ('{"name": "a", "classes": []}', "classes"),
        ('{"name": "a", "classes": [{"name": "b", "color": [0, 0, 256]}]}', r"classes\.0\.color\.2"),
        ('{"name": "a", "classes": [{"name": "b", "color": [0, 0, 0]}], "unknwn": 1}', "unknwn"),
    ],
)
def test_broken_json_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(LabelMapError, match=message) as raised:
        LabelSet.load(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_load_reports_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(LabelMapError, match="No such file"):
        label_set(tmp_path / "none.json")
    with pytest.raises(LabelMapError, match="cannot read this label set"):
        LabelSet.load(tmp_path)


def test_inconsistent_sets_are_refused():
    sky, road = LabelClass(name="sky", color=(0, 0, 255)), LabelClass(name="road", color=(9, 9, 9))
    with pytest.raises(ValidationError, match="'sky' repeats"):
        LabelSet(name="x", classes=(sky, sky))
    with pytest.raises(ValidationError, match="unknown=2 is not an index"):
        LabelSet(name="x", classes=(sky, road), unknown=2)
    with pytest.raises(ValidationError, match="ignore_value=0 is a class index"):
        LabelSet(name="x", classes=(sky, road), unknown=1, ignore_value=0)


def test_map_ignore():
    raw = np.array([[0, 255, 3]], dtype=np.uint8)
    labels = LabelSet.numbered(12, unknown=11, ignore_value=255)
    np.testing.assert_array_equal(labels.map_ignore(raw), [[0, 11, 3]])
    assert labels.map_ignore(raw).dtype == np.uint8
    assert LabelSet.numbered(12).map_ignore(raw) is raw
    assert CAMVID.map_ignore(raw) is raw


def test_unknown_index_says_which_how_many_where_and_what_is_allowed():
    label_map = np.zeros((6, 8), dtype=np.int64)
    label_map[2, 5] = 200
    label_map[4, 1:3] = 77
    with pytest.raises(LabelMapError) as raised:
        CAMVID.check(label_map, source="street.png")
    message = str(raised.value)
    assert message.startswith("street.png: 3 pixels with unknown indices")
    assert "77 in 2 pixels, 200 in 1 pixel; first at row 2, column 5" in message
    assert "label set 'camvid' allows 0 to 11" in message


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ([0, 255], "0/255 mask"),
        ([0, 3, 255], r"255 usually marks ignored pixels: write 11 \('class 11'\) instead"),
        ([-1, 0, 4], "negative values"),
        ([1, 5, 12], "start at 1"),
        ([0, 257, 1285], "scaled to 16 bits"),
        ([0, 256, 2560], "scaled to 16 bits"),
        (list(range(200)), "grey photo"),
        ([0, 44], "remap these values"),
    ],
)
def test_index_hints(values, hint):
    with pytest.raises(LabelMapError, match=hint):
        CAMVID.model_copy(update={"classes": LabelSet.numbered(12).classes}).check(np.array([values]))


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        (np.zeros((2, 3, 3), dtype=np.uint8), r"non-empty \[H, W\], not \[2, 3, 3\]"),
        (np.zeros((0, 3), dtype=np.uint8), "non-empty"),
        (np.zeros((2, 3)), "integer indices, not float64"),
    ],
)
def test_check_wants_an_integer_matrix(label_map, message):
    with pytest.raises(LabelMapError, match=message):
        CAMVID.check(label_map)


def test_a_set_without_unknown_class_says_so():
    with pytest.raises(LabelMapError, match="this label set has no unknown class"):
        LabelSet.numbered(12).check(np.array([[0, 3, 255]]))


def test_a_boolean_mask_is_two_classes():
    mask = np.array([[True, False]])
    LabelSet.numbered(2).check(mask)
    np.testing.assert_array_equal(CAMVID.colorize(mask), CAMVID.colors[[[1, 0]]])
    with pytest.raises(LabelMapError, match="1 in 1 pixel"):
        LabelSet.numbered(1).check(mask)


def test_unknown_colours_are_counted_and_shown():
    rgb = CAMVID.colorize(np.zeros((5, 5), dtype=np.int64))
    rgb[1, 2], rgb[3, 3:] = (1, 200, 3), (7, 8, 90)
    with pytest.raises(LabelMapError) as raised:
        CAMVID.indices(rgb, source="street.png")
    message = str(raised.value)
    assert message.startswith("street.png: 3 pixels in 2 colours that no class of label set 'camvid' has")
    assert "(7, 8, 90) in 2 pixels, (1, 200, 3) in 1 pixel; first at row 1, column 2" in message


def _with_blended_edges():
    rgb = CAMVID.colorize(np.zeros((20, 20), dtype=np.int64))
    rgb[5, 5] = (100, 90, 80)
    return rgb


@pytest.mark.parametrize(
    ("rgb", "hint"),
    [
        (np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8), "looks like a photo"),
        (np.full((4, 4, 3), 3, dtype=np.uint8), "class indices saved as RGB"),
        (CAMVID.colorize(np.array([[1, 4, 5]]))[..., ::-1], "blue, green, red"),
        (_with_blended_edges(), "blended colours"),
        (np.full((4, 4, 3), (200, 10, 10), dtype=np.uint8), "use the colours of the label set exactly"),
    ],
    ids=["photo", "indices", "bgr", "blended", "other-palette"],
)
def test_colour_hints(rgb, hint):
    with pytest.raises(LabelMapError, match=hint):
        CAMVID.indices(rgb)


@pytest.mark.parametrize("rgb", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_indices_wants_rgb(rgb):
    with pytest.raises(LabelMapError, match=r"uint8 \[H, W, 3\]"):
        CAMVID.indices(rgb)
