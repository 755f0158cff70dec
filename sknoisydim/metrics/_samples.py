"""What metrics take and return: samples, references to compare them with, results of tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular
from sklearn.base import BaseEstimator
from sklearn.utils import check_array

from sknoisydim.targets import resolve_target

FloatArray = NDArray[np.float64]
RandomState = int | np.random.Generator | np.random.RandomState | None
# What a sample is compared with: a name, a target, a distribution of scipy, or another sample.
Reference: TypeAlias = str | BaseEstimator | ArrayLike


@dataclass(frozen=True)
class MarginalTest:
    """Result of a test of each component.

    Attributes
    ----------
    statistic, pvalue : ndarray of shape (n_components,)
        Test statistic and p-value of each component on its own.
    pvalue_holm : ndarray of shape (n_components,)
        P-values with Holm's correction; the smallest one judges all components together.
    """

    statistic: FloatArray
    pvalue: FloatArray
    pvalue_holm: FloatArray


@dataclass(frozen=True)
class JointTest:
    """Result of a test of the joint distribution.

    Attributes
    ----------
    statistic : float
        Test statistic; larger is further from the target.
    pvalue : float
        Probability of a statistic at least as large under the target.
    """

    statistic: float
    pvalue: float


def holm(pvalue: FloatArray) -> FloatArray:
    """Correct p-values for their number with Holm's step-down procedure."""
    order = np.argsort(pvalue)
    scaled = pvalue[order] * np.arange(len(pvalue), 0, -1)
    return np.minimum(np.maximum.accumulate(scaled), 1.0)[np.argsort(order)]


def compare(
    Z: ArrayLike, reference: Reference, *, min_samples: int = 2
) -> tuple[FloatArray, FloatArray | None]:
    """Return two samples, or the N(0, I) pre-image of one under a target, and None."""
    Z = check_sample(Z, min_samples=min_samples)
    if is_sample(reference):
        Y = check_sample(reference, "reference", min_samples=min_samples)
        if Y.shape[1] != Z.shape[1]:
            of_both = f"{Z.shape[1]} columns but the reference sample has {Y.shape[1]}"
            raise ValueError(f"Z has {of_both}.")
        return Z, Y
    if isinstance(reference, str) and reference == "normal":
        return Z, None
    target = resolve_target(reference, Z.shape[1])
    preimage = np.asarray(target.pull(Z), dtype=np.float64)
    if n_invalid := int(np.isnan(preimage).any(axis=1).sum()):
        raise ValueError(f"{n_invalid} samples of Z have no pre-image under {target!r}.")
    return preimage, None


def draw(Y: FloatArray | None, n: int, d: int, rng: np.random.Generator) -> FloatArray:
    """Return n draws of N(0, I), or at most n of a reference sample."""
    return rng.standard_normal((n, d)) if Y is None else subsample(Y, n, rng)


def normal_preimage(Z: ArrayLike, reference: Reference, *, test: str) -> FloatArray:
    """Return the sample in the space where the target is N(0, I), for a one-sample test."""
    if is_sample(reference):
        raise TypeError(
            f"{test} needs a known distribution: reference must be 'normal', 'uniform' or a "
            f"target, got a sample of type {type(reference).__name__}."
        )
    return compare(Z, reference)[0]


def outside_support(Z: FloatArray, reference: Reference) -> float:
    """Return the share of samples (n, d) that are not in the support of a target."""
    target = resolve_target(reference, Z.shape[1])
    # Pulled back they are the nearest to the edge, and do not come again.
    back = target.push(target.pull(Z))
    return float((np.abs(back - Z) > 1e-4 * (1 + np.abs(Z))).any(axis=1).mean())


def check_sample(Z: ArrayLike, name: str = "Z", *, min_samples: int = 2) -> FloatArray:
    """Return `Z` as a finite float64 array of shape (n_samples, n_components)."""
    return check_array(Z, dtype=np.float64, ensure_min_samples=min_samples, input_name=name)


def is_sample(reference: Reference) -> bool:
    """Tell a reference sample from a name, a target or a sequence of distributions."""
    if isinstance(reference, (list, tuple)):
        return len(reference) > 0 and np.ndim(reference[0]) > 0
    return hasattr(reference, "__array__") or hasattr(reference, "__array_interface__")


def generator(random_state: RandomState) -> np.random.Generator:
    """Return a generator of our own; numpy's global state is never read nor changed."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1))
    return np.random.default_rng(random_state)


def seed_of(rng: np.random.Generator) -> int:
    """Draw an integer seed."""
    return int(rng.integers(2**31 - 1))


def subsample(Z: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """Return at most `n` samples of `Z`, drawn without replacement."""
    return Z if len(Z) <= n else Z[rng.choice(len(Z), n, replace=False)]


def constant_columns(Z: FloatArray) -> NDArray[np.bool_]:
    """Tell which columns hold one value, up to rounding."""
    return np.ptp(Z, axis=0) <= 1e-12 * np.abs(Z).max(axis=0)


def correlation_matrix(Z: FloatArray) -> FloatArray:
    """Return Pearson's correlations; a constant column has correlation 0 with all, itself too."""
    constant = constant_columns(Z)
    centred = np.where(constant, 0.0, Z - Z.mean(axis=0))
    unit = centred / np.where(constant, 1.0, np.linalg.norm(centred, axis=0))
    return unit.T @ unit


def whiten(Z: FloatArray) -> tuple[FloatArray, float] | None:
    """Return samples whitened, and -log(det R) / 2 of their correlation; None if it is singular."""
    if constant_columns(Z).any():
        return None
    # Scaled first, so that a component of small scale does not look like a missing rank.
    centred = Z - Z.mean(axis=0)
    centred /= np.sqrt(np.square(centred).mean(axis=0))
    correlation = centred.T @ centred / len(Z)
    if np.linalg.eigvalsh(correlation)[0] < 1e-10:
        return None
    factor = np.linalg.cholesky(correlation)
    white = np.ascontiguousarray(solve_triangular(factor, centred.T, lower=True).T)
    return white, -float(np.log(np.diag(factor)).sum())
