"""Every test and every distance, by name."""

from __future__ import annotations

from collections.abc import Callable

from ._dependence import max_correlation
from ._distances import energy_distance, mmd_distance, sliced_wasserstein
from ._marginal import anderson_darling, cramer_von_mises, dagostino_pearson, kolmogorov_smirnov
from ._normality import henze_zirkler, mardia
from ._results import JointTest, MarginalTest
from ._sliced import epps_pulley_sliced
from ._two_sample import energy_test, mmd_test

#: ``test(Z, reference) -> MarginalTest``
MARGINAL_TESTS: dict[str, Callable[..., MarginalTest]] = {
    "anderson_darling": anderson_darling,
    "cramer_von_mises": cramer_von_mises,
    "dagostino_pearson": dagostino_pearson,
    "kolmogorov_smirnov": kolmogorov_smirnov,
}

#: ``test(Z, reference, *, random_state) -> JointTest``
JOINT_TESTS: dict[str, Callable[..., JointTest]] = {
    "energy_test": energy_test,
    "epps_pulley_sliced": epps_pulley_sliced,
    "henze_zirkler": henze_zirkler,
    "mardia": mardia,
    "mmd_test": mmd_test,
}

#: ``distance(Z, reference, *, space, random_state) -> float``
DISTANCES: dict[str, Callable[..., float]] = {
    "energy_distance": energy_distance,
    "max_correlation": max_correlation,
    "mmd_distance": mmd_distance,
    "sliced_wasserstein": sliced_wasserstein,
}
