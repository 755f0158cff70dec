"""`diagnose`: a verdict that is right where the answer is known, in every form of its report."""

import copy
import dataclasses
import json
import math
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from over import over
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from benchmarks.metrics_power import ALTERNATIVES
from sknoisydim import NoisyDIMTransformer
from sknoisydim._diagnosis import advise, judge, marginal_wasserstein, measure
from sknoisydim.metrics import VERDICTS, MatchReport
from sknoisydim.metrics._information import channel_information
from sknoisydim.noise import GaussianChannel
from sknoisydim.targets import MultivariateNormal, PushForward, UniformBall

X = np.random.default_rng(7).permutation(load_iris().data)
TRAIN, TEST = X[:100], X[100:]


def quick(n_components=2, **params):
    return NoisyDIMTransformer(
        n_components, **{"max_epochs": 2, "random_state": 0, "refine": None} | params
    )


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(TRAIN)


@pytest.fixture(scope="module")
def report(fitted):
    return fitted.diagnose(TEST)


def values_of(Z, *, scaled=None, scale=None, batch_size=None, classifier=False, seed=1):
    """What is measured of samples Z (n, d) that are taken for the embedding."""
    rng = np.random.default_rng(seed)
    n, d = Z.shape
    batch = batch_size or min(n, 512)
    auto = 1 / math.sqrt(math.expm1(1.6 * math.log(batch) / d))
    info = channel_information(Z, GaussianChannel(d, scale or auto), batch, rng, n_draws=5)
    return {
        "information": info,
        "training_information": info.reachable,
        "training_reachable": info.reachable,
        **measure(Z, Z if scaled is None else scaled, rng, classifier=classifier),
    }


def normal(n, d, seed=0):
    return np.random.default_rng([seed, n, d]).standard_normal((n, d))


class TestVerdict:
    def test_of_the_target_itself(self):
        # Level 0.05 over all tests together: 4 of 12 have a chance of one in 500.
        verdicts = [judge(values_of(normal(120, 3, seed), seed=seed)) for seed in range(12)]
        assert set(verdicts) <= {"match", "close"}
        assert verdicts.count("match") >= 9
        assert "match" in [judge(values_of(normal(150, 2, s), classifier=True)) for s in (0, 1)]

    @over(name=["mixture", "copula", "correlated", "lattice"])
    def test_of_a_wrong_joint_distribution(self, name):
        Z = ALTERNATIVES[name](600, 4, np.random.default_rng(0))
        assert judge(values_of(Z)) in {"close", "different"}

    @over(classifier=[False, True])
    def test_of_one_far_away(self, classifier):
        Z = np.random.default_rng(0).exponential(size=(250, 2)) - 1
        assert judge(values_of(Z, classifier=classifier)) == "different"

    @over(shape=[(2, 1), (30, 2), (99, 1), (150, 16)])
    def test_of_few_samples_is_never_a_match(self, shape):
        assert judge(values_of(normal(*shape))) != "match"


@pytest.fixture(scope="module")
def perfect():
    """What is measured of samples of the target itself."""
    return values_of(normal(200, 3, seed=1), batch_size=512)


def said(values, **params):
    fit = {"match_weight": 1.0, "refine": None, "normalization": "whiten", "early_stopping": False}
    return "\n".join(advise(values, SimpleNamespace(**{**fit, "batch_size_": 512, **params})))


class TestAdvice:
    def test_nothing_to_change(self, perfect):
        assert said(perfect).startswith("Nothing to change")
        assert said(perfect).count("\n") == 0

    def test_which_tests_have_seen_a_difference(self, perfect):
        small = said({**perfect, "mmd_pvalue": 0.005})
        assert small == "A difference is seen by the kernel test (MMD), and it is small."
        chance = said({**perfect, "mmd_pvalue": 0.03})
        assert chance.startswith("Nothing to change")
        assert "Not counted: the kernel test (MMD) (0.030)" in chance
        both = {**perfect, "mmd_pvalue": 0.001, "energy_pvalue": 0.001, "auc_mlp": 0.93}
        both = said({**both, "henze_zirkler_pvalue": 0.049})
        assert "A difference is seen by the energy test and the kernel test (MMD)." in both
        assert "Not counted: the Henze-Zirkler test (0.049)" in both

    def test_a_capacity_beyond_the_batch(self):
        found = said(values_of(normal(200, 16), scale=0.1))
        assert "36.9 nats, is beyond what a batch of 512 can show (6.2)" in found
        assert "Nothing to change" not in found

    def test_few_samples_a_lattice_and_few_dimensions(self):
        assert "too few to judge" in said(values_of(normal(30, 2)))
        assert "lattice" in said(values_of(np.round(normal(200, 2))))
        u = np.random.default_rng(0).uniform(size=(300, 2))
        flat = np.hstack([u, np.sin(3 * u), u**2])
        assert "try n_components=2" in said(values_of(normal(300, 6), scaled=flat))
        assert "n_components=" not in said(values_of(normal(300, 2), scaled=flat))

    def test_information(self, perfect):
        info, reachable = perfect["information"], perfect["training_reachable"]
        assert "passed 60%" in said({**perfect, "training_information": 0.6 * reachable})
        ends = dict.fromkeys(("value", "low", "high"), 0.7 * info.reachable)
        lower = dataclasses.replace(info, **ends)
        gap = {**perfect, "information": lower}
        assert "does not carry over" in said(gap)
        assert "early_stopping=True" in said(gap)
        assert "early_stopping=True" not in said(gap, early_stopping=True)
        # Few draws of few samples: a gap that chance explains is none.
        unsure = dataclasses.replace(lower, high=0.95 * info.reachable)
        assert "does not carry over" not in said({**perfect, "information": unsure})

    def test_a_wrong_joint_distribution(self, perfect):
        assert "AUC 0.93" in said({**perfect, "auc_boosting": 0.6, "auc_mlp": 0.93})
        assert "AUC" not in said({**perfect, "auc_boosting": 0.51, "auc_mlp": 0.52})
        Z = np.random.default_rng(0).exponential(size=(250, 2)) - 1
        assert "(energy) and" in said(values_of(Z))

    @over(
        case=[
            ({"match_weight": 3.0}, "match_weight=3"),
            ({"refine": "rotation"}, "'rotation'"),
            ({"refine": PushForward(np.exp)}, "refine="),
        ]
    )
    def test_what_was_done_is_not_advised(self, perfect, case):
        params, absent = case
        wrong = {"auc_mlp": 0.93, "worst_ks_pvalue": 0.0, "relative_marginal_distance": 3.0}
        assert absent in said({**perfect, **wrong})
        assert absent not in said({**perfect, **wrong}, **params)


class TestReport:
    def test_the_values_are_those_of_fit_and_metrics(self, fitted, report):
        assert report.n_rows == len(TEST)
        assert report.training_information == fitted.mutual_information_
        assert report.information.capacity == fitted.capacity_
        assert report.verdict in VERDICTS
        assert 0 <= report.auc_mlp <= 1

    @over(
        target=[
            "uniform",
            stats.gamma(2),
            ["uniform", stats.t(3)],
            UniformBall(),
            MultivariateNormal([1, 2], [[2, 1], [1, 2]]),
        ]
    )
    def test_the_target_does_not_matter(self, fitted, target):
        expected = fitted.diagnose(TEST, classifier=False)
        found = fitted.retarget(target).diagnose(TEST, classifier=False)
        assert dataclasses.replace(found, target="normal") == expected

    def test_a_refinement_is_judged_as_part_of_the_embedding(self):
        rows = np.random.default_rng(0).exponential(size=(300, 3))
        fitted = quick(refine="rotation", clean_weight=1).fit(rows)
        unrefined = copy.copy(fitted)
        unrefined.refinement_ = None
        refined, plain = (m.diagnose(rows, classifier=False) for m in (fitted, unrefined))
        assert refined.information == plain.information
        assert refined.relative_marginal_distance < plain.relative_marginal_distance

    def test_is_deterministic_and_changes_nothing(self, fitted, report):
        state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        rows = TEST.copy()
        rows.flags.writeable = False
        assert fitted.diagnose(rows) == report
        assert fitted.diagnose(rows, random_state=1, classifier=False) != report
        assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), torch_state)

    @over(n=[2, 3, 5, 20], d=[1, 4])
    def test_few_samples(self, n, d):
        found = quick(d).fit(TRAIN).diagnose(TEST[:n])
        assert found.n_rows == n
        assert "too few to judge" in str(found)
        check_forms(found)

    @over(
        case=[
            (lambda dim: dim.diagnose(TEST[:, :3]), ValueError, "X has 3 features"),
            (lambda dim: dim.diagnose(TEST[:1]), ValueError, "minimum of 2 is required"),
            (lambda dim: dim.diagnose(TEST, classifier="mlp"), TypeError, "True or False"),
            (lambda dim: dim.diagnose(TEST, random_state="a"), ValueError, "random_state"),
            (lambda dim: quick().diagnose(TEST), NotFittedError, "not fitted"),
        ]
    )
    def test_wrong_input(self, fitted, case):
        call, error, message = case
        with pytest.raises(error, match=message):
            call(fitted)


def check_forms(report):
    """Every form of a report can be had, and holds no NaN where it is shown."""
    assert "nan" not in str(report)
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    names = {entry.name for entry in dataclasses.fields(MatchReport)}
    assert set(values) == names - {"quantiles", "scatter"}
    assert not report.to_frame()[["value", "pvalue"]].isna().all(axis=1).any()
    tree = ElementTree.fromstring(report._repr_html_())  # it is well formed
    for element in tree.iter():
        for name, value in element.attrib.items():
            assert not re.search("nan|inf", value), (element.tag, name)
    return tree


class TestForms:
    def test_the_card_shows_the_table_and_pictures(self, report):
        tree = check_forms(report)
        assert len(tree.findall(".//svg")) == 2
        assert tree.find(".//pre").text == str(report)
        one = check_forms(quick(1).fit(TRAIN).diagnose(TEST, classifier=False))
        assert len(one.findall(".//svg")) == 1


def test_marginal_wasserstein_of_a_shift():
    Z = stats.norm.ppf((np.arange(100) + 0.5) / 100)[:, None] + [0.0, 3.0]
    assert marginal_wasserstein(Z, "normal", random_state=0) == pytest.approx(3 / math.sqrt(2))
