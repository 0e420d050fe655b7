"""Styles in `Pipeline`: of all kinds, from files, photos and seeds, mixed by class; walks; what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import segscape
from segscape.errors import LabelMapError, StyleError
from segscape.inference import OnnxPipeline, Pipeline, Reference, accelerate
from segscape.inference.sheets import paste_grid, save_animation, style_grid
from segscape.inference.walks import STOPS, interpolated, random_walk
from segscape.labels import LABEL_SETS
from segscape.style import Style
from tests.zoo import SIZE, build_settled

CAMVID = LABEL_SETS["camvid"]
SKY, ROAD, CAR = (CAMVID.index(name) for name in ("sky", "road", "car"))
CODES = ["sean", "groupdnet-clade", "ca2-sis"]


def street(mirrored: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A label map of three classes, of the tiny models' size, and its instance map."""
    label_map = np.full(SIZE, SKY)
    label_map[16:], label_map[10:24, 8:24] = ROAD, CAR
    label_map = label_map[:, ::-1].copy() if mirrored else label_map
    return label_map, (label_map == CAR).astype(np.int64)


def photo(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray((rng.integers(0, 256, 3) * rng.uniform(0.5, 1, (*SIZE, 3))).astype(np.uint8))


def reference(pipeline: Pipeline, seed: int, **changes: int) -> Reference:
    label_map, ids = street(mirrored=True)
    for name, index in changes.items():
        label_map[label_map == CAMVID.index(name)] = index
    needs = pipeline.model.config.model != "ca2-sis"
    return Reference(photo(seed), label_map, ids if needs else None)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def draw(pipeline: Pipeline, **options: object) -> list[np.ndarray]:
    label_map, ids = street()
    return [pixels(one) for one in pipeline(label_map, instance_maps=ids, **options)]


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    made = {name: Pipeline(build_settled(name), "cpu") for name in (*CODES, "pix2pixhd")}
    made["ca2-sis"] = Pipeline(build_settled("ca2-sis", random_styles=True), "cpu")
    made["clade"] = Pipeline(build_settled("clade", latent_dim=4), "cpu")
    sean = made["sean"].model
    styles = [made["sean"].style(reference(made["sean"], seed)) for seed in (5, 6)]
    sean.fit_mean_codes(styles)
    return made


@pytest.mark.parametrize("name", [*CODES, "clade", "pix2pixhd"])
def test_photos_saved_styles_and_styles_give_the_same_picture(
    pipelines: dict[str, Pipeline], name: str, tmp_path: Path
) -> None:
    pipeline = pipelines[name]
    lender = reference(pipeline, 1)
    style = pipeline.style(lender)
    style.save(tmp_path / "style.safetensors")
    first = draw(pipeline, style=lender, seed=0)[0]
    for again in (style, tmp_path / "style.safetensors", str(tmp_path / "style.safetensors")):
        assert np.array_equal(first, draw(pipeline, style=again, seed=0)[0])
    assert not np.array_equal(first, draw(pipeline, style=reference(pipeline, 2), seed=0)[0])


@pytest.mark.parametrize("name", [*CODES, "clade"])
def test_a_seed_repeats_everything_that_is_drawn(pipelines: dict[str, Pipeline], name: str) -> None:
    """SEAN draws no styles but noise."""
    pipeline = pipelines[name]
    first, second, other = (draw(pipeline, seed=seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    fast = Pipeline(accelerate(pipeline.model), "cpu")
    assert np.abs(draw(fast, seed=3)[0] - first).max() <= 1


@pytest.mark.parametrize("name", ["groupdnet-clade", "ca2-sis", "clade"])
def test_samples_are_what_random_style_says(pipelines: dict[str, Pipeline], name: str) -> None:
    pipeline = pipelines[name]
    drawn = draw(pipeline, seed=3, samples=3)
    style = pipeline.random_style(pipeline.read_layout(*street()), 3, seed=3)
    assert style.count == 3
    assert all(np.array_equal(a, b) for a, b in zip(drawn, draw(pipeline, style=style, seed=3), strict=True))
    assert not np.array_equal(drawn[0], drawn[1])


def test_every_map_of_a_batch_gets_the_same_random_styles(pipelines: dict[str, Pipeline]) -> None:
    pipeline = pipelines["ca2-sis"]
    maps = np.stack([street()[0], street(mirrored=True)[0]])
    together = pipeline(segscape.Layout.from_array(maps, CAMVID), seed=3, samples=2)
    alone = [picture for one in maps for picture in pipeline(one, seed=3, samples=2)]
    assert len(together) == 4
    assert all(np.abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(together, alone, strict=True))


def test_stored_clusters_are_the_random_styles_of_pix2pixhd(pipelines: dict[str, Pipeline]) -> None:
    pipeline = pipelines["pix2pixhd"]
    assert not pipeline.model.random_styles
    with pytest.raises(StyleError, match=r"pix2pixhd model has no random styles.*segscape fit-styles"):
        draw(pipeline, samples=2)
    fitted = Pipeline(build_settled("pix2pixhd"), "cpu")
    fitted.model.cluster_counts[:] = 10
    fitted.model.cluster_centres.normal_()
    first, second = draw(fitted, samples=2, seed=0)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", CODES)
def test_each_class_takes_its_style_from_its_own_photo(pipelines: dict[str, Pipeline], name: str) -> None:
    pipeline = pipelines[name]
    base, other = (pipeline.style(reference(pipeline, seed)) for seed in (1, 2))
    mixed = pipeline.mix(base, {"car": reference(pipeline, 2)})
    assert torch.equal(mixed.values[:, CAR], other.values[:, CAR])
    kept = [index for index in range(base.values.shape[1]) if index != CAR]
    assert torch.equal(mixed.values[:, kept], base.values[:, kept])

    everything = {name: reference(pipeline, 2) for name in ("sky", "road")}
    by_name = draw(pipeline, style=everything, seed=0)[0]
    rest = pipeline.random_style(pipeline.read_layout(*street()), seed=0) if pipeline.model.random_styles else None
    rest = rest or pipeline.model.neutral_style(1)
    assert np.array_equal(by_name, draw(pipeline, style=rest.replace_classes(other, [SKY, ROAD]), seed=0)[0])


@pytest.mark.parametrize("name", CODES)
def test_a_class_that_the_photo_lacks_is_neutral(pipelines: dict[str, Pipeline], name: str) -> None:
    pipeline = pipelines[name]
    carless = reference(pipeline, 1, car=ROAD)
    style = pipeline.style(carless)
    assert style.present is not None and not style.present[0, CAR] and style.present[0, ROAD]
    neutral = pipeline.model.neutral_style(1)
    expected = Style(torch.where(style.present.unsqueeze(2), style.values, neutral.values))
    assert np.array_equal(draw(pipeline, style=carless, seed=0)[0], draw(pipeline, style=expected, seed=0)[0])
    with pytest.raises(StyleError, match="given for 'car' has no 'car' in it"):
        draw(pipeline, style={"car": carless})


def test_sean_without_a_style_takes_the_mean_codes(pipelines: dict[str, Pipeline]) -> None:
    pipeline = pipelines["sean"]
    means = Style(pipeline.model.mean_codes.unsqueeze(0))
    assert means.values.abs().max() > 0
    assert np.array_equal(draw(pipeline, seed=0)[0], draw(pipeline, style=means, seed=0)[0])


def test_refusals(pipelines: dict[str, Pipeline], tmp_path: Path) -> None:
    sean, clade, sis = (pipelines[name] for name in ("sean", "clade", "ca2-sis"))
    with pytest.raises(StyleError, match="sean model has no random styles, so 8 samples would be the same picture"):
        draw(sean, samples=8)
    with pytest.raises(StyleError, match="draws no random styles"):
        sean.random_style(sean.read_layout(*street()))
    with pytest.raises(StyleError, match=r"a photo needs its label map.*PHOTO:MAP"):
        sean.style(photo(0))
    with pytest.raises(StyleError, match="no style of its own for each class"):
        draw(clade, style={"car": photo(0)})
    with pytest.raises(LabelMapError, match="no class 'cart'"):
        draw(sis, style={"cart": reference(sis, 1)})
    with pytest.raises(StyleError, match=r"of the kind 'latent', this \S+ model takes 'codes'"):
        draw(sis, style=Style(torch.zeros(1, 4)))
    with pytest.raises(StyleError, match=r"none\.safetensors does not exist"):
        draw(sis, style=tmp_path / "none.safetensors")


def test_an_interpolation_goes_straight_from_one_end_to_the_other(pipelines: dict[str, Pipeline]) -> None:
    pipeline = pipelines["clade"]
    first, last = (pipeline.style(reference(pipeline, seed)) for seed in (1, 2))
    way = interpolated(first, last, 5)
    assert torch.equal(way.values[0], first.values[0]) and torch.equal(way.values[4], last.values[0])
    torch.testing.assert_close(way.values[1], 0.75 * first.values[0] + 0.25 * last.values[0])
    with pytest.raises(StyleError, match="1 frames are too few"):
        interpolated(first, last, 1)
    with pytest.raises(StyleError, match="one for 5 images"):
        interpolated(way, last, 3)


def test_a_random_walk_closes_and_keeps_the_deviation(pipelines: dict[str, Pipeline]) -> None:
    pipeline = pipelines["groupdnet-clade"]
    layout = pipeline.read_layout(*street())
    way = random_walk(pipeline, layout, 40, seed=0).values.flatten(1)
    stops = pipeline.random_style(layout, STOPS, seed=0).values.flatten(1)
    torch.testing.assert_close(way[::10], stops, atol=1e-6, rtol=1e-5)
    steps = (way - way.roll(-1, 0)).norm(dim=1)
    assert steps.max() < 1.3 * steps.min()  # the last step is one as any other
    halfway = (stops[0] + stops[1]) / 2**0.5
    torch.testing.assert_close(way[5], halfway)
    with pytest.raises(StyleError, match="4 or more"):
        random_walk(pipeline, layout, 3)


def test_a_grid_has_a_row_for_each_layout_and_a_column_for_each_style(pipelines: dict[str, Pipeline]) -> None:
    pipeline = pipelines["clade"]
    layouts = [pipeline.read_layout(*street(mirrored)) for mirrored in (False, True)]
    styles = pipeline.random_style(layouts[0], 3, seed=1)
    grid = pixels(style_grid(pipeline, layouts, styles))
    height, width = SIZE
    assert grid.shape == (2 * height + 4, 4 * width + 3 * 4, 3)
    assert np.array_equal(grid[:height, :width], CAMVID.colorize(street()[0]))
    expected = pipeline(layouts[1], style=styles[2], seed=0)[0]
    assert np.array_equal(grid[height + 4 :, 3 * (width + 4) :], pixels(expected))
    assert (grid[:, width : width + 4] == 255).all()


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_move(tmp_path: Path, suffix: str) -> None:
    pictures = [Image.new("RGB", (8, 6), (shade, 0, 0)) for shade in (0, 100, 200)]
    save_animation(pictures, tmp_path / f"walk{suffix}", frames_per_second=5)
    with Image.open(tmp_path / f"walk{suffix}") as file:
        assert (file.n_frames, file.size) == (3, (8, 6))
        file.seek(2)
        file.load()
        assert file.info["duration"] == 200
        assert abs(pixels(file.convert("RGB"))[3, 4, 0] - 200) < 8
    with pytest.raises(StyleError, match=r"\.gif or \.webp"):
        save_animation(pictures, tmp_path / "walk.png")


def test_cells_are_as_large_as_the_largest_picture() -> None:
    grid = paste_grid([[Image.new("RGB", (2, 3))], [Image.new("RGB", (4, 1)), Image.new("RGB", (1, 1))]], gap=1)
    assert grid.size == (9, 7)
    assert (pixels(grid)[0, 2] == 255).all() and (pixels(grid)[4, :4] == 0).all()


def test_an_exported_model_reads_saved_styles_without_torch(pipelines: dict[str, Pipeline], tmp_path: Path) -> None:
    style = pipelines["sean"].style(reference(pipelines["sean"], 1))
    style.save(tmp_path / "style.safetensors")
    exported = object.__new__(OnnxPipeline)  # nothing of the model is needed
    assert np.array_equal(exported.style(str(tmp_path / "style.safetensors")), style.values.numpy())
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("empty", "none"):
        with pytest.raises(StyleError, match=rf"{name}\.safetensors cannot be read as a style"):
            exported.style(tmp_path / f"{name}.safetensors")
