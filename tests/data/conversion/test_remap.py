"""Renaming labels, against loops over pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segscape.data.conversion.remap import Remap
from segscape.errors import LabelMapError
from segscape.labels import LABEL_SETS, LabelSet

TEN = LabelSet.numbered(10)


@given(
    table=st.dictionaries(st.integers(0, 300), st.integers(0, 9), min_size=1, max_size=8),
    others=st.one_of(st.none(), st.integers(0, 9)),
    seed=st.integers(0, 99),
)
def test_values_are_renamed_pixel_by_pixel(table: dict[int, int], others: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = rng.choice([*table, *([] if others is None else [7, 299, 3])], (5, 4))
    text = ",".join(f"{key}={value}" for key, value in table.items()) + ("" if others is None else f",*={others}")
    expected = [[table.get(int(value), others) for value in row] for row in found]
    assert Remap.parse(text, TEN)(found, "x").tolist() == expected


def test_colours_names_and_files(tmp_path: Path) -> None:
    camvid, scenes = LABEL_SETS["camvid"], LABEL_SETS["scenes"]
    table = {"#ff0000": "car", "#000001": "sky", "*": "unlabelled"}
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    colored = np.array([[[255, 0, 0], [0, 0, 1]], [[1, 0, 0], [255, 0, 0]]], dtype=np.uint8)
    car, sky, other = (camvid.index(name) for name in ("car", "sky", "unlabelled"))
    assert Remap.parse(str(path), camvid)(colored, "x").tolist() == [[car, sky], [other, car]]
    Image.fromarray(colored).save(tmp_path / "map.png")
    assert Remap.parse(str(path), camvid).read((tmp_path / "map.png",), camvid).tolist() == [[car, sky], [other, car]]

    renamed = Remap.parse("grass=tree, water = 11,*=same", camvid, scenes)
    found = np.array([[scenes.index("grass"), scenes.index("water"), 4]])
    assert renamed(found, "x").tolist() == [[camvid.index("tree"), 11, 4]]
    (tmp_path / "table.yaml").write_text("3: 7\n255: 9\n")
    assert Remap.parse(str(tmp_path / "table.yaml"), TEN)(np.array([[255, 3]]), "x").tolist() == [[9, 7]]


@pytest.mark.parametrize(
    ("text", "found", "message"),
    [
        ("3=7", [[3, 4, 4, 200]], r"m.png: 3 pixels hold values .*\(4, 200\): add 4=CLASS"),
        ("3=7,*=same", [[3, 12]], "12 in 1 pixel"),
        ("3=12", [[3]], "12 in 1 pixel"),
        ("3=7", [[[3, 0, 0]]], r"colours .*\(#030000\): add #030000=CLASS"),
        ("*=same", [[[3, 0, 0]]], "colours"),
    ],
)
def test_what_the_table_lacks_is_named(text: str, found: object, message: str) -> None:
    with pytest.raises(LabelMapError, match=message):
        Remap.parse(text, TEN)(np.array(found, dtype=np.uint8), "m.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing.yaml", "nor a file"),
        ("3=7,8", "'8' is not of the form 3=7"),
        ("3=7,3=8", "3 is there twice"),
        ("car=7", "'car' is no value"),
        ("3=car", "no class 'car'"),
        ("--3=7", "'--3' is no value"),
        ("3=²", "no class '²'"),
        ("#12=3", "'#12' is no colour"),
    ],
)
def test_a_wrong_table_is_named(text: str, message: str) -> None:
    with pytest.raises(LabelMapError, match=message):
        Remap.parse(text, TEN)


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    for content, message in (("- 3\n", "is no table"), ("{", "neither YAML nor JSON")):
        (tmp_path / "t.yaml").write_text(content)
        with pytest.raises(LabelMapError, match=message):
            Remap.parse(str(tmp_path / "t.yaml"), TEN)
