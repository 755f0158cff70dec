"""`diagnose`: a verdict that is right where the answer is known, in every form of its report."""

import copy
import dataclasses
import json
import math
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
from over import over
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small import fails, small

from benchmarks.metrics_power import ALTERNATIVES
from sknoisydim.metrics import VERDICTS, MatchReport, intrinsic_dimension
from sknoisydim.metrics._distances import marginal_wasserstein
from sknoisydim.metrics._information import about_labels, channel_information
from sknoisydim.metrics._report import measure
from sknoisydim.noise import GaussianChannel
from sknoisydim.targets import MultivariateNormal, PushForward, UniformBall

X = np.random.default_rng(7).permutation(load_iris().data)
TRAIN, TEST = X[:100], X[100:]
quick = small(2)


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(TRAIN)


@pytest.fixture(scope="module")
def report(fitted):
    return fitted.diagnose(TEST)


def values_of(Z, *, scaled=None, scale=None, batch_size=None):
    """What is measured of samples Z (n, d) that are taken for the embedding."""
    rng = np.random.default_rng(1)
    n, d = Z.shape
    batch = batch_size or min(n, 512)
    auto = 1 / math.sqrt(math.expm1(1.6 * math.log(batch) / d))
    info = channel_information(Z, GaussianChannel(d, scale or auto), batch, rng, n_draws=5)
    return {
        "information": info,
        "training_information": info.reachable,
        "training_reachable": info.reachable,
        "intrinsic_dimension": intrinsic_dimension(Z if scaled is None else scaled),
        "intrinsic_dimension_needed": intrinsic_dimension(rng.standard_normal((n, d))),
        **measure(Z, rng, classifier=False),
    }


def normal(n, d, seed=0):
    return np.random.default_rng([seed, n, d]).standard_normal((n, d))


OBLIQUE = MultivariateNormal([1, 2], [[2, 1], [1, 2]])
EXPONENTIAL = np.random.default_rng(0).exponential(size=(250, 2)) - 1


class TestVerdict:
    def verdict(self, Z, **options):
        options = {"classifier": False, "random_state": 1} | options
        return MatchReport.from_arrays(Z, **options).verdict

    def test_of_the_target_itself(self):
        # Level 0.05 over all tests together: 4 of 12 have a chance of one in 500.
        verdicts = [self.verdict(normal(120, 3, seed), random_state=seed) for seed in range(12)]
        assert set(verdicts) <= {"match", "close"}
        assert verdicts.count("match") >= 9
        assert "match" in [self.verdict(normal(150, 2, s), classifier=True) for s in (0, 1)]

    def test_of_another_distribution(self):
        for name in ("mixture", "copula", "correlated", "lattice"):
            Z = ALTERNATIVES[name](600, 4, np.random.default_rng(0))
            assert self.verdict(Z) in {"close", "different"}, name
        assert {self.verdict(EXPONENTIAL, classifier=c) for c in (False, True)} == {"different"}

    def test_of_few_samples_is_never_a_match(self):
        for shape in ((2, 1), (30, 2), (99, 1), (150, 16)):
            assert self.verdict(normal(*shape)) != "match"


@pytest.fixture(scope="module")
def perfect():
    return values_of(normal(200, 3, seed=1), batch_size=512)


def gap(values, **ends):
    """Of new samples less crosses than of those of training."""
    info = values["information"]
    less = dict.fromkeys(("value", "low", "high"), 0.7 * info.reachable)
    return {"information": dataclasses.replace(info, **less | ends)}


def flat(d):
    u = np.random.default_rng(0).uniform(size=(300, 2))
    return values_of(normal(300, d), scaled=np.hstack([u, np.sin(3 * u), u**2]))


LITTLE = {"training_information": 0.1}
SHORT = {"training_information": 0.6, "training_reachable": 1.0}
SEEN = {"mmd_pvalue": 0.001, "energy_pvalue": 0.001, "auc_mlp": 0.93}
WRONG = {"auc_mlp": 0.93, "worst_ks_pvalue": 0.0, "relative_marginal_distance": 3.0}
NOTHING, TWO = "Nothing to change", "A difference is seen by: energy (relative), kernel test (MMD)."
CAPACITY = "36.9 nats, is beyond what a batch of 512 can show (6.2)"
FAR_OFF = "joint distribution differs from the target. What can"
# What is measured otherwise than of the target itself, how the fit was made, and what is said of
# it, and what is not.
ADVICE = [
    ({}, {}, NOTHING, "\n"),
    (LITTLE, {}, "more epochs", None),
    (LITTLE, {"n_samples_seen_": 30}, "The fit had 30 samples, too few", "more epochs"),
    ({"mmd_pvalue": 0.005}, {}, "A small difference is seen by: kernel test (MMD).", "\n"),
    ({"mmd_pvalue": 0.03}, {}, NOTHING, "\n"),  # by chance
    (SEEN | {"henze_zirkler_pvalue": 0.001}, {}, "(MMD), Henze-Zirkler test.", None),
    (SEEN | {"henze_zirkler_pvalue": 0.049}, {}, TWO, None),
    (lambda _: values_of(normal(200, 16), scale=0.1), {}, CAPACITY, NOTHING),
    (lambda _: values_of(normal(30, 2)), {}, "too few to judge", None),
    (lambda _: values_of(np.round(normal(200, 2))), {}, "lattice", None),
    (lambda _: flat(6), {}, "at most 2 can be", None),
    (lambda _: flat(2), {}, "", "n_components="),
    (SHORT, {}, "passed 60%", "supervision"),
    (SHORT, {"supervision": 100.0}, "a smaller supervision", None),
    (gap, {}, "does not carry over", None),
    (gap, {}, "early_stopping=True", None),
    (gap, {"early_stopping": True}, "", "early_stopping=True"),
    # Few draws of few samples: a gap that chance explains is none.
    (lambda v: gap(v, high=0.95 * v["information"].reachable), {}, "", "does not carry over"),
    ({"auc_boosting": 0.6, "auc_mlp": 0.93}, {}, "AUC 0.93", "supervision"),
    ({"auc_boosting": 0.51, "auc_mlp": 0.52}, {}, "", "AUC"),
    ({"auc_mlp": 0.93}, {"supervision": 100.0}, "a smaller supervision", None),
    (lambda _: values_of(EXPONENTIAL), {}, FAR_OFF, None),
    # What was done is not advised.
    (WRONG, {}, "far fewer components", "a smaller supervision"),
    (WRONG, {}, "refine='rotation'", None),
    (WRONG, {"refine": "rotation"}, "", "refine='rotation'"),
    (WRONG, {"refine": PushForward(np.exp)}, "", "refine="),
]


@over("changed, params, said, unsaid", ADVICE)
def test_advice(changed, params, said, unsaid, perfect):
    values = perfect | (changed(perfect) if callable(changed) else changed)
    fit = {"refine": None, "normalization": "whiten", "supervision": 0.0}
    fit |= {"early_stopping": False, "batch_size_": 512, "n_samples_seen_": 1000}
    found = "\n".join(MatchReport._of(values, "normal", SimpleNamespace(**fit | params)).advice)
    assert said in found
    assert unsaid is None or unsaid not in found


class TestReport:
    def test_the_values_are_those_of_fit_and_metrics(self, fitted, report):
        assert report.n_rows == len(TEST)
        assert report.training_information == fitted.mutual_information_
        assert report.information.capacity == fitted.capacity_
        assert report.verdict in VERDICTS
        assert 0 <= report.auc_mlp <= 1
        assert fitted.diagnose(TEST) == report
        assert fitted.diagnose(TEST, random_state=1, classifier=False) != report

    @over(target=["uniform", ["uniform", stats.t(3)], UniformBall(), OBLIQUE])
    def test_the_target_does_not_matter(self, fitted, target):
        expected = fitted.diagnose(TEST, classifier=False)
        found = fitted.retarget(target).diagnose(TEST, classifier=False)
        assert {**found, "target": "normal"} == expected

    def test_a_refinement_is_judged_as_part_of_the_embedding(self):
        rows = np.random.default_rng(0).exponential(size=(300, 3))
        fitted = quick(refine="rotation", clean_weight=1).fit(rows)
        unrefined = copy.copy(fitted)
        unrefined.refinement_ = None
        refined, plain = (m.diagnose(rows, classifier=False) for m in (fitted, unrefined))
        assert refined.information == plain.information
        assert refined.relative_marginal_distance < plain.relative_marginal_distance

    def test_no_information_is_none(self, fitted):
        found = fitted.diagnose(np.ones((50, 4)), classifier=False)
        assert found.information.low == 0 <= found.information.value < 0.1
        assert "-" not in found.advice[0]

    @over(n=[2, 3, 20], d=[1, 4])
    def test_few_samples(self, n, d):
        found = quick(d).fit(TRAIN).diagnose(TEST[:n])
        assert found.n_rows == n
        assert f"{n} samples for {d} components are too few to judge" in "".join(found.advice)
        assert found.verdict != "unclear" or "more epochs" not in "".join(found.advice)
        check_forms(found)


def check_forms(report):
    """Every form of a report can be had, and holds no NaN where it is shown."""
    assert "nan" not in str(report)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False)).keys() == report.keys()
    assert not report.to_frame()[["value", "pvalue"]].isna().all(axis=1).any()


class TestForms:
    def test_has_its_documented_attributes(self, report):
        check_forms(report)
        assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict()
        listed = re.findall(r"^    (\w+(?:, \w+)*) : ", MatchReport.__doc__, re.MULTILINE)
        assert {name for line in listed for name in line.split(", ")} == report.keys()

    def test_the_p_values_that_count_are_marked(self, report):
        changed = {"worst_ks_pvalue": 0.3, "energy_pvalue": 0.005, "mmd_pvalue": 0.03}
        changed |= {"henze_zirkler_pvalue": 0.5, "max_correlation_pvalue": math.nan}
        few = MatchReport(**report | changed)
        counted = few.to_frame()["rejected"]
        assert counted[counted].index.tolist() == [("joint", "energy (relative)")]


class TestLabels:
    def test_information_is_that_of_a_linear_model(self, fitted):
        Z = fitted.transform(TEST)
        y = Z @ [1.0, -1.0] + np.random.default_rng(0).standard_normal(50)
        found = fitted.diagnose(TEST, y, classifier=False)
        scale = fitted.noise_scale_
        explained = LinearRegression().fit(Z, y).score(Z, y)
        noisy = -0.5 * np.log1p(-explained / (1 + scale**2))
        assert found.label_information == pytest.approx(noisy, rel=0.05)
        assert found.label_pvalue == 1 / 200
        assert found.shuffled_label_information < 0.1 * found.label_information

    def test_classes(self, fitted):
        labels = load_iris().target_names[np.random.default_rng(7).permutation(load_iris().target)]
        found = fitted.diagnose(TEST, labels[100:], classifier=False)
        assert found.label_pvalue == 1 / 200
        assert "in random order" not in "".join(found.advice)
        values = [found.label_information, found.shuffled_label_information]
        assert found.to_frame().loc["labels", "value"].tolist() == values
        assert fitted.diagnose(TEST[:2], [0, 1]).label_information == 0  # of no class two samples
        plain = fitted.diagnose(TEST, classifier=False)
        assert math.isnan(plain.label_information)
        assert "labels" not in plain.to_frame().index.get_level_values("group")
        assert "AUC" not in f"{plain}{plain.to_frame()}"

    def test_p_values_of_labels_that_mean_nothing_are_uniform(self, fitted):
        rng, z = np.random.default_rng(0), fitted.transform(TEST)
        found = [about_labels(fitted, z, rng.integers(3, size=50), rng) for _ in range(80)]
        p_values = [one["label_pvalue"] for one in found]
        assert stats.kstest(p_values, "uniform").pvalue > 0.001

    def test_an_embedding_of_shuffled_labels_is_found_out(self, monkeypatch):
        monkeypatch.setattr("sknoisydim._references.LIMITED_ROWS", 0)  # so that it memorises
        rng = np.random.default_rng(0)
        rows, y = rng.standard_normal((300, 20)), rng.integers(2, size=300)
        dim = quick(supervision=100.0, max_epochs=60, refine="rotation").fit(rows[:150], y[:150])
        Z = dim.transform(rows[:150])
        assert LogisticRegression().fit(Z, y[:150]).score(Z, y[:150]) > 0.85  # it looks good
        found = dim.diagnose(rows[150:], y[150:], classifier=False)
        assert found.label_pvalue > 0.05
        assert "what training samples show of it is memorised" in " ".join(found.advice)

    def test_labels_follow_the_samples_that_are_judged(self, fitted, monkeypatch):
        monkeypatch.setattr("sknoisydim.metrics._report.MAX_JUDGED_SAMPLES", 30)
        monkeypatch.setattr(fitted, "batch_size_", 30)
        y = fitted.transform(X)[:, 0]
        found = fitted.diagnose(X, y, classifier=False)
        assert found.n_rows == found.information.n_rows == 30
        assert found.label_information > 0.3

    def test_unknown_labels_are_left_out_and_wrong_ones_are_refused(self, fitted):
        y = fitted.transform(TEST)[:, 0]
        y[::2] = np.nan
        assert fitted.diagnose(TEST, y, classifier=False).label_pvalue == 1 / 200
        fails("inconsistent numbers", fitted.diagnose, TEST, y[:-1])


class TestOtherWays:
    def test_from_a_pipeline(self, fitted):
        pipe = make_pipeline(StandardScaler(), quick(), LogisticRegression())
        pipe.fit(TRAIN, TRAIN[:, 0] > 5.8)
        y = TEST[:, 0] > 5.8
        found = MatchReport.from_estimator(pipe, TEST, y, random_state=1, classifier=False)
        scaled = pipe[0].transform(TEST)
        assert found == pipe[1].diagnose(scaled, y, random_state=1, classifier=False)
        assert MatchReport.from_estimator(fitted, TEST) == fitted.diagnose(TEST)
        wrong, message = make_pipeline(StandardScaler()), "must be a NoisyDIMTransformer, or a Pi"
        fails(message, MatchReport.from_estimator, wrong, TEST, error=TypeError)

    def test_from_arrays(self, fitted):
        known = fitted.diagnose(TEST, classifier=False)
        for target in ("uniform", UniformBall()):
            Z = fitted.retarget(target).transform(TEST)
            found = MatchReport.from_arrays(Z, target, classifier=False)
            check_forms(found)
            assert found.worst_ks == pytest.approx(known.worst_ks, abs=1e-9)
            assert found.max_correlation == pytest.approx(known.max_correlation, abs=1e-6)
            assert found.information is None
            assert "epochs" not in "".join(found.advice)

    def test_from_arrays_sees_what_is_wrong(self):
        Z = np.random.default_rng(0).uniform(size=(300, 3))
        assert MatchReport.from_arrays(Z, "uniform", classifier=False).verdict == "match"
        found = MatchReport.from_arrays(Z**2, "uniform", classifier=False)
        assert found.verdict == "different"
        assert found.target == "uniform"
        assert "differs from the target." in found.advice[0]
        outside = MatchReport.from_arrays(normal(300, 2), "uniform", classifier=False)
        assert re.match(r"8\d% of the samples lie outside of the support", outside.advice[0])
        assert "lattice" not in str(outside)

    def test_wrong_input(self, fitted):
        arrays, twos = MatchReport.from_arrays, np.ones((5, 2))
        fails("minimum of 2 is required", fitted.diagnose, TEST[:1])
        fails("True or False", fitted.diagnose, TEST, classifier="mlp", error=TypeError)
        fails("random_state", fitted.diagnose, TEST, random_state="a")
        fails("not fitted", quick().diagnose, TEST, error=NotFittedError)
        fails("minimum of 2", arrays, twos[:1], "normal")
        fails("gaussian", arrays, twos, "gaussian")
        fails("needs a known distribution", arrays, twos, twos, error=TypeError)


def test_marginal_wasserstein_of_a_shift():
    Z = stats.norm.ppf((np.arange(100) + 0.5) / 100)[:, None] + [0.0, 3.0]
    assert marginal_wasserstein(Z, "normal", random_state=0) == pytest.approx(3 / math.sqrt(2))
