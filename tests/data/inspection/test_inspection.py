"""Inspecting datasets: every planted defect is named, clean data are not accused, and the counts are right."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segscape.data.inspection.inspection import Inspection, inspect_dataset
from segscape.data.listing import Problem
from segscape.errors import DataError
from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS, LabelSet
from tests.data.planted import DEFECTS, LABELS, Defect, label_map, photo, plant_all, write_pair
from tests.data.samples import sample_of


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Inspection]:
    root = tmp_path_factory.mktemp("planted")
    plant_all(root)
    return root, inspect_dataset(root, labels=LABELS)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Ten good pairs in a folder."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for number in range(10):
        write_pair(images, labels, f"{number}", number)
    return tmp_path


def kinds(problems: tuple[Problem, ...], root: Path) -> set[tuple[str, str]]:
    return {(problem.path.relative_to(root).as_posix(), problem.kind) for problem in problems}


@pytest.mark.parametrize("defect", DEFECTS, ids=[defect.name for defect in DEFECTS])
def test_planted_defects_are_reported(planted: tuple[Path, Inspection], defect: Defect) -> None:
    root, inspection = planted
    expected, other = (inspection.notes, inspection.problems) if defect.harmless else (
        inspection.problems, inspection.notes)  # fmt: skip
    assert (defect.file, defect.kind) in kinds(expected, root)
    assert defect.kind == "exif-rotated" or (defect.file, defect.kind) not in kinds(other, root)


def test_every_message_names_its_file_and_good_samples_are_not_accused(planted: tuple[Path, Inspection]) -> None:
    _, inspection = planted
    for problem in (*inspection.problems, *inspection.notes):
        assert str(problem.path) in problem.message and "\n" not in problem.message
        assert not problem.path.name.startswith("good")
    harmful = {Path(defect.file).stem.casefold() for defect in DEFECTS if not defect.harmless}
    assert {problem.path.stem.casefold() for problem in inspection.problems} == harmful


def test_without_a_label_set_what_can_be_seen_is_reported(planted: tuple[Path, Inspection]) -> None:
    root, known = planted
    inspection = inspect_dataset(root)
    needs_labels = {
        "off-by-one",
        "unknown-label",
        "ignore-value",
        "swapped-channels",
        "unknown-colour",
        "palette-order",
    }
    expected = {pair for pair in kinds(known.problems, root) if pair[1] not in needs_labels}
    assert expected <= kinds(inspection.problems, root)
    assert {note.kind for note in inspection.notes} >= {"rare-label", "ignore-value"}
    assert (".", "mixed-maps") in kinds(inspection.problems, root)


def test_clean_pairs_are_counted(pairs: Path) -> None:
    inspection = inspect_dataset(pairs, labels=LABELS, workers=3)
    assert (inspection.problems, inspection.notes) == ((), ())
    assert inspection.samples == {"": 10}
    assert inspection.sizes == {(48, 64): 10}
    pixels: Counter[int] = Counter()
    for number in range(10):
        pixels.update(label_map(number).ravel().tolist())
    assert {entry.value: entry.pixels for entry in inspection.classes} == dict(pixels)
    shares = [entry["share"] for entry in inspection.as_json()["classes"]]
    assert sum(shares) == pytest.approx(1)
    assert inspection == inspect_dataset(pairs, labels=LABELS, workers=1)


def test_unseen_classes_and_unnamed_labels(pairs: Path) -> None:
    more = LabelSet(name="more", classes=(*LABELS.classes, LABELS.classes[0].model_copy(update={"name": "moon"})))
    assert inspect_dataset(pairs, labels=more).never_seen == ("moon",)
    unnamed = inspect_dataset(pairs)
    assert [entry.value for entry in unnamed.classes] == [0, 1, 2, 3, 4, 5] and unnamed.never_seen == ()


def test_colour_maps_without_a_label_set_are_counted_by_colour(pairs: Path) -> None:
    for number in range(10):
        Image.fromarray(LABELS.colorize(label_map(number))).save(pairs / "labels" / f"{number}.png")
    counted = {entry.value: entry.pixels for entry in inspect_dataset(pairs).classes}
    indexed = inspect_dataset(pairs, labels=LABELS).classes
    assert counted == {LABELS.classes[int(entry.value)].color: entry.pixels for entry in indexed}  # type: ignore[arg-type]


def test_indices_from_one_are_noted_without_a_label_set(pairs: Path) -> None:
    for number in range(10):
        Image.fromarray(label_map(number) + 1).save(pairs / "labels" / f"{number}.png")
    assert [note.kind for note in inspect_dataset(pairs).notes] == ["no-label-0"]


def test_a_photograph_in_two_splits_is_found(pairs: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(pairs / "images", tmp_path / "splits" / split / "images")
        shutil.copytree(pairs / "labels", tmp_path / "splits" / split / "labels")
    inspection = inspect_dataset(tmp_path / "splits", labels=LABELS)
    assert {problem.kind for problem in inspection.problems} == {"duplicate-photo"} and len(inspection.problems) == 10
    only = inspect_dataset(tmp_path / "splits", split="val", labels=LABELS)
    assert only.samples == {"val": 10} and not only.problems


@pytest.mark.skipif(os.name == "nt", reason="needs names that are no Unicode")
def test_any_name_that_a_disk_allows(pairs: Path) -> None:
    for name in (b"no-unicode\xff", b"two\nlines"):
        for folder, suffix in ((b"images", b".jpg"), (b"labels", b".png")):
            home = os.fsencode(pairs) + b"/" + folder + b"/"
            os.rename(home + b"1" + suffix if name.startswith(b"no") else home + b"2" + suffix, home + name + suffix)
    inspection = inspect_dataset(pairs, labels=LABELS)
    assert not inspection.problems and inspection.samples == {"": 10}
    assert len(inspection.notes) == 6  # not ASCII, and not printable, twice; not printable, twice


def test_instance_maps_of_another_size_and_damaged_ones(pairs: Path) -> None:
    (pairs / "instances").mkdir()
    for number in range(10):
        Image.fromarray(label_map(number).astype(np.uint16)).save(pairs / "instances" / f"{number}.png")
    assert not inspect_dataset(pairs, labels=LABELS).problems
    Image.fromarray(label_map()[:20].astype(np.uint16)).save(pairs / "instances/3.png")
    (pairs / "instances/4.png").write_bytes(b"")
    problems = inspect_dataset(pairs, labels=LABELS).problems
    assert kinds(problems, pairs) == {("instances/3.png", "size"), ("instances/4.png", "empty")}


def test_a_turned_photograph_that_fits_is_only_noted(pairs: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(photo(3)).save(pairs / "images/3.jpg", exif=exif)
    inspection = inspect_dataset(pairs, labels=LABELS)
    assert not inspection.problems and kinds(inspection.notes, pairs) == {("images/3.jpg", "exif-rotated")}


def test_a_file_without_a_partner_is_opened(pairs: Path) -> None:
    (pairs / "images/5.jpg").write_bytes(b"<html>")
    (pairs / "labels/5.png").unlink()
    problems = kinds(inspect_dataset(pairs, labels=LABELS).problems, pairs)
    assert problems == {("images/5.jpg", "no-partner"), ("images/5.jpg", "web-page")}


def test_published_datasets_are_compared_with_their_sizes(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / "train" / folder).mkdir(parents=True)
    for number in range(2):
        Image.fromarray(photo()).save(tmp_path / f"train/images/0001TP_{number}.png")
        write_label_map(tmp_path / f"train/labels/0001TP_{number}.png", label_map(number), LABEL_SETS["camvid"])
    inspection = inspect_dataset(tmp_path)
    assert inspection.kind == "camvid" and not inspection.problems
    assert {note.kind for note in inspection.notes} == {"incomplete", "duplicate-photo"}
    assert "2 samples in train, but camvid has 367" in inspection.notes[1].message


def test_nothing_to_inspect(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        inspect_dataset(tmp_path / "gone")
    with pytest.raises(DataError, match="is no dataset"):
        inspect_dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "samples"),
    [("coco_stuff_sample", {"train": 13, "val": 8}), ("cityscapes_sample", {"train": 3, "val": 15})],
)
def test_real_samples_are_clean(name: str, samples: dict[str, int]) -> None:
    inspection = inspect_dataset(sample_of(name))
    assert inspection.samples == samples and not inspection.problems
    assert {note.kind for note in inspection.notes} == {"incomplete"}


@pytest.mark.slow
def test_camvid_is_clean() -> None:
    inspection = inspect_dataset(sample_of("camvid"))
    assert inspection.samples == {"train": 367, "val": 101}
    assert (inspection.problems, inspection.notes, inspection.never_seen) == ((), (), ())
