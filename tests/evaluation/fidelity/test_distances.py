"""Distances between feature sets, against closed forms, SciPy, torchmetrics and plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segscape.errors import EvaluationError
from segscape.evaluation.fidelity import distances
from segscape.evaluation.fidelity.distances import (
    FeatureStatistics,
    frechet_distance,
    kernel_distance,
    prdc,
    singularity_note,
)

Array = npt.NDArray[np.float64]


def gaussian(mean: Array, covariance: Array, count: int = 40) -> Array:
    """Vectors `[count, D]` of exactly this sample mean and unbiased sample covariance."""
    noise = np.random.default_rng(0).standard_normal((count, len(mean)))
    noise -= noise.mean(0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(noise.T @ noise / (count - 1))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def vectors(seed: int, count: int = 30, dimensions: int = 6) -> Array:
    """Correlated vectors that are not centred."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((dimensions, dimensions))
    return rng.standard_normal((count, dimensions)) @ mix + rng.standard_normal(dimensions)


def distance(a: Array, b: Array) -> float:
    return frechet_distance(FeatureStatistics.from_features(a), FeatureStatistics.from_features(b))


seeds = st.integers(0, 10_000)


def test_statistics_are_numpys() -> None:
    x = vectors(1)
    statistics = FeatureStatistics.from_features(torch.from_numpy(x).float())
    assert statistics.mean.dtype == statistics.covariance.dtype == np.float64 and statistics.count == 30
    np.testing.assert_allclose(statistics.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.covariance, np.cov(x.T, ddof=1), rtol=1e-4, atol=1e-5)


def test_frechet_distance_of_known_gaussians() -> None:
    """With commuting covariances: |m - n|^2 + sum (sqrt a - sqrt b)^2."""
    a = gaussian(np.array([1.0, -2.0, 3.0]), np.diag([4.0, 9.0, 1.0]))
    b = gaussian(np.array([1.0, 2.0, 0.0]), np.diag([1.0, 16.0, 25.0]))
    assert distance(a, b) == pytest.approx(16 + 9 + 1 + 1 + 16, rel=1e-12)


def test_frechet_distance_of_one_direction_each() -> None:
    """Rank-one covariances u u^T and v v^T: tr sqrt(S_a S_b) = |u.v|, which a jitter would change."""
    u, v = np.array([3.0, 0.0, 4.0, 0.0]), np.array([0.0, 2.0, 1.0, 0.0])
    a, b = (np.outer([1.0, -1.0], direction) / np.sqrt(2) for direction in (u, v))
    assert distance(a, b) == pytest.approx(25 + 5 - 2 * abs(u @ v), rel=1e-12)


@given(seeds, seeds, st.integers(8, 40))
@settings(max_examples=20, deadline=None)
def test_frechet_distance_agrees_with_scipys_root(first: int, second: int, count: int) -> None:
    a, b = vectors(first, count), vectors(second)
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * np.real(root))
    assert distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(seeds, seeds, st.integers(2, 12))
@settings(max_examples=20, deadline=None)
def test_frechet_distance_is_symmetric_and_not_negative(first: int, second: int, count: int) -> None:
    a, b = vectors(first, count), vectors(second)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9, abs=1e-9)
    assert distance(a, b) >= 0


@given(seeds, st.integers(2, 30))
@settings(max_examples=20, deadline=None)
def test_equal_sets_have_no_distance(seed: int, count: int) -> None:
    a = vectors(seed, count)
    assert distance(a, a) <= 1e-12 * np.trace(np.cov(a.T))


def test_equal_sets_of_few_images_in_many_dimensions_have_no_distance() -> None:
    a = np.random.default_rng(0).random((20, 300)) ** 4
    assert distance(a, a[::-1]) < 1e-12 * np.trace(np.cov(a.T))
    assert distance(a, a + 1e-4) == pytest.approx(300 * 1e-8, rel=1e-6)


@given(seeds, st.integers(2, 30), st.floats(-5, 5))
@settings(max_examples=20, deadline=None)
def test_a_shift_costs_its_square(seed: int, count: int, shift: float) -> None:
    a = vectors(seed, count)
    step = np.array([shift, 0, -2 * shift, 1, 0, 0])
    assert distance(a, a + step) == pytest.approx(5 * shift**2 + 1, rel=1e-9)


@given(seeds, seeds)
@settings(max_examples=20, deadline=None)
def test_a_rotation_of_both_changes_nothing(first: int, second: int) -> None:
    a, b = vectors(first, 5), vectors(second)
    rotation = np.linalg.qr(np.random.default_rng(first + second).standard_normal((6, 6)))[0]
    assert distance(a @ rotation, b @ rotation) == pytest.approx(distance(a, b), rel=1e-9)


class Plain(nn.Module):
    """What torchmetrics takes for a feature network: hands the vectors on."""

    num_features = 6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


@pytest.mark.filterwarnings("ignore")
def test_frechet_distance_agrees_with_torchmetrics() -> None:
    module = pytest.importorskip("torchmetrics.image.fid")
    a, b = vectors(1), vectors(2)
    metric = module.FrechetInceptionDistance(Plain(), input_img_size=(1, 2, 3)).set_dtype(torch.float64)
    metric.update(torch.from_numpy(a).view(-1, 1, 2, 3), real=True)
    metric.update(torch.from_numpy(b).view(-1, 1, 2, 3), real=False)
    assert distance(a, b) == pytest.approx(float(metric.compute()), rel=1e-6)


def test_two_images_are_enough_and_one_is_not() -> None:
    assert np.isfinite(distance(vectors(1, 2), vectors(2, 2)))
    with pytest.raises(EvaluationError, match=r"1 image\(s\) cannot be measured: this metric needs 2 or more"):
        FeatureStatistics.from_features(vectors(1, 1))


def test_broken_features_are_refused() -> None:
    broken = vectors(1)
    broken[3, 2], broken[7, 0] = np.nan, np.inf
    for measure in (FeatureStatistics.from_features, lambda x: kernel_distance(x, x), lambda x: prdc(x, x)):
        with pytest.raises(EvaluationError, match="features of 2 of 30 images are not finite"):
            measure(broken)
    with pytest.raises(EvaluationError, match=r"features are \[images, dimensions\], not \[30\]"):
        FeatureStatistics.from_features(broken[:, 0])


def test_other_dimensions_are_refused() -> None:
    a, b = vectors(1), vectors(1, dimensions=4)
    for measure in (distance, kernel_distance, prdc):
        with pytest.raises(EvaluationError, match="6 and 4 dimensions cannot be compared"):
            measure(a, b)


def test_note_tells_of_singular_covariances() -> None:
    few, many = FeatureStatistics.from_features(vectors(1, 6)), FeatureStatistics.from_features(vectors(1, 7))
    unknown = FeatureStatistics(many.mean, many.covariance, None)
    assert singularity_note(many, unknown) == ""
    assert singularity_note(few, many).startswith("covariance of 6 images in 6 dimensions is singular; nothing was")
    assert singularity_note(few, FeatureStatistics.from_features(vectors(1, 3))).startswith("covariance of 3 and 6 im")
    assert np.linalg.matrix_rank(few.covariance) == 5  # so the note is right
    assert np.linalg.matrix_rank(many.covariance) == 6


def test_statistics_survive_a_file(tmp_path: Path) -> None:
    statistics = FeatureStatistics.from_features(vectors(1))
    statistics.save(tmp_path / "s.npz")
    loaded = FeatureStatistics.load(tmp_path / "s.npz")
    assert np.array_equal(loaded.mean, statistics.mean) and np.array_equal(loaded.covariance, statistics.covariance)
    assert loaded.count == 30
    assert [f.name for f in tmp_path.iterdir()] == ["s.npz"]
    with np.load(tmp_path / "s.npz") as arrays:
        assert {"mu", "sigma"} <= set(arrays)


def test_statistics_of_other_codes_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "fid.npz", mu=np.zeros(3, np.float32), sigma=np.eye(3))
    loaded = FeatureStatistics.load(tmp_path / "fid.npz")
    assert loaded.count is None and loaded.mean.dtype == np.float64
    loaded.save(tmp_path / "again.npz")
    assert FeatureStatistics.load(tmp_path / "again.npz").count is None


def test_broken_statistics_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("nonsense")
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    np.savez(tmp_path / "shape.npz", mu=np.zeros(3), sigma=np.eye(2))
    np.savez(tmp_path / "objects.npz", mu=np.array([None, {}]), sigma=np.eye(2))
    np.save(tmp_path / "array.npz.npy", np.zeros(3))
    (tmp_path / "array.npz.npy").rename(tmp_path / "array.npz")
    for name in ("gone", "text", "other", "objects", "array"):
        with pytest.raises(EvaluationError, match=rf"{name}\.npz cannot be read as feature statistics"):
            FeatureStatistics.load(tmp_path / f"{name}.npz")
    with pytest.raises(EvaluationError, match=r"holds mu \[3\] and sigma \[2, 2\], but statistics are"):
        FeatureStatistics.load(tmp_path / "shape.npz")


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        (np.full(2, np.nan), np.eye(2), "not finite"),
        (np.zeros(2), np.diag([1.0, np.inf]), "not finite"),
        (np.zeros(2), -np.eye(2), "no covariance matrix"),
        (np.zeros(2), np.array([[1.0, 2.0], [0.0, 1.0]]), "no covariance matrix"),
    ],
)
def test_statistics_of_no_images_are_refused(tmp_path: Path, mean: Array, covariance: Array, message: str) -> None:
    np.savez(tmp_path / "real.npz", mu=mean, sigma=covariance)
    with pytest.raises(EvaluationError, match=message):
        FeatureStatistics.load(tmp_path / "real.npz")


def kernel_mean(a: Array, b: Array, skip_same: bool) -> float:
    """The mean of (x.y / D + 1)^3 over pairs, by loops; `skip_same` leaves out a vector with itself."""
    values = [
        (sum(u * v for u, v in zip(x, y, strict=True)) / len(x) + 1) ** 3
        for i, x in enumerate(a)
        for j, y in enumerate(b)
        if not (skip_same and i == j)
    ]
    return sum(values) / len(values)


def test_kernel_distance_agrees_with_loops() -> None:
    a, b = vectors(1, 9, 3), vectors(2, 9, 3)
    expected = kernel_mean(a, a, True) + kernel_mean(b, b, True) - 2 * kernel_mean(a, b, False)
    mean, deviation = kernel_distance(a, b, subsets=3)  # a subset is the whole set, in some order
    assert mean == pytest.approx(expected, rel=1e-10)
    assert deviation == pytest.approx(0, abs=1e-10 * abs(expected))


def test_kernel_distance_averages_over_subsets() -> None:
    a, b = vectors(1, 12, 3), vectors(2, 10, 3)
    whole = kernel_mean(a, a, True) + kernel_mean(b, b, True) - 2 * kernel_mean(a, b, False)
    mean, deviation = kernel_distance(a, b, subsets=400, subset_size=6)
    assert deviation > 0
    assert abs(mean - whole) < 5 * deviation / np.sqrt(400)  # an unbiased estimate of an unbiased estimate


def test_kernel_distance_repeats_and_leaves_the_global_generator_alone() -> None:
    a, b = vectors(1), vectors(2)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = kernel_distance(a, b, subsets=4, subset_size=10, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert kernel_distance(a, b, subsets=4, subset_size=10, seed=1) == first
    assert kernel_distance(a, b, subsets=4, subset_size=10, seed=2) != first


def loops_prdc(real: Array, fake: Array, k: int) -> tuple[float, float, float, float]:
    def radius(x: Array, others: Array) -> float:
        return float(sorted(np.linalg.norm(x - y) for y in others)[k])  # [0] is itself

    real_radii, fake_radii = [radius(x, real) for x in real], [radius(x, fake) for x in fake]

    def within(i: int, j: int, radii: list[float], index: int) -> bool:
        return bool(np.linalg.norm(real[i] - fake[j]) < radii[index] - 1e-9)

    n, m = range(len(real)), range(len(fake))
    hits = [[within(i, j, real_radii, i) for j in m] for i in n]
    precision = sum(any(hits[i][j] for i in n) for j in m) / len(fake)
    recall = sum(any(within(i, j, fake_radii, j) for j in m) for i in n) / len(real)
    density = sum(map(sum, hits)) / (k * len(fake))
    return precision, recall, density, sum(map(any, hits)) / len(real)


@given(seeds, st.integers(1, 5), st.floats(0, 2))
@settings(max_examples=15, deadline=None)
def test_prdc_agrees_with_loops(seed: int, neighbours: int, shift: float) -> None:
    real, fake = vectors(seed, 14, 3), vectors(seed + 1, 11, 3) + shift
    assert prdc(real, fake, neighbours=neighbours) == pytest.approx(loops_prdc(real, fake, neighbours))


def test_prdc_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = vectors(1, 23), vectors(1, 31) * 0.9
    whole = prdc(real, fake)
    monkeypatch.setattr(distances, "_TABLE_CELLS", 60)
    assert prdc(real, fake) == whole
    assert whole.precision > 0 and whole.coverage > 0


def test_prdc_of_equal_and_of_distant_sets() -> None:
    """A vector lies in its own ball and in those of the vectors whose 1st to (k-1)-th neighbour it is."""
    a = vectors(1, 50)
    same = prdc(a, a)
    assert same == (1, 1, 1, 1)
    assert prdc(a, a + 1000) == (0, 0, 0, 0)
    assert prdc(a * 1e3 + 1e6, a * 1e3 + 1e6) == (1, 1, 1, 1)


def test_prdc_of_repeated_images_finds_no_neighbourhood() -> None:
    a = np.ones((8, 4)) * np.pi
    assert prdc(a, a) == (0, 0, 0, 0)  # all balls have radius 0, and are open


def test_prdc_needs_more_images_than_neighbours() -> None:
    with pytest.raises(EvaluationError, match=r"5 image\(s\) cannot be measured: this metric needs 6 or more"):
        prdc(vectors(1), vectors(1, 5))
    assert prdc(vectors(1, 6), vectors(1, 6)).coverage == 1
