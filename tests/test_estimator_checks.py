"""scikit-learn's own checks, all of them, strictly: two are expected to fail, none may skip."""

import functools

import pytest
import sklearn
from over import over
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.fixes import parse_version
from small import Perceptron, small

import sknoisydim
from sknoisydim import NoisyDIMTransformer
from sknoisydim.targets import Uniform

# scikit-learn excuses its own estimators that draw batches, such as Perceptron and SGDClassifier:
# repeating a row and weighing it have the same distribution, not the same numbers that are drawn.
EXPECTED_FAILURES = {
    f"check_sample_weight_equivalence_on_{kind}_data": "rows are drawn at random, by their weight"
    for kind in ("dense", "sparse")
}


dim = small(keep="pca", random_state=None)


# Estimators that are checked, and how many checks scikit-learn 1.9 yields for one with its tags.
# Every transformer but the first sets many parameters, and each parameter is set in one of them.
# Some checks set n_components=1, so a sequence of distributions can only have one.
ESTIMATORS = {
    "defaults": (NoisyDIMTransformer(max_epochs=2), 55),
    # One more check: the tag says that y is required.
    "supervised": (
        dim(
            n_components=16,
            target="uniform",
            normalization="batch",
            supervision=0.5,
            batch_size=20,
            max_epochs=1,
            early_stopping=1,
        ),
        56,
    ),
    # One less: the tag says that sparse rows are refused, and they are.
    "quantile": (
        dim(
            n_components=1,
            target=[Uniform(1, 2)],
            noise=0.5,
            critic="exact",
            augmentation=None,
            clean_weight=1.0,
            refine="rotation",
            scaling="quantile",
            batch_size=1000,
            max_epochs=1,
        ),
        54,
    ),
    # One less: the tag says that NaN is allowed, and tests/test_missing.py sees to infinity.
    "missing": (
        dim(
            missing="indicator",
            encoder=Perceptron,
            keep=None,
            match_weight=0.0,
            augmentation="jitter",
            clean_weight=0.5,
            scaling=None,
            batch_size=20,
        ),
        54,
    ),
    "codes": (sknoisydim.UniformCodes(dim(2), bits=4, random_state=0), 46),
    "outliers": (sknoisydim.NoisyDIMOutlierDetector(dim(), n_estimators=1, random_state=0), 46),
    "drift": (sknoisydim.NoisyDIMDriftMonitor(dim(), random_state=0), 41),
}

# Checks that scikit-learn runs on its own estimators only. The eleventh of this kind,
# check_param_validation, asks for its private tables of constraints.
FURTHER_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_inplace_ensure_writeable",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


def run(check, estimator):
    """Run a check; one that skips itself has checked nothing, and so fails."""
    try:
        check(clone(estimator))
    except estimator_checks.SkipTest as reason:
        pytest.fail(f"it skipped itself: {reason}")


# What detector, monitor and score say of so few rows.
@pytest.mark.filterwarnings("ignore:no p-value is below:UserWarning")
@pytest.mark.filterwarnings("ignore:with .* samples held out:UserWarning")
@pytest.mark.filterwarnings("ignore:.*so the score is 0:UserWarning")
@parametrize_with_checks(
    [estimator for estimator, _ in ESTIMATORS.values()],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_check(estimator, check):
    run(check, estimator)


# What checks of data frames provoke: they fit on a frame and transform an array, or the reverse.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize(
    "name", ["defaults", "supervised", "codes"]
)  # what containers do not depend on
@pytest.mark.parametrize("check", FURTHER_CHECKS)
def test_further_check(name, check):
    found = functools.partial(getattr(estimator_checks, check), NoisyDIMTransformer.__name__)
    run(found, ESTIMATORS[name][0])


@over("estimator, number", ESTIMATORS)
def test_number_of_checks(estimator, number, recwarn):
    # scikit-learn 1.8 has one check less than 1.9.
    fewer = parse_version(sklearn.__version__) < parse_version("1.9")
    assert len(list(estimator_checks.estimator_checks_generator(estimator))) >= number - fewer
    assert not [w for w in recwarn if issubclass(w.category, SkipTestWarning)]
