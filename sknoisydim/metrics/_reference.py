"""What a sample is compared with: a law or another sample, and in which space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from .._options import unknown_option

FloatArray = NDArray[np.float64]
RandomState = int | np.random.Generator | np.random.RandomState | None
Space = Literal["normal", "target"]

SPACES = {"normal": "the N(0, I) pre-image", "target": "the target's own space"}


@dataclass(frozen=True)
class Comparison:
    """Rows, and a source of rows of the law that they should follow, in one space.

    Attributes
    ----------
    Z : ndarray of shape (n, d)
    draw : callable
        ``draw(k, rng)`` returns k rows of the reference.
    is_standard_normal : bool
        Whether the reference law is exactly N(0, I).
    n_available : int or None
        How many rows `draw` can give at most; None for a law.
    """

    Z: FloatArray
    draw: Callable[[int, np.random.Generator], FloatArray]
    is_standard_normal: bool
    n_available: int | None = None

    def counterpart(self, rng: np.random.Generator, limit: int | None = None) -> FloatArray:
        """Return as many draws of a law as there are rows, or a reference sample, up to a limit."""
        n_draws = len(self.Z) if self.n_available is None else self.n_available
        return self.draw(n_draws if limit is None else min(n_draws, limit), rng)


def generator(random_state: RandomState) -> np.random.Generator:
    """Return a generator of our own; numpy's global state is never read nor moved."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1))
    return np.random.default_rng(random_state)


def seed_of(rng: np.random.Generator) -> int:
    """Draw an integer seed for something that takes one."""
    return int(rng.integers(2**31 - 1))


def check_sample(Z: Any, name: str = "Z", *, min_samples: int = 2) -> FloatArray:
    """Return `Z` as a finite float64 array of shape (n, d), or raise ValueError."""
    checked: FloatArray = check_array(
        Z, dtype=np.float64, ensure_min_samples=min_samples, input_name=name
    )
    return checked


def is_sample(reference: Any) -> bool:
    """Tell a reference sample from a name, a target or a tuple of laws."""
    if isinstance(reference, (list, tuple)):
        return len(reference) > 0 and np.ndim(reference[0]) > 0
    return hasattr(reference, "__array__") or hasattr(reference, "__array_interface__")


def constant_columns(Z: FloatArray) -> NDArray[np.bool_]:
    """Tell which columns hold one value: centring leaves rounding errors of its own size."""
    spread = Z.max(axis=0) - Z.min(axis=0)
    constant: NDArray[np.bool_] = spread <= 1e-12 * np.abs(Z).max(axis=0)
    return constant


def subsample(Z: FloatArray, n_rows: int, rng: np.random.Generator) -> FloatArray:
    """Return at most `n_rows` rows of `Z`, drawn without replacement."""
    if len(Z) <= n_rows:
        return Z
    return Z[rng.choice(len(Z), n_rows, replace=False)]


def compare(Z: Any, reference: Any, *, space: Space = "normal", min_samples: int = 2) -> Comparison:
    """Bring `Z` and the reference into one space.

    Parameters
    ----------
    Z : array-like of shape (n, d)
    reference : "normal", "uniform", target or array-like of shape (m, d)
    space : {"normal", "target"}
        Where rows and a target are compared. A reference sample has no known pre-image:
        both samples are then taken as they are, whatever `space` says.
    min_samples : int
        Least number of rows.

    Returns
    -------
    comparison : Comparison

    Raises
    ------
    ValueError
        If an array is not finite, not two-dimensional or too short, if the numbers of columns
        differ, or if an option is unknown.
    """
    if space not in SPACES:
        raise ValueError(unknown_option(str(space), SPACES, "space"))
    Z = check_sample(Z, min_samples=min_samples)
    n_components = Z.shape[1]
    if is_sample(reference):
        Z_ref = check_sample(reference, "reference", min_samples=min_samples)
        if Z_ref.shape[1] != n_components:
            raise ValueError(
                f"Z has {n_components} columns but the reference sample has {Z_ref.shape[1]}."
            )
        return Comparison(Z, lambda k, rng: subsample(Z_ref, k, rng), False, len(Z_ref))
    target = None if _is_normal(reference) else _bind(reference, n_components)
    if space == "target" and target is not None:
        return Comparison(Z, _sampler(target), False)
    return Comparison(
        Z if target is None else _pull(target, Z),
        lambda k, rng: rng.standard_normal((k, n_components)),
        True,
    )


def normal_preimage(Z: Any, reference: Any, *, min_samples: int, test: str) -> FloatArray:
    """Return the rows in the space where the target is N(0, I).

    Raises
    ------
    TypeError
        If the reference is a sample: `test` compares with a known law.
    """
    if is_sample(reference):
        raise TypeError(
            f"{test} compares rows with a known law: reference must be 'normal', 'uniform' or a "
            f"target, got a sample of type {type(reference).__name__}."
        )
    return compare(Z, reference, min_samples=min_samples).Z


def _is_normal(reference: Any) -> bool:
    return isinstance(reference, str) and reference == "normal"


def _bind(reference: Any, n_components: int) -> Any:
    # Imported here so that a comparison with N(0, I) or with a sample costs no further import.
    from ..targets import resolve_target

    return resolve_target(reference, n_components)


def _sampler(target: Any) -> Callable[[int, np.random.Generator], FloatArray]:
    def draw(k: int, rng: np.random.Generator) -> FloatArray:
        return np.asarray(target.sample(k, random_state=seed_of(rng)), dtype=np.float64)

    return draw


def _pull(target: Any, Z: FloatArray) -> FloatArray:
    preimage = np.asarray(target.pull(Z), dtype=np.float64)
    if np.isnan(preimage).any():
        raise ValueError(
            f"{int(np.isnan(preimage).any(axis=1).sum())} rows of Z have no pre-image under "
            f"{target!r}: the target's pull returned NaN for them."
        )
    # A row on or beyond the edge of the support has an infinite pre-image; 38 is where
    # the normal density underflows, so it stays as far out as a float64 normal can be.
    return np.clip(preimage, -38.0, 38.0)
