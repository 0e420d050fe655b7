"""All scores of one set of pictures, against computations that share no code with them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor

from segscape.data.folder import FolderDataset
from segscape.data.open import open_pairs
from segscape.data.sample import collate
from segscape.data.transforms import Preprocess
from segscape.data.view import TrainingView
from segscape.errors import DataError, EvaluationError, LabelMapError, LayoutError
from segscape.evaluation.agreement.mapping import ClassMapping
from segscape.evaluation.agreement.segmenters import CallableSegmenter
from segscape.evaluation.diversity.lpips import PerceptualDistance, lite0_distance
from segscape.evaluation.evaluate import DiversityPlan, Evaluation, Judge, _require_readable, evaluate, spread
from segscape.evaluation.fidelity.extractors import MetricNames
from segscape.evaluation.fidelity.reference import open_reference
from segscape.evaluation.processes import Processes
from segscape.evaluation.protocol import PROTOCOLS, Protocol
from segscape.evaluation.sources import FolderPictures, ModelPictures, PictureSource
from segscape.inference import Pipeline
from segscape.labels import LABEL_SETS
from segscape.models import create_model
from tests.zoo import build_settled

SCENES = LABEL_SETS["scenes"]
SIZE = (32, 64)


class Thumbnail:
    """Features that numpy can compute: the picture averaged over 2 x 2 blocks of a quarter of its size."""

    names = MetricNames.through("Thumbnail")
    description = "thumbnail"
    dimensions = 12

    def __call__(self, images: Tensor) -> Tensor:
        blocks = images.float().unflatten(3, (2, -1)).unflatten(2, (2, -1))
        return blocks.mean((3, 5)).flatten(1)


def brightness(images: Tensor) -> Tensor:
    """A segmenter: thirds of the brightness are sky, tree and road."""
    return images.float().mean(1).div(256 / 3).long().clamp(0, 2)


@dataclass(frozen=True)
class Difference:
    """The mean absolute difference of two pictures in grey levels."""

    name: str = "difference"
    description: str = "by hand"

    def embed(self, images: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        return [images.float() if mask is None else images.float() * mask]

    def compare(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        return (a[0] - b[0]).abs().mean((1, 2, 3))

    def __call__(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.compare(self.embed(a, mask), self.embed(b, mask))


BRIGHTNESS = CallableSegmenter(brightness, ("road", "tree", "sky"), "brightness")


@pytest.fixture
def val(pairs: Path) -> FolderDataset:
    return open_pairs(pairs, SCENES, "val")


@pytest.fixture(scope="module")
def models() -> Iterator[dict[str, Pipeline]]:
    torch.manual_seed(0)
    options: dict[str, dict[str, object]] = {"plain": {"position": "modulation"}, "styles": {"latent_dim": 4}}
    yield {
        name: Pipeline(create_model("clade", labels="scenes", image_size=SIZE, base_channels=1, **option), "cpu")
        for name, option in options.items()
    }


def run(
    source: PictureSource,
    val: FolderDataset,
    pairs: Path,
    *,
    protocol: Protocol = PROTOCOLS["clade"],
    distance: PerceptualDistance | None = None,
    batch_size: int = 2,
    keep: Path | None = None,
    reference: str = "train",
) -> Evaluation:
    found = evaluate(
        source,
        val,
        protocol=protocol,
        size=SIZE,
        reference=open_reference(reference, pairs, SCENES),
        extractor=Thumbnail(),
        judge=Judge(BRIGHTNESS, ClassMapping.by_name(BRIGHTNESS.classes, SCENES)),
        diversity=None if distance is None else DiversityPlan(distance, layouts=2, pictures=3),
        batch_size=batch_size,
        cache=pairs / "cache",
        keep=keep,
    )
    assert found is not None
    return found


def scores(evaluation: Evaluation) -> dict[str, float]:
    return {score.name: score.value for score in evaluation.report.scores}


def test_scores_agree_with_numpy(models: dict[str, Pipeline], val: FolderDataset, pairs: Path, tmp_path: Path) -> None:
    source = ModelPictures(models["plain"], PROTOCOLS["clade"], "tiny")
    found = scores(run(source, val, pairs, keep=tmp_path))

    def resized(path: Path, resample: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.open(path).resize((SIZE[1], SIZE[0]), resample))

    def features(images: list[np.ndarray]) -> np.ndarray:
        blocks = [[i[:16, :32], i[:16, 32:], i[16:, :32], i[16:, 32:]] for i in images]
        return np.array([np.stack([b.mean((0, 1)) for b in four], axis=1).ravel() for four in blocks])

    generated = [np.asarray(Image.open(tmp_path / f"{index}.png")) for index in range(6)]
    real = [resized(pairs / "train" / "images" / f"{i}.png", Image.Resampling.BICUBIC) for i in range(7)]
    a, b = features(generated), features(real)
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    distance = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert found["FD-Thumbnail"] == pytest.approx(distance, rel=1e-4)

    names = {0: "road", 1: "tree", 2: "sky"}
    hits, unions, right, total = dict.fromkeys(names, 0), dict.fromkeys(names, 0), 0, 0
    for index, image in enumerate(generated):
        truth = resized(pairs / "val" / "labels" / f"{index}.png", Image.Resampling.NEAREST)
        guess = np.minimum(image.astype(np.float32).mean(2) // (256 / 3), 2)
        scored = np.isin(truth, [SCENES.index(name) for name in names.values()])
        for own, name in names.items():
            true, found_here = scored & (truth == SCENES.index(name)), scored & (guess == own)
            hits[own] += int((true & found_here).sum())
            unions[own] += int((true | found_here).sum())
        right += sum(int((scored & (guess == own) & (truth == SCENES.index(n))).sum()) for own, n in names.items())
        total += int(scored.sum())
    present = [own for own in names if unions[own]]
    assert found["accuracy"] == pytest.approx(100 * right / total, abs=1e-9)
    assert found["mIoU"] == pytest.approx(100 * np.mean([hits[o] / unions[o] for o in present]), abs=1e-9)


def test_real_photos_reach_the_ceiling_and_have_no_distance_to_themselves(val: FolderDataset, pairs: Path) -> None:
    source = FolderPictures(pairs / "val" / "images", val.names, SIZE)
    evaluation = run(source, val, pairs, reference="val")
    found = scores(evaluation)
    assert found["mIoU"] == found["mIoU (real images)"] > 0
    assert found["accuracy"] == found["accuracy (real images)"] > 0
    assert found["FD-Thumbnail"] == pytest.approx(0, abs=1e-6)
    assert [found[f"{kind}-Thumbnail"] for kind in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert all(one.iou == one.ceiling for one in evaluation.report.classes)


@pytest.mark.parametrize("kind", ["plain", "styles"])
def test_neither_batches_nor_repetition_change_a_score(
    models: dict[str, Pipeline], val: FolderDataset, pairs: Path, kind: str
) -> None:
    source = ModelPictures(models[kind], PROTOCOLS["clade"], kind)
    first, again, other = (run(source, val, pairs, batch_size=size).report for size in (2, 2, 5))
    assert first.scores == again.scores == other.scores
    assert first.classes == other.classes


def test_what_is_left_out_is_said(models: dict[str, Pipeline], val: FolderDataset, pairs: Path) -> None:
    evaluation = run(ModelPictures(models["plain"], PROTOCOLS["clade"], "tiny"), val, pairs)
    (warning,) = evaluation.report.warnings
    assert "no counterpart" in warning and "building" in warning
    (score,) = (score for score in evaluation.report.scores if score.name == "mIoU")
    assert "clade/1" in score.protocol and "brightness" in score.protocol and "building" in score.protocol
    assert {one.name for one in evaluation.report.classes if one.iou is not None} <= {"sky", "tree", "road"}


def test_cases_are_ordered_by_agreement(models: dict[str, Pipeline], val: FolderDataset, pairs: Path) -> None:
    evaluation = run(ModelPictures(models["plain"], PROTOCOLS["clade"], "tiny"), val, pairs)
    worst, best = ([case.accuracy for case in cases] for cases in (evaluation.worst, evaluation.best))
    assert len(evaluation.grid) == 6 and len(worst) == len(best) == 3
    everything = sorted(case.accuracy for case in evaluation.grid)  # six layouts: the grid shows them all
    assert worst == everything[:3] and best == everything[::-1][:3]


def test_diversity_is_measured_where_there_are_styles(
    models: dict[str, Pipeline], val: FolderDataset, pairs: Path
) -> None:
    distance = lite0_distance(torch.device("cpu"))
    plain = run(ModelPictures(models["plain"], PROTOCOLS["product"], "plain"), val, pairs, distance=distance)
    styled = run(ModelPictures(models["styles"], PROTOCOLS["product"], "styled"), val, pairs, distance=distance)
    assert not [score for score in plain.report.scores if score.group == "diversity"] and not plain.samples
    found = scores(styled)
    assert found["diversity (PD-EfficientNetLite0)"] > 0
    assert found["mCSD (PD-EfficientNetLite0)"] > 0 and found["mOCD (PD-EfficientNetLite0)"] > 0
    assert [len(pictures) for _, pictures in styled.samples] == [3, 3, 3]


def codes_model(name: str, **options: object) -> Pipeline:
    model = build_settled(name, labels="scenes", image_size=SIZE, use_instances=False, **options)
    return Pipeline(model, "cpu")


def test_each_class_is_resampled_by_itself_where_it_has_a_style(val: FolderDataset, pairs: Path) -> None:
    """The pictures of a class differ from those of draw 0 by its code alone; the distance is the mean difference."""
    pipeline = codes_model("groupdnet-clade")
    source = ModelPictures(pipeline, PROTOCOLS["product"], "codes")
    assert source.multimodal and source.by_class
    found = run(source, val, pairs, distance=Difference())
    text = {score.name.split()[0]: score.protocol for score in found.report.scores}
    assert "each class resampled by itself" in text["mCSD"] and "resampled" not in text["diversity"]

    view = TrainingView(val, Preprocess(mode="fixed", crop_size=SIZE))
    inside: dict[int, list[float]] = {}
    for index in (0, 5):  # of six layouts, the two that the plan takes
        batch = collate([view[index, 0]], SCENES)
        draws = [source._style(batch.layout, batch.images, [index], draw) for draw in range(3)]
        label_map = batch.layout.label_map[0]
        for one in set(label_map.unique().tolist()) - {SCENES.unknown}:
            styles = [draws[0].replace_classes(draw, [one]) for draw in draws]
            images = torch.cat([pipeline.model(batch.layout, style).detach() for style in styles])
            grey = torch.from_numpy(source.protocol.quantize(images)).permute(0, 3, 1, 2).float() * (label_map == one)
            pairs_of = itertools.combinations(grey, 2)
            inside.setdefault(one, []).append(float(np.mean([(a - b).abs().mean() for a, b in pairs_of])))
    expected = np.mean([np.mean(values) for values in inside.values()])
    assert expected > 0.1
    assert scores(found)["mCSD (difference)"] == pytest.approx(expected, rel=1e-4)


def test_random_styles_that_are_not_normal_count_only_where_they_are_drawn(val: FolderDataset, pairs: Path) -> None:
    pipeline = codes_model("ca2-sis", random_styles=True)
    drawn, encoded = (ModelPictures(pipeline, PROTOCOLS[name], name) for name in ("product", "clade"))
    assert drawn.multimodal and not encoded.multimodal
    assert scores(run(drawn, val, pairs, distance=Difference()))["diversity (difference)"] > 0.1
    sean = ModelPictures(codes_model("sean"), PROTOCOLS["product"], "sean")
    assert not sean.multimodal
    batch = collate([TrainingView(val, Preprocess(mode="fixed", crop_size=SIZE))[1, 0]], SCENES)
    assert np.array_equal(sean(batch, [1]), sean(batch, [1]))  # its noise, too, belongs to its image
    assert not np.array_equal(sean(batch, [1]), sean(batch, [2]))


def test_a_style_belongs_to_its_image(models: dict[str, Pipeline], val: FolderDataset, pairs: Path) -> None:
    a = run(ModelPictures(models["styles"], PROTOCOLS["product"], "a"), val, pairs)
    changed = PROTOCOLS["product"].model_copy(update={"seed": 1})
    b = run(ModelPictures(models["styles"], changed, "b"), val, pairs, protocol=changed)
    c = run(ModelPictures(models["styles"], PROTOCOLS["clade"], "c"), val, pairs)
    pictures = [np.stack([case.generated for case in evaluation.grid]) for evaluation in (a, b, c)]
    assert not np.array_equal(pictures[0], pictures[1])  # another seed
    assert not np.array_equal(pictures[0], pictures[2])  # styles from the photos


def test_statistics_give_the_frechet_distance_alone(
    models: dict[str, Pipeline], val: FolderDataset, pairs: Path, tmp_path: Path
) -> None:
    from segscape.evaluation.fidelity.distances import FeatureStatistics
    from segscape.evaluation.fidelity.reference import read_resized

    files = open_pairs(pairs, SCENES, "train").image_files.values()
    images = np.stack([read_resized(file, SIZE) for file in files])
    features = Thumbnail()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    FeatureStatistics.from_features(features).save(tmp_path / "real.npz")
    source = ModelPictures(models["plain"], PROTOCOLS["clade"], "tiny")
    direct = scores(run(source, val, pairs))
    evaluation = run(source, val, pairs, reference=str(tmp_path / "real.npz"))
    assert scores(evaluation)["FD-Thumbnail"] == pytest.approx(direct["FD-Thumbnail"], rel=1e-9)
    assert "KD-Thumbnail" not in scores(evaluation)
    assert any("only the Frechet distance" in warning for warning in evaluation.report.warnings)


def test_a_size_that_the_model_cannot_make_is_refused(models: dict[str, Pipeline]) -> None:
    plain = ModelPictures(models["plain"], PROTOCOLS["clade"], "tiny")
    with pytest.raises(LayoutError, match=r"multiples of 32, not 40x64: give --size 32x64"):
        plain.require_size((40, 64))
    styles = ModelPictures(models["styles"], PROTOCOLS["clade"], "tiny")
    with pytest.raises(LayoutError, match="works at 32x64 only, not at 64x64"):
        styles.require_size((64, 64))


def test_one_pair_has_no_statistics(models: dict[str, Pipeline], pairs: Path, tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "0.png").write_bytes((pairs / "val" / kind / "0.png").read_bytes())
    source = ModelPictures(models["plain"], PROTOCOLS["clade"], "tiny")
    with pytest.raises(EvaluationError, match="hold 1 pair"):
        evaluate(source, open_pairs(tmp_path, SCENES, "val"), protocol=PROTOCOLS["clade"], size=SIZE)


def test_a_reference_that_cannot_serve_is_found_before_anything_is_made(val: FolderDataset, pairs: Path) -> None:
    from segscape.evaluation.fidelity.distances import FeatureStatistics
    from segscape.evaluation.fidelity.reference import Reference

    source = FolderPictures(pairs / "val" / "images", val.names, SIZE)
    one = Reference("one", (pairs / "val" / "images" / "0.png",))
    other = FeatureStatistics(np.zeros(3), np.eye(3), 10)
    for reference, message in ((one, "holds one image"), (other, "have 3 dimensions, the features 12")):
        with pytest.raises(EvaluationError, match=message):
            evaluate(
                source,
                val,
                protocol=PROTOCOLS["clade"],
                size=SIZE,
                reference=reference,
                extractor=Thumbnail(),
            )


def test_a_damaged_file_is_found_before_anything_is_made(
    models: dict[str, Pipeline], val: FolderDataset, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(pairs / "val", tmp_path / "val")
    made = ModelPictures(models["plain"], PROTOCOLS["clade"], "tiny")
    read = FolderPictures(tmp_path / "val" / "images", val.names, SIZE)
    seen: list[int] = []
    monkeypatch.setattr(ModelPictures, "__call__", lambda *_: seen.append(1))
    monkeypatch.setattr(FolderPictures, "__call__", lambda *_: seen.append(1))
    photo, label_map = (tmp_path / "val" / kind / "5.png" for kind in ("images", "labels"))
    photo.write_bytes(photo.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"images/5\.png"):
        run(read, val, pairs)
    with pytest.raises(DataError, match=r"images/5\.png"):
        run(made, open_pairs(tmp_path, SCENES, "val"), pairs)
    Image.fromarray(np.full((48, 64), 99, np.uint8)).save(label_map)
    with pytest.raises(LabelMapError, match=r"labels/5\.png"):
        _require_readable(made, FolderDataset(None, label_map.parent, SCENES), Processes())
    assert not seen


def test_a_model_of_damaged_weights_is_not_measured(pairs: Path, val: FolderDataset) -> None:
    model = create_model("clade", labels="scenes", image_size=SIZE, base_channels=1)
    with torch.no_grad():
        next(weight for weight in model.parameters() if weight.ndim == 4).fill_(float("nan"))
    with pytest.raises(EvaluationError, match="broken gave values that are not finite for '0'"):
        run(ModelPictures(Pipeline(model, "cpu"), PROTOCOLS["clade"], "broken"), val, pairs)


def test_spread_covers_both_ends() -> None:
    assert spread(101, 6) == [0, 20, 40, 60, 80, 100]
    assert spread(3, 6) == [0, 1, 2] and spread(1, 6) == [0]
