"""How far a sample is from the law that it should follow.

Every function takes rows ``Z`` of shape (n, d) and a reference: a name ("normal", "uniform"), a
target of :mod:`sknoisydim.targets`, or, where two samples can be compared, a sample of shape
(m, d).
Report :func:`classifier_auc` first: it is the only one that learns where to look.
"""

from __future__ import annotations

from ._classifier import CLASSIFIERS, classifier_auc
from ._dependence import max_correlation, total_correlation
from ._distances import energy_distance, mmd_distance, sliced_wasserstein
from ._floors import in_floors, monte_carlo_test
from ._marginal import anderson_darling, cramer_von_mises, dagostino_pearson, kolmogorov_smirnov
from ._normality import henze_zirkler, mardia
from ._results import JointTest, MarginalTest
from ._sliced import epps_pulley_sliced
from ._tables import DISTANCES, JOINT_TESTS, MARGINAL_TESTS
from ._two_sample import energy_test, mmd_test

__all__ = [
    "CLASSIFIERS",
    "DISTANCES",
    "JOINT_TESTS",
    "MARGINAL_TESTS",
    "JointTest",
    "MarginalTest",
    "anderson_darling",
    "classifier_auc",
    "cramer_von_mises",
    "dagostino_pearson",
    "energy_distance",
    "energy_test",
    "epps_pulley_sliced",
    "henze_zirkler",
    "in_floors",
    "kolmogorov_smirnov",
    "mardia",
    "max_correlation",
    "mmd_distance",
    "mmd_test",
    "monte_carlo_test",
    "sliced_wasserstein",
    "total_correlation",
]
