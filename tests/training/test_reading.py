"""Reading past damaged samples and dead processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from segscape.data.folder import FileDataset
from segscape.data.transforms import Preprocess
from segscape.data.view import TrainingView
from segscape.errors import DataError
from segscape.training import reading
from segscape.training.reading import Replacing, extra_batches, read_batches
from segscape.training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
ONE = SimpleNamespace(num_processes=1, process_index=0, device=torch.device("cpu"))


def view_of(recipe: Recipe) -> TrainingView:
    return TrainingView(recipe.data.open(), Preprocess(mode="resize_and_crop", load_size=36, crop_size=32, flip=True))


def cut(pairs: Path, *numbers: int) -> None:
    for number in numbers:
        path = pairs / "images" / f"{number}.png"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_the_next_good_sample_with_the_same_augmentation(make_recipe: MakeRecipe, pairs: Path) -> None:
    good = view_of(make_recipe())
    wanted = [good[0, 7], good[0, 8], good[2, 9]]
    cut(pairs, 3, 4)
    found = [Replacing(view_of(make_recipe()), 2)[key] for key in ((3, 7), (4, 8), (2, 9))]
    for (sample, _), other in zip(found, wanted, strict=True):
        assert_array_equal(sample.image, other.image)
        assert_array_equal(sample.label_map, other.label_map)
    assert [[Path(text.split(":")[0]).name for text in problems] for _, problems in found] == [
        ["3.png", "4.png"],
        ["4.png"],
        [],
    ]


def test_too_many_in_a_row(make_recipe: MakeRecipe, pairs: Path) -> None:
    cut(pairs, 1, 2, 3)
    view = view_of(make_recipe())
    assert Replacing(view, 3)[1, 0][0].name == "4"
    with pytest.raises(DataError, match=r"1\.png: .*damaged.*; the next 2 samples cannot be read either"):
        Replacing(view, 2)[1, 0]
    with pytest.raises(DataError, match=r"1\.png: this image is truncated or damaged; copy or export it again"):
        Replacing(view, 0)[1, 0]


def test_samples_outside_the_order_are_replaced_too(make_recipe: MakeRecipe, pairs: Path) -> None:
    cut(pairs, 0)
    assert next(extra_batches(view_of(make_recipe()), 1, 1, torch.device("cpu"))).names == ("1",)


@pytest.mark.parametrize("workers", [0, 1])
def test_each_replacement_is_told_once(make_recipe: MakeRecipe, pairs: Path, workers: int) -> None:
    cut(pairs, 1)
    told: list[tuple[str, str]] = []
    recipe = make_recipe(images=10, workers=workers)
    names = [
        name
        for batch in read_batches(recipe, view_of(recipe), 0, ONE, lambda *one: told.append(one))
        for name in batch.names
    ]
    assert len(names) == 10 and "1" not in names
    assert [kind for kind, _ in told] == ["replaced_samples"] * 2  # two epochs
    assert all("1.png: this image is truncated" in text and "'2' is shown in its place" in text for _, text in told)


@pytest.mark.slow  # PyTorch looks every 5 seconds
def test_dead_processes_are_replaced_at_the_same_place(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe, told = make_recipe(images=12, workers=1), []
    wanted = [batch.names for batch in read_batches(recipe, view_of(recipe), 0, ONE, lambda *_: None)]
    here, read, alive = os.getpid(), FileDataset.sample, tmp_path / "died"

    def die_once(self: FileDataset, index: int) -> object:
        if os.getpid() != here and index == 3 and not alive.exists():
            alive.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(read(self, index), name=str(index))

    monkeypatch.setattr(FileDataset, "sample", die_once)
    found = [batch.names for batch in read_batches(recipe, view_of(recipe), 0, ONE, lambda *one: told.append(one))]
    assert found == wanted and alive.exists()
    assert [kind for kind, _ in told] == ["reader_restarts"] and "a process that reads data died" in told[0][1]


@pytest.mark.slow
def test_processes_that_always_die_are_an_error(make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    here, read, told = os.getpid(), FileDataset.sample, []

    def die(self: FileDataset, index: int) -> object:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, index)

    recipe = make_recipe(workers=1)
    view = view_of(recipe)
    monkeypatch.setattr(FileDataset, "sample", die)
    monkeypatch.setattr(reading, "RESTARTS", 0)
    with pytest.raises(DataError, match="a process that reads data died"):
        list(read_batches(recipe, view, 0, ONE, lambda *one: told.append(one)))
    assert not told


def test_positions_are_whole_steps(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(images=11, batch_size=4, accumulate=2)
    sizes = [len(batch.names) for batch in read_batches(recipe, view_of(recipe), 4, ONE, lambda *_: None)]
    assert sizes == [2] * 4 and np.sum(sizes) == 8
