"""Making, continuing and refusing studies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segscape.errors import DataError, EvaluationError
from segscape.inference import Pipeline
from segscape.layout import Layout
from segscape.models import create_model
from segscape.studio.study import KINDS, Study, StudyRequest, prepare_study
from tests.studio.conftest import COLOURS, NAMES, SIZE, write_picture


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def save_model(folder: Path, seed: int, **options: object) -> Path:
    torch.manual_seed(seed)
    create_model("clade", **{"labels": 2, "image_size": (32, 32), "base_channels": 1, **options}).save_pretrained(
        folder
    )
    return folder


def test_pictures_of_other_codes_are_copied_by_name(study: Study) -> None:
    assert len(study.plan.items) == 6 and set(study.plan.items) < set(NAMES)
    assert study.missing() == []
    for item in study.plan.items:
        for side, colour in COLOURS.items():
            found = pixels(study.picture(side, item))  # type: ignore[arg-type]
            assert found.shape == (*SIZE, 3) and (found == colour).all()
        split_row = int(item[-2:])
        layout = pixels(study.picture("layouts", item))
        assert (layout[:split_row] != layout[-1]).any() if split_row else (layout == layout[0]).all()


def test_the_seed_alone_chooses_the_items(pictures: Path, request_of_six: StudyRequest, study: Study) -> None:
    chosen = []
    for number, seed in enumerate((0, 1)):
        folder = pictures / f"again{number}"
        folder.mkdir()
        chosen.append(prepare_study(folder, replace(request_of_six, seed=seed)).plan.items)
    assert chosen[0] == study.plan.items
    assert chosen[1] != study.plan.items


def test_existing_pictures_are_kept(request_of_six: StudyRequest, study: Study) -> None:
    first, second = study.plan.items[:2]
    write_picture(study.picture("a", first), (1, 2, 3))
    study.picture("b", second).unlink()
    assert study.missing() == [second]
    continued = prepare_study(study.folder, replace(request_of_six, labels=2))
    assert continued.plan == study.plan and continued.missing() == []
    assert (pixels(study.picture("a", first)) == (1, 2, 3)).all()
    assert (pixels(study.picture("b", second)) == COLOURS["b"]).all()


def test_a_finished_study_goes_on_without_its_data(request_of_six: StudyRequest, study: Study) -> None:
    assert prepare_study(study.folder, replace(request_of_six, data=None, labels=None)).plan == study.plan


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 3}, "with --seed 0, not 3"),
        ({"items": 5}, "with --items 6, not 5"),
        ({"size": (16, 16)}, "with --size that of the files, not 16x16"),
        ({"data": Path("elsewhere")}, "--data"),
        ({"a": "elsewhere"}, "A is now elsewhere"),
    ],
)
def test_another_study_is_refused(
    study: Study, request_of_six: StudyRequest, change: dict[str, object], named: str
) -> None:
    before = (study.folder / "study.json").read_bytes()
    with pytest.raises(EvaluationError, match="choose another --out") as refused:
        prepare_study(study.folder, replace(request_of_six, **change))  # type: ignore[arg-type]
    assert named in str(refused.value)
    assert (study.folder / "study.json").read_bytes() == before


def test_swapped_sides_are_refused(pictures: Path, study: Study) -> None:
    study.require_sources(str(pictures / "a"), str(pictures / "b"))
    with pytest.raises(EvaluationError, match="in the same order"):
        study.require_sources(str(pictures / "b"), str(pictures / "a"))


def test_models_draw_what_the_pipeline_draws(pictures: Path) -> None:
    models = [save_model(pictures / f"model{seed}", seed) for seed in (1, 2)]
    out = pictures / "models"
    out.mkdir()
    study = prepare_study(out, StudyRequest(*map(str, models), pictures / "data", items=3), "cpu")
    assert study.plan.size == (32, 32) and study.titles == ("model1", "model2")
    item = study.plan.items[1]
    label_map = np.zeros(SIZE, dtype=np.int64)
    label_map[int(item[-2:]) :] = 1
    for side, folder in zip(("a", "b"), models, strict=True):
        pipeline = Pipeline.from_pretrained(folder, "cpu")
        (expected,) = pipeline(Layout.from_array(label_map, pipeline.labels), size=(32, 32))
        assert (pixels(study.picture(side, item)) == np.asarray(expected)).all()  # type: ignore[arg-type]


def test_a_style_belongs_to_its_layout(pictures: Path) -> None:
    model = save_model(pictures / "styles", 1, latent_dim=4)
    found = []
    for items in (2, 4):
        out = pictures / f"styles-{items}"
        out.mkdir()
        study = prepare_study(out, StudyRequest(str(model), str(model), pictures / "data", items=items), "cpu")
        assert all((pixels(study.picture("a", i)) == pixels(study.picture("b", i))).all() for i in study.plan.items)
        found.append({item: pixels(study.picture("a", item)) for item in study.plan.items})
    common = found[0].keys() & found[1].keys()
    assert common
    assert all((found[0][item] == found[1][item]).all() for item in common)


def test_a_changed_model_is_refused(pictures: Path) -> None:
    model, out = save_model(pictures / "model", 1), pictures / "changed"
    out.mkdir()
    request = StudyRequest(str(model), str(pictures / "b"), pictures / "data", items=2)
    study = prepare_study(out, request, "cpu")
    assert study.plan.size is None and pixels(study.picture("a", study.plan.items[0])).shape == (*SIZE, 3)
    save_model(pictures / "model", 2)
    with pytest.raises(EvaluationError, match=r"model .* \(A\) has changed"):
        prepare_study(out, request, "cpu")


def test_a_study_that_moved_goes_on(pictures: Path) -> None:
    """With its models, which are known by their digests; and without them, by the paths that they had."""
    models, out = [save_model(pictures / f"model{seed}", seed) for seed in (1, 2)], pictures / "early"
    out.mkdir()
    request = StudyRequest(*map(str, models), pictures / "data", items=2)
    plan = prepare_study(out, request, "cpu").plan
    moved = [str(model.rename(pictures / f"moved{number}")) for number, model in enumerate(models)]
    folder = out.rename(pictures / "late")
    for a, b in (moved, (plan.a, plan.b)):
        assert prepare_study(folder, replace(request, a=a, b=b), "cpu").plan == plan
    with pytest.raises(EvaluationError, match="in the same order"):
        prepare_study(folder, replace(request, a=moved[1], b=moved[0]), "cpu")


def test_all_pictures_have_the_size_that_is_asked_for(pictures: Path, request_of_six: StudyRequest) -> None:
    out = pictures / "sized"
    out.mkdir()
    study = prepare_study(out, replace(request_of_six, size=(12, 20)))
    shapes = {pixels(study.picture(kind, item)).shape for kind in KINDS for item in study.plan.items}
    assert shapes == {(12, 20, 3)}


def test_files_of_two_sizes_need_a_size(pictures: Path, request_of_six: StudyRequest) -> None:
    for name in NAMES:
        write_picture(pictures / "b" / f"{name}.png", COLOURS["b"], (48, 72))
    out = pictures / "two-sizes"
    out.mkdir()
    with pytest.raises(EvaluationError, match="are 24x36 and 48x72: say with --size"):
        prepare_study(out, request_of_six)
    assert prepare_study(out, replace(request_of_six, size=SIZE)).missing() == []  # as the message says


@pytest.mark.parametrize("gone", ["a", "b", "data"])
def test_what_has_gone_since_the_study_was_made_is_named(
    pictures: Path, request_of_six: StudyRequest, study: Study, gone: str
) -> None:
    item = study.plan.items[0]
    study.picture("b", item).unlink()
    for path in pictures.glob(f"{gone}/**/{item}.png"):
        path.unlink()
    with pytest.raises(DataError, match=rf"shows {item}, which is no longer in {pictures / gone}: put it back"):
        prepare_study(study.folder, request_of_six)


def test_models_of_two_sizes_need_a_size(pictures: Path) -> None:
    models = [save_model(pictures / f"m{side}", 1, image_size=(side, side)) for side in (32, 64)]
    out = pictures / "two-models"
    out.mkdir()
    with pytest.raises(EvaluationError, match="32x32 and B at 64x64"):
        prepare_study(out, StudyRequest(*map(str, models), pictures / "data", items=2), "cpu")


def test_too_few_pictures(pictures: Path, request_of_six: StudyRequest) -> None:
    out = pictures / "few"
    out.mkdir()
    for name in NAMES[:3]:
        (pictures / "b" / f"{name}.png").unlink()
    with pytest.raises(
        DataError, match=r"has 8 layouts in val, 5 of them with pictures of A and B, fewer than --items 6"
    ):
        prepare_study(out, request_of_six)
    assert not (out / "study.json").exists()
    assert set(prepare_study(out, replace(request_of_six, items=5)).plan.items) == set(NAMES[3:])


def test_missing_arguments_are_named(pictures: Path, request_of_six: StudyRequest) -> None:
    with pytest.raises(EvaluationError, match="--data"):
        prepare_study(pictures / "none", replace(request_of_six, data=None))
    with pytest.raises(EvaluationError, match="--labels"):
        prepare_study(pictures / "none", replace(request_of_six, labels=None))


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}', "{"])
def test_a_damaged_study_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(EvaluationError, match="cannot be read as a study"):
        Study.open(tmp_path)


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="holds no study"):
        Study.open(tmp_path)


def test_the_plan_is_plain_json(study: Study) -> None:
    content = json.loads((study.folder / "study.json").read_text())
    assert content["a"].endswith("/a") and content["split"] == "val" and content["items"] == list(study.plan.items)
