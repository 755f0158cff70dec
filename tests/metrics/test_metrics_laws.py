"""Laws over all members of the tables: references, spaces, randomness, errors, cost."""

import dataclasses
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from over import over
from scipy import stats
from scipy.special import ndtr

from sknoisydim import metrics
from sknoisydim.metrics import (
    DISTANCES,
    JOINT_TESTS,
    MARGINAL_TESTS,
    classifier_auc,
    in_floors,
    monte_carlo_test,
    sliced_wasserstein,
    total_correlation,
)
from sknoisydim.targets import Independent, MultivariateNormal

# Methods that take a reference sample, and a `space`.
TWO_SAMPLE = {
    **DISTANCES,
    "energy_test": metrics.energy_test,
    "mmd_test": metrics.mmd_test,
    "classifier_auc": classifier_auc,
}
# Methods that compare with a known law only.
ONE_SAMPLE = {
    **MARGINAL_TESTS,
    **{name: test for name, test in JOINT_TESTS.items() if name not in TWO_SAMPLE},
    "total_correlation": total_correlation,
}
RANDOM = {**DISTANCES, **JOINT_TESTS, "classifier_auc": classifier_auc}
RANDOM |= {"total_correlation": total_correlation}
ALL = {**RANDOM, **MARGINAL_TESTS}

each = over(name=list(ALL))
each_random = over(name=list(RANDOM))
each_two_sample = over(name=list(TWO_SAMPLE))
each_one_sample = over(name=list(ONE_SAMPLE))


@pytest.fixture
def Z():
    return np.random.default_rng(1).standard_normal((120, 3)) * [1.0, 1.2, 0.9]


def call(name, Z, reference="normal", **params):
    """The result as an array of numbers."""
    if name in RANDOM:
        params.setdefault("random_state", 0)
    result = ALL[name](Z, reference, **params)
    if dataclasses.is_dataclass(result):
        return np.array(dataclasses.astuple(result), dtype=float)
    assert type(result) is float
    return np.array(result)


def test_every_public_function_is_under_these_laws():
    functions = {name for name in metrics.__all__ if callable(getattr(metrics, name))}
    apart = {"JointTest", "MarginalTest", "in_floors", "monte_carlo_test", "intrinsic_dimension"}
    # What takes a fitted estimator: test_metrics_estimators.py and test_diagnosis.py.
    apart |= {"InformationEstimate", "MatchReport", "mutual_information"}
    apart |= {"information_scorer", "make_match_scorer", "match_scorer"}
    assert functions - apart == set(ALL)
    assert set(TWO_SAMPLE) | set(ONE_SAMPLE) == set(ALL)


@each
def test_the_uniform_target_is_tested_in_the_normal_preimage(name, Z):
    np.testing.assert_allclose(call(name, ndtr(Z), "uniform"), call(name, Z), rtol=1e-5, atol=1e-7)


@each
def test_a_target_object(name, Z):
    target = Independent([stats.expon(), stats.t(3), stats.norm(5, 2)])
    rows = target.bind(3).push(Z)
    np.testing.assert_allclose(call(name, rows, target), call(name, Z), rtol=1e-5, atol=1e-7)


@each
def test_a_joint_target(name, Z):
    target = MultivariateNormal([1.0, 2.0, 3.0], [[2.0, 1.0, 0], [1.0, 2.0, 1.0], [0, 1.0, 2.0]])
    rows = target.bind(3).push(Z)
    np.testing.assert_allclose(call(name, rows, target), call(name, Z), rtol=1e-5, atol=1e-7)


@each
def test_values_at_the_edge_of_the_support(name, Z):
    rows = ndtr(Z)
    rows[:5, 0] = [0.0, 1.0, 0.0, 1.0, 1.0]
    assert np.isfinite(call(name, rows, "uniform")).all()


@each_two_sample
def test_the_targets_own_space(name, Z):
    found = call(name, ndtr(Z), "uniform", space="target")
    assert np.isfinite(found).all()
    assert not np.allclose(found, call(name, ndtr(Z), "uniform"))


@each_two_sample
def test_a_reference_sample(name, Z):
    Y = np.random.default_rng(2).standard_normal((120, 3))
    same = call(name, Z, Y, space="target")
    np.testing.assert_array_equal(same, call(name, Z, Y))
    further = call(name, 3 * Z + 4 * Z[:, [1]], Y)
    assert further.ravel()[0] > same.ravel()[0]


@each_one_sample
def test_a_sample_where_a_law_is_needed(name, Z):
    with pytest.raises(TypeError, match=f"{name} compares rows with a known law"):
        call(name, Z, Z.copy())


@each
def test_the_order_of_rows_hardly_matters(name, Z):
    # Exactly not, for what draws nothing.
    if name in MARGINAL_TESTS or name in ("max_correlation", "epps_pulley_sliced"):
        np.testing.assert_allclose(call(name, Z[::-1]), call(name, Z), rtol=1e-9)
    else:
        first, second = call(name, Z[::-1]).ravel()[0], call(name, Z).ravel()[0]
        assert first == pytest.approx(second, rel=0.5, abs=0.3)


@each
def test_rows_are_not_changed(name, Z):
    before = Z.copy()
    Z.flags.writeable = False
    call(name, Z)
    np.testing.assert_array_equal(Z, before)


@each_random
def test_random_state_decides(name, Z):
    np.testing.assert_array_equal(call(name, Z, random_state=3), call(name, Z, random_state=3))
    for make in (np.random.default_rng, np.random.RandomState):
        first = call(name, Z, random_state=make(3))
        np.testing.assert_array_equal(first, call(name, Z, random_state=make(3)))


@each_random
def test_the_global_generator_is_left_alone(name, Z):
    def words():
        return np.random.get_state()[1].copy(), np.random.get_state()[2]  # noqa: NPY002

    before = words()
    call(name, Z, random_state=None)
    after = words()
    assert before[1] == after[1]
    np.testing.assert_array_equal(before[0], after[0])


@each
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda Z: np.where(Z > 2, np.nan, Z), "NaN"),
        (lambda Z: Z[:, 0], "Expected 2D array"),
        (lambda Z: Z[:1], "minimum"),
        (lambda Z: Z[:, :0], "0 feature"),
    ],
    ids=["nan", "one-dimensional", "one row", "no column"],
)
def test_bad_rows(name, Z, change, message):
    with pytest.raises(ValueError, match=message):
        call(name, change(Z))


@each
def test_an_unknown_reference(name, Z):
    with pytest.raises(ValueError, match="Did you mean 'normal'"):
        call(name, Z, "norml")


@each
def test_a_target_of_another_width(name, Z):
    with pytest.raises(ValueError, match="n_components=3"):
        call(name, Z, Independent(["normal", "normal"]))


@each_two_sample
def test_a_sample_of_another_width(name, Z):
    with pytest.raises(ValueError, match="3 columns but the reference sample has 2"):
        call(name, Z, Z[:, :2])


@each_two_sample
def test_an_unknown_space(name, Z):
    with pytest.raises(ValueError, match="space='Target' is unknown"):
        call(name, Z, space="Target")


@over(name=list(JOINT_TESTS))
def test_a_constant_component_is_rejected(name, Z):
    Z[:, 1] = 0.3
    assert call(name, Z)[1] <= 0.005


@over(name=list(MARGINAL_TESTS))
def test_a_constant_component_is_rejected_and_no_other(name, Z):
    Z[:, 1] = 0.3
    rejected = MARGINAL_TESTS[name](Z).pvalue_holm < 0.001
    np.testing.assert_array_equal(rejected, [False, True, False])


@pytest.mark.parametrize("name", ["henze_zirkler", "mardia", "total_correlation"])
def test_more_columns_than_rows(name):
    with pytest.raises(ValueError, match="more rows than columns"):
        call(name, np.random.default_rng(0).standard_normal((5, 5)))


@each
def test_one_component(name, Z):
    assert np.isfinite(call(name, Z[:, :1])).all()


@over(name=list(JOINT_TESTS))
def test_results_are_python_floats_and_frozen(name, Z):
    result = JOINT_TESTS[name](Z, "normal", random_state=0)
    assert type(result.statistic) is float
    assert type(result.pvalue) is float
    assert 0.0 <= result.pvalue <= 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.pvalue = 0.5


@over(name=list(MARGINAL_TESTS))
def test_marginal_results(name, Z):
    result = MARGINAL_TESTS[name](Z, "normal")
    assert result.statistic.shape == result.pvalue.shape == result.pvalue_holm.shape == (3,)
    assert (result.pvalue_holm >= result.pvalue).all()


def test_an_unknown_classifier(Z):
    with pytest.raises(ValueError, match="Did you mean 'boosting'"):
        classifier_auc(Z, classifier="bosting")
    with pytest.raises(TypeError, match="one of 'boosting', 'mlp'"):
        classifier_auc(Z, classifier=3)


def test_the_users_classifier_is_not_changed(Z):
    from sklearn.naive_bayes import GaussianNB

    model = GaussianNB()
    classifier_auc(Z, classifier=model, random_state=0)
    assert not hasattr(model, "classes_")


@pytest.mark.parametrize("name", ["energy_test", "mmd_test", "sliced_wasserstein"])
def test_unequal_samples(name, Z):
    if name == "sliced_wasserstein":
        pytest.importorskip("ot")
    Y = np.random.default_rng(2).standard_normal((50, 3))
    assert np.isfinite(call(name, Z, Y)).all()


def test_without_pot_the_extra_is_named(Z, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    assert sliced_wasserstein(Z, "normal") > 0.0
    with pytest.raises(ImportError, match=r'pip install "sknoisydim\[metrics\]"'):
        sliced_wasserstein(Z, Z[:50])


def test_importing_metrics_loads_no_heavy_module():
    code = (
        "import sys, sknoisydim.metrics as m, numpy as np\n"
        "m.sliced_wasserstein(np.eye(3), 'uniform')\n"
        "print(sorted({'torch', 'matplotlib', 'ot', 'skorch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if name != "classifier_auc"])
def test_memory_is_bounded(name):
    # All pairs of 30,000 rows would take 7.2 GB. The rule: arrays of (4000, 4000) at most.
    Z = np.random.default_rng(0).standard_normal((30_000, 4))
    tracemalloc.start()
    try:
        call(name, Z)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400e6


@pytest.mark.parametrize("function", [in_floors, monte_carlo_test])
def test_unknown_distance(function, Z):
    with pytest.raises(ValueError, match="Did you mean 'energy_distance'"):
        function("energy_distanc", Z)
