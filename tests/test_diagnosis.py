"""`diagnose`: a verdict that is right where the answer is known, in every form of its report."""

import copy
import dataclasses
import json
import math
import pickle
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from benchmarks.metrics_power import ALTERNATIVES
from sknoisydim import NoisyDIMTransformer
from sknoisydim._diagnosis._advice import Parameters, advise, judge
from sknoisydim._diagnosis._measures import dimensions, law, marginal_wasserstein
from sknoisydim.metrics import VERDICTS, MatchReport
from sknoisydim.metrics._information import channel_information
from sknoisydim.noise import GaussianChannel
from sknoisydim.targets import MultivariateNormal, PushForward, UniformBall

X = np.random.default_rng(7).permutation(load_iris().data)
TRAIN, TEST = X[:100], X[100:]
FIGURES = [entry.name for entry in dataclasses.fields(MatchReport)]


def quick(n_components=2, **params):
    return NoisyDIMTransformer(n_components, max_epochs=2, random_state=0, **params)


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(TRAIN)


@pytest.fixture(scope="module")
def report(fitted):
    return fitted.diagnose(TEST)


def figures_of(Z, *, scaled=None, scale=None, batch_size=None, classifier=False, seed=1):
    """The figures for rows Z (n, d) that are taken for the embedding, as `diagnose` has them."""
    rng = np.random.default_rng(seed)
    n, d = Z.shape
    batch = batch_size or min(n, 512)
    auto = 1 / math.sqrt(math.expm1(1.6 * math.log(batch) / d))
    info = channel_information(Z, GaussianChannel(d, scale or auto), batch, 5, 0.95, rng)
    return {
        "n_rows": n,
        "n_components": d,
        "information": info,
        "training_information": info.reachable,
        "training_reachable": info.reachable,
        **law(Z, rng, classifier=classifier),
        **dimensions(Z if scaled is None else scaled, d, rng),
    }


def settings(**params):
    found = Parameters(
        match_weight=1.0,
        refine=None,
        normalization="whiten",
        early_stopping=False,
        batch_size=512,
    )
    return dataclasses.replace(found, **params)


def normal(n, d, seed=0):
    return np.random.default_rng([seed, n, d]).standard_normal((n, d))


class TestVerdict:
    def test_of_the_target_itself(self):
        # Level 0.05 over all tests together: 4 of 12 have a chance of one in 500.
        verdicts = [judge(figures_of(normal(120, 3, seed), seed=seed)) for seed in range(12)]
        assert set(verdicts) <= {"match", "close"}
        assert verdicts.count("match") >= 9

    def test_of_the_target_itself_with_classifiers(self):
        verdicts = [judge(figures_of(normal(150, 2, seed), classifier=True)) for seed in range(2)]
        assert "match" in verdicts

    @pytest.mark.parametrize("name", ["mixture", "copula", "correlated", "lattice"])
    def test_of_a_wrong_joint_law(self, name):
        Z = ALTERNATIVES[name](600, 4, np.random.default_rng(0))
        assert judge(figures_of(Z)) in {"close", "different"}

    def test_of_a_law_far_away(self):
        Z = np.random.default_rng(0).exponential(size=(250, 2)) - 1
        for classifier in (False, True):
            assert judge(figures_of(Z, classifier=classifier)) == "different"

    def test_of_one_correlated_pair_among_many_components(self):
        Z = normal(300, 12)
        Z[:, 7] = 0.5 * Z[:, 2] + math.sqrt(0.75) * Z[:, 7]
        figures = figures_of(Z)
        assert figures["max_correlation_pair"] == (2, 7)
        assert judge(figures) == "different"

    @pytest.mark.parametrize(("n", "d"), [(2, 1), (30, 2), (99, 1), (150, 16)])
    def test_of_few_rows_is_never_a_match(self, n, d):
        assert judge(figures_of(normal(n, d))) != "match"

    def test_has_words(self):
        assert set(VERDICTS) == {"match", "close", "different", "unclear"}


@pytest.fixture(scope="module")
def perfect():
    """The figures for rows of the target itself."""
    return figures_of(normal(200, 3, seed=1), batch_size=512)


class TestAdvice:
    def said(self, figures, **params):
        return "\n".join(advise(figures, settings(**params)))

    def test_nothing_to_change(self, perfect):
        assert self.said(perfect).startswith("Nothing to change")

    def test_a_small_difference_is_named(self, perfect):
        said = self.said({**perfect, "mmd_pvalue": 0.005})
        assert said == "A difference is seen by the kernel test (MMD), and it is small."

    def test_a_small_p_value_among_five_is_not_counted(self, perfect):
        said = self.said({**perfect, "mmd_pvalue": 0.03})
        assert said.startswith("Nothing to change")
        assert "Not counted: the kernel test (MMD) (0.030)" in said
        assert "Not counted" not in self.said(perfect)

    def test_every_test_that_rejects_is_named(self, perfect):
        both = {**perfect, "mmd_pvalue": 0.001, "energy_pvalue": 0.001, "auc_mlp": 0.93}
        said = self.said({**both, "henze_zirkler_pvalue": 0.049})
        assert "A difference is seen by the energy test and the kernel test (MMD)." in said
        assert "Not counted: the Henze-Zirkler test (0.049)" in said

    def test_a_capacity_beyond_the_batch(self):
        said = self.said(figures_of(normal(200, 16), scale=0.1))
        assert "36.9 nats, is beyond what a batch of 512 can show (6.2)" in said
        assert "Nothing to change" not in said

    def test_auto_noise_is_within_the_batch(self, perfect):
        assert "beyond what a batch" not in self.said(perfect)

    def test_few_rows(self, perfect):
        assert "too few to judge" in self.said(figures_of(normal(30, 2)))
        assert "too few to judge" not in self.said(perfect)

    def test_a_lattice(self, perfect):
        Z = np.round(normal(200, 2))
        assert "lattice" in self.said(figures_of(Z))
        assert "lattice" not in self.said(perfect)

    def test_rows_of_fewer_dimensions_than_components(self):
        u = np.random.default_rng(0).uniform(size=(300, 2))
        flat = np.hstack([u, np.sin(3 * u), u**2])
        assert "try n_components=2" in self.said(figures_of(normal(300, 6), scaled=flat))
        assert "n_components=" not in self.said(figures_of(normal(300, 2), scaled=flat))

    def test_little_information(self, perfect):
        figures = {**perfect, "training_information": 0.6 * perfect["training_reachable"]}
        assert "Training passed 60%" in self.said(figures)

    def test_a_gap(self, perfect):
        info = perfect["information"]
        lower = dataclasses.replace(
            info, value=0.7 * info.reachable, low=0.69 * info.reachable, high=0.71 * info.reachable
        )
        figures = {**perfect, "information": lower}
        assert "does not carry over" in self.said(figures)
        assert "early_stopping=True" in self.said(figures)
        assert "early_stopping=True" not in self.said(figures, early_stopping=True)
        # Few draws of few rows: a gap that chance explains is none.
        unsure = dataclasses.replace(lower, high=0.95 * info.reachable)
        assert "does not carry over" not in self.said({**perfect, "information": unsure})

    def test_a_classifier_that_can_tell(self, perfect):
        figures = {**perfect, "auc_boosting": 0.6, "auc_mlp": 0.93}
        assert "AUC 0.93" in self.said(figures)
        chance = {**perfect, "auc_boosting": 0.51, "auc_mlp": 0.52}
        assert "AUC" not in self.said(chance)

    def test_a_wrong_joint_law_without_classifiers(self):
        Z = np.random.default_rng(0).exponential(size=(250, 2)) - 1
        assert "floors (energy distance)" in self.said(figures_of(Z))

    @pytest.mark.parametrize(
        ("params", "absent"),
        [
            ({"match_weight": 3.0}, "match_weight=3"),
            ({"refine": "rotation"}, "'rotation'"),
            ({"refine": "flow"}, "refine="),
            ({"refine": PushForward(np.exp)}, "refine="),
        ],
    )
    def test_what_was_done_is_not_advised(self, perfect, params, absent):
        figures = {**perfect, "auc_mlp": 0.93, "worst_ks_pvalue": 0.0, "marginal_floors": 3.0}
        assert absent in self.said(figures)
        assert absent not in self.said(figures, **params)

    def test_a_wrong_component(self, perfect):
        Z = normal(200, 3) * [1.0, 2.0, 1.0]
        assert "Component 1 does not follow its law" in self.said(figures_of(Z))

    def test_correlated_components(self):
        Z = normal(200, 4)
        Z[:, 3] = 0.6 * Z[:, 1] + 0.8 * Z[:, 3]
        assert "Components 1 and 3 correlate" in self.said(figures_of(Z))
        assert "normalization='whiten'" in self.said(figures_of(Z), normalization="batch")


class TestReport:
    def test_the_figures_are_those_of_the_metrics(self, fitted, report):
        assert report.n_rows == len(TEST)
        assert report.training_information == fitted.mutual_information_
        assert report.training_cap == math.log(fitted.batch_size_)
        assert report.information.capacity == fitted.capacity_
        assert 0 <= report.auc_mlp <= 1
        assert report.verdict in VERDICTS

    @pytest.mark.parametrize(
        "target",
        [
            "uniform",
            stats.gamma(2),
            ["uniform", stats.t(3)],
            UniformBall(),
            MultivariateNormal([1, 2], [[2, 1], [1, 2]]),
        ],
        ids=["uniform", "gamma", "two", "ball", "normal"],
    )
    def test_the_target_does_not_matter(self, fitted, target):
        expected = fitted.diagnose(TEST, classifier=False).to_dict()
        found = fitted.retarget(target).diagnose(TEST, classifier=False).to_dict()
        assert isinstance(found.pop("target"), str)
        assert expected.pop("target") == "normal"
        assert found == expected

    def test_a_refinement_is_judged_as_part_of_the_embedding(self):
        rows = np.random.default_rng(0).exponential(size=(300, 3))
        fitted = quick(refine="rotation", clean_weight=1).fit(rows)
        unrefined = copy.copy(fitted)
        unrefined.refinement_ = None
        refined, plain = (m.diagnose(rows, classifier=False) for m in (fitted, unrefined))
        assert refined.information == plain.information
        assert refined.marginal_floors < plain.marginal_floors

    def test_is_deterministic_and_leaves_global_generators_alone(self, fitted, report):
        state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        assert fitted.diagnose(TEST) == report
        assert fitted.diagnose(TEST, random_state=1, classifier=False) != report
        assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), torch_state)

    def test_rows_stay_as_they_are(self, fitted):
        rows = TEST.copy()
        rows.flags.writeable = False
        fitted.diagnose(rows, classifier=False)
        np.testing.assert_array_equal(rows, TEST)

    def test_a_data_frame_and_single_precision(self, report):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(TRAIN, columns=list("abcd"))
        dim = quick().fit(frame)
        found = dim.diagnose(pd.DataFrame(TEST, columns=list("abcd")).astype("float32"))
        assert found.sliced_wasserstein_floors == pytest.approx(
            report.sliced_wasserstein_floors, rel=1e-2
        )

    def test_without_classifiers(self, fitted):
        found = fitted.diagnose(TEST, classifier=False)
        assert math.isnan(found.auc_boosting)
        assert math.isnan(found.auc_mlp)
        assert "AUC" not in str(found)

    @pytest.mark.parametrize("n", [2, 3, 5, 20])
    @pytest.mark.parametrize("d", [1, 4])
    def test_few_rows(self, n, d):
        found = quick(d).fit(TRAIN).diagnose(TEST[:n])
        assert found.n_rows == n
        assert "too few to judge" in str(found)
        check_forms(found)

    def test_the_same_row_over_and_over(self, fitted):
        found = fitted.diagnose(np.tile(TEST[:1], (60, 1)), classifier=False)
        assert found.verdict == "different"
        assert "lattice" in str(found)
        check_forms(found)

    def test_more_components_than_rows(self):
        rows = np.random.default_rng(0).standard_normal((60, 30))
        check_forms(quick(20).fit(rows[:40]).diagnose(rows[40:55], classifier=False))

    def test_large_tables_are_subsampled(self, fitted, monkeypatch):
        monkeypatch.setattr("sknoisydim._diagnosis._mixin.MAX_JUDGED_ROWS", 30)
        found = fitted.diagnose(X, classifier=False)
        # The information needs a batch, the law does not.
        assert (found.n_rows, found.information.n_rows) == (30, fitted.batch_size_)

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda dim: dim.diagnose(TEST[:, :3]), ValueError, "X has 3 features"),
            (lambda dim: dim.diagnose(TEST[:1]), ValueError, "minimum of 2 is required"),
            (lambda dim: dim.diagnose(TEST, classifier="mlp"), TypeError, "True or False"),
            (lambda dim: dim.diagnose(TEST, random_state="a"), ValueError, "random_state"),
            (lambda dim: quick().diagnose(TEST), NotFittedError, "not fitted"),
        ],
    )
    def test_wrong_input(self, fitted, call, error, message):
        with pytest.raises(error, match=message):
            call(fitted)


def check_forms(report):
    """Every form of a report can be had, and holds no NaN where it is shown."""
    assert "nan" not in str(report).replace("dominant", "")
    figures = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(figures) == set(FIGURES) - {"pictures"}
    pd = pytest.importorskip("pandas")
    frame = report.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == len(report.lines())
    tree = html_of(report)
    numbers = [
        value
        for element in tree.iter()
        for name, value in element.attrib.items()
        if name in {"points", "d", "x", "y", "cx", "cy", "rx", "ry", "width"}
    ]
    assert not [value for value in numbers if "nan" in value or "inf" in value]
    return tree


def html_of(report):
    """The card as a tree: it is well formed."""
    return ElementTree.fromstring(report._repr_html_())


class TestForms:
    def test_all_of_a_usual_report(self, report):
        tree = check_forms(report)
        assert len(tree.findall(".//svg")) == 4
        text = "".join(tree.itertext())
        for sentence in report.advice:
            assert sentence in text

    def test_stars_are_the_p_values_that_count(self, report):
        few = dataclasses.replace(
            report,
            worst_ks_pvalue=0.3,
            energy_pvalue=0.005,
            mmd_pvalue=0.03,
            henze_zirkler_pvalue=0.5,
            max_correlation_pvalue=float("nan"),
        )
        counted = [line.quantity for line in few.lines() if line.rejected]
        assert counted == ["energy distance, in floors"]
        assert [line for line in str(few).splitlines() if line.endswith("0.005 *")]
        assert [line for line in str(few).splitlines() if line.endswith("0.030")]
        assert len(html_of(few).findall(".//span[@class='star']")) == 1
        assert few.to_frame()["rejected"].sum() == 1

    def test_the_words_of_the_table_are_explained(self, report):
        card = "".join(html_of(report).itertext())
        for word, meaning in report.legend().items():
            assert meaning in card
            assert re.search(rf"^{re.escape(word)} +{re.escape(meaning)}$", str(report), re.M)
        plain = dataclasses.replace(report, auc_mlp=math.nan, auc_boosting=math.nan)
        assert set(report.legend()) - set(plain.legend()) == {"AUC"}

    def test_the_table_is_compact(self, report):
        lines = str(report).splitlines()
        assert len(lines) < 40
        assert max(map(len, lines)) <= 100
        assert "\n" not in repr(report)

    def test_the_card_needs_nothing_else_and_knows_light_and_dark(self, report):
        html = report._repr_html_()
        assert not re.search(r"<script|https?:|src=|url\(|@import", html)
        assert "color-scheme: light dark" in html
        assert "prefers-color-scheme: dark" in html
        assert len(html) < 100_000

    def test_names_are_escaped(self, report):
        sly = dataclasses.replace(report, target="<b>&", advice=("a < b & <i>",))
        text = "".join(html_of(sly).itertext())
        assert "<b>&" in text
        assert "a < b & <i>" in text

    def test_one_component_has_no_pair(self):
        tree = check_forms(quick(1).fit(TRAIN).diagnose(TEST, classifier=False))
        assert len(tree.findall(".//svg")) == 3

    def test_is_frozen_and_can_be_pickled(self, report):
        assert pickle.loads(pickle.dumps(report)) == report
        with pytest.raises(dataclasses.FrozenInstanceError):
            report.verdict = "match"

    def test_without_pandas_the_error_names_it(self, report, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(ImportError, match="pip install pandas"):
            report.to_frame()


def test_marginal_wasserstein_of_a_shift():
    Z = stats.norm.ppf((np.arange(100) + 0.5) / 100)[:, None] + [0.0, 3.0]
    assert marginal_wasserstein(Z, "normal", random_state=0) == pytest.approx(3 / math.sqrt(2))
