"""Rotation-based iterative Gaussianisation, finished by trained coupling layers."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import chi
from sklearn.base import BaseEstimator
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_array
from torch import nn

from sknoisydim._context import own_context
from sknoisydim._modules import make_generator
from sknoisydim._normal import normal_logpdf
from sknoisydim._validation import check_integer, check_real, is_auto

from ._maps import BOUND, CELLS, Composed, Couplings, InvertibleMap, Radial, RotatedTables, Scale

FloatArray = NDArray[np.float64]
Codes = NDArray[np.int64]

# Of clusters: rows for each and component at least, rows that they are found from at most, noise on
# these, so that repeated rows are none, steps of the mixture at most, the gain in nats that is
# worth another (a tenth leaves accuracies and AUC as they are), and what is added to variances.
ROWS_PER_CLUSTER, CLUSTER_ROWS, CLUSTER_JITTER = 10, 20_000, 0.05
CLUSTER_STEPS, CLUSTER_TOL, RIDGE = 50, 1e-2, 1e-3
# Of couplings: hidden units, passes and steps at most, passes without improvement, rows in a batch,
# peak of the learning rate, and largest norm of a gradient: rows beside the bulk have huge ones.
HIDDEN, EPOCHS, STEPS, WAIT, BATCH, LR, CLIP = 64, 60, 360, 8, 512, 0.02, 5.0
# Noise on their rows, between these: the second over the rows for each component. Few rows have to
# stand for more of the space around them.
LEAST_JITTER, JITTER_ROWS, MOST_JITTER = 0.05, 64, 0.2
# Their linear model of clusters: steps and their size before the map moves, about how many rows it
# sees, and the peak of its learning rate afterwards.
HEAD_STEPS, HEAD_LR, HEAD_ROWS, HEAD_PEAK = 100, 0.1, 5000, 0.01
# Fewer held-out rows than this say nothing about a distribution: the map stays the identity.
MIN_HELD_OUT = 20
# Standard deviations, of the mean square of a normal row, beyond which a row is far out, and the
# least mean square that is scaled to one: rows that are all alike have none.
FAR, LEAST_SQUARE = 10.0, 0.25
# Of tables: the improvement of the held-out log density, in nats, that counts, layers without, and
# steps of the search for independent axes, which need not converge: the next layer goes on.
TOL, PATIENCE, SEARCH_STEPS = 1e-4, 6, 10
# Of their knots: rows beyond the outermost, which with fewer follows single rows; the share of the
# identity, so that no slope exceeds one over it; how many times what chance shows is taken off.
TAIL_ROWS, FLOOR, SHRINKAGE = 10, 0.02, 1.3
# Noise on the rows of the fit: repeated ones have no density, and would be stretched without end.
# Also added: to variances within clusters, and to axes, so that none is zero.
JITTER, TINY_RIDGE = 0.03, 1e-6
# Of norms: the held-out rows without which too little is seen, the share of the way that they are
# moved, with which var|z|^2 / 2d of 4,000 rows stays within 0.15 of 1 (TestDistribution in
# tests/test_linear.py), and scores that are not looked beyond.
NORM_ROWS, NORM_STEP, FURTHEST = 200, 0.7, 12.0


class RotationGaussianization(BaseEstimator):
    r"""Rotation-based iterative Gaussianisation, finished by trained coupling layers.

    A layer of the first kind turns the rows to orthogonal axes, moves each coordinate part of the
    way to normal scores, and turns back:

    .. math:: z \mapsto A^\top \bigl( (1 - \eta) u + \eta \, \Phi^{-1}(\hat F(u)) \bigr),
              \qquad u = A z

    with A orthogonal, :math:`\hat F` the distribution function of each coordinate and :math:`\eta`
    the `step`. A coordinate whose distance to N(0, 1) may be chance is moved less (James and
    Stein). Layers are added until the mean log density of held-out rows stops growing. The axes are
    in turn as independent as a few steps of FastICA make them, and those that best tell clusters of
    the embedding apart: Fisher's discriminants of pairs of components of a Gaussian mixture.

    The coupling layers also turn the rows, and move half of the coordinates by the other half. With
    r the map, and q a linear model of the clusters c, they minimise

    .. math:: \hat E \bigl[ \tfrac12 \lVert r(z) \rVert^2
              - \log \lvert \det \partial r / \partial z \rvert
              + \lambda \lVert r(z) - z \rVert^2 - \mu \log q(c \mid r(z)) \bigr]

    and are dropped where the density of held-out rows does not gain. Then rows are divided by one
    number, since what is trained stretches rows that it was not fitted to, and moved along their
    own direction, so that the norms come closer to those of N(0, I). Rows far out (ten standard
    deviations from the mean square of a normal row) are mapped, and do not count in what is
    trained and what stops.

    Parameters
    ----------
    layers : int, default=12
        Layers of the first kind at most.
    step : float, default=0.3
        :math:`\eta`, above 0 and at most 1. With short steps the embedding keeps more of its
        geometry.
    couplings : int, default=6
        Coupling layers. With 0, or one component, the method of Laparra et al. is alone.
    transport : float or "auto", default="auto"
        :math:`\lambda`, the price of moving a row, at least 0. "auto": 70 d / n for n rows of d
        components, and 0.07 at least: few rows are moved with care.
    separation : float, default=1.0
        :math:`\mu`, the weight of telling clusters apart, at least 0. More keeps more of what a
        linear model needs and matches less well.
    clusters : int, default=16
        Components of the Gaussian mixture, fewer where there are not ten rows for each of them and
        each component of the embedding. With 0 or 1 nothing is kept apart.
    validation_fraction : float, default=0.1
        Share of the rows that is held out where none are passed to `build`, 20 of them at least.

    References
    ----------
    V. Laparra, G. Camps-Valls, J. Malo, "Iterative Gaussianization: From ICA to Random Rotations",
    IEEE Transactions on Neural Networks 22 (2011), 537-549.

    L. Dinh, J. Sohl-Dickstein, S. Bengio, "Density Estimation Using Real NVP", ICLR 2017,
    arXiv:1605.08803.

    R. A. Fisher, "The Use of Multiple Measurements in Taxonomic Problems", Annals of Eugenics 7
    (1936), 179-188.

    W. James, C. Stein, "Estimation with Quadratic Loss", Proceedings of the Fourth Berkeley
    Symposium on Mathematical Statistics and Probability 1 (1961), 361-379.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sknoisydim.refinement import RotationGaussianization
    >>> z = np.random.default_rng(0).uniform(-1.7, 1.7, size=(2000, 2))
    >>> refined = RotationGaussianization().build(z, seed=0)
    >>> rows = torch.from_numpy(z)
    >>> bool(np.allclose(refined.inverse(refined(rows)), z))
    True
    """

    def __init__(
        self,
        layers: int = 12,
        step: float = 0.3,
        couplings: int = 6,
        transport: float | str = "auto",
        separation: float = 1.0,
        clusters: int = 16,
        validation_fraction: float = 0.1,
    ) -> None:
        self.layers = layers
        self.step = step
        self.couplings = couplings
        self.transport = transport
        self.separation = separation
        self.clusters = clusters
        self.validation_fraction = validation_fraction

    @own_context()
    def build(self, z: ArrayLike, seed: int, held_out: ArrayLike | None = None) -> InvertibleMap:
        """Return the map for embeddings.

        Parameters
        ----------
        z : array-like of shape (n, d)
            Embeddings, finite and about N(0, I).
        seed : int
            Seed of all draws.
        held_out : array-like of shape (m, d), default=None
            Rows that the map stops by; with less than 20 of them, rows held out of z.

        Returns
        -------
        fitted : InvertibleMap
            The identity, where there are too few rows.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented, or rows are not finite or have other shapes.
        """
        parts = [check_array(z, dtype=np.float64, input_name="z")]
        n, d = parts[0].shape
        if held_out is not None:
            parts.append(check_array(held_out, dtype=np.float64, input_name="held_out"))
            if parts[1].shape[1] != d:
                raise ValueError(f"held_out has {parts[1].shape[1]} components, and z has {d}.")
        limits: Any = {"minimum": 0, "maximum": 1}
        n_layers = check_integer(self.layers, "refine layers", minimum=0)
        step = check_real(self.step, "refine step", closed="right", **limits)
        n_couplings = check_integer(self.couplings, "refine couplings", minimum=0)
        price = max(70 * d / n, 0.07) if is_auto(self.transport) else self.transport
        price = check_real(price, "refine transport", minimum=0, also="'auto'")
        separation = check_real(self.separation, "refine separation", minimum=0)
        n_clusters = check_integer(self.clusters, "refine clusters", minimum=0)
        limits |= {"closed": "neither"}
        fraction = check_real(self.validation_fraction, "refine validation_fraction", **limits)
        rng = np.random.default_rng(seed)
        if held_out is None or min(map(len, parts)) < MIN_HELD_OUT:
            order, n_held_out = rng.permutation(n), round(fraction * n)
            parts = [parts[0][order[n_held_out:]], parts[0][order[:n_held_out]]]
        if min(map(len, parts)) < MIN_HELD_OUT:
            return InvertibleMap(d)
        codes = find_clusters(parts, n_clusters, seed)
        moved = [part + JITTER * rng.standard_normal(part.shape) for part in parts]
        tables, moved = gaussianize(moved, codes[0], n_layers, step, rng)
        if d == 1:  # no other component to be moved by, and no direction
            return tables
        maps: list[InvertibleMap] = [tables]
        near = [np.flatnonzero(inlier_mask(part)) for part in moved]
        if n_couplings > 0 and min(map(len, near)) >= MIN_HELD_OUT:
            moved = [part[some] for part, some in zip(moved, near, strict=True)]
            codes = [part[some] for part, some in zip(codes, near, strict=True)]
            coupled = train_couplings(moved, codes, n_couplings, price, separation, seed)
            after, log_det = apply(coupled, moved[1])
            gain = normal_logpdf(after) + log_det - normal_logpdf(moved[1])
            if gain.mean() > gain.std() / np.sqrt(len(gain)):  # more than by chance
                maps.append(coupled)
        images = [apply(Composed(maps), part)[0] for part in parts]
        maps.append(Scale(d, fit_rescaling(images[1], parts[1], parts[0])))
        images = [apply(maps[-1], image)[0] for image in images]
        fitted, judged = (np.sqrt(np.square(z[inlier_mask(z)]).sum(1)) for z in images)
        if len(judged) >= NORM_ROWS:
            # Rows of the fit may have other norms than new ones: both count the same.
            times = max(1, round(len(fitted) / len(judged)))
            maps.append(radial_map(np.concatenate([fitted, np.tile(judged, times)]), d))
        return Composed(maps)


def apply(fitted: InvertibleMap, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mapped rows and log determinants of arrays."""
    with torch.inference_mode():
        moved, log_det = fitted.call_and_ladj(torch.from_numpy(np.ascontiguousarray(z)))
    return moved.numpy(), log_det.numpy()


def find_clusters(parts: list[FloatArray], n_clusters: int, seed: int) -> list[Codes]:
    """Return codes (n,) of clusters, by a Gaussian mixture of the first part; zeros without two."""
    rows, rng = parts[0], np.random.default_rng(seed)
    n, d = rows.shape
    nothing = [np.zeros(len(part), np.int64) for part in parts]
    n_clusters = min(n_clusters, min(n, CLUSTER_ROWS) // (ROWS_PER_CLUSTER * d))
    if n_clusters < 2:
        return nothing
    rows = rows[rng.choice(n, CLUSTER_ROWS, replace=False)] if n > CLUSTER_ROWS else rows
    rows = rows + CLUSTER_JITTER * rng.standard_normal(rows.shape)
    # One step at a time, as good as converged by this tolerance: else scikit-learn would warn, and
    # filters belong to the whole process. k-means would add in the order of its threads.
    one_step = {"max_iter": 2, "tol": 1e300, "warm_start": True, "random_state": seed % 2**32}
    mixture = GaussianMixture(n_clusters, init_params="k-means++", reg_covar=RIDGE, **one_step)
    before = -np.inf
    try:
        for _ in range(CLUSTER_STEPS):
            gain, before = mixture.fit(rows).lower_bound_ - before, mixture.lower_bound_
            if gain < CLUSTER_TOL:
                break
    except ValueError:  # a row so far out that a covariance has no Cholesky factor in float64
        return nothing
    codes = [mixture.predict(part) for part in parts]
    return codes if len(np.unique(codes[0])) > 1 else nothing


def gaussianize(
    parts: list[FloatArray], codes: Codes, max_layers: int, step: float, rng: np.random.Generator
) -> tuple[RotatedTables, list[FloatArray]]:
    """Return layers that take rows (n, d) towards N(0, I), and where they take both parts."""
    d, log_det = parts[0].shape[1], np.zeros(len(parts[1]))
    near = inlier_mask(parts[1])
    near |= near.sum() < MIN_HELD_OUT
    best, n_best, moved = normal_logpdf(parts[1][near]).mean(), 0, parts
    layers: list[tuple[FloatArray, FloatArray]] = []
    while len(layers) < max_layers and len(layers) - n_best < PATIENCE:
        if codes.any() and len(layers) % 2:
            axes = discriminant_axes(parts[0], codes, rng)
        else:
            axes = independent_axes(parts[0], rng)
        layers.append((axes, towards_normal(parts[0] @ axes.T, step)))
        one = tables_map(layers[-1:], d)
        (fitted, _), (held_out, more) = (apply(one, part) for part in parts)
        parts, log_det = [fitted, held_out], log_det + more
        value = (normal_logpdf(held_out) + log_det)[near].mean()
        if value > best + TOL:
            best, n_best, moved = value, len(layers), parts
    return tables_map(layers[:n_best], d), moved


def tables_map(layers: list[tuple[FloatArray, FloatArray]], d: int) -> RotatedTables:
    """Return the map of layers, each of which has axes (d, d) and tables (d, CELLS + 1)."""
    eye = torch.eye(d, dtype=torch.float64)
    axes = [eye, *(torch.from_numpy(axes) for axes, _ in layers), eye]
    tables = np.reshape([tables for _, tables in layers], (-1, d, CELLS + 1))
    turns = torch.stack([last @ to.T for last, to in pairwise(axes)])
    return RotatedTables(turns, torch.from_numpy(tables))


def independent_axes(z: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return orthogonal axes (d, d) by steps of symmetric FastICA (Hyvarinen 1999, log cosh)."""
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


def discriminant_axes(z: FloatArray, codes: Codes, rng: np.random.Generator) -> FloatArray:
    """Return orthogonal axes (d, d): Fisher's discriminants of random pairs of clusters, in turn.

    A pair may be one cluster twice, and then stands for an axis at random.
    """
    d = z.shape[1]
    member = codes == np.unique(codes)[:, np.newaxis]
    means = member @ z / member.sum(1, keepdims=True)
    within = z - means[member.argmax(0)]
    pairs = rng.integers(len(means), size=(2, d))
    apart = means[pairs[0]] - means[pairs[1]]
    axes = np.linalg.solve(within.T @ within / len(z) + TINY_RIDGE * np.eye(d), apart.T)
    axes += TINY_RIDGE * rng.standard_normal((d, d))
    return np.linalg.qr(axes)[0].T


def towards_normal(u: FloatArray, step: float) -> FloatArray:
    """Return tables (d, CELLS + 1) that move u (n, d) by `step` of the way to normal scores.

    Less by the share of a column's mean square departure that n rows of N(0, 1) would show.
    """
    n, d = u.shape
    # Many quantiles of few rows would fit those rows and no others.
    n_knots = int(np.clip(round(n / d / 56), 5, 24))
    edge = -ndtri(min(0.1, TAIL_ROWS / n))
    y: Any = np.linspace(-edge, edge, n_knots)
    share, quantiles = ndtr(y), np.quantile(u, ndtr(y), axis=0).T
    density = np.exp(-0.5 * y**2) / np.sqrt(2 * np.pi)
    # By the squared density, since a quantile has the variance share (1 - share) / (n density^2).
    departure = (density**2 * (quantiles - y) ** 2).sum(1)
    chance = SHRINKAGE * (share * (1 - share)).sum() / n
    steps = step * (1 - np.minimum(1, chance / np.maximum(departure, 1e-300)))[:, np.newaxis]
    x = (1 - FLOOR) * quantiles + FLOOR * y
    points = np.linspace(-BOUND, BOUND, CELLS + 1)
    # Beyond the outermost knots a shift.
    shifts = [np.interp(points, *column) for column in zip(x, steps * (y - x), strict=True)]
    return points + np.array(shifts)


def cayley(start: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Return orthogonal axes (n_layers, d, d), one a row: `start`, turned by Cayley's map."""
    skew, eye = turn - turn.mT, torch.eye(turn.shape[1], dtype=turn.dtype)
    return start @ torch.linalg.solve(eye + skew, eye - skew)


def between(axes: torch.Tensor) -> torch.Tensor:
    """Return what turns rows to the axes (n, d, d) of each layer from those of the one before."""
    eye = torch.eye(axes.shape[-1], dtype=axes.dtype)[None]
    return torch.cat([eye, axes]) @ torch.cat([axes.mT, eye])


def fit_head(z: torch.Tensor, codes: torch.Tensor, n_clusters: int) -> list[torch.Tensor]:
    """Return weights and biases of a linear model of clusters, by rows from all over z (n, d)."""
    some = slice(None, None, -(-len(z) // HEAD_ROWS))
    shapes = (n_clusters, z.shape[1]), (n_clusters,)
    head = [torch.zeros(shape, dtype=torch.float32, requires_grad=True) for shape in shapes]
    optimizer = torch.optim.Adam(head, lr=HEAD_LR, fused=True)
    for _ in range(HEAD_STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(nn.functional.linear(z[some], *head), codes[some]).backward()
        optimizer.step()
    return head


def train_couplings(
    parts: list[FloatArray],
    codes: list[Codes],
    n_layers: int,
    transport: float,
    separation: float,
    seed: int,
) -> Couplings:
    """Return layers for rows, and their weights that were best on others: at worst the identity."""
    generator = make_generator(seed)
    some = slice(None, None, -(-len(parts[0]) // (STEPS * BATCH)))
    rows, judged = (torch.from_numpy(part).float() for part in (parts[0][some], parts[1]))
    known, told = map(torch.from_numpy, (codes[0][some], codes[1]))
    n, d = rows.shape
    # Axes at random, weights of `Couplings` that make these the identity, and turns of the axes.
    kept, moved = d // 2, d - d // 2
    shapes = (d, d), (kept, HIDDEN), (HIDDEN,), (HIDDEN, 2 * moved), (2 * moved,), (d, d)
    start, *weights = [torch.zeros(n_layers, *shape, dtype=torch.float32) for shape in shapes]
    start = torch.linalg.qr(start.normal_(generator=generator))[0]
    weights[0].normal_(0, kept**-0.5, generator=generator)
    weights[1].normal_(0, 0.5, generator=generator)
    weights = [weight.requires_grad_() for weight in weights]
    # A cluster may have no other rows than some that are held out.
    n_clusters = 1 + max(int(known.max()), int(told.max()))
    head = fit_head(rows, known, n_clusters) if separation > 0 and n_clusters > 1 else []
    groups = [{"params": part} for part in (weights, head) if part]
    jitter = min(max(JITTER_ROWS * d / n, LEAST_JITTER), MOST_JITTER)

    def blurred(z: torch.Tensor) -> torch.Tensor:
        return z + jitter * torch.empty_like(z).normal_(generator=generator)

    def loss(z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        layers = Couplings(between(cayley(start, weights[-1])), *weights[:-1])
        image, log_det = layers.call_and_ladj(z)
        each = 0.5 * image.square().sum(1) - log_det + transport * (image - z).square().sum(1)
        if head:
            logits = nn.functional.linear(image, *head)
            each = each + separation * nn.functional.cross_entropy(logits, codes, reduction="none")
        return each.mean()

    judged = blurred(judged)
    n_batches = -(-n // BATCH)
    n_epochs = max(1, min(EPOCHS, STEPS // n_batches))
    optimizer = torch.optim.Adam(groups, lr=LR, fused=True)
    peaks = [LR, HEAD_PEAK][: len(groups)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, n_epochs * n_batches)
    with torch.no_grad():
        least, best_epoch, best = loss(judged, told), 0, copy.deepcopy(weights)
    for epoch in range(1, n_epochs + 1):
        for index in torch.randperm(n, generator=generator).split(BATCH):
            optimizer.zero_grad()
            loss(blurred(rows[index]), known[index]).backward()
            nn.utils.clip_grad_norm_(weights, CLIP)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            value = loss(judged, told)
        if value < least:  # never true of NaN
            least, best_epoch, best = value, epoch, copy.deepcopy(weights)
        if epoch - best_epoch >= WAIT:
            break
    *final, turn = [weight.detach() for weight in best]
    left, _, right = torch.linalg.svd(cayley(start, turn).double())  # orthogonal in float64
    return Couplings(between(left @ right), *(weight.double() for weight in final))


def radial_map(norms: FloatArray, d: int) -> Radial:
    """Return the map of norms (n,) to those of N(0, I) (d): `towards_normal` of their scores."""

    def scores(r: FloatArray) -> FloatArray:
        # Of chi, and of the smaller tail: the other one is rounded to 1.
        low, high = ndtri(chi.cdf(r, d)), -ndtri(chi.sf(r, d))
        return np.clip(np.where(low < 0, low, high), -FURTHEST, FURTHEST)

    radial = Radial(d)
    points = radial.values.numpy()
    before = scores(points)
    table = towards_normal(scores(norms)[:, np.newaxis], NORM_STEP)[0]
    grid = np.linspace(-BOUND, BOUND, CELLS + 1)
    after = before + np.interp(before, grid, table - grid)
    moved = np.where(after < 0, chi.ppf(ndtr(after), d), chi.isf(ndtr(-after), d))
    # Closer to 0, and further out, than chi can tell: in proportion, and by a shift.
    first, last = np.flatnonzero(np.abs(before) < FURTHEST)[[0, -1]]
    moved[:first] = points[:first] * moved[first] / points[first]
    moved[last + 1 :] = points[last + 1 :] + moved[last] - points[last]
    radial.values.copy_(torch.from_numpy(moved))
    return radial


def mean_squares(z: FloatArray) -> tuple[FloatArray, float]:
    """Return the mean square of each row of z (n, d), and the one beyond which a row is far out."""
    return np.square(np.clip(z, -1e9, 1e9)).mean(1), 1 + FAR * float(np.sqrt(2 / z.shape[1]))


def inlier_mask(z: FloatArray) -> NDArray[np.bool_]:
    """Return which rows of z (n, d) are not far out: as good as all, where z is about N(0, I)."""
    squares, far = mean_squares(z)
    return squares <= far


def fit_rescaling(refined: FloatArray, held_out: FloatArray, fitted: FloatArray) -> float:
    """Return what takes the mean square to one, by held-out rows of which `refined` are the image.

    That these few are by chance further out than the others, or nearer, is taken off, and of the
    rest what may be chance (James and Stein 1961). They may follow another distribution: where
    their images are too far out, nothing is pushed further. Rows far out count as nearer.
    """
    after, before, of_fit = (np.minimum(*mean_squares(z)) for z in (refined, held_out, fitted))
    moved = after - before
    excess = of_fit.mean() + moved.mean() - 1
    chance = moved.var() / len(moved) / max(excess**2, 1e-12)
    square = 1 + excess * max(0.0, 1 - chance)
    least = min(1.0, max(after.mean(), LEAST_SQUARE))
    return float(np.sqrt(max(square, least)))
