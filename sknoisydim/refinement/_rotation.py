"""Rotation-based iterative Gaussianisation, finished by trained coupling layers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import chi
from sklearn.base import BaseEstimator
from sklearn.mixture import GaussianMixture
from torch import nn

from sknoisydim._context import own_context
from sknoisydim._modules import make_generator
from sknoisydim._normal import normal_logpdf
from sknoisydim._validation import check_integer, check_real, is_auto
from sknoisydim.refinement._maps import (
    BOUND,
    CELLS,
    Composed,
    Couplings,
    InvertibleMap,
    Radial,
    RotatedTables,
    Scale,
)

FloatArray = NDArray[np.float64]

# Rows for each cluster and component at least: fewer tell little of where a cluster is.
ROWS_PER_CLUSTER = 10
# Rows that clusters are found from at most, and the standard deviation of noise on them, so that
# repeated rows are no cluster of their own.
CLUSTER_ROWS, CLUSTER_JITTER = 20_000, 0.05
# Steps of expectation maximisation at most, and the gain in nats that is worth another: a tenth of
# it takes a tenth longer, and leaves accuracies and AUC as they are.
CLUSTER_STEPS, CLUSTER_TOL = 50, 1e-2
# Added to the variances of a cluster.
RIDGE = 1e-3
# Passes and steps at most; passes without improvement; rows in a batch; peak
# of the learning rate; largest norm of a gradient: single rows beside the bulk have huge ones.
EPOCHS, STEPS, WAIT, BATCH, LR, CLIP = 60, 360, 8, 512, 0.02, 5.0
# Standard deviation of noise on the rows, between these: the second over the rows for each
# component. Few rows have to stand for more of the space around them.
LEAST_JITTER, JITTER_ROWS, MOST_JITTER = 0.05, 64, 0.2
# The linear model of clusters: steps and their size before the map moves, about how many rows it
# sees, and the peak of its learning rate afterwards.
HEAD_STEPS, HEAD_LR, HEAD_ROWS, HEAD_PEAK = 100, 0.1, 5000, 0.01


def find_clusters(z: FloatArray, n_clusters: int, seed: int) -> GaussianMixture | None:
    """Return a Gaussian mixture for embeddings z (n, d); None where there are not two clusters.

    It has fewer than `n_clusters` components where there are too few rows for so many.
    """
    n, d = z.shape
    n_clusters = min(n_clusters, min(n, CLUSTER_ROWS) // (ROWS_PER_CLUSTER * d))
    if n_clusters < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = z[rng.choice(n, CLUSTER_ROWS, replace=False)] if n > CLUSTER_ROWS else z
    rows = rows + CLUSTER_JITTER * rng.standard_normal(rows.shape)
    # k-means would add in the order in which its threads come. Where it stops by itself before it
    # has converged, scikit-learn warns, and filters belong to the whole process: so it goes one
    # step at a time, each of which is as good as converged by this tolerance.
    mixture = GaussianMixture(
        n_clusters,
        init_params="k-means++",
        reg_covar=RIDGE,
        max_iter=2,
        tol=1e300,
        warm_start=True,
        random_state=seed % 2**32,
    )
    before = -np.inf
    try:
        for _ in range(CLUSTER_STEPS):
            gain, before = mixture.fit(rows).lower_bound_ - before, mixture.lower_bound_
            if gain < CLUSTER_TOL:
                break
    except ValueError:  # a row so far out that a covariance has no Cholesky factor in float64
        return None
    return mixture if len(np.unique(mixture.predict(z))) > 1 else None


class _Training(Couplings):
    """Couplings whose arrays are parameters: the identity at first, along axes at random.

    Axes are orthogonal, and turned by Cayley's map.
    """

    def __init__(self, n_components: int, n_layers: int, generator: torch.Generator) -> None:
        super().__init__(n_components, n_layers)
        for name in ("inner", "inner_bias", "outer", "outer_bias"):
            value = getattr(self, name).float()
            delattr(self, name)
            self.register_parameter(name, nn.Parameter(value))
        del self.turns  # follow from the parameters
        start = torch.empty(n_layers, n_components, n_components, dtype=torch.float32)
        self.start = torch.linalg.qr(start.normal_(generator=generator))[0]
        self.turn = nn.Parameter(torch.zeros_like(start))
        with torch.no_grad():
            self.inner.normal_(0, self.halves[0] ** -0.5, generator=generator)
            self.inner_bias.normal_(0, 0.5, generator=generator)

    def axes(self) -> torch.Tensor:
        """Return axes (n_layers, d, d), one a row."""
        skew, eye = self.turn - self.turn.mT, torch.eye(self.n_components, dtype=self.turn.dtype)
        turned: torch.Tensor = self.start @ torch.linalg.solve(eye + skew, eye - skew)
        return turned

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        self.turns = between(self.axes())
        return super()._run(z, ladj)

    @torch.no_grad()
    def fixed(self) -> Couplings:
        """Return the layers, their axes orthogonal in float64."""
        layers = Couplings(self.n_components, len(self.inner))
        left, _, right = torch.linalg.svd(self.axes().double())
        layers.turns = between(left @ right)
        for name in ("inner", "inner_bias", "outer", "outer_bias"):
            setattr(layers, name, getattr(self, name).double())
        return layers


def between(axes: torch.Tensor) -> torch.Tensor:
    """Return what turns rows to the axes (n, d, d) of each layer from those of the one before."""
    eye = torch.eye(axes.shape[-1], dtype=axes.dtype)[None]
    return torch.cat([eye, axes]) @ torch.cat([axes.mT, eye])


class _Loss:
    """What layers minimise; rows come with the codes of their clusters (n,), or none do."""

    def __init__(self, layers: Couplings, transport: float, separation: float) -> None:
        self.layers, self.transport, self.separation = layers, transport, separation
        self.head: nn.Linear | None = None

    def fit_head(self, z: torch.Tensor, codes: torch.Tensor, n_clusters: int) -> None:
        """Fit the linear model of the clusters to rows from all over the table."""
        some = slice(None, None, -(-len(z) // HEAD_ROWS))
        head = nn.utils.skip_init(nn.Linear, z.shape[1], n_clusters, dtype=torch.float32)
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
        optimizer = torch.optim.Adam(head.parameters(), lr=HEAD_LR, fused=True)
        for _ in range(HEAD_STEPS):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(z[some]), codes[some]).backward()
            optimizer.step()
        self.head = head

    def __call__(self, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        moved, log_det = self.layers.call_and_ladj(z)
        loss = 0.5 * moved.square().sum(1) - log_det
        loss = loss + self.transport * (moved - z).square().sum(1)
        if self.head is not None:
            told = nn.functional.cross_entropy(self.head(moved), codes, reduction="none")
            loss = loss + self.separation * told
        return loss.mean()


def train_couplings(
    fitted: FloatArray,
    held_out: FloatArray,
    codes: tuple[FloatArray, FloatArray] | None,
    n_layers: int,
    transport: float,
    separation: float,
    seed: int,
) -> Couplings:
    """Return layers for rows (n, d), with the weights that were best on rows held out (m, d).

    Which may be those of the start: the identity.
    """
    generator = make_generator(seed)
    if len(fitted) > STEPS * BATCH:
        some = slice(None, None, -(-len(fitted) // (STEPS * BATCH)))
        fitted, codes = fitted[some], None if codes is None else (codes[0][some], codes[1])
    rows, judged = (torch.from_numpy(part).float() for part in (fitted, held_out))
    known, told = (
        torch.from_numpy(np.zeros(len(part), np.int64) if codes is None else codes[i])
        for i, part in enumerate((fitted, held_out))
    )
    n, d = rows.shape
    layers = _Training(d, n_layers, generator)
    loss = _Loss(layers, transport, separation)
    if codes is not None and separation > 0:
        # A cluster may have no other rows than some that are held out.
        loss.fit_head(rows, known, 1 + int(torch.cat([known, told]).max()))
    jitter = min(max(JITTER_ROWS * d / n, LEAST_JITTER), MOST_JITTER)

    def blurred(z: torch.Tensor) -> torch.Tensor:
        return z + jitter * torch.empty_like(z).normal_(generator=generator)

    judged = blurred(judged)
    groups, peaks = [{"params": list(layers.parameters())}], [LR]
    if loss.head is not None:
        groups.append({"params": list(loss.head.parameters())})
        peaks.append(HEAD_PEAK)
    n_batches = -(-n // BATCH)
    n_epochs = max(1, min(EPOCHS, STEPS // n_batches))
    optimizer = torch.optim.Adam(groups, lr=LR, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, n_epochs * n_batches)
    with torch.no_grad():
        best, best_epoch, weights = loss(judged, told), 0, copy.deepcopy(layers.state_dict())
    for epoch in range(1, n_epochs + 1):
        for index in torch.randperm(n, generator=generator).split(BATCH):
            optimizer.zero_grad()
            loss(blurred(rows[index]), known[index]).backward()
            nn.utils.clip_grad_norm_(layers.parameters(), CLIP)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            value = loss(judged, told)
        if value < best:  # never true of NaN
            best, best_epoch, weights = value, epoch, copy.deepcopy(layers.state_dict())
        if epoch - best_epoch >= WAIT:
            break
    layers.load_state_dict(weights)
    return layers.fixed()


# Fewer held-out rows than this say nothing about a distribution: the map stays the identity.
MIN_HELD_OUT = 20
# Standard deviations, of the mean square of a normal row, beyond which a row is far out.
FAR = 10.0
# Least mean square that is scaled to one: rows that are all alike have none.
LEAST_SQUARE = 0.25
# Improvement of the held-out log density, in nats, that counts as one, and layers without.
TOL, PATIENCE = 1e-4, 6
# Steps of the search for independent axes. It need not converge: the next layer goes on.
SEARCH_STEPS = 10
# Rows beyond the outermost knot, on either side: with fewer, the last knot follows single rows.
TAIL_ROWS = 10
# Share of the identity that each marginal map keeps, so that no slope exceeds one over it.
FLOOR = 0.02
# Share of a column's departure from N(0, 1) that is taken off: so many times what chance shows.
SHRINKAGE = 1.3
# Standard deviation of noise on the rows of the fit. Repeated rows have a distribution without a
# density, which would be stretched without end; finer structure than this is left alone.
JITTER = 0.03
# Added to variances within clusters, and to axes, so that none is zero.
TINY_RIDGE = 1e-6
# The map of norms: held-out rows without which it sees too little, and the share of the way that
# they are moved, with which var|z|^2 / 2d of 4,000 rows stays within 0.15 of 1 (TestDistribution in
# tests/test_linear.py).
NORM_ROWS, NORM_STEP = 200, 0.7
# Scores of norms beyond this are not asked for.
FURTHEST = 12.0
# Least departure from N(0, 1) that is divided by.
TINY = 1e-300

Layer = tuple[torch.Tensor, torch.Tensor]


class RotationGaussianization(BaseEstimator):
    r"""Rotation-based iterative Gaussianisation, finished by trained coupling layers.

    A layer of the first kind turns the rows to orthogonal axes, moves each coordinate part of the
    way to normal scores, and turns back:

    .. math:: z \mapsto A^\top \bigl( (1 - \eta) u + \eta \, \Phi^{-1}(\hat F(u)) \bigr),
              \qquad u = A z

    with A orthogonal, :math:`\hat F` the distribution function of each coordinate and :math:`\eta`
    the `step`. A coordinate whose distance to N(0, 1) may be chance is moved less, in the manner of
    James and Stein. Layers are added until the mean log density of held-out rows stops growing.

    The axes are in turn as independent as a few steps of FastICA make them, and such as tell
    clusters of the embedding apart (Fisher's discriminants of pairs of components of a Gaussian
    mixture, found without labels): a boundary across such an axis is moved and not bent, so a
    linear model of the refined rows still finds it.

    What is left is no longer seen along single axes. The coupling layers at the end turn the rows
    too, and move half of the coordinates by the other half. With r the map, and q a linear model
    of the clusters c, they minimise

    .. math:: \hat E \bigl[ \tfrac12 \lVert r(z) \rVert^2
              - \log \lvert \det \partial r / \partial z \rvert
              + \lambda \lVert r(z) - z \rVert^2 - \mu \log q(c \mid r(z)) \bigr]

    and stay away where the density of held-out rows does not gain. Then rows are divided by
    one number, since what is trained stretches rows that it was not fitted to. Last, each row is
    moved along its own direction, so that the norms come closer to
    those of N(0, I).

    What stops and what is trained does not look at rows far out (ten standard deviations from the
    mean square of a normal row); the steps along axes move these too.

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
        Share of the rows that is held out where none are passed to `build`. With less than 20 of
        them the map is the identity.

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
            Layers are added until these rows stop gaining; with less than 20 of them, until rows
            held out of z do.

        Returns
        -------
        fitted : InvertibleMap
            The identity, where there are too few rows.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not as documented, or rows are not finite or have other shapes.
        """
        rows, others = check_rows(z, held_out)
        n, d = rows.shape
        n_layers = check_integer(self.layers, "refine layers", minimum=0)
        step = check_real(self.step, "refine step", minimum=0, maximum=1, closed="right")
        n_couplings = check_integer(self.couplings, "refine couplings", minimum=0)
        price = max(70 * d / n, 0.07) if is_auto(self.transport) else self.transport
        price = check_real(price, "refine transport", minimum=0, also="'auto'")
        separation = check_real(self.separation, "refine separation", minimum=0)
        n_clusters = check_integer(self.clusters, "refine clusters", minimum=0)
        rng = np.random.default_rng(seed)
        parts = split_rows(rows, others, self.validation_fraction, rng)
        if parts is None:
            return InvertibleMap(d)
        mixture = find_clusters(parts[0], n_clusters, seed)
        codes = None if mixture is None else [mixture.predict(part) for part in parts]
        moved = [part + JITTER * rng.standard_normal(part.shape) for part in parts]
        labels = None if codes is None else codes[0]
        layers, moved = gaussianize(moved, labels, n_layers, step, rng)
        maps: list[InvertibleMap] = [RotatedTables.of(layers, d)]
        if d == 1:  # no other component to be moved by, and no direction
            return maps[0]
        near = [np.flatnonzero(inlier_mask(part)) for part in moved]
        if n_couplings > 0 and min(map(len, near)) >= MIN_HELD_OUT:
            fitted, judged = (part[some] for part, some in zip(moved, near, strict=True))
            known = None if codes is None else tuple(c[i] for c, i in zip(codes, near, strict=True))
            coupled = train_couplings(fitted, judged, known, n_couplings, price, separation, seed)
            after, log_det = apply(coupled, judged)
            gain = normal_logpdf(after) + log_det - normal_logpdf(judged)
            if gain.mean() > gain.std() / np.sqrt(len(gain)):  # more than by chance
                maps.append(coupled)
        images = [apply(Composed(maps), part)[0] for part in parts]
        scale = Scale(d, fit_rescaling(images[1], parts[1], parts[0]))
        images = [apply(scale, image)[0] for image in images]
        norms = [np.sqrt(np.square(image[inlier_mask(image)]).sum(1)) for image in images]
        if len(norms[1]) < NORM_ROWS:
            return Composed([*maps, scale])
        # Rows that the maps were fitted to may have other norms than new ones: both count the same.
        times = max(1, round(len(norms[0]) / len(norms[1])))
        norms[1] = np.tile(norms[1], times)
        return Composed([*maps, scale, radial_map(np.concatenate(norms), d)])


def apply(fitted: InvertibleMap, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mapped rows and log determinants of arrays."""
    with torch.inference_mode():
        moved, log_det = fitted.call_and_ladj(torch.from_numpy(np.ascontiguousarray(z)))
    return moved.numpy(), log_det.numpy()


def check_rows(z: ArrayLike, held_out: ArrayLike | None) -> tuple[FloatArray, FloatArray | None]:
    """Return finite embeddings (n, d), and the rows held out (m, d), in float64."""
    rows = np.asarray(z, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"a refinement is fitted to rows of shape (n, d), got {rows.shape}.")
    d, others = rows.shape[1], None
    if held_out is not None:
        others = np.asarray(held_out, dtype=np.float64)
        if others.ndim != 2 or others.shape[1] != d:
            raise ValueError(
                f"the rows held out for a refinement must have the shape (m, {d}), got "
                f"{others.shape}."
            )
    for part in (rows, others):
        if part is not None and not np.isfinite(part).all():
            raise ValueError("a refinement is fitted to finite rows, got NaN or infinity.")
    return rows, others


def split_rows(
    z: FloatArray, held_out: FloatArray | None, fraction: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray] | None:
    """Return rows to fit and rows held out; None where these are too few to tell anything.

    Those held out are the ones passed, where these are enough, or a share of z.
    """
    fraction = check_real(
        fraction, "refine validation_fraction", minimum=0, maximum=1, closed="neither"
    )
    if held_out is not None and min(len(z), len(held_out)) >= MIN_HELD_OUT:
        return z, held_out
    n_held_out = round(fraction * len(z))
    if n_held_out < MIN_HELD_OUT or len(z) - n_held_out < MIN_HELD_OUT:
        return None
    order = rng.permutation(len(z))
    return z[order[n_held_out:]], z[order[:n_held_out]]


def gaussianize(
    parts: list[FloatArray],
    labels: np.ndarray | None,
    max_layers: int,
    step: float,
    rng: np.random.Generator,
) -> tuple[list[Layer], list[FloatArray]]:
    """Return layers that take rows (n, d) towards N(0, I), and where they take both parts."""
    d, log_det = parts[0].shape[1], np.zeros(len(parts[1]))
    near = inlier_mask(parts[1])
    near |= near.sum() < MIN_HELD_OUT
    best, n_best, moved = normal_logpdf(parts[1][near]).mean(), 0, parts
    layers: list[Layer] = []
    while len(layers) < max_layers and len(layers) - n_best < PATIENCE:
        rows = parts[0]
        if labels is not None and len(layers) % 2:
            axes = discriminant_axes(rows, labels, rng)
        else:
            axes = independent_axes(rows, rng)
        layer = (torch.from_numpy(axes), torch.from_numpy(towards_normal(rows @ axes.T, step)))
        layers.append(layer)
        one = RotatedTables.of([layer], d)
        (rows, _), (held_out, part) = (apply(one, rows) for rows in parts)
        parts, log_det = [rows, held_out], log_det + part
        value = (normal_logpdf(held_out) + log_det)[near].mean()
        if value > best + TOL:
            best, n_best, moved = value, len(layers), parts
    return layers[:n_best], moved


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


def towards_normal(u: FloatArray, step: float) -> FloatArray:
    """Return tables (d, CELLS + 1) that move the columns of u (n, d) towards normal scores.

    `step` of the way, and less far, the more of a column's departure from them may be chance: by
    the share of its mean square that so many rows of N(0, 1) would show.
    """
    n, d = u.shape
    # Many quantiles of few rows would fit those rows and no others.
    n_knots = int(np.clip(round(n / d / 56), 5, 24))
    edge = -ndtri(min(0.1, TAIL_ROWS / n))
    y: Any = np.linspace(-edge, edge, n_knots)
    share = ndtr(y)
    quantiles: FloatArray = np.quantile(u, share, axis=0).T
    density = np.exp(-0.5 * y**2) / np.sqrt(2 * np.pi)
    # By the squared density, since a quantile has the variance share (1 - share) / (n density^2).
    departure = (density**2 * (quantiles - y) ** 2).sum(1)
    chance = SHRINKAGE * (share * (1 - share)).sum() / n
    steps = step * (1 - np.minimum(1, chance / np.maximum(departure, TINY)))[:, np.newaxis]
    x = (1 - FLOOR) * quantiles + FLOOR * y
    points = np.linspace(-BOUND, BOUND, CELLS + 1)
    # Beyond the outermost knots a shift.
    shifts = [np.interp(points, *column) for column in zip(x, steps * (y - x), strict=True)]
    return points + np.array(shifts)


def radial_map(norms: FloatArray, d: int) -> Radial:
    r"""Return the map that takes norms (n,) of rows of d components towards those of N(0, I).

    By `towards_normal` of their scores :math:`\Phi^{-1}(F(|z|))`, F that of chi with d degrees of
    freedom.
    """
    radial = Radial(d)

    def scores(r: FloatArray) -> FloatArray:
        # Of the smaller tail: the other one is rounded to 1.
        low, high = ndtri(chi.cdf(r, d)), -ndtri(chi.sf(r, d))
        found: FloatArray = np.clip(np.where(low < 0, low, high), -FURTHEST, FURTHEST)
        return found

    table = towards_normal(scores(norms)[:, np.newaxis], NORM_STEP)[0]
    points = radial.values.numpy()
    before = scores(points)
    grid = np.linspace(-BOUND, BOUND, CELLS + 1)
    after = before + np.interp(before, grid, table - grid)
    moved = np.where(after < 0, chi.ppf(ndtr(after), d), chi.isf(ndtr(-after), d))
    known = np.abs(before) < FURTHEST
    # Closer to 0, and further out, than chi can tell: in proportion, and by a shift.
    first, last = np.flatnonzero(known)[[0, -1]]
    moved[:first] = points[:first] * moved[first] / points[first]
    moved[last + 1 :] = points[last + 1 :] + moved[last] - points[last]
    radial.values.copy_(torch.from_numpy(moved))
    return radial


def inlier_mask(z: FloatArray) -> np.ndarray:
    """Return which rows of z (n, d) are not far out: as good as all, where z is about N(0, I)."""
    return mean_squares(z) <= outlier_threshold(z)


def outlier_threshold(z: FloatArray) -> float:
    """Return the mean square beyond which a row of z (n, d) is far out."""
    return 1 + FAR * float(np.sqrt(2 / z.shape[1]))


def mean_squares(z: FloatArray) -> FloatArray:
    """Return the mean square of each row of z (n, d), without overflow."""
    squares: FloatArray = np.square(np.clip(z, -1e9, 1e9)).mean(1)
    return squares


def fit_rescaling(refined: FloatArray, held_out: FloatArray, fitted: FloatArray) -> float:
    """Return what takes the mean square to one, by held-out rows of which `refined` are the image.

    A trained map stretches rows that it was not fitted to. That these few are by chance further out
    than the others, or nearer, is taken off, and of the rest what may be chance (James and Stein
    1961). Rows held out may follow another distribution: where their images are too far out,
    nothing is pushed further. Single rows far out count as if they were nearer.
    """
    after, before, of_fit = (
        np.minimum(mean_squares(z), outlier_threshold(z)) for z in (refined, held_out, fitted)
    )
    moved = after - before
    excess = of_fit.mean() + moved.mean() - 1
    chance = moved.var() / len(moved) / max(excess**2, 1e-12)
    square = 1 + excess * max(0.0, 1 - chance)
    least = min(1.0, max(after.mean(), LEAST_SQUARE))
    return float(np.sqrt(max(square, least)))
