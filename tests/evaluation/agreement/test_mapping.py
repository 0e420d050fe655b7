from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from segscape.errors import EvaluationError
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.labels import LABEL_SETS, LabelClass, LabelSet

CAMVID = LABEL_SETS["camvid"]


def labels_of(*names: str, unknown: int | None = None) -> LabelSet:
    return LabelSet(
        name="ours", classes=tuple(LabelClass(name=name, color=(0, 0, 0)) for name in names), unknown=unknown
    )


def write(folder: Path, content: object) -> Path:
    path = folder / "mapping.json"
    path.write_text(json.dumps(content))
    return path


def test_a_set_maps_to_itself() -> None:
    mapping = ClassMapping.by_name(CAMVID.names, CAMVID)
    assert mapping.targets == tuple(range(12))
    assert mapping.unmatched == () and mapping.excluded == {11} and mapping.remark() == ""
    assert mapping.describe().startswith("11 of 11 classes (mapping ")


def test_names_match_however_they_are_written() -> None:
    ours = labels_of("traffic light", "person;individual;someone", "wall", "Dining-Table", "unknown", unknown=4)
    theirs = ["Wall", "individual, man", "Traffic_Light", "dining  table", "sea"]
    mapping = ClassMapping.by_name(theirs, ours)
    assert mapping.targets == (2, 1, 0, 3, -1)


def test_a_full_name_comes_before_a_synonym() -> None:
    ours = labels_of("car;auto", "auto", "van")
    assert ClassMapping.by_name(["auto", "car", "van;car"], ours).targets == (1, 0, 2)


def test_what_the_segmenter_does_not_know_is_left_out_and_said() -> None:
    ours = labels_of("sky", "road", "pole", "sign", "unlabelled", unknown=4)
    mapping = ClassMapping.by_name(["sky", "road", "pavement"], ours)
    assert mapping.unmatched == ("pole", "sign") and mapping.excluded == {2, 3, 4}
    assert mapping.describe().startswith("2 of 4 classes")
    assert "pole, sign" in mapping.remark()


def test_apply() -> None:
    mapping = ClassMapping.by_name(["sky", "sea", "road"], labels_of("road", "sky"))
    predicted = torch.tensor([[[0, 1, 2], [2, 2, 0]]])
    assert mapping.apply(predicted).tolist() == [[[1, -1, 0], [0, 0, 1]]]
    assert mapping.apply(predicted.to(torch.uint8)).dtype == torch.int64
    with pytest.raises(EvaluationError, match=r"predicted classes 3 to 5, but it names 3 \(0 to 2\)"):
        mapping.apply(predicted + 3)


@pytest.mark.parametrize("classes", [["dog", "cat"], ["unlabelled"]])
def test_nothing_in_common_is_an_error_with_the_remedy(classes: list[str]) -> None:
    with pytest.raises(EvaluationError, match=r"no class of the segmenter .* 'camvid' .* give a mapping file, JSON"):
        ClassMapping.by_name(classes, CAMVID)


def test_a_file_maps_names_and_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, {"motorway": "road", "2": "car", "Bus": "car"})
    mapping = ClassMapping.from_file(path, ["motorway", "sky", "lorry", "bus"], CAMVID)
    road, car = CAMVID.index("road"), CAMVID.index("car")
    assert mapping.targets == (road, -1, car, car)  # what is not listed means nothing, whatever its name
    assert ClassMapping.of(mapping.classes, CAMVID, path) == mapping
    assert ClassMapping.of(mapping.classes, CAMVID).targets == (-1, 0, -1, -1)


def test_the_description_changes_with_the_mapping(tmp_path: Path) -> None:
    classes = ["motorway", "street"]
    one = ClassMapping.from_file(write(tmp_path, {"motorway": "road"}), classes, CAMVID)
    other = ClassMapping.from_file(write(tmp_path, {"street": "road"}), classes, CAMVID)
    again = ClassMapping.from_file(write(tmp_path, {"0": "road"}), classes, CAMVID)
    assert one.describe() != other.describe()
    assert one.describe() == again.describe()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"motorwya": "road"}, r"the segmenter has no class 'motorwya': did you mean 'motorway'\?"),
        ({"7": "road"}, "the segmenter has no class '7': it has motorway, street"),
        ({"motorway": "raod"}, r"label set 'camvid' has no class 'raod': did you mean 'road'\?"),
        ({"motorway": "road", "0": "car"}, "maps the segmenter's class 'motorway' twice"),
        ({"motorway": 3}, "is no class mapping"),
        (["motorway"], "is no class mapping"),
    ],
)
def test_mistakes_in_a_file(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=message):
        ClassMapping.from_file(write(tmp_path, content), ["motorway", "street"], CAMVID)


def test_a_file_that_is_missing_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read as a class mapping"):
        ClassMapping.from_file(tmp_path / "none.json", ["road"], CAMVID)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"bad\.json cannot be read .* it must be JSON"):
        ClassMapping.from_file(tmp_path / "bad.json", ["road"], CAMVID)


def test_a_file_that_names_a_class_twice(tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    path.write_text('{"wall": "sky", "wall": "road"}')
    with pytest.raises(EvaluationError, match="maps the segmenter's class 'wall' twice"):
        ClassMapping.from_file(path, ["wall"], labels_of("road", "sky"))


def test_a_file_that_windows_wrote(tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    path.write_text('{"wall": "sky"}', encoding="utf-8-sig")
    assert ClassMapping.from_file(path, ["wall"], labels_of("road", "sky")).targets == (1,)
