from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image

from segscape.data.open import open_pairs
from segscape.data.sample import Sample, image_tensor
from segscape.errors import ConfigError, DataError, TrainingError
from segscape.evaluation.agreement.unet import UNet
from segscape.labels import LABEL_SETS, LabelSet
from segscape.training import segmenter
from segscape.training.segmenter import IGNORED, Augmentation, class_weights, train_segmenter

CAMVID = LABEL_SETS["camvid"]


class Samples:
    """A dataset of the samples given."""

    def __init__(self, *samples: Sample, labels: LabelSet = CAMVID) -> None:
        self.samples, self.labels = samples, labels

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> Sample:
        return self.samples[index]


def train(pairs: Path, run: Path, **options: Any) -> Path:
    defaults = {"encoder": "plain", "base_channels": 2, "size": (32, 32), "images": 8, "batch_size": 2, "log_images": 2}
    return train_segmenter(open_pairs(pairs, CAMVID, "train"), run, **{**defaults, **options})


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_and_is_scored(pairs: Path, tmp_path: Path) -> None:
    """Bands of one colour per class: a short run must get them nearly right."""
    val = open_pairs(pairs, CAMVID, "val")
    run = tmp_path / "run"
    folder = train(pairs, run, images=200, batch_size=2, base_channels=4, learning_rate=0.02, val=val)
    assert folder == run / "model"
    metrics = lines(run)
    assert metrics[-1]["cross_entropy"] < 0.3 * metrics[0]["cross_entropy"]
    scores = json.loads((run / "scores.json").read_text())
    model, hits, pixels, classes = UNet.from_pretrained(folder), 0, 0, set()
    for index in range(len(val)):
        sample = val.sample(index)
        rows, columns = ((np.arange(32) + 0.5) * np.array(sample.size)[:, None] / 32).astype(int)
        labels = sample.label_map[rows][:, columns]
        photo = np.asarray(Image.fromarray(sample.image).resize((32, 32), Image.Resampling.BICUBIC))
        with torch.inference_mode():
            found = model(image_tensor(photo)[None]).argmax(1)[0].numpy()
        hits, pixels = hits + (found == labels).sum(), pixels + labels.size
        classes |= set(labels.ravel().tolist()) | set(found.ravel().tolist())
    assert scores["accuracy"] == pytest.approx(hits / pixels) and scores["accuracy"] > 0.85
    assert scores["pixels"] == pixels and scores["photographs"] == 5 and scores["size"] == [32, 32]
    assert list(scores["iou"]) == [CAMVID.names[index] for index in sorted(classes - {11})]
    assert scores["mean_iou"] == pytest.approx(np.mean(list(scores["iou"].values())))


def test_the_same_seed_trains_the_same_network(pairs: Path, tmp_path: Path) -> None:
    runs = [(tmp_path / str(number), {"seed": seed}) for number, seed in enumerate((1, 1, 2))]
    first, again, other = (UNet.from_pretrained(train(pairs, run, **options)).state_dict() for run, options in runs)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["head.weight"], other["head.weight"])
    values = [[(line["images"], line["cross_entropy"]) for line in lines(tmp_path / name)] for name in ("0", "1")]
    assert values[0] == values[1]
    assert [images for images, _ in values[0]] == [2, 4, 6, 8]


def test_the_rate_rises_and_falls(pairs: Path, tmp_path: Path) -> None:
    train(pairs, tmp_path, images=80, learning_rate=0.01)
    rates = [line["learning_rate"] for line in lines(tmp_path)]
    top = rates.index(max(rates))
    assert 0 < top < 5 and rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[top] == pytest.approx(0.01, rel=0.01) and 0 < rates[-1] < 1e-4


def test_the_pretrained_encoder(pairs: Path, tmp_path: Path) -> None:
    model = UNet.from_pretrained(train(pairs, tmp_path, encoder="efficientnet-lite0", images=2))
    assert model.config.encoder == "efficientnet-lite0" and model.config.image_size == (32, 32)


def test_ctrl_c_saves_what_there_is(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = segmenter._batches

    def interrupted(*arguments: Any) -> Any:
        for number, batch in enumerate(batches(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(segmenter, "_batches", interrupted)
    stopped = UNet.from_pretrained(train(pairs, tmp_path))
    assert [line["images"] for line in lines(tmp_path)] == [2, 4]
    assert all(torch.isfinite(value).all() for value in stopped.state_dict().values())


def test_a_loss_that_is_not_finite_ends_the_run(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the cross entropy is (nan|inf) after \d+ images: .* lower learning rate"):
        train(pairs, tmp_path, learning_rate=1e38)
    assert not (tmp_path / "model").exists()


def test_weights_that_the_last_step_breaks_are_not_saved(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is not finite after 2 images"):
        train(pairs, tmp_path, images=2, learning_rate=float("inf"))
    assert not (tmp_path / "model").exists()


def test_unknown_pixels_teach_nothing(tmp_path: Path) -> None:
    """A network that has seen unknown pixels only has the weights it started with, but for the weight decay."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    data = Samples(Sample(image, np.full((32, 32), CAMVID.unknown, np.int64)))
    options: dict[str, Any] = {"encoder": "plain", "base_channels": 2, "size": (32, 32), "batch_size": 2}
    before = train_segmenter(data, tmp_path / "a", images=2, weight_decay=0.0, **options)
    after = train_segmenter(data, tmp_path / "b", images=8, weight_decay=0.0, **options)
    ours, theirs = UNet.from_pretrained(before), UNet.from_pretrained(after)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_class_weights() -> None:
    labels = np.repeat([0, 1, 2, 11], [32, 8, 2, 22]).reshape(8, 8)
    data = Samples(Sample(None, labels))
    assert class_weights(data, 0.0)[:3].tolist() == [1, 1, 1]
    wanted = np.array([8 / 32, 1, 8 / 2])  # the median class has 8 pixels
    for balance in (0.5, 1.0):
        weights = class_weights(data, balance).numpy()
        assert_allclose(weights[:3] / weights[1], wanted**balance, rtol=1e-6)
        assert_allclose((weights[:3] * [32, 8, 2]).sum() / 42, 1, rtol=1e-6)
        assert not weights[3:].any()


def test_class_weights_of_no_class() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        class_weights(Samples(Sample(None, np.full((4, 4), 11))), 1.0)


def grid() -> Sample:
    """Blocks of 16x16 whose colour is that of their class."""
    labels = np.random.default_rng(0).integers(0, 11, (6, 8)).repeat(16, 0).repeat(16, 1)
    return Sample(CAMVID.colorize(labels), labels.astype(np.int64), name="grid")


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0), (0.6, 2.5)])
def test_picture_and_labels_are_augmented_together(scales: tuple[float, float]) -> None:
    augment, flipped = Augmentation((96, 128), scales, jitter=0.0), set()
    for draw in range(8):
        image, labels = augment(grid(), np.random.default_rng(draw))
        assert image.shape == (3, 96, 128) and labels.shape == (96, 128)
        assert image.min() >= -1 and image.max() <= 1
        outside = labels == IGNORED
        assert (image[:, outside] == -1).all()
        if scales[0] == scales[1]:
            assert (~outside).sum() == min(1, scales[0] ** 2) * 96 * 128
        wanted = image_tensor(CAMVID.colorize(labels.clamp(min=0).numpy()))
        close = ((image - wanted).abs().amax(0) < 0.02)[~outside].float().mean()
        assert close > 0.6  # all but the blurred borders of the blocks
        flipped.add(bool(outside[:, 0].all()))
    assert flipped == ({True, False} if scales == (0.5, 0.5) else flipped)


def test_colours_change_a_little() -> None:
    plain, _ = Augmentation((96, 128), (1.0, 1.0), jitter=0.0)(grid(), np.random.default_rng(0))
    changed, _ = Augmentation((96, 128), (1.0, 1.0), jitter=0.2)(grid(), np.random.default_rng(0))
    assert 0.01 < (plain - changed).abs().mean() < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, "batch norm needs at least 2"),
        ({"images": 0}, "images is 0"),
        ({"scales": (2.0, 1.0)}, "the lowest and the highest factor"),
        ({"base_channels": 0}, "base_channels"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train(pairs, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_layouts_without_photographs(tmp_path: Path) -> None:
    data = Samples(replace(grid(), image=None))
    with pytest.raises(DataError, match="'grid' has no photograph, and a segmenter learns from photographs"):
        train_segmenter(data, tmp_path, encoder="plain", base_channels=2, size=(32, 32), images=2, batch_size=2)


def test_balance_changes_what_is_learnt(pairs: Path, tmp_path: Path) -> None:
    plain, balanced = (UNet.from_pretrained(train(pairs, tmp_path / str(b), balance=b)) for b in (0.0, 0.5))
    assert not torch.equal(plain.head.weight, balanced.head.weight)
    assert lines(tmp_path / "0.0")[0]["cross_entropy"] != lines(tmp_path / "0.5")[0]["cross_entropy"]
