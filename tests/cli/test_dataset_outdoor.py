"""`segscape dataset outdoor`: the list it writes stands for the dataset."""

from __future__ import annotations

from pathlib import Path

from segscape.data import ADE20K, FileDataset, find_listing, list_splits
from tests.cli.conftest import Run
from tests.data.samples import ids, photo


def test_the_list_of_outdoor_scenes_stands_for_the_dataset(run: Run, tmp_path: Path) -> None:
    for place, value in (("training/bed", 8), ("training/sea", 27), ("validation/tree", 5)):
        photo(tmp_path / "images" / f"{place}.jpg")
        ids(tmp_path / "annotations" / f"{place}.png", value)
    path = tmp_path / "outdoor.txt"
    result = run("dataset", "outdoor", tmp_path, "--out", path)
    assert result.code == 0, result.err
    assert "train: 1 of 2 images; the paper: 9,649 of 20,210" in result.out
    assert "val: 1 of 1 images; the paper: 943 of 2,000" in result.out
    assert list_splits(path) == ("train", "val")
    assert ADE20K(path, "train").names == ("sea",)
    assert FileDataset(find_listing(path, "val")).names == ("tree",)
    refused = run("dataset", "outdoor", tmp_path, "--out", path)
    assert refused.code == 2 and "exists already" in refused.err
