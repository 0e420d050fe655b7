"""The studio's interface: what it draws agrees with `Pipeline`, and what it refuses is one sentence."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from segscape import Pipeline
from segscape.evaluation.agreement.segmenters import SHIPPED_SEGMENTER, open_segmenter
from segscape.inference.pipeline import Reference
from segscape.models import create_model, load_model
from segscape.nn.clade import CLADE
from segscape.nn.noise import AddedNoise
from segscape.studio.engine import Engine, adds_noise, load_engine, unseen_classes
from segscape.studio.limits import Limits
from segscape.studio.server import create_studio
from segscape.studio.study import Study
from tests.studio.studio_requests import CAMVID, HERE, SIZE, photo, pixels, png, save_models, saved, street


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name -> folder of the tiny models."""
    return {Path(path).name: path for path in save_models(tmp_path_factory.mktemp("models"))}


@pytest.fixture(scope="module")
def engine(paths: dict[str, str]) -> Engine:
    return load_engine(list(paths.values()), "cpu")


@pytest.fixture(scope="module")
def client(engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_studio(engine), base_url=HERE) as client:
        yield client


def generate(client: TestClient, model: str = "plain", **form: Any) -> Any:
    """Draw the street; files are bytes, everything else is text."""
    form = {"layout": png(street()), "model": model, **form}
    files = [(name, value) for name, value in form.items() if isinstance(value, bytes)]
    data = {name: value for name, value in form.items() if not isinstance(value, bytes)}
    return client.post("/api/generate", data=data, files=files)


def drawn(client: TestClient, model: str = "plain", **form: Any) -> list[np.ndarray]:
    answer = generate(client, model, **form)
    assert answer.status_code == 200, answer.text
    return [pixels(picture) for picture in answer.json()["pictures"]]


def near(found: np.ndarray, wanted: Image.Image) -> bool:
    """The same but for a grey level, which folding may cost."""
    return bool(np.abs(found.astype(int) - np.asarray(wanted).astype(int)).max() <= 1)


def test_models_are_described(client: TestClient) -> None:
    models = {model["id"]: model for model in client.get("/api/models").json()}
    assert list(models) == ["plain", "latent", "instances", "codes"]
    plain = models["plain"]
    assert (plain["size"], plain["style"], plain["fixed_size"], plain["segmenter"]) == ([32, 32], None, False, True)
    assert plain["labels"]["name"] == "camvid" and plain["labels"]["unknown"] == 11 and plain["unseen"] == []
    assert plain["labels"]["classes"][8] == {"index": 8, "name": "car", "color": [64, 0, 128], "thing": True}
    assert models["latent"]["style"] == {"kind": "latent", "random": True} and models["latent"]["fixed_size"]
    assert models["codes"]["style"] == {"kind": "codes", "random": False}
    assert models["instances"]["use_instances"] and not any(model["noise"] for model in models.values())


def test_pictures_are_those_of_the_pipeline(client: TestClient, paths: dict[str, str]) -> None:
    [plain] = Pipeline.from_pretrained(paths["plain"], "cpu")(street().astype(int))
    [found] = drawn(client)
    assert found.shape == (*SIZE, 3) and near(found, plain)
    assert np.ptp(found) > 20, "a flat picture would prove nothing"
    [other] = drawn(client, layout=png(street().T.copy()))
    assert other.shape == (56, 40, 3)


def test_sizes_and_samples(client: TestClient, paths: dict[str, str]) -> None:
    pipeline = Pipeline.from_pretrained(paths["latent"], "cpu")
    wanted = pipeline(street().astype(int), seed=7, samples=3, size=(32, 64))
    found = drawn(client, "latent", seed="7", samples="3", size="32x64")
    assert len(found) == 3 and all(map(near, found, wanted))
    assert not np.array_equal(found[0], found[1])


def test_a_seed_is_chosen_and_told(client: TestClient) -> None:
    first, second = (generate(client, "latent").json() for _ in range(2))
    assert first["seed"] != second["seed"] and first["pictures"] != second["pictures"]
    assert drawn(client, "latent", seed=str(first["seed"]))[0].tolist() == pixels(first["pictures"][0]).tolist()


def test_the_default_model_is_the_first(client: TestClient) -> None:
    answer = client.post("/api/generate", files={"layout": png(street())})
    assert pixels(answer.json()["pictures"][0]).tolist() == drawn(client)[0].tolist()


def test_a_layout_of_16_bits(client: TestClient) -> None:
    assert drawn(client, layout=png(street().astype(np.uint16)))[0].tolist() == drawn(client)[0].tolist()


def test_the_style_of_a_photo(client: TestClient, paths: dict[str, str]) -> None:
    pipeline, picture = Pipeline.from_pretrained(paths["latent"], "cpu"), Image.open(io.BytesIO(photo()))
    [found] = drawn(client, "latent", style=photo())
    assert near(found, pipeline(street().astype(int), style=picture)[0])
    assert not np.array_equal(found, drawn(client, "latent", style=photo(seed=1))[0])


def test_styles_of_classes(client: TestClient, paths: dict[str, str]) -> None:
    pipeline = Pipeline.from_pretrained(paths["codes"], "cpu")
    layouts = street((24, 32)), np.full((24, 32), 8, dtype=np.uint8)
    photos = [Image.open(io.BytesIO(photo(seed=seed))) for seed in (0, 1)]
    whole, car = (Reference(one, layout.astype(int)) for one, layout in zip(photos, layouts, strict=True))
    files = {"style": photo(), "style_layout": png(layouts[0])}
    more = {"red": photo(seed=1), "red_layout": png(layouts[1])}
    entry = json.dumps({"class": "car", "photo": "red", "layout": "red_layout"})
    cases: list[tuple[dict[str, Any], Any]] = [
        (files, whole),
        ({**more, "class_style": entry}, {"car": car}),
        ({**files, **more, "class_style": entry}, pipeline.mix(whole, {"car": car})),
    ]
    pictures = []
    for form, style in cases:
        [found] = drawn(client, "codes", seed="3", **form)
        assert near(found, pipeline(street().astype(int), style=style, seed=3)[0])
        pictures.append(found.tolist())
    assert pictures[0] != pictures[1] != pictures[2]


def test_a_model_with_instances_takes_each_class_as_one(client: TestClient, paths: dict[str, str]) -> None:
    layout = street().astype(int)
    [wanted] = Pipeline.from_pretrained(paths["instances"], "cpu")(layout, instance_maps=layout)
    assert near(drawn(client, "instances")[0], wanted)


@pytest.mark.parametrize("case", ["plain", "latent", "photo", "codes", "instances"])
def test_the_snippet_draws_the_same(
    client: TestClient, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms: dict[str, dict[str, Any]] = {
        "plain": {"size": "64x32"},
        "latent": {"samples": "2", "seed": "5"},
        "photo": {"model": "latent", "style": photo()},
        "codes": {
            "style": photo(),
            "style_layout": png(street((24, 32))),
            "a": photo(seed=1),
            "b": png(street((24, 32))),
            "class_style": json.dumps({"class": "car", "photo": "a", "layout": "b"}),
        },
        "instances": {},
    }
    form = {"model": case, **forms[case]}
    answer = generate(client, **form).json()
    monkeypatch.chdir(tmp_path)
    names = {"layout": "layout", "style": "style", "style_layout": "style-layout", "a": "car", "b": "car-layout"}
    for field, content in {"layout": png(street()), **form}.items():
        if field in names:
            Path(f"{names[field]}.png").write_bytes(content)
    exec(compile(answer["snippet"], "snippet", "exec"), {})
    for number, picture in enumerate(answer["pictures"]):
        assert near(pixels(picture), Image.open(f"picture-{number}.png"))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"model": "nothing"}, "no such model"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "one"}, "seed"),
        ({"seed": str(2**53)}, "seed"),
        ({"samples": "0"}, "samples"),
        ({"samples": "9"}, "samples"),
        ({"samples": "2"}, "takes no style"),
        ({"size": "32"}, "size"),
        ({"size": "0x32"}, "at least 1"),
        ({"size": "32x32x32"}, "size"),
        ({"size": "\u0663\u0662x32"}, "size"),
        ({"style": photo()}, "takes no style"),
        ({"model": "codes", "style": photo()}, "needs its label map"),
        ({"model": "codes", "class_style": "{"}, "class_style"),
        ({"model": "codes", "class_style": "[]"}, "class_style"),
        ({"model": "codes", "class_style": '{"class": "car", "photo": "a"}'}, "no file"),
        ({"model": "codes", "class_style": '{"class": "car", "photo": "model"}'}, "no file"),
        ({"model": "codes", "a": photo(), "class_style": '{"class": "cart", "photo": "a"}'}, "no class 'cart'"),
        ({"layout": png(np.full(SIZE, 12, dtype=np.uint8))}, "12"),
        ({"layout": photo()}, "JPEG"),
        ({"layout": "street"}, "layout"),
    ],
)
def test_wrong_values_are_refused_in_a_sentence(client: TestClient, form: dict[str, Any], said: str) -> None:
    answer = generate(client, **form)
    assert answer.status_code == 422 and list(answer.json()) == ["error"]
    assert said in answer.json()["error"] and "\n" not in answer.json()["error"]


@pytest.mark.parametrize("client_id", ["a b", "x" * 65, "../x", ""])
def test_odd_clients_are_refused(client: TestClient, client_id: str) -> None:
    answer = client.post("/api/generate", files={"layout": png(street())}, headers={"X-Client": client_id})
    assert answer.status_code == 422


def test_layouts_of_all_kinds_are_read(client: TestClient) -> None:
    palette = Image.fromarray(street())
    palette.putpalette(CAMVID.colors.tobytes())
    kinds = {
        "grey": png(street()),
        "16 bits": png(street().astype(np.uint16)),
        "palette": saved(palette, "PNG"),
        "colours": png(CAMVID.colorize(street())),
    }
    for kind, content in kinds.items():
        answer = client.post("/api/layout", files={"file": content}, data={"model": "plain"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), kind
        assert pixels(answer.content).tolist() == street().tolist(), kind
    wrong = client.post("/api/layout", files={"file": png(np.full((4, 4, 3), 77, dtype=np.uint8))})
    assert wrong.status_code == 422 and "colour" in wrong.json()["error"]


def test_photos_are_segmented(client: TestClient) -> None:
    picture = Image.open(io.BytesIO(photo((60, 80))))
    answer = client.post("/api/segment", files={"photo": photo((60, 80))})
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    small = np.asarray(picture.resize((43, 32), Image.Resampling.BICUBIC))  # as large as the model's training
    network = open_segmenter(SHIPPED_SEGMENTER, "cpu")
    wanted = network(torch.from_numpy(small.copy()).permute(2, 0, 1)[None])[0]
    assert pixels(answer.content).tolist() == wanted.tolist()


def test_a_photo_becomes_a_layout_like_its_own() -> None:
    """With the shipped model and the shipped segmenter: layout, photo, layout."""
    engine = load_engine([], "cpu")
    engine.warm_up()
    client = TestClient(create_studio(engine), base_url=HERE)
    layout = client.get("/api/examples/tree-lined-road.png").content
    answer = client.post("/api/generate", files={"layout": layout}, data={"size": "192x256"}).json()
    photograph = base64.b64decode(answer["pictures"][0])
    found = client.post("/api/segment", files={"photo": photograph})
    wanted = np.asarray(Image.fromarray(pixels(layout)).resize((256, 192), Image.Resampling.NEAREST))
    assert (pixels(found.content) == wanted).mean() > 0.8


def test_a_photo_stands_upright(client: TestClient) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = Image.fromarray(np.zeros((60, 80, 3), dtype=np.uint8))
    answer = client.post("/api/segment", files={"photo": saved(picture, "JPEG", exif=turned)})
    assert pixels(answer.content).shape == (43, 32)


def test_without_a_segmenter(tmp_path: Path) -> None:
    create_model("clade", labels=3, image_size=(32, 32), base_channels=1).save_pretrained(tmp_path / "three")
    client = TestClient(create_studio(load_engine([str(tmp_path / "three")], "cpu")), base_url=HERE)
    assert client.get("/api/models").json()[0]["segmenter"] is False
    answer = client.post("/api/segment", files={"photo": photo()})
    assert answer.status_code == 501 and "segmenter" in answer.json()["error"]
    assert client.get("/api/examples").json() == []


def test_examples(client: TestClient) -> None:
    examples = client.get("/api/examples").json()
    folder = Path(__file__).parents[2] / "examples" / "layouts"
    assert {example["name"] for example in examples} == {path.stem for path in folder.glob("*.png")}
    for example in examples:
        answer = client.get(example["url"])
        assert answer.headers["content-type"] == "image/png"
        assert pixels(answer.content).tolist() == np.asarray(Image.open(folder / f"{example['name']}.png")).tolist()
    assert client.get("/api/examples/nothing.png").status_code == 404


def test_classes_that_training_never_saw() -> None:
    model = create_model("clade", labels="camvid", image_size=(32, 32), base_channels=1)
    assert unseen_classes(model) == (), "fresh tables tell nothing"
    for norm in model.modules():
        if isinstance(norm, CLADE):
            norm.beta.data.normal_()
            norm.beta.data[[2, 9]] = 0
    assert unseen_classes(model) == (2, 9)
    next(norm for norm in model.modules() if isinstance(norm, CLADE)).beta.data[9] = 1
    assert unseen_classes(model) == (2,)


def test_noise_is_told_by_its_weights(tmp_path: Path) -> None:
    """SEAN's weights of the noise are zeros at first: no seed changes its pictures until one of them is another."""
    model = load_model(save_models(tmp_path)[3])
    assert not adds_noise(model)
    noise = next(layer for layer in model.modules() if isinstance(layer, AddedNoise))
    noise.weight.data[0] = 0.1
    assert adds_noise(model) and not adds_noise(load_model(tmp_path / "plain"))


def test_warming_up_is_done_where_pictures_are_drawn(paths: dict[str, str]) -> None:
    engine, threads = load_engine([paths["plain"]], "cpu"), []
    pipeline = engine.default.pipeline
    hook = pipeline.model.register_forward_pre_hook(lambda *_: threads.append(threading.current_thread().name))
    engine.warm_up()
    drawn(TestClient(create_studio(engine), base_url=HERE))
    hook.remove()
    assert len(threads) == 2 and len(set(threads)) == 1 and threads[0].startswith("segscape-network")


def test_models_of_one_name_have_ids_of_their_own(paths: dict[str, str]) -> None:
    assert list(load_engine([paths["plain"], paths["plain"]], "cpu").models) == ["plain", "plain 2"]


def test_models_are_called_as_their_folders(paths: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paths["plain"])
    (model,) = load_engine(["."], "cpu").models.values()
    assert (model.id, model.name) == ("plain", "plain")


def test_only_so_many_pixels_are_drawn(engine: Engine) -> None:
    client = TestClient(create_studio(engine, limits=Limits(drawn=64 * 64)), base_url=HERE)
    assert generate(client, size="64x64").status_code == 200
    for form in ({"size": "64x65"}, {"layout": png(street((65, 64)))}, {"model": "latent", "samples": "4"}):
        answer = generate(client, **form)
        assert answer.status_code == 413 and "too large" in answer.json()["error"]


def test_the_survey_lives_in_the_same_server(engine: Engine, study: Study) -> None:
    client = TestClient(create_studio(engine, survey=study.folder), base_url=HERE)
    assert "more realistic" in client.get("/survey").text
    assert client.get("/survey.js").status_code == 200
    pairs = client.get("/api/pairs", params={"rater": "anna"}).json()["pairs"]
    assert client.get(pairs[0]["left"]).headers["content-type"] == "image/png"
    vote = {"rater": "anna", "item": 0, "choice": "left", "seconds": 1}
    assert client.post("/api/votes", json=vote).json() == {"answered": 1, "total": 6}
    assert generate(client).status_code == 200
    assert TestClient(create_studio(engine), base_url=HERE).get("/survey").status_code == 404


def test_the_interface_is_described(client: TestClient) -> None:
    description = client.get("/api/openapi.json").json()
    assert {"/api/models", "/api/generate", "/api/layout", "/api/segment", "/api/examples"} <= set(description["paths"])
    answers = description["paths"]["/api/generate"]["post"]["responses"]
    assert {"200", "401", "409", "413", "415", "422", "429", "503"} <= set(answers)
    assert answers["429"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
