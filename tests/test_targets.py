"""Properties of every target, and what is refused."""

import copy
import functools
import math
import pickle
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from over import over
from scipy import special, stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from small import fails

from sknoisydim import NoisyDIMTransformer, targets
from sknoisydim._model import TargetMap
from sknoisydim.targets import Independent, MultivariateNormal, PushForward, Uniform, resolve_target

MEAN = np.array([1.0, -2.0, 0.5])
COV = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]])
HISTOGRAM = stats.rv_histogram(np.histogram(np.r_[0:1:40j, 1:3:20j], bins=8), density=True)()
LOG_VOLUME_OF_EXP = functools.partial(np.sum, axis=1)
Gamma = stats.make_distribution(stats.gamma)


# A distribution that is no object of scipy's, and one whose quantiles jump.
NAMES = ("ppf", "isf", "cdf", "sf", "logpdf")
EXPONENTIAL = SimpleNamespace(**{name: getattr(stats.expon(), name) for name in NAMES})
JUMP = copy.copy(EXPONENTIAL)
JUMP.ppf = lambda u: np.maximum(-np.log1p(-u), 0.3 * u + 0.4)


def swirl(z):
    """A volume-preserving map of the plane: turns each row by its length."""
    turn = np.hypot(*z.T)
    c, s = np.cos(turn), np.sin(turn)
    return np.column_stack([c * z[:, 0] - s * z[:, 1], s * z[:, 0] + c * z[:, 1]])


def unswirl(x):
    return swirl(x * [1, -1]) * [1, -1]


def no_volume(z):
    return np.zeros(len(z))


@dataclass
class Case:
    target: Any
    n_components: int
    marginals: Any = None  # a distribution of scipy.stats, or one per component
    independent: bool = True
    bijective_tail: float = 6.0  # floats tell |z| apart up to here, to 1e-6
    picklable: bool = True
    copyable: bool = True  # scipy's own object

    def bind(self):
        return resolve_target(self.target, self.n_components)

    def components(self):
        one = self.marginals
        return one if isinstance(one, list) else [one] * self.n_components


# Distributions that one target is made of, and what each component is to have.
MIXED = [
    ("normal", stats.norm()),
    (stats.beta(2, 5), stats.beta(2, 5)),
    ("uniform", stats.uniform()),
    (targets.Normal, stats.norm()),
    (stats.beta(2, 5), stats.beta(2, 5)),
    (Gamma(a=2.0), stats.gamma(2.0)),
]
OF_TARGETS = [
    (Uniform(0, 2), stats.uniform(0, 2)),
    (Uniform([0.0], [2.0]), stats.uniform(0, 2)),
    (MultivariateNormal([1.0], [[4.0]]), stats.norm(1, 2)),
    (PushForward(np.exp, np.log, log_abs_det_jacobian=LOG_VOLUME_OF_EXP), stats.lognorm(1)),
    (Independent(stats.expon()), stats.expon()),
    (Independent([stats.expon()]), stats.expon()),
]
OF_NORMAL = [stats.norm(m, s) for m, s in zip(MEAN, np.sqrt(np.diag(COV)), strict=True)]
LOGNORMAL = stats.exp(stats.Normal(mu=0.5, sigma=1.0))
CASES = {
    "normal": Case("normal", 3, stats.norm()),
    "uniform": Case("uniform", 3, stats.uniform()),
    "uniform-each": Case(
        Uniform([-1.0, 0.0], np.array([1.0, 5.0])), 2, [stats.uniform(-1, 2), stats.uniform(0, 5)]
    ),
    "beta": Case(stats.beta(2, 5), 2, stats.beta(2, 5)),
    "arcsine": Case(stats.beta(0.5, 0.5), 1, stats.beta(0.5, 0.5), bijective_tail=3.0),
    "cauchy": Case(stats.t(1), 2, stats.t(1)),
    "student": Case(stats.t(3), 2, stats.t(df=3)),
    "wide-lognormal": Case(stats.lognorm(30.0), 1, stats.lognorm(30.0)),
    "gamma": Case(stats.gamma(0.1, scale=4.0), 2, stats.gamma(0.1, scale=4.0)),
    "reversed": Case(stats.weibull_max(1.5), 2, stats.weibull_max(1.5)),
    "histogram": Case(HISTOGRAM, 1, HISTOGRAM),
    "user-distribution": Case(EXPONENTIAL, 2, stats.expon()),
    "new-normal": Case(stats.Normal(mu=1, sigma=2), 2, stats.norm(1, 2)),
    "new-uniform": Case(stats.Uniform(a=1, b=2), 2, stats.uniform(1, 1)),
    "new-lognormal": Case(
        LOGNORMAL, 1, stats.lognorm(1.0, scale=math.exp(0.5)), picklable=False, copyable=False
    ),
    "mixed": Case(tuple(t for t, _ in MIXED), 6, [m for _, m in MIXED], picklable=False),
    "mixed-targets": Case(Independent([t for t, _ in OF_TARGETS]), 6, [m for _, m in OF_TARGETS]),
    "one-target-for-all": Case(Independent(targets.UniformBall(2.0)), 2, stats.uniform(-2, 4)),
    "multivariate-normal": Case(MultivariateNormal(MEAN, COV), 3, OF_NORMAL, False),
    "scipy-multivariate": Case(stats.multivariate_normal(MEAN, COV), 3, OF_NORMAL, False),
    "ball-1": Case(targets.UniformBall(2.0), 1, stats.uniform(-2, 4)),
    "ball-2": Case(targets.UniformBall(2.0), 2, stats.semicircular(scale=2.0), False),
    "ball-16": Case(targets.UniformBall(), 16, stats.beta(8.5, 8.5, loc=-1, scale=2), False),
    "shell-1": Case(targets.SphericalShell(1.0, 3.0), 1, None),
    "shell-3": Case(targets.SphericalShell(1.0, 3.0), 3, None, False),
    "pushforward": Case(
        PushForward(swirl, unswirl, log_abs_det_jacobian=no_volume), 2, stats.norm(), False
    ),
}


def each_where(holds):
    return over(case={name: case for name, case in CASES.items() if holds(case)})


each = each_where(lambda case: True)
each_independent = each_where(lambda case: case.marginals is not None and case.independent)


def finite_and_extreme(n_components):
    """Rows with every sort of finite number, the same in all components and one at a time."""
    numbers = np.array([0.0, 1e-320, 1e-8, 1.0, 6.0, 9.0, 12.0, 38.0, 40.0, 1e10, 1e155, 1e300])
    numbers = np.r_[-numbers[::-1], numbers]
    rows = np.repeat(numbers[:, None], n_components, axis=1)
    single = np.zeros((len(numbers), n_components))
    single[:, 0] = numbers
    return rows, single


def test_every_public_target_is_a_case():
    public = [getattr(targets, name) for name in targets.__all__]
    public = {value for value in public if isinstance(value, type)} - {targets.Target}
    assert public == {type(case.bind()) for case in CASES.values()}
    assert set(targets.TARGETS.values()) <= public


class TestObject:
    @each
    def test_copies_give_the_same(self, case):
        bound = case.bind()
        z = np.random.default_rng(0).standard_normal((5, case.n_components))
        cloned = clone(bound)
        assert not hasattr(cloned, "n_components_")
        assert repr(bound).startswith(type(bound).__name__ + "(")
        copies = [one.bind(case.n_components) for one in (cloned, bound)] + [copy.deepcopy(bound)]
        if case.copyable:  # scipy 1.17 makes a standard normal of each copy of scipy.stats.Normal
            held = clone(clone(NoisyDIMTransformer(target=case.target))).target
            copies.append(resolve_target(held, case.n_components))
        if case.picklable:
            copies.append(pickle.loads(pickle.dumps(bound)))
        else:
            # The one reason for an exception: scipy's own object cannot be pickled.
            with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):
                pickle.dumps(case.target)
        for other in copies:
            np.testing.assert_array_equal(other.push(z), bound.push(z))

    @each_where(lambda case: isinstance(case.target, targets.Target))
    def test_unbound(self, case):
        for method in ("push", "pull", "logpdf", "sample"):
            argument = 3 if method == "sample" else np.zeros((2, case.n_components))
            message = r"call bind\(n_components\)"
            fails(message, getattr(case.target, method), argument, error=NotFittedError)

    def test_a_distribution_that_scipy_cannot_copy(self):
        damaged = clone(NoisyDIMTransformer(target=LOGNORMAL)).target
        fails(r"damaged.*Put the distribution into", resolve_target, damaged, 1)
        target = Independent([LOGNORMAL, Uniform(0, 2)])
        cloned = clone(NoisyDIMTransformer(target=target)).target
        assert cloned.marginals[0] is target.marginals[0]
        assert cloned.marginals[1] is not target.marginals[1]
        np.testing.assert_allclose(cloned.bind(2).push([[0.0, 0.0]]), [[math.exp(0.5), 1.0]])


TAILS = (special.gammainc, special.gammaincc)


class TestPush:
    @each
    def test_finite_everywhere(self, case):
        bound = case.bind()
        for z in finite_and_extreme(case.n_components):
            x = bound.push(z)
            assert np.isfinite(x).all()
            assert np.isfinite(bound.pull(x)).all()
            assert np.isfinite(bound.pull(z)).all() or "PushForward" in repr(bound)
            assert not np.isnan(bound.logpdf(x)).any()

    @each_independent
    def test_is_increasing_and_has_the_distribution(self, case):
        z = np.r_[-1e300, -40.0, np.linspace(-38, 38, 609), 40.0, 1e300]
        x = case.bind().push(np.repeat(z[:, None], case.n_components, axis=1))
        assert (np.diff(x, axis=0) >= 0).all()
        assert (np.diff(x[np.abs(z) <= case.bijective_tail], axis=0) > 0).all()
        near = np.abs(z) <= 6
        for column, distribution in zip(x[near].T, case.components(), strict=True):
            expected = special.ndtr(z[near])
            np.testing.assert_allclose(distribution.cdf(column), expected, rtol=0, atol=1e-8)

    @each_where(lambda case: case.marginals is not None and not case.independent)
    def test_marginals_have_the_distribution(self, case):
        """Where no component is pushed by itself."""
        x = case.bind().sample(4000, random_state=0)
        for column, distribution in zip(x.T, case.components(), strict=True):
            assert stats.kstest(column, distribution.cdf).pvalue > 1e-3

    @each
    def test_round_trip(self, case):
        bound = case.bind()
        rng = np.random.default_rng(1)
        z = rng.standard_normal((500, case.n_components))
        if not isinstance(bound, targets.SphericalShell):
            z = np.r_[z, rng.uniform(-1, 1, z.shape) * case.bijective_tail]
        z = np.clip(z, -case.bijective_tail, case.bijective_tail)
        np.testing.assert_allclose(bound.pull(bound.push(z)), z, rtol=0, atol=1e-6)

    @each
    def test_layouts_and_dtypes(self, case):
        bound = case.bind()
        z = np.random.default_rng(3).standard_normal((9, case.n_components)).astype(np.float32)
        for method in (bound.push, bound.pull, bound.logpdf):
            rows = z if method == bound.push else bound.push(z)
            expected = method(rows.astype(np.float64))
            if method == bound.push:
                np.testing.assert_array_equal([method(row[None])[0] for row in rows], expected)
            wide = np.zeros((18, 2 * case.n_components), rows.dtype)
            wide[::2, ::2] = rows
            frozen = rows.copy()
            frozen.setflags(write=False)
            for layout in (frozen, np.asfortranarray(rows), wide[::2, ::2], rows.tolist()):
                before = np.array(layout)
                got = method(layout)
                assert got.dtype == np.float64
                np.testing.assert_array_equal(got, expected)
                np.testing.assert_array_equal(layout, before)
                assert not np.shares_memory(got, layout)

    @each
    def test_nan_stays(self, case):
        bound = case.bind()
        z = np.zeros((2, case.n_components)) + 0.5
        x = bound.push(z)
        z[0, 0] = x[0, 0] = np.nan

        assert np.isnan(bound.push(z)[0, 0])
        assert np.isnan(bound.pull(x)[0]).any()
        assert np.isnan(bound.logpdf(x)[0])
        for values in (bound.push(z)[1], bound.pull(x)[1], bound.logpdf(x)[1]):
            assert np.isfinite(values).all()
        if "PushForward" not in repr(bound):
            assert np.isfinite(bound.pull(np.full_like(z, np.inf) * [[1], [-1]])).all()

    def test_uniform_stays_in_its_box(self):
        # 0.1 + (0.7 - 0.1) rounds to more than 0.7.
        for low, high in [(0.1, 0.7), (-0.3, 0.1), (1e6, 1e6 + 1), (0, 5e-324 * 8), (-1e-9, 1e9)]:
            x = Uniform(low, high).bind(1).push(np.linspace(-40, 40, 2001)[:, None])
            assert x.min() == low
            assert x.max() == high

    def test_tails_keep_their_digits(self):
        bound = resolve_target(stats.expon(), 1)
        z = np.array([[-30.0], [30.0]])
        x = bound.push(z)
        np.testing.assert_allclose(x[:, 0], [4.906714e-198, 454.321244], rtol=1e-6)
        np.testing.assert_allclose(bound.pull(x), z, rtol=1e-12)

    @over(n_components=[1, 2, 16, 512], scale=[1e-4, 0.3, 1.0, 1.2])
    def test_ball_near_and_far_from_its_centre(self, n_components, scale):
        bound = targets.UniformBall(3.0).bind(n_components)
        z = scale * np.random.default_rng(5).standard_normal((200, n_components))
        tails = [f(n_components / 2, np.square(z).sum(1) / 2) for f in TAILS]
        z = z[np.min(tails, axis=0) > 1e-9]
        x = bound.push(z)
        np.testing.assert_allclose(bound.pull(x), z, rtol=1e-6, atol=1e-6 * scale)
        radius = np.linalg.norm(z, axis=1)
        expected = stats.chi.cdf(radius, n_components) ** (1 / n_components)
        known = stats.chi.cdf(radius, n_components) > 1e-290
        found = np.linalg.norm(x, axis=1)[known]
        np.testing.assert_allclose(found, 3.0 * expected[known], rtol=1e-9)


@each
def test_logpdf_is_that_of_the_map(case):
    """log p(T(z)) = log n(z) - log |det J(z)|, the Jacobian by central differences."""
    bound, eye, step = case.bind(), np.eye(case.n_components), 1e-5
    z = np.clip(np.random.default_rng(6).standard_normal((20, len(eye))), -2.5, 2.5)
    z = z[:5] if case.target is HISTOGRAM else z
    columns = [(bound.push(z + step * e) - bound.push(z - step * e)) / (2 * step) for e in eye]
    jacobian = np.stack(columns, axis=-1)
    expected = stats.norm.logpdf(z).sum(1) - np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(bound.logpdf(bound.push(z)), expected, rtol=0, atol=1e-5)


@each
def test_a_sample_is_the_push_of_normal_draws(case):
    bound = case.bind()
    expected = bound.push(np.random.RandomState(3).standard_normal((7, case.n_components)))
    for seed in (3, np.random.RandomState(3)):
        np.testing.assert_array_equal(bound.sample(7, random_state=seed), expected)


def test_distributions_of_one_family_are_told_apart():
    other = stats.rv_histogram(np.histogram(np.r_[0:1:20j, 1:3:40j], bins=8), density=True)()
    x = resolve_target([HISTOGRAM, other], 2).push([[0.0, 0.0]])
    np.testing.assert_allclose(x[0], [HISTOGRAM.median(), other.median()])


class WithoutParameters(targets.Target):
    def _push(self, z):
        return 2.0 * z


REFUSED = [
    ("unifrom", 2, ValueError, ["target='unifrom'", "'normal', 'uniform'", "mean 'unif"]),
    (["normal", "nromal"], 2, ValueError, [r"target\[1\]='nromal'", "mean 'normal'"]),
    (["normal"] * 3, 2, ValueError, ["target has 3 distributions", "n_components=2"]),
    (Uniform(0.0, np.ones((2, 2))), 2, ValueError, ["high has shape", "n_components=2"]),
    (Uniform(1.0, 1.0), 2, ValueError, ["low must be below high", "low=1.0"]),
    (Uniform(0.0, math.inf), 2, ValueError, ["high must be finite", "inf"]),
    (Uniform("0", 1.0), 2, TypeError, ["low must be a number", "'0'"]),
    (MultivariateNormal(MEAN, COV), 2, ValueError, [r"mean has shape \(3,\)", "ents=2"]),
    (MultivariateNormal(0.0, -np.eye(2)), 2, ValueError, ["definite", "eigenvalue is -1"]),
    (MultivariateNormal(0.0, [[1, 0.5], [0, 1]]), 2, ValueError, ["cov must be symmetric"]),
    (stats.multivariate_normal(MEAN, COV), 2, ValueError, ["3", "n_components=2"]),
    (stats.multivariate_normal, 2, TypeError, ["not frozen", r"multivariate_normal\(\.\."]),
    (targets.UniformBall(0.0), 2, ValueError, ["radius"]),
    (targets.SphericalShell(1.0, 1.0), 2, ValueError, ["inner"]),
    (PushForward(3), 2, TypeError, ["forward must be callable", "3"]),
    (PushForward(swirl), 3, ValueError, ["n_components=3"]),
    (PushForward(lambda z: z[:, :1]), 2, ValueError, [r"n_components=2", r"\(2, 1\)"]),
    (Independent, 2, TypeError, ["class Independent", "needs parameters"]),
    ([MultivariateNormal(MEAN, COV)] * 2, 2, ValueError, ["component 0", "n_components=1"]),
    (stats.poisson(3), 2, ValueError, [r"poisson\(3\) is discrete", "continuous"]),
    (stats.Binomial(n=3, p=0.2), 2, ValueError, ["Binomial", "discrete"]),
    (["normal", stats.poisson(3)], 2, ValueError, [r"target\[1\]", "discrete"]),
    (stats.norm, 2, TypeError, ["'norm'", "not frozen", r"norm\(\.\.\.\)"]),
    (stats.norm(0, -1), 2, ValueError, [r"norm\(0, -1\) is not a cont", "nan"]),
    (["normal", stats.beta(-1, 2)], 2, ValueError, ["component 1", r"beta\(-1, 2\)"]),
    (stats.Normal(mu=0, sigma=-1), 2, ValueError, ["sigma", "not a continuous distribution"]),
    (stats.norm([0, 1], 1), 2, ValueError, ["arrays as parameters", "list of distributions"]),
    (JUMP, 2, ValueError, ["not a continuous distribution"]),
    (stats.gaussian_kde([0.0, 1.0, 3.0]), 2, TypeError, ["gaussian_kde", "PushForward"]),
    (None, 2, TypeError, ["target=None", "NoneType", "'normal', 'uniform'"]),
    (3.0, 2, TypeError, ["target=3.0", "float", "frozen continuous"]),
]


class TestResolve:
    def test_names_classes_and_objects(self):
        for name, kind in targets.TARGETS.items():
            for target in (name, kind, kind()):
                bound = resolve_target(target, 3)
                assert type(bound) is kind
                assert bound.n_components_ == 3
        assert resolve_target(WithoutParameters, 1).push([[1.0]]) == 2.0

    @over("target, n_components, error, messages", REFUSED)
    def test_refused(self, target, n_components, error, messages):
        for message in messages:
            fails(message, resolve_target, target, n_components, error=error)


def test_rows_that_are_refused():
    bound = resolve_target("uniform", 2)
    for method in (bound.push, bound.pull, bound.logpdf):
        fails("Expected 2D array, got 1D array", method, np.zeros(2))
        fails("3 components, but this Uniform was bound to 2", method, np.zeros((2, 3)))
        fails("Complex data not supported", method, np.zeros((2, 2), complex))
        fails("could not convert string to float", method, [["a", "b"]])


class TestPushForward:
    def test_needs_what_it_was_not_given(self):
        rows, bound = np.ones((3, 2)), PushForward(np.exp).bind(2)
        fails("without inverse", bound.pull, rows)
        fails("without inverse", bound.logpdf, rows)
        fails("without log_abs_det", PushForward(np.exp, np.log).bind(2).logpdf, rows)

    def test_outside_the_support(self):
        bound = PushForward(np.exp, np.log, log_abs_det_jacobian=LOG_VOLUME_OF_EXP).bind(1)
        x = np.array([[-1.0], [0.0], [1.0], [np.nan], [np.inf]])
        expected = [-np.inf, -np.inf, stats.lognorm(1).logpdf(1.0), np.nan, -np.inf]
        np.testing.assert_allclose(bound.logpdf(x), expected)
        z = bound.pull(x)[:, 0]
        assert np.isnan(z[[0, 3]]).all()
        assert np.isfinite(z[[1, 2, 4]]).all()


class TestMap:
    @each
    def test_there_and_back(self, case):
        bound = case.bind()
        chain = TargetMap(bound)
        z = np.clip(np.random.default_rng(0).standard_normal((50, case.n_components)), -2.5, 2.5)
        rows = torch.from_numpy(z)
        x = chain(rows)
        np.testing.assert_array_equal(x, bound.push(z))
        np.testing.assert_array_equal(chain.inverse(x), bound.pull(x))
        single = chain(rows.float())
        np.testing.assert_allclose(single, x, rtol=2e-5, atol=2e-7 * float(x.abs().max()))
        assert single.dtype == chain.inverse(x.float()).dtype == torch.float32

    def test_float32_keeps_the_lower_tail_and_its_range(self):
        z = torch.tensor([[-5.0], [-8.0], [-12.0]], dtype=torch.float32)
        x = TargetMap(Uniform().bind(1))(z)
        np.testing.assert_allclose(x, special.ndtr(z.double().numpy()), rtol=2e-5)
        for target, rows in ((Uniform(-1e300, 1e300), z), (stats.lognorm(30.0), 20 + z)):
            assert TargetMap(resolve_target(target, 1))(rows).isfinite().all()
