"""How far an embedding is from its target distribution, and how much information it keeps.

Metrics of a sample take ``Z`` of shape (n_samples, n_components) and a reference: a name ("normal",
"uniform") or a target of :mod:`sknoisydim.targets`, compared in its N(0, I) pre-image, or, for two
samples, an array of shape (m, n_components). :func:`mutual_information` and the scorers take a
fitted estimator and X; ``NoisyDIMTransformer.diagnose`` puts all of it into a :class:`MatchReport`.
"""

from sknoisydim.metrics._dependence import (
    Consistency,
    align,
    consistency,
    effective_rank,
    intrinsic_dimension,
    max_correlation,
    total_correlation,
)
from sknoisydim.metrics._distances import (
    CLASSIFIERS,
    DISTANCES,
    classifier_auc,
    energy_distance,
    energy_test,
    henze_zirkler,
    kolmogorov_smirnov,
    mmd_test,
    monte_carlo_test,
    relative_distance,
    sliced_wasserstein,
)
from sknoisydim.metrics._information import (
    InformationEstimate,
    information_scorer,
    make_match_scorer,
    match_scorer,
    mutual_information,
)
from sknoisydim.metrics._report import VERDICTS, DriftReport, MatchReport
from sknoisydim.metrics._samples import JointTest, MarginalTest

__all__ = [
    "CLASSIFIERS",
    "DISTANCES",
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
