"""The procedural scenes are deterministic, well-formed, and look like something."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from segscape.data import ProceduralScenes, Sample
from segscape.data.scenery.noise import noise, noise_tile
from segscape.errors import DataError
from segscape.labels import LABEL_SETS

THINGS = {index for index, entry in enumerate(LABEL_SETS["scenes"].classes) if entry.thing}


def digest() -> str:
    """A hash of the first scenes, rendered in this process."""
    scenes = ProceduralScenes(3, (32, 48), seed=5)
    parts = [part for i in range(3) for part in arrays(scenes.sample(i))]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def arrays(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert sample.image is not None and sample.instance_map is not None
    return sample.image, sample.label_map, sample.instance_map


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    scenes = ProceduralScenes(24, (64, 96))
    return [scenes.sample(i) for i in range(len(scenes))]


def test_another_process_renders_the_same_scenes() -> None:
    run = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest()


def test_a_scene_depends_on_seed_and_index_only() -> None:
    short, long = ProceduralScenes(2, (24, 24), seed=1), ProceduralScenes(50, (24, 24), seed=1)
    long.sample(30)
    for a, b in zip(arrays(short.sample(1)), arrays(long.sample(1)), strict=True):
        np.testing.assert_array_equal(a, b)
    other = ProceduralScenes(2, (24, 24), seed=2).sample(1)
    assert (arrays(other)[0] != arrays(short.sample(1))[0]).any()
    assert (arrays(short.sample(0))[0] != arrays(short.sample(1))[0]).any()


def test_shapes_types_and_labels(samples: list[Sample]) -> None:
    for sample in samples:
        image, label_map, instance_map = arrays(sample)
        assert image.shape == (64, 96, 3) and image.dtype == np.uint8
        assert label_map.dtype == instance_map.dtype == np.int64 and sample.size == (64, 96)
        ProceduralScenes.labels.check(label_map)


def test_instances_are_the_things_and_each_has_one_class(samples: list[Sample]) -> None:
    for sample in samples:
        _, label_map, instance_map = arrays(sample)
        np.testing.assert_array_equal(instance_map > 0, np.isin(label_map, list(THINGS)))
        for instance in np.unique(instance_map[instance_map > 0]):
            assert len(np.unique(label_map[instance_map == instance])) == 1


def test_every_class_but_unknown_is_drawn(samples: list[Sample]) -> None:
    seen = np.unique(np.concatenate([sample.label_map.ravel() for sample in samples]))
    assert set(seen) == set(range(len(LABEL_SETS["scenes"].classes))) - {LABEL_SETS["scenes"].unknown}


def test_the_sky_is_above_the_ground(samples: list[Sample]) -> None:
    names = LABEL_SETS["scenes"].names
    for sample in samples:
        rows = np.arange(64)[:, None] * np.ones((1, 96))
        ground = np.isin(sample.label_map, [names.index(name) for name in ("road", "grass", "pavement")])
        sky = sample.label_map == names.index("sky")
        assert rows[sky].max(initial=0) < rows[ground].max()


def test_pictures_have_texture_and_are_well_exposed(samples: list[Sample]) -> None:
    for sample in samples:
        image = arrays(sample)[0].astype(float)
        assert 40 < image.mean() < 220
        detail = image - ndimage.gaussian_filter(image, (2, 2, 0))
        assert detail.std() > 2


def test_colours_tell_classes_apart(samples: list[Sample]) -> None:
    """A nearest-mean-colour classifier beats always answering the most frequent class."""
    images, label_maps = (np.concatenate(parts) for parts in zip(*(arrays(s)[:2] for s in samples), strict=True))
    pixels, labels = images.reshape(-1, 3).astype(float), label_maps.ravel()
    present = np.unique(labels)
    means = np.stack([pixels[labels == k].mean(0) for k in present])
    guess = present[((pixels[:, None] - means) ** 2).sum(2).argmin(1)]
    recalls = [(guess[labels == k] == k).mean() for k in present]
    assert np.mean(recalls) > 2.5 / len(present)


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (90, 33)])
def test_any_size(size: tuple[int, int]) -> None:
    assert ProceduralScenes(1, size).sample(0).size == size


def test_too_few_or_too_small() -> None:
    with pytest.raises(DataError, match="at least 1 scene"):
        ProceduralScenes(0)
    with pytest.raises(DataError, match="8 x 64"):
        ProceduralScenes(1, (8, 64))
    with pytest.raises(IndexError):
        ProceduralScenes(1, (16, 16)).sample(1)


def test_noise_tiles_repeat_without_seams() -> None:
    tile = noise_tile(1.7)
    assert abs(tile.mean()) < 1e-3 and abs(tile.std() - 1) < 1e-3
    inner = np.abs(np.diff(tile, axis=0)).mean()
    assert np.abs(tile[0] - tile[-1]).mean() < 2 * inner
    np.testing.assert_array_equal(noise(1.7, np.arange(4.0), 3.0), noise(1.7, np.arange(4.0) + 512, -509.0))


if __name__ == "__main__":
    print(digest())
