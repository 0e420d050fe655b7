"""How close two sets of images are: distances between their feature vectors, in float64.

The features come from an extractor (`extractors.py`), which also knows what each metric is called.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segscape.errors import EvaluationError
from segscape.extras import require
from segscape.files import write_atomically

Array = npt.NDArray[np.float64]
Features = npt.NDArray[Any] | Tensor
"""`[N, D]`, one vector per image; a tensor must be on the CPU."""

_TABLE_CELLS = 1 << 24  # of one table of distances: 128 MB
_TIE = 1e-12  # squared distances closer than this part of the longest vector's square are the same


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Mean and covariance of a set of feature vectors: all that the Frechet distance needs.

    Attributes:
        mean: float64 `[D]`.
        covariance: float64 `[D, D]`, unbiased (divided by N - 1).
        count: how many images; None where a file of another code does not say.
    """

    mean: Array
    covariance: Array
    count: int | None

    @classmethod
    def from_features(cls, features: Features) -> FeatureStatistics:
        """Of features `[N, D]`; raises EvaluationError if fewer than 2 images, or values that are not finite."""
        vectors = _checked(features, least=2)
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        return cls(mean, centred.T @ centred / (len(vectors) - 1), len(vectors))

    @classmethod
    def load(cls, path: Path) -> FeatureStatistics:
        """Read a `.npz` with `mu` and `sigma`, as pytorch-fid and clean-fid write it, or with `count` as we do.

        Raises EvaluationError if the file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                mean, covariance = (np.asarray(arrays[key], dtype=np.float64) for key in ("mu", "sigma"))
                count = int(arrays["count"]) if "count" in arrays else None
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise EvaluationError(
                f"{path} cannot be read as feature statistics, a .npz file with mu and sigma ({error})."
            ) from None
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            found = f"mu {list(mean.shape)} and sigma {list(covariance.shape)}"
            raise EvaluationError(f"{path} holds {found}, but statistics are [D] and [D, D].")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise EvaluationError(f"{path} holds values that are not finite: compute these statistics again.")
        if not np.allclose(covariance, covariance.T) or (covariance.diagonal() < 0).any():
            raise EvaluationError(f"the sigma of {path} is no covariance matrix: compute these statistics again.")
        return cls(mean, covariance, count)

    def save(self, path: Path) -> None:
        """Write a `.npz` that `load`, pytorch-fid and clean-fid can read, atomically."""
        arrays = {"mu": self.mean, "sigma": self.covariance}
        if self.count is not None:
            arrays["count"] = np.asarray(self.count)
        write_atomically(path, partial(_write_arrays, arrays=arrays))


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """The squared Frechet distance of two Gaussians: `|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))`.

    Source: Dowson and Landau, "The Frechet distance between multivariate normal distributions", 1982; as the FID:
    Heusel et al., 2017. The trace of the root is the sum of the singular values of `S_a^(1/2) S_b^(1/2)`, which is
    exact for singular covariances too: no jitter or shrinkage is added. Symmetric, at least 0, and 0 for equal sets.

    Raises EvaluationError if the dimensions differ.
    """
    if a.mean.shape != b.mean.shape:
        raise EvaluationError(
            f"statistics of {len(a.mean)} and {len(b.mean)} dimensions cannot be compared: use one feature network."
        )
    shift = float(np.sum((a.mean - b.mean) ** 2))
    overlap = float(np.linalg.svd(_factor(a.covariance).T @ _factor(b.covariance), compute_uv=False).sum())
    return max(shift + float(np.trace(a.covariance) + np.trace(b.covariance)) - 2 * overlap, 0.0)


def singularity_note(a: FeatureStatistics, b: FeatureStatistics) -> str:
    """What to say of a distance whose covariances are singular because images are few; empty if neither is."""
    dimensions = len(a.mean)
    few = sorted({s.count for s in (a, b) if s.count is not None and s.count <= dimensions})
    if not few:
        return ""
    return (
        f"covariance of {' and '.join(map(str, few))} images in {dimensions} dimensions is singular; nothing was added "
        "to it; the value depends on the number of images, so compare only equal image counts"
    )


def kernel_distance(
    real: Features, fake: Features, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The kernel (Inception) distance: unbiased squared MMD with the kernel `(x.y / D + 1)^3`, averaged over subsets.

    Source: Binkowski et al., "Demystifying MMD GANs", 2018. Subsets are drawn without replacement from a generator
    of their own. Where a subset takes all images of both sets, all subsets are the same and the deviation is 0.

    Args:
        real: `[N, D]`.
        fake: `[M, D]`.
        subsets: how many.
        subset_size: images in each, at most; it is `min(subset_size, N, M)`.
        seed: of the draw.

    Returns:
        Mean and standard deviation over the subsets. An unbiased estimate: a little below 0 for sets that are as
        close as two samples of one distribution, and so for equal sets.

    Raises:
        EvaluationError: fewer than 2 images, values that are not finite, or dimensions that differ.
        DependencyError: torchmetrics is not installed.
    """
    pair = _checked_pair(real, fake, least=2)
    module = require("torchmetrics.image.kid", "eval")
    size = min(subset_size, *(len(vectors) for vectors in pair))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all")
        # Each process has all features already: the metric must not wait for the others.
        metric = module.KernelInceptionDistance(
            torch.nn.Identity(), subsets=subsets, subset_size=size, sync_on_compute=False
        )
        for vectors, is_real in zip(pair, (True, False), strict=True):
            metric.update(torch.from_numpy(vectors), real=is_real)
        torch.default_generator.manual_seed(seed)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


class PRDC(NamedTuple):
    """How two sets of feature vectors cover each other, by nearest neighbours; see `prdc`.

    Attributes:
        precision: share of fakes inside the real manifold, 0..1.
        recall: share of reals inside the fake manifold, 0..1.
        density: how many real neighbourhoods a fake lies in, over `neighbours`; about 1 for equal distributions.
        coverage: share of reals that have a fake in their neighbourhood, 0..1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Features, fake: Features, *, neighbours: int = 5) -> PRDC:
    """Precision and recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020).

    The neighbourhood of a vector is the open ball up to its k-th nearest neighbour in its own set, itself not counted;
    a manifold is the union of them.

    Args:
        real: `[N, D]`.
        fake: `[M, D]`.
        neighbours: the k.

    Raises:
        EvaluationError: a set has no k + 1 images, values are not finite, or dimensions differ.
    """
    reals, fakes = _checked_pair(real, fake, least=neighbours + 1)
    centre = reals.mean(axis=0)
    reals, fakes = reals - centre, fakes - centre  # the distances stay, their rounding shrinks
    tie = _TIE * max(float((vectors**2).sum(axis=1).max()) for vectors in (reals, fakes))
    real_radii, fake_radii = _radii(reals, neighbours) - tie, _radii(fakes, neighbours) - tie
    inside_real = np.zeros(len(fakes))  # real neighbourhoods that each fake lies in
    covered, recalled = np.zeros(len(reals), dtype=bool), np.zeros(len(reals), dtype=bool)
    for rows in _chunks(len(reals), len(fakes)):
        distances = _squared_distances(reals[rows], fakes)
        near_real = distances < real_radii[rows, None]
        inside_real += near_real.sum(axis=0)
        covered[rows] = near_real.any(axis=1)
        recalled[rows] = (distances < fake_radii[None]).any(axis=1)
    precision, density = (inside_real > 0).mean(), inside_real.mean() / neighbours
    return PRDC(float(precision), float(recalled.mean()), float(density), float(covered.mean()))


def _factor(covariance: Array) -> Array:
    """`F [D, R]` with `F F^T` the covariance and R its numerical rank."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    factor: Array = vectors[:, kept] * np.sqrt(values[kept])
    return factor


def _radii(vectors: Array, neighbours: int) -> Array:
    """Squared distance of each vector to its k-th nearest other one, `[N]`."""
    radii = [
        np.partition(_squared_distances(vectors[rows], vectors), neighbours, axis=1)[:, neighbours]
        for rows in _chunks(len(vectors), len(vectors))
    ]
    return np.concatenate(radii)


def _squared_distances(a: Array, b: Array) -> Array:
    """Between all rows of `[N, D]` and `[M, D]`: `[N, M]`."""
    lengths = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None]
    distances: Array = np.maximum(lengths - 2 * a @ b.T, 0.0)
    return distances


def _chunks(rows: int, columns: int) -> list[slice]:
    step = max(_TABLE_CELLS // columns, 1)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _checked(features: Features, least: int) -> Array:
    vectors = np.asarray(features, dtype=np.float64)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise EvaluationError(f"features are [images, dimensions], not {list(vectors.shape)}.")
    if len(vectors) < least:
        raise EvaluationError(f"{len(vectors)} image(s) cannot be measured: this metric needs {least} or more.")
    if not np.isfinite(vectors).all():
        broken = int((~np.isfinite(vectors).all(axis=1)).sum())
        raise EvaluationError(
            f"the features of {broken} of {len(vectors)} images are not finite: look for NaN in these images, or "
            "compute in float32."
        )
    return vectors


def _checked_pair(real: Features, fake: Features, least: int) -> tuple[Array, Array]:
    reals, fakes = _checked(real, least), _checked(fake, least)
    if reals.shape[1] != fakes.shape[1]:
        raise EvaluationError(
            f"features of {reals.shape[1]} and {fakes.shape[1]} dimensions cannot be compared: use one feature network."
        )
    return reals, fakes


def _write_arrays(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    with path.open("wb") as file:  # given a path, numpy would append .npz to it
        np.savez(file, allow_pickle=False, **arrays)
