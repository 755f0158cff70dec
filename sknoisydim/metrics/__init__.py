"""How far a sample is from the law that it should follow, and what an embedding tells.

Every metric of a sample takes rows ``Z`` of shape (n, d) and a reference: a name ("normal",
"uniform"), a target of :mod:`sknoisydim.targets`, or, where two samples can be compared, a sample
of shape (m, d).
Report :func:`classifier_auc` first: it is the only one that learns where to look.

:func:`mutual_information` and the scorers take a fitted estimator and rows instead, and
``NoisyDIMTransformer.diagnose`` puts all of it into one :class:`MatchReport`.
"""

from __future__ import annotations

from ._classifier import CLASSIFIERS, classifier_auc
from ._dependence import max_correlation, total_correlation
from ._dimension import intrinsic_dimension
from ._distances import energy_distance, mmd_distance, sliced_wasserstein
from ._floors import in_floors, monte_carlo_test
from ._information import InformationEstimate, mutual_information
from ._marginal import anderson_darling, cramer_von_mises, dagostino_pearson, kolmogorov_smirnov
from ._normality import henze_zirkler, mardia
from ._report import VERDICTS, MatchReport
from ._results import JointTest, MarginalTest
from ._scorers import information_scorer, make_match_scorer, match_scorer
from ._sliced import epps_pulley_sliced
from ._tables import DISTANCES, JOINT_TESTS, MARGINAL_TESTS
from ._two_sample import energy_test, mmd_test

__all__ = [
    "CLASSIFIERS",
    "DISTANCES",
    "JOINT_TESTS",
    "MARGINAL_TESTS",
    "VERDICTS",
    "InformationEstimate",
    "JointTest",
    "MarginalTest",
    "MatchReport",
    "anderson_darling",
    "classifier_auc",
    "cramer_von_mises",
    "dagostino_pearson",
    "energy_distance",
    "energy_test",
    "epps_pulley_sliced",
    "henze_zirkler",
    "in_floors",
    "information_scorer",
    "intrinsic_dimension",
    "kolmogorov_smirnov",
    "make_match_scorer",
    "mardia",
    "match_scorer",
    "max_correlation",
    "mmd_distance",
    "mmd_test",
    "monte_carlo_test",
    "mutual_information",
    "sliced_wasserstein",
    "total_correlation",
]
