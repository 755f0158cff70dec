"""Tables that the benchmarks use: each returns X (n, p) and y (n,)."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

# Development data beside the checkout; benchmarks that want it say so when it is absent.
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Bundled with scikit-learn: 1,797 x 64."""
    return load_digits(return_X_y=True)


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Bundled with scikit-learn: 569 x 30, unscaled."""
    return load_breast_cancer(return_X_y=True)


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


TABLES = {
    "synthetic": synthetic,
    "digits": digits,
    "mnist": mnist,
    "breast_cancer": breast_cancer,
}
