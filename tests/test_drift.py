"""The drift monitor: its rate of false alarms, what it finds, and that it keeps no samples."""

import json
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from over import over
from scipy import stats
from sklearn.frozen import FrozenEstimator
from small import Recording, fails, small

from sknoisydim import NoisyDIMDriftMonitor
from sknoisydim._drift import N_SPLITS, TAIL, _deviance, _pvalues
from sknoisydim.metrics import mmd_test
from sknoisydim.metrics._report import PARTS

quick = small(keep="pca", refine="rotation", random_state=None)


def monitor(**parameters):
    return NoisyDIMDriftMonitor(**({"transformer": quick(), "random_state": 0} | parameters))


def samples(n, seed):
    """Five features: two of them skewed, and four that depend on each other."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.standard_normal((3, n))
    columns = np.column_stack([a, np.exp(b / 2), a * b, a - b, c])
    return columns + 0.1 * rng.standard_normal((n, 5))


@pytest.fixture(scope="module")
def fitted():
    return monitor().fit(samples(1600, 0))


def test_level_is_that_asked_for():
    # Batches share the held-out samples, so that the means of monitors are what varies.
    found = np.empty((10, 12, len(PARTS) + 1))
    for seed, of_batches in enumerate(found):
        model = monitor(random_state=seed).fit(samples(600, seed))
        for k, pvalues in enumerate(of_batches):
            report = model.check(samples(150, 1000 * (1 + seed) + k))
            pvalues[:] = [*report.part_pvalues.values(), report.pvalue]
    shares = (found <= 0.2).mean(1)
    error = shares.std(0, ddof=1) / np.sqrt(len(shares))
    np.testing.assert_array_less(np.abs(shares.mean(0) - 0.2), 3.5 * error + 0.02)
    assert 0.01 <= (found[..., -1] <= 0.05).mean() <= 0.1


def test_batches_are_compared_with_samples_that_did_not_train():
    X = samples(400, 0)
    model = monitor(transformer=Recording(max_epochs=1)).fit(X)
    held_out = X[model.transformer_.unseen(X)]
    assert len(held_out) == model.n_reference_ == 200
    np.testing.assert_allclose(model._features.moments(held_out)[0], model._mean, atol=1e-9)


def test_the_misfit_of_the_embedding_is_no_drift():
    # Against the target itself so large a sample of an untrained embedding is told at once.
    X = samples(5000, 1)
    dim = quick(refine=None, random_state=0).fit(X[:500])
    model = monitor(transformer=FrozenEstimator(dim)).fit(X[500:3000])
    assert mmd_test(dim.transform(X[3000:]), "normal", random_state=0).pvalue <= 0.01
    assert model.check(X[3000:]).part_pvalues["embedding"] > 0.01


def moved(X):
    X[:, 4] += 0.6
    return X


def test_what_moved_is_named(fitted):
    report = fitted.check(moved(samples(300, 2)))
    assert report.drift
    assert list(report.columns) == [4]
    assert next(iter(report.columns_given_others)) == 4
    # The distribution functions of N(0, 1) and N(0.6, 1), at 16 levels of 800 and of 300 samples.
    true = stats.norm.cdf(0.3) - stats.norm.cdf(-0.3)
    assert abs(report.columns[4] - true) < report.effect_size_by_chance
    assert report.effect_size >= report.columns[4]
    X = samples(300, 3)
    X[:, 1] = 2 * X[:, 1] - np.median(X[:, 1])
    assert next(iter(fitted.check(X).columns)) == 1
    report = fitted.check(X + 1.5 * X.std(0))
    assert set(report.components) <= set(range(5))
    assert max(report.components.values()) > 2 * report.effect_size_by_chance


def test_dependence_that_marginals_do_not_show(fitted):
    X = samples(300, 4)
    X[:, 3] = np.random.default_rng(0).permutation(X[:, 3])
    report = fitted.check(X)
    assert report.drift
    assert report.columns == {}
    assert 3 in report.columns_given_others
    assert report.part_pvalues["second moments"] < 1e-4 < report.part_pvalues["columns"]
    named = ("columns given the others 3", "columns given the others 0")
    assert any(words in report.verdict for words in named)


def ring(n, seed, share):
    """Two features on a noisy ring, a share of them in its middle: no correlation either way."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = np.where(rng.random(n) < share, 0.1, 1.0)[:, None]
    return radius * np.c_[np.cos(angle), np.sin(angle)] + 0.1 * rng.standard_normal((n, 2))


def test_the_embedding_sees_what_is_not_linear():
    model = monitor(transformer=quick(n_components=2)).fit(ring(1600, 0, 0.0))
    rng, X = np.random.default_rng(0), ring(300, 1, 0.0)
    X = np.column_stack([rng.permutation(column) for column in X.T])
    assert model.check(X).part_pvalues["embedding"] < 1e-3
    assert model.check(ring(300, 2, 0.0)).part_pvalues["embedding"] > 1e-3


def test_no_sample_is_kept():
    dim = quick(random_state=0).fit(samples(300, 0))
    sizes = []
    for n in (1000, 8000):
        model = monitor(transformer=FrozenEstimator(dim)).fit(samples(n, 1))
        model.set_params(transformer=None)
        sizes.append(len(pickle.dumps(model)))
    # Of the samples alone, 8,000 would take 280,000 bytes more than 1,000.
    assert sizes[1] - sizes[0] < 30_000


def test_levels_of_numbered_batches_add_up_to_alpha(fitted):
    X = samples(200, 8)
    levels = [fitted.check(X, k).level for k in (1, 2, 3)]
    np.testing.assert_allclose(levels, [0.05 / 2, 0.05 / 6, 0.05 / 12])
    assert np.sum(0.05 / (np.arange(1.0, 1e5) * np.arange(2.0, 1e5 + 1))) <= 0.05
    X[:, 4] += 0.35
    report = fitted.check(X)
    assert report.level == 0.05
    assert 1e-4 < report.pvalue < 0.05
    for k in (1, 30):
        numbered = fitted.check(X, batch_number=k)
        assert numbered.pvalue == report.pvalue
        assert numbered.batch_number == k
        assert numbered.drift == (report.pvalue <= numbered.level)
    assert not numbered.drift


@over(frames=[pd.DataFrame, pl.DataFrame])
def test_columns_of_data_frames_have_their_names(frames):
    names = [f"sensor {i}" for i in range(5)]
    frame = dict(zip(names, samples(800, 0).T, strict=True))
    model = monitor().fit(frames(frame))
    batch = dict(zip(names, moved(samples(300, 3)).T, strict=True))
    report = model.check(frames(batch))
    assert report.columns.keys() == {"sensor 4"}
    assert "sensor 4" in report.verdict
    fails("feature names", model.check, frames(dict(reversed(batch.items()))))


def test_values_that_the_reference_never_had():
    X, batch = samples(800, 0), samples(300, 1)
    X[:, 0], X[:, 1] = 7.0, X[:, 1] > 1
    batch[:, 0], batch[:, 1] = 7.0, batch[:, 1] > 1
    model = monitor().fit(X)
    assert not model.check(batch).columns
    for column, value in ((0, 6.0), (0, 8.0), (1, -1.0)):
        new = batch.copy()
        new[:90, column] = value
        assert column in model.check(new).columns, (column, value)


def test_pvalues_are_ranks_and_an_exponential_tail():
    null = np.sort(stats.expon.rvs(size=N_SPLITS, random_state=0)).astype(np.float32)
    grid = np.linspace(0, 14, 2000)
    p = _pvalues(grid, null)
    assert (np.diff(p) <= 0).all()
    assert p[0] == 1
    usual = grid < null[-TAIL]
    exceeded = (null >= grid[usual].astype(np.float32)[:, None]).sum(1)
    np.testing.assert_allclose(p[usual], (1 + exceeded) / (N_SPLITS + 1))
    np.testing.assert_allclose(np.log(p[grid > 8]), -grid[grid > 8], rtol=0.15)
    # No tail where all splits are alike: what differs is as unusual as ranks can say.
    np.testing.assert_array_equal(_pvalues([0.0, 9.0], np.zeros(9, np.float32)), [1, 0.1])


def test_statistics_of_the_null_are_not_among_the_others():
    null = np.sort(stats.expon.rvs(size=N_SPLITS, random_state=0)).astype(np.float32)
    own = _pvalues(null, null, own=True)[:-TAIL]
    np.testing.assert_allclose(own, np.arange(N_SPLITS, TAIL, -1) / (N_SPLITS + 1))
    np.testing.assert_array_equal(_pvalues(np.zeros(9), np.zeros(9, np.float32), own=True), 0.9)


@over(expected=[0.3, 0.6, 1.2])
def test_rare_values_are_as_clear_as_frequent_ones(expected):
    m, n, rng = 200, 2000, np.random.default_rng(0)
    share, other = rng.binomial([[m], [n]], expected / m, (2, 50_000)) / [[m], [n]]
    limit, both = stats.chi2.isf(1e-3, 1), (m * share + n * other) / (m + n)
    with np.errstate(invalid="ignore"):
        wald = np.square(share - other) / (both * (1 - both) * (1 / m + 1 / n))
    assert np.mean(_deviance(share, m, other, n) > limit) < 2e-3
    assert np.mean(wald > limit) > 3e-3
    np.testing.assert_allclose(
        _deviance(np.array([0.03]), m, np.array([0.0015]), n),
        stats.chi2_contingency([[6, 194], [3, 1997]], False, "log-likelihood")[0],
    )


def test_a_report_is_shown_and_written_and_a_check_changes_nothing(fitted):
    before = pickle.dumps(fitted)
    report = fitted.check(moved(samples(300, 2)))
    assert fitted.check(moved(samples(300, 2))[::-1]) == report
    assert pickle.dumps(fitted) == before
    values = json.loads(json.dumps(report.to_dict()))
    assert values["columns"] == {"4": report.columns[4]}
    assert values["verdict"] == report.verdict
    assert all(part in str(report) for part in PARTS)
    assert min(report.part_pvalues.values()) <= report.pvalue


def test_few_samples_and_many():
    with pytest.warns(UserWarning, match="with 4 samples held out.*false alarms") as told:
        model = monitor().fit(samples(8, 0))
    assert [warning.filename for warning in told] == [__file__]
    monitor().fit(samples(40, 0))  # no warning, which were an error
    assert 0 < model.check(samples(2, 1)).pvalue <= 1
    assert 0 < model.check(samples(5000, 2)).pvalue <= 1
    fails("minimum of 2 is required", model.check, samples(1, 3))
    message = "batch_number must be None or an integer >= 1"
    fails(message, model.check, samples(50, 0), batch_number=0)
