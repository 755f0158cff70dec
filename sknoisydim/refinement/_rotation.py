"""Rotation-based iterative Gaussianisation: maps of one axis at a time, along rotated axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from sklearn.base import BaseEstimator

from .._context import own_context
from .._normal import normal_logpdf
from .._validation import check_integer, check_real, is_auto
from ._base import (
    MIN_HELD_OUT,
    Composed,
    FloatArray,
    Identity,
    InvertibleMap,
    are_near,
    check_rows,
    split_rows,
    spread_of,
)
from ._clusters import check_clusters, find_clusters
from ._coupling import auto_couplings, fit_couplings
from ._descent import clusters_of
from ._spline import Splines

# Improvement of the held-out log density, in nats, that counts as one.
TOL = 1e-4
# Steps of the search for independent axes. It need not converge: the next layer goes on.
SEARCH_STEPS = 10
# Rows beyond the outermost knot, on either side: with fewer, the last knot follows single rows.
TAIL_ROWS = 10
# Share of the identity that each marginal map keeps, so that no slope exceeds one over it.
FLOOR = 0.02
# Added to variances within clusters, and to axes, so that none is zero.
TINY_RIDGE = 1e-6
# Least departure from N(0, 1) that is divided by.
TINY = 1e-300


class RotationMap(InvertibleMap):
    r"""Layers :math:`z \mapsto A^\top g(A z)`: orthogonal axes A, increasing splines g.

    The axes are turned back after each layer, so that every layer is close to the identity.

    Parameters
    ----------
    n_components : int
        Number d of components.
    layers : list of (ndarray of shape (d, d), Splines)
        Axes, one a row, and the map along each.
    """

    def __init__(self, n_components: int, layers: list[tuple[FloatArray, Splines]]) -> None:
        super().__init__(n_components)
        self.layers = layers

    def _forward(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        log_det = np.zeros(len(z))
        for axes, splines in self.layers:
            moved, part = splines.forward(z @ axes.T)
            z = moved @ axes
            log_det += part
        return z, log_det

    def _inverse(self, z: FloatArray) -> FloatArray:
        for axes, splines in reversed(self.layers):
            z = splines.inverse(z @ axes.T) @ axes
        return z


class RotationGaussianization(BaseEstimator):
    r"""Rotation-based iterative Gaussianisation, finished by trained layers along rotated axes.

    First many small steps, one set of axes after another. A layer turns the rows to orthogonal
    axes, moves each coordinate part of the way to normal scores, and turns back:

    .. math:: z \mapsto A^\top \bigl( (1 - \eta) u + \eta \, \Phi^{-1}(\hat F(u)) \bigr),
              \qquad u = A z

    with A orthogonal, :math:`\hat F` the distribution function of each coordinate (a spline
    through `knots` quantiles) and :math:`\eta` the `step`. A coordinate whose distance to N(0, 1)
    may be chance is moved less, in the manner of James and Stein. Layers are added until the mean
    log density of held-out rows stops growing.

    The axes are in turn as independent as a few steps of FastICA make them, and such as tell
    clusters of the embedding apart (Fisher's discriminants of pairs of components of a Gaussian
    mixture, found without labels): a boundary across such an axis is moved and not bent, so a
    linear model of the refined rows still finds it.

    What is left is no longer seen along single axes. The coupling layers at the end (`couplings`)
    turn the rows too, and move half of the coordinates by the other half (an affine coupling with
    one hidden layer). They are trained together, by maximum likelihood, a price on moving a row
    and another on what a linear model of the refined rows no longer tells of the clusters: the
    objective of `FlowRefinement`, in its terms with :math:`\lambda = 0.4` and :math:`\mu` the
    `separation`. They stay away where the density of held-out rows does not gain. Last, rows are
    divided by one number, since what is trained stretches rows that it was not fitted to.

    What stops and what is trained does not look at rows far out (ten standard deviations from the
    mean square of a normal row); the steps along axes move these too.

    Parameters
    ----------
    max_layers : int, default=200
        Layers of the first kind at most.
    step : float, default=0.3
        :math:`\eta`, above 0 and at most 1. With short steps the embedding keeps more of its
        geometry for the same match, and more layers are needed.
    knots : int or "auto", default="auto"
        Quantiles that describe a coordinate, at least 3. "auto": 5 to 24, by the rows for each
        component; many quantiles of few rows fit those rows and no others.
    validation_fraction : float, default=0.1
        Share of the rows that is held out where none are passed to `build`. With less than 20 of
        them the map is the identity.
    patience : int, default=20
        Layers without improvement before it stops; they are dropped.
    shrinkage : float, default=1.3
        How many times what chance would show is taken off the square of a coordinate's distance to
        N(0, 1), at least 0. More keeps more of the geometry and matches less well.
    jitter : float, default=0.03
        Standard deviation of noise on the rows of the fit. Repeated rows have a law without a
        density, which would be stretched without end; finer structure than this is left alone.
    clusters : int, default=16
        Components of the Gaussian mixture, fewer where there are not ten rows for each of them and
        each component of the embedding. With 0 or 1 every layer follows FastICA, and nothing is
        kept apart.
    couplings : int or "auto", default="auto"
        Coupling layers. "auto": one for 42 rows of each component, at most 16. With 0, or one
        component, the method of Laparra et al. is alone.
    separation : float, default=1.0
        :math:`\mu`, the weight of telling clusters apart by the coupling layers, at least 0. More
        keeps more of what a linear model needs and matches less well.

    See Also
    --------
    FlowRefinement : Matches better, takes longer, and keeps less of the geometry.

    References
    ----------
    L. Dinh, J. Sohl-Dickstein, S. Bengio, "Density Estimation Using Real NVP", ICLR 2017,
    arXiv:1605.08803.

    R. A. Fisher, "The Use of Multiple Measurements in Taxonomic Problems", Annals of Eugenics 7
    (1936), 179-188.

    V. Laparra, G. Camps-Valls, J. Malo, "Iterative Gaussianization: From ICA to Random Rotations",
    IEEE Transactions on Neural Networks 22 (2011), 537-549.

    W. James, C. Stein, "Estimation with Quadratic Loss", Proceedings of the Fourth Berkeley
    Symposium on Mathematical Statistics and Probability 1 (1961), 361-379.

    J. Gregory, R. Delbourgo, "Piecewise Rational Quadratic Interpolation to Monotonic Data", IMA
    Journal of Numerical Analysis 2 (1982), 123-130.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.refinement import RotationGaussianization
    >>> z = np.random.default_rng(0).uniform(-1.7, 1.7, size=(2000, 2))
    >>> refined = RotationGaussianization().build(z, seed=0)
    >>> bool(refined.log_density(z).mean() > -2.55)  # at most -log(3.4 ** 2) = -2.45
    True
    >>> bool(np.allclose(refined.inverse(refined.forward(z)), z))
    True
    """

    def __init__(
        self,
        max_layers: int = 200,
        step: float = 0.3,
        knots: int | str = "auto",
        validation_fraction: float = 0.1,
        patience: int = 20,
        shrinkage: float = 1.3,
        jitter: float = 0.03,
        clusters: int = 16,
        couplings: int | str = "auto",
        separation: float = 1.0,
    ) -> None:
        self.max_layers = max_layers
        self.step = step
        self.knots = knots
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.shrinkage = shrinkage
        self.jitter = jitter
        self.clusters = clusters
        self.couplings = couplings
        self.separation = separation

    @own_context()
    def build(self, z: ArrayLike, seed: int, held_out: ArrayLike | None = None) -> InvertibleMap:
        """Return the map for embeddings z (n, d), finite and about N(0, I).

        Layers are added until the rows `held_out` (m, d) stop gaining; without 20 of them, until
        rows held out of z do.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the rows are not usable.
        """
        z, held_out = check_rows(z, held_out)
        max_layers = check_integer(self.max_layers, "refine max_layers", minimum=1)
        patience = check_integer(self.patience, "refine patience", minimum=1)
        step = check_real(self.step, "refine step", minimum=0, maximum=1, closed="right")
        shrinkage = check_real(self.shrinkage, "refine shrinkage", minimum=0)
        jitter = check_real(self.jitter, "refine jitter", minimum=0)
        clusters = check_clusters(self.clusters)
        separation = check_real(self.separation, "refine separation", minimum=0)
        couplings = check_integer(
            auto_couplings(*z.shape) if is_auto(self.couplings) else self.couplings,
            "refine couplings",
            minimum=0,
            also="'auto'",
        )
        knots = check_integer(
            auto_knots(*z.shape) if is_auto(self.knots) else self.knots,
            "refine knots",
            minimum=3,
            also="'auto'",
        )
        rng = np.random.default_rng(seed)
        d, parts = z.shape[1], split_rows(z, held_out, self.validation_fraction, rng)
        if parts is None:
            return Identity(d)
        z, held_out = parts
        mixture = find_clusters(z, clusters, seed)
        labels = clusters_of(mixture, z)
        if labels is None or len(np.unique(labels)) < 2:
            mixture = labels = None
        rows, judged = (part + jitter * rng.standard_normal(part.shape) for part in parts)
        layers, rows, judged = gaussianize(
            (rows, judged), labels, (knots, step, shrinkage), (max_layers, patience), rng
        )
        rotation = RotationMap(d, layers)
        if couplings == 0 or d == 1:  # one component has no other to be moved by
            return rotation
        head = None if mixture is None else mixture.n_components
        coupled = fit_couplings(
            (rows, labels),
            (judged, clusters_of(mixture, held_out)),
            couplings,
            head,
            separation,
            seed,
        )
        both = Composed([rotation, coupled])
        return Composed([*both.maps, spread_of(both.forward(held_out), held_out, z)])


def gaussianize(
    parts: tuple[FloatArray, FloatArray],
    labels: np.ndarray | None,
    towards: tuple[int, float, float],
    limits: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[list[tuple[FloatArray, Splines]], FloatArray, FloatArray]:
    """Return layers that take rows (n, d) towards N(0, I), and where they take both parts.

    Parameters
    ----------
    parts : tuple of ndarray
        Rows to fit, and held-out ones that say when to stop.
    labels : ndarray of shape (n,) or None
        Clusters of the rows to fit, which every other layer follows.
    towards : tuple of int, float and float
        Knots, step and shrinkage.
    limits : tuple of int
        Layers at most, and without improvement.
    rng : Generator
    """
    rows, held_out = parts
    max_layers, patience = limits
    log_det = np.zeros(len(held_out))
    layers: list[tuple[FloatArray, Splines]] = []
    near = are_near(held_out)
    near |= near.sum() < MIN_HELD_OUT
    best, n_best, moved = normal_logpdf(held_out[near]).mean(), 0, parts
    while len(layers) < max_layers and len(layers) - n_best < patience:
        if labels is not None and len(layers) % 2:
            axes = discriminant_axes(rows, labels, rng)
        else:
            axes = independent_axes(rows, rng)
        turned = rows @ axes.T
        splines = towards_normal(turned, *towards)
        rows = splines.forward(turned)[0] @ axes
        turned, part = splines.forward(held_out @ axes.T)
        held_out = turned @ axes
        log_det += part
        layers.append((axes, splines))
        value = (normal_logpdf(held_out) + log_det)[near].mean()
        if value > best + TOL:
            best, n_best, moved = value, len(layers), (rows, held_out)
    return layers[:n_best], *moved


def auto_knots(n_rows: int, n_components: int) -> int:
    """Return the quantiles that so many rows tell of each of so many components."""
    return int(np.clip(round(n_rows / n_components / 56), 5, 24))


def independent_axes(z: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return orthogonal axes (d, d) along which z (n, d) is far from normal.

    Some steps of symmetric FastICA (Hyvarinen 1999, log cosh) from random axes.
    """
    z = z - z.mean(0)
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    z = z @ (vectors / np.sqrt(np.maximum(values, 1e-6)) @ vectors.T)
    d = z.shape[1]
    axes: FloatArray = np.linalg.qr(rng.standard_normal((d, d)))[0]
    for _ in range(SEARCH_STEPS):
        u = np.tanh(z @ axes.T)
        left, _, right = np.linalg.svd(u.T @ z / len(z) - (1 - u**2).mean(0)[:, np.newaxis] * axes)
        axes = left @ right
    return axes


def discriminant_axes(z: FloatArray, labels: np.ndarray, rng: np.random.Generator) -> FloatArray:
    """Return orthogonal axes (d, d), the first of which best tells a pair of clusters apart.

    Fisher's discriminants, with the covariance within the clusters `labels` (n,), of d pairs drawn
    at random; each is made orthogonal to those before it, so the later ones are what is left. A
    pair may be one cluster twice, and then stands for an axis at random.
    """
    d = z.shape[1]
    member = labels == np.unique(labels)[:, np.newaxis]
    means = member @ z / member.sum(1, keepdims=True)
    within = z - means[member.argmax(0)]
    pairs = rng.integers(len(means), size=(2, d))
    apart = means[pairs[0]] - means[pairs[1]]
    axes = np.linalg.solve(within.T @ within / len(z) + TINY_RIDGE * np.eye(d), apart.T)
    axes += TINY_RIDGE * rng.standard_normal((d, d))
    turned: FloatArray = np.linalg.qr(axes)[0].T
    return turned


def towards_normal(u: FloatArray, n_knots: int, step: float, shrinkage: float) -> Splines:
    """Return maps of the columns of u (n, d) that go `step` of the way to normal scores.

    And less far, the more of a column's departure from them may be chance: by `shrinkage` times the
    share of its mean square that so many rows of N(0, 1) would show.
    """
    edge = -ndtri(min(0.1, TAIL_ROWS / len(u)))
    y: Any = np.linspace(-edge, edge, n_knots)
    share = ndtr(y)
    quantiles: FloatArray = np.quantile(u, share, axis=0).T
    density = np.exp(-0.5 * y**2) / np.sqrt(2 * np.pi)
    # By the squared density, since a quantile has the variance share (1 - share) / (n density^2).
    departure = (density**2 * (quantiles - y) ** 2).sum(1)
    chance = shrinkage * (share * (1 - share)).sum() / len(u)
    steps = step * (1 - np.minimum(1, chance / np.maximum(departure, TINY)))[:, np.newaxis]
    x = (1 - FLOOR) * quantiles + FLOOR * y
    return Splines.through(x, (1 - steps) * x + steps * y)
