"""How far an embedding is from its target distribution, and how much information it keeps.

Metrics of a sample take ``Z`` of shape (n_samples, n_components) and a reference: a name ("normal",
"uniform") or a target of :mod:`sknoisydim.targets`, compared in its N(0, I) pre-image, or, for two
samples, an array of shape (m, n_components). :func:`mutual_information` and the scorers take a
fitted estimator and X; ``NoisyDIMTransformer.diagnose`` puts all of it into a :class:`MatchReport`.
"""

from __future__ import annotations

from collections.abc import Callable

from sknoisydim.metrics._dependence import Consistency, align, consistency, effective_rank
from sknoisydim.metrics._distances import (
    CLASSIFIERS,
    DISTANCES,
    classifier_auc,
    energy_distance,
    energy_test,
    mmd_test,
    monte_carlo_test,
    relative_distance,
    sliced_wasserstein,
)
from sknoisydim.metrics._drift import DriftReport
from sknoisydim.metrics._information import information_scorer, make_match_scorer, match_scorer
from sknoisydim.metrics._tests import (
    MARGINAL_TESTS,
    henze_zirkler,
    kolmogorov_smirnov,
)

from ._dependence import intrinsic_dimension, max_correlation, total_correlation
from ._information import InformationEstimate, mutual_information
from ._report import VERDICTS, MatchReport
from ._samples import JointTest, MarginalTest

#: ``test(Z, reference, *, random_state) -> JointTest``
JOINT_TESTS: dict[str, Callable[..., JointTest]] = {
    "energy_test": energy_test,
    "henze_zirkler": henze_zirkler,
    "mmd_test": mmd_test,
}

__all__ = [
    "CLASSIFIERS",
    "DISTANCES",
    "JOINT_TESTS",
    "MARGINAL_TESTS",
    "VERDICTS",
    "Consistency",
    "DriftReport",
    "InformationEstimate",
    "JointTest",
    "MarginalTest",
    "MatchReport",
    "align",
    "classifier_auc",
    "consistency",
    "effective_rank",
    "energy_distance",
    "energy_test",
    "henze_zirkler",
    "information_scorer",
    "intrinsic_dimension",
    "kolmogorov_smirnov",
    "make_match_scorer",
    "match_scorer",
    "max_correlation",
    "mmd_test",
    "monte_carlo_test",
    "mutual_information",
    "relative_distance",
    "sliced_wasserstein",
    "total_correlation",
]
