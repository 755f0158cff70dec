"""The law of the Anderson-Darling statistic when nothing is estimated.

The limit law is the series of Anderson and Darling, *A Test of Goodness of Fit*, JASA 49, 1954, its
correction for n the "errfix" of Marsaglia and Marsaglia, *Evaluating the Anderson-Darling
Distribution*, J. Stat. Softw. 9(2), 2004.
"""

from __future__ import annotations

import math

from numpy.polynomial.polynomial import polyval
from scipy.integrate import quad

_RIGHT = (-130.2137, 745.2337, -1705.091, 1950.646, -1116.360, 255.7844)
_MIDDLE = (-0.00022633, 6.54034, -14.6538, 14.458, -8.259, 1.91864)

# Beyond, the series has no digits of the tail left, and the tail is its leading term.
_FAR = 20.0


def anderson_darling_survival(statistic: float, n: int) -> float:
    """Return the chance of a larger A^2 for n rows of the law itself.

    Examples
    --------
    >>> round(anderson_darling_survival(2.492, 10_000), 3)
    0.05
    """
    limit = _limit_survival(statistic)
    # The correction is absolute, and below 1e-5 larger than what it corrects.
    return min(max(limit - _correction(1.0 - limit, n), 0.0), 1.0) if limit > 1e-5 else limit


def _limit_survival(z: float) -> float:
    if z < 0.02:
        return 1.0
    if z > _FAR:
        # A^2 is a sum of chi-squared variables with weights 1 / (j (j + 1)); the first rules.
        return math.sqrt(3.0 / (math.pi * z)) * math.exp(-z)
    total, coefficient, j = 0.0, 1.0, 0
    while True:
        decay = (4 * j + 1) ** 2 * math.pi**2 / (8.0 * z)
        if decay > 40.0 + z / 8.0:
            return min(1.0 - math.sqrt(2.0 * math.pi) / z * total, 1.0)
        integral, _ = quad(
            lambda y, decay=decay: math.exp(z / (8.0 * (1.0 + y * y)) - decay * (1.0 + y * y)),
            0.0,
            math.inf,
            epsabs=1e-15,
        )
        total += coefficient * (4 * j + 1) * integral
        coefficient *= -(j + 0.5) / (j + 1)
        j += 1


def _correction(x: float, n: int) -> float:
    """Return what n adds to the limit distribution function where that is x."""
    if x > 0.8:
        return float(polyval(x, _RIGHT)) / n
    edge = 0.01265 + 0.1757 / n
    if x < edge:
        t = x / edge
        shape = math.sqrt(t) * (1.0 - t) * (49.0 * t - 102.0)
        return shape * (0.0037 / n**2 + 0.00078 / n + 0.00006) / n
    t = (x - edge) / (0.8 - edge)
    return float(polyval(t, _MIDDLE)) * (0.04213 + 0.01365 / n) / n
