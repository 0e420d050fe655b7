"""`Pipeline`: sizes, styles, instance maps, kinds of input, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segscape.errors import CheckpointError, ConfigError, DataError, LabelMapError, LayoutError, StyleError
from segscape.inference import Pipeline, pipeline, to_pictures
from segscape.label_files import write_label_map
from segscape.labels import LABEL_SETS, LabelSet
from segscape.layout import Layout
from segscape.models import create_model
from segscape.style import Style
from tests.zoo import TINY, build_settled

CAMVID = LABEL_SETS["camvid"]


def build(**options: object) -> Pipeline:
    torch.manual_seed(0)
    model = create_model("clade", labels="camvid", image_size=(64, 64), base_channels=1, **options)
    return Pipeline(model, device="cpu")


@pytest.fixture(scope="module")
def plain() -> Pipeline:
    return build()


@pytest.fixture(scope="module")
def variational() -> Pipeline:
    return build(latent_dim=8)


@pytest.fixture(scope="module")
def instanced() -> Pipeline:
    return build(use_instances=True)


def street(height: int = 40, width: int = 56) -> np.ndarray:
    label_map = np.zeros((height, width), dtype=np.int64)
    label_map[height // 2 :] = CAMVID.index("road")
    label_map[height // 3 : -4, 5:20] = CAMVID.index("car")
    return label_map


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_the_picture_has_the_size_of_any_layout(plain: Pipeline) -> None:
    for height, width in [(64, 64), (1, 1), (33, 31), (40, 97)]:
        (picture,) = plain(street(height, width))
        assert (picture.mode, picture.size) == ("RGB", (width, height))


def test_a_padded_layout_is_cropped_from_the_network_output(plain: Pipeline) -> None:
    layout = plain.read_layout(street(40, 56))
    (picture,) = plain(layout)
    with torch.no_grad():
        image = plain.model(layout.pad(24, 8))
    assert np.array_equal(pixels(picture), pixels(to_pictures(image[..., :40, :56])[0]))


def test_file_array_layout_and_list_give_the_same_picture(plain: Pipeline, tmp_path: Path) -> None:
    write_label_map(tmp_path / "street.png", street(), CAMVID)
    inputs = [tmp_path / "street.png", str(tmp_path / "street.png"), street(), Layout.from_array(street(), CAMVID)]
    pictures = plain(inputs)
    assert len(pictures) == 4
    for picture in pictures[1:]:
        assert np.array_equal(pixels(picture), pixels(pictures[0]))


def test_a_batched_layout_gives_one_picture_per_map(plain: Pipeline) -> None:
    maps = np.stack([street(), street()[::-1]])
    pictures = plain(Layout.from_array(maps, CAMVID))
    alone = plain([maps[0], maps[1]])
    assert [np.abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(pictures, alone, strict=True)] == [True, True]


def test_the_ignore_value_of_an_array_becomes_unknown() -> None:
    labels = CAMVID.model_copy(update={"ignore_value": 255})
    pipeline = Pipeline(create_model("clade", labels=labels, image_size=(64, 64), base_channels=1), device="cpu")
    ignored, unknown = street(), street()
    ignored[:5], unknown[:5] = 255, 11
    assert np.array_equal(pixels(pipeline(ignored)[0]), pixels(pipeline(unknown)[0]))


def test_size_resizes_the_label_map_first(plain: Pipeline) -> None:
    (picture,) = plain(street(), size=(64, 96))
    assert picture.size == (96, 64)
    resized = Layout.from_array(street(), CAMVID).resize((64, 96))
    assert np.array_equal(pixels(picture), pixels(plain(resized)[0]))
    with pytest.raises(LayoutError, match="height, width"):
        plain(street(), size=(0, 4))


def test_styles_are_repeatable_and_differ(variational: Pipeline) -> None:
    first, second = (variational(street(), seed=seed)[0] for seed in (1, 2))
    assert first.size == (56, 40)
    assert np.array_equal(pixels(first), pixels(variational(street(), seed=1)[0]))
    assert not np.array_equal(pixels(first), pixels(second))


def test_samples_of_each_layout_and_the_place_in_the_list(variational: Pipeline) -> None:
    other = street()[:, ::-1].copy()
    pictures = variational([street(), other], seed=3, samples=2)
    assert len(pictures) == 4
    assert np.array_equal(pixels(pictures[3]), pixels(variational(other, seed=3, samples=2)[1]))


def test_a_style_of_several_latents_gives_as_many_pictures(variational: Pipeline) -> None:
    style = Style.sample(3, 8, torch.Generator().manual_seed(0))
    pictures = variational(Layout.from_array(np.stack([street()] * 2), CAMVID), style=style)
    assert len(pictures) == 6
    alone = variational(street(), style=Style(style.values[1:2]))[0]
    assert np.abs(pixels(pictures[1]) - pixels(alone)).max() <= 1
    assert np.abs(pixels(pictures[4]) - pixels(alone)).max() <= 1


def test_a_photo_lends_its_style(variational: Pipeline, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    photo = Image.fromarray(noise)
    photo.save(tmp_path / "photo.png")
    (picture,) = variational(street(), style=photo)
    style = variational.encode(tmp_path / "photo.png")
    assert style.values.shape == (1, 8)
    assert np.array_equal(pixels(picture), pixels(variational(street(), style=style)[0]))
    with pytest.raises(DataError, match=r"missing\.jpg"):
        variational(street(), style=tmp_path / "missing.jpg")


@pytest.mark.parametrize(
    ("style", "samples", "found"),
    [
        (3.5, 1, "not a float"),
        (Style(torch.zeros(1, 5)), 1, r"the style is \[1, 5\], this \S+ model takes \[styles, 8\]"),
        (Style(torch.zeros(1, 2, 8)), 1, r"of the kind 'codes', this \S+ model takes 'latent'"),
        (Style(torch.zeros(1, 8)), 2, "one of the two"),
        (None, 0, "samples is 0"),
    ],
)
def test_wrong_styles(variational: Pipeline, style: object, samples: int, found: str) -> None:
    with pytest.raises(StyleError, match=found):
        variational(street(), style=style, samples=samples)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"style": Style(torch.zeros(1, 8))}, {"style": "photo.png"}, {"samples": 2}])
def test_a_model_without_styles_says_so(plain: Pipeline, options: dict[str, object]) -> None:
    with pytest.raises(StyleError, match="takes no style"):
        plain(street(), **options)  # type: ignore[arg-type]


def test_instance_maps(instanced: Pipeline, tmp_path: Path) -> None:
    ids = (street() == CAMVID.index("car")).astype(np.int64)
    np.save(tmp_path / "ids.npy", ids)
    (picture,) = instanced(street(), instance_maps=ids)
    pair = instanced([street(), street()], instance_maps=[tmp_path / "ids.npy", ids])
    assert all(np.array_equal(pixels(picture), pixels(other)) for other in pair)
    assert np.array_equal(pixels(picture), pixels(instanced(Layout.from_array(street(), CAMVID, ids))[0]))


def test_missing_instance_maps(instanced: Pipeline) -> None:
    with pytest.raises(LayoutError, match=r"instance_maps.*--instances"):
        instanced(street())
    with pytest.raises(LayoutError, match="2 layouts need 2 instance maps, found 1"):
        instanced([street(), street()], instance_maps=[street()])
    with pytest.raises(LayoutError, match="brings its own"):
        instanced(Layout.from_array(street(), CAMVID), instance_maps=street())


def test_layouts_that_do_not_fit(plain: Pipeline) -> None:
    with pytest.raises(LabelMapError, match="200"):
        plain(np.full((8, 8), 200))
    with pytest.raises(LayoutError, match=r"3 classes.*12"):
        plain(Layout.from_array(street() * 0, LabelSet.numbered(3)))
    with pytest.raises(LayoutError, match="'class 0' as class 0, which is 'sky'"):
        plain(Layout.from_array(street(), LabelSet.numbered(12)))
    with pytest.raises(LayoutError, match=r"labels\.indices"):
        plain(np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(LayoutError, match="float"):
        plain(street().astype(float))
    with pytest.raises(LayoutError, match="not a int"):
        plain(7)  # type: ignore[arg-type]


def test_from_pretrained(plain: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain.model.save_pretrained(tmp_path / "model")
    loaded = Pipeline.from_pretrained(tmp_path / "model", device="cpu")
    assert loaded.labels == CAMVID
    assert np.array_equal(pixels(loaded(street())[0]), pixels(plain(street())[0]))
    monkeypatch.setattr(pipeline, "SHIPPED_MODEL", tmp_path / "model")
    assert Pipeline.from_pretrained(device="cpu").labels == CAMVID
    monkeypatch.setattr(pipeline, "SHIPPED_MODEL", tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="--model"):
        Pipeline.from_pretrained()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "meta-data"])
def test_unknown_devices(plain: Pipeline, device: str) -> None:
    with pytest.raises(ConfigError, match="use auto, cpu, cuda"):
        Pipeline(plain.model, device=device)


def test_grey_levels_are_rounded_not_truncated() -> None:
    values = torch.tensor([-1.5, -1.0, 2 * 99.6 / 255 - 1, 2 * 99.4 / 255 - 1, 1.0, 2.0])
    picture = to_pictures(values.view(1, 1, 1, 6).expand(1, 3, 1, 6))[0]
    assert pixels(picture)[0, :, 0].tolist() == [0, 0, 100, 99, 255, 255]


def test_padding_does_not_move_the_positional_encoding() -> None:
    """An object cut by the border must not look larger to the network because the layout was padded."""
    seen: list[Layout] = []
    model = create_model("clade-icpe", labels=CAMVID, image_size=(32, 32), base_channels=1)
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    label_map = np.zeros((40, 50), dtype=np.int64)
    label_map[25:, 10:] = 3
    Pipeline(model, "cpu")(label_map)
    assert seen[0].size == (64, 64)
    expected = Layout.from_array(label_map, CAMVID).position(rule="official")
    assert torch.equal(seen[0].position(rule="official")[..., :40, :50], expected)


@pytest.mark.parametrize("name", TINY)
def test_every_system_draws_odd_sizes_and_repeats_itself(name: str) -> None:
    drawn = Pipeline(build_settled(name), "cpu")
    model = drawn.model.config
    instances = np.arange(37 * 45).reshape(37, 45) // 300 if model.use_instances else None
    (picture,) = drawn(street(37, 45), seed=3, instance_maps=instances)
    (again,) = drawn(street(37, 45), seed=3, instance_maps=instances)
    assert picture.size == (45, 37) and np.array_equal(pixels(picture), pixels(again))
    (other,) = drawn(street(37, 45)[::-1].copy(), seed=3, instance_maps=instances)
    assert pixels(picture).std() > 5 and not np.array_equal(pixels(picture), pixels(other))


def test_what_a_model_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "streets").mkdir()
    monkeypatch.chdir(tmp_path / "streets")
    assert {pipeline.model_title(path) for path in (".", "../streets", tmp_path / "streets")} == {"streets"}
    assert pipeline.model_title("me/streets") == "me/streets"
    assert pipeline.model_title(None) == "shipped model"
