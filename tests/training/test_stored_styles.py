"""Training leaves SEAN with the mean codes, and pix2pixHD with the clusters, of its photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from segscape.data.sample import collate
from segscape.data.transforms import Preprocess
from segscape.data.view import TrainingView
from segscape.models import create_model, load_model
from segscape.models.pix2pixhd import Pix2PixHDGenerator
from segscape.models.sean import SEANGenerator
from segscape.training.loop import train
from segscape.training.recipe import Recipe
from segscape.training.stored_styles import dataset_photos, training_photos
from tests.zoo import TINY

PREPROCESS = Preprocess(mode="fixed", crop_size=32)


def test_training_fits_the_mean_codes_of_sean(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    model = {"name": "sean", "image_size": [32, 32], **TINY["sean"], "use_instances": False}
    recipe = make_recipe(model=model, preprocess={"mode": "fixed", "crop_size": 32}, batch_size=5, images=5)
    trained = load_model(train(recipe, tmp_path / "run"))
    assert isinstance(trained, SEANGenerator)
    assert trained.code_counts[[0, 1, 2, 3]].tolist() == [5, 5, 0, 5]
    view = TrainingView(recipe.data.open(), PREPROCESS)
    batch = collate([view[number, 0] for number in range(5)], view.dataset.labels)
    with torch.no_grad():
        codes = trained.encode(batch.images, batch.layout).mean.values
    torch.testing.assert_close(trained.mean_codes[[0, 1, 3]], codes.mean(0)[[0, 1, 3]], atol=1e-5, rtol=1e-4)


def test_training_fits_the_clusters_of_pix2pixhd(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    options = TINY["pix2pixhd"] | {"use_instances": False, "feature_regions": "class", "num_clusters": 2}
    model = {"name": "pix2pixhd", "image_size": [32, 32], **options}
    recipe = make_recipe(model=model, preprocess={"mode": "fixed", "crop_size": 32}, images=2, ema=None)
    trained = load_model(train(recipe, tmp_path / "run"))
    assert isinstance(trained, Pix2PixHDGenerator) and trained.random_styles
    assert trained.cluster_counts[[0, 1, 2, 3]].tolist() == [2, 2, 0, 2]


def test_all_photos_in_their_order_or_some_spread_over_the_data(make_recipe: Callable[..., Recipe]) -> None:
    dataset = make_recipe().data.open()
    view = TrainingView(dataset, PREPROCESS)
    expected = collate([view[number, 0] for number in range(5)], dataset.labels)
    config = create_model("clade", labels="camvid", image_size=(32, 32), base_channels=1).config
    images, maps = zip(
        *((images, layout.label_map) for images, layout in dataset_photos(dataset, config, 2, torch.device("cpu"))),
        strict=True,
    )
    assert [len(part) for part in images] == [2, 2, 1]
    assert torch.equal(torch.cat(images), expected.images)
    assert torch.equal(torch.cat(maps), expected.layout.label_map)
    some = torch.cat([images for images, _ in training_photos(view, 2, torch.device("cpu"))])
    assert len(some) == 4 and all((expected.images == photo).flatten(1).all(1).any() for photo in some)
