"""Walking through folders: names, links, and what does not fit."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from segscape.data.published.pairing import ending, find_files, pair
from tests.data.samples import ids


def kinds(folder: Path) -> list[tuple[str, str]]:
    return [(problem.path.name, problem.kind) for problem in find_files(folder, "label map").problems]


def test_names_are_paths_without_suffix_in_composed_unicode(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "caf\u00e9")
    for name in ("a b.PNG", f"deep/{decomposed}.png", "x.y.tiff", ".hidden.png", "notes.txt"):
        ids(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).touch()
    found = find_files(tmp_path, "label map")
    assert sorted(found.files) == ["a b", "deep/caf\u00e9", "x.y"] and not found.problems


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    ids(tmp_path / "elsewhere" / "city" / "1.png")
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "city").symlink_to(tmp_path / "elsewhere" / "city")
    (folder / "again").symlink_to(folder)
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert list(find_files(folder, "label map").files) == ["city/1"]
    assert kinds(folder) == [("again", "bad-link"), ("gone.png", "bad-link"), ("itself.png", "bad-link")]


def test_a_circle_through_another_folder_ends(tmp_path: Path) -> None:
    ids(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "to-b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to-a").symlink_to(tmp_path / "a")
    assert kinds(tmp_path / "a") == [("to-a", "bad-link")]


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert kinds(tmp_path) == [(tmp_path.name, "empty")]
    assert kinds(tmp_path / "gone") == [("gone", "unreadable")]


@pytest.mark.parametrize(("path", "name"), [("city/a_labelIds", "city/a"), ("city/a_color", None), ("a", None)])
def test_endings(path: str, name: str | None) -> None:
    assert ending("_labelIds")(path) == name


def test_only_complete_samples_are_taken(tmp_path: Path) -> None:
    for name in ("labels/a.png", "labels/b.png", "images/b.png", "images/c.png", "ids/b.png", "ids/a.png"):
        ids(tmp_path / name)
    labels, images, numbers = (find_files(tmp_path / part, part) for part in ("labels", "images", "ids"))
    maps = {name: (path,) for name, path in labels.files.items()}
    samples, problems = pair(maps, image=images, instance_map=numbers)
    assert [(sample.name, sample.image) for sample in samples] == [("b", tmp_path / "images" / "b.png")]
    assert [problem.path for problem in problems] == [tmp_path / "labels" / "a.png", tmp_path / "images" / "c.png"]
    samples, problems = pair(maps, image=None, instance_map=None)
    assert [sample.image for sample in samples] == [None, None] and not problems
