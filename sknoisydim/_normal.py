"""N(0, I), the distribution that embeddings are compared with."""

import math

import numpy as np
from numpy.typing import NDArray


def normal_logpdf(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log density (n,) of N(0, I) at rows z (n, d), in nats."""
    # The square of a huge number is infinite, which is the right limit here.
    with np.errstate(over="ignore"):
        squares: NDArray[np.float64] = np.einsum("ij,ij->i", z, z)
    return -0.5 * squares - 0.5 * z.shape[1] * math.log(2 * math.pi)
