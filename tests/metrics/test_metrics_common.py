"""What holds for all metrics of a sample: references, randomness, errors, cost."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from over import over
from scipy import stats
from scipy.special import ndtr
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from benchmarks.metrics_power import JOINT_TESTS, MARGINAL_TESTS
from sknoisydim import metrics
from sknoisydim.metrics import DISTANCES
from sknoisydim.targets import Independent, MultivariateNormal

# What takes a reference sample, too; the others compare with a known distribution only.
TWO_SAMPLE = [*DISTANCES, "energy_test", "mmd_test", "classifier_auc"]
ALL = {*TWO_SAMPLE, *MARGINAL_TESTS, *JOINT_TESTS, "total_correlation"}
RANDOM = ALL - set(MARGINAL_TESTS)

each = over(name=sorted(ALL))
each_two_sample = over(name=TWO_SAMPLE)


@pytest.fixture
def Z():
    return np.random.default_rng(1).standard_normal((120, 3)) * [1.0, 1.2, 0.9]


def call(name, Z, reference="normal", **params):
    """The result as an array of numbers."""
    if name in RANDOM:
        params.setdefault("random_state", 0)
    result = getattr(metrics, name)(Z, reference, **params)
    if dataclasses.is_dataclass(result):
        values = dataclasses.astuple(result)
        if name in MARGINAL_TESTS:
            assert {value.shape for value in values} == {(Z.shape[1],)}
            assert (result.pvalue_holm >= result.pvalue).all()
        else:
            assert [type(value) for value in values] == [float, float]
            assert 0 <= result.pvalue <= 1
        return np.array(values, dtype=float)
    assert type(result) is float
    return np.array(result)


def test_every_public_function_is_tested_here():
    functions = {name for name in metrics.__all__ if callable(getattr(metrics, name))}
    # What is tested elsewhere: what takes a fitted estimator, or compares two embeddings.
    apart = {"JointTest", "MarginalTest", "relative_distance", "monte_carlo_test", "DriftReport"}
    apart |= {"InformationEstimate", "MatchReport", "mutual_information", "intrinsic_dimension"}
    apart |= {"information_scorer", "make_match_scorer", "match_scorer"}
    apart |= {"Consistency", "align", "consistency", "effective_rank"}
    assert functions - apart == ALL


@each
def test_a_target_is_compared_in_its_normal_preimage(name, Z):
    independent = Independent([stats.expon(), stats.t(3), stats.norm(5, 2)])
    joint = MultivariateNormal([1.0, 2.0, 3.0], [[2.0, 1.0, 0], [1.0, 2.0, 1.0], [0, 1.0, 2.0]])
    expected = call(name, Z)
    for target, rows in [
        ("uniform", ndtr(Z)),
        (independent, independent.bind(3).push(Z)),
        (joint, joint.bind(3).push(Z)),
    ]:
        np.testing.assert_allclose(call(name, rows, target), expected, rtol=1e-5, atol=1e-7)


@each_two_sample
def test_a_reference_sample(name, Z):
    rng = np.random.default_rng(2)
    Y = rng.standard_normal((120, 3))
    same, further = call(name, Z, Y), call(name, 3 * Z + 4 * Z[:, [1]], Y)
    assert further.ravel()[0] > same.ravel()[0]
    assert np.isfinite(call(name, Z, Y[:50])).all()
    with pytest.raises(ValueError, match="3 columns but the reference sample has 2"):
        call(name, Z, Y[:, :2])


@over(name=sorted(ALL - set(TWO_SAMPLE)))
def test_a_sample_where_a_distribution_is_needed(name, Z):
    with pytest.raises(TypeError, match=f"{name} needs a known distribution"):
        call(name, Z, Z.copy())


@each
def test_the_order_of_samples_hardly_matters_and_they_are_not_changed(name, Z):
    before = Z.copy()
    Z.flags.writeable = False
    first, second = call(name, Z[::-1]), call(name, Z)
    np.testing.assert_array_equal(Z, before)
    # Exactly not, for what draws nothing.
    if name in MARGINAL_TESTS or name == "max_correlation":
        np.testing.assert_allclose(first, second, rtol=1e-9)
    else:
        assert first.ravel()[0] == pytest.approx(second.ravel()[0], rel=0.5, abs=0.3)


@over(name=sorted(RANDOM))
def test_random_state_decides(name, Z):
    def state():
        kind, words, *rest = np.random.get_state()  # noqa: NPY002
        return kind, words.tolist(), *rest

    before = state()
    for make in (int, np.random.default_rng, np.random.RandomState):
        first = call(name, Z, random_state=make(3))
        np.testing.assert_array_equal(first, call(name, Z, random_state=make(3)))
    call(name, Z, random_state=None)
    assert state() == before


@each
def test_bad_input(name, Z):
    for rows, reference, message in (
        (np.where(Z > 2, np.nan, Z), "normal", "NaN"),
        (Z[:, 0], "normal", "Expected 2D array"),
        (Z[:1], "normal", "minimum"),
        (Z, "norml", "Did you mean 'normal'"),
        (Z, Independent(["normal", "normal"]), "n_components=3"),
    ):
        with pytest.raises(ValueError, match=message):
            call(name, rows, reference)


def test_wrong_classifiers(Z):
    for classifier, error in (
        ("bosting", ValueError),
        (3, TypeError),
        (LinearRegression(), TypeError),
    ):
        with pytest.raises(error, match=r"Did you mean 'boosting'|one of 'boosting', 'mlp'"):
            metrics.classifier_auc(Z, classifier=classifier)
    model = GaussianNB()
    metrics.classifier_auc(Z, classifier=model, random_state=0)
    assert not hasattr(model, "classes_")


@over(name=[*JOINT_TESTS, *MARGINAL_TESTS])
def test_a_constant_component_is_rejected_and_no_other(name, Z):
    Z[:, 1] = 0.3
    result = getattr(metrics, name)(Z)
    if name in JOINT_TESTS:
        assert result.pvalue <= 0.005
    else:
        np.testing.assert_array_equal(result.pvalue_holm < 0.001, [False, True, False])


@each
def test_one_component(name, Z):
    assert np.isfinite(call(name, Z[:, :1])).all()


def test_importing_metrics_loads_no_heavy_module():
    code = (
        "import sys, sknoisydim.metrics as m, numpy as np\n"
        "m.sliced_wasserstein(np.eye(3), 'uniform')\n"
        "print(sorted({'torch', 'matplotlib', 'skorch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
