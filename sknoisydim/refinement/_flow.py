"""A small normalizing flow that starts at the identity, fitted by maximum likelihood."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone

from .._isolation import borrowed_global_generator, make_generator
from .._validation import check_integer, check_real
from ._base import Composed, FloatArray, Identity, InvertibleMap, Scale, split_rows
from ._clusters import check_clusters, find_clusters
from ._rotation import RotationGaussianization

# Rows that go through the flow at once.
SLICE_ROWS = 4096
# Largest norm of a gradient: single rows beside the bulk have huge ones.
CLIP = 5.0
# Steps, and their size, in which the linear model of clusters is fitted before the flow moves.
HEAD_STEPS, HEAD_LR = 200, 0.1
# Its learning rate then, over that of the flow.
HEAD_PACE = 10.0
# Least mean square that is scaled to one: rows that are all alike have none.
LEAST_SQUARE = 0.25


class FlowMap(InvertibleMap):
    """A fitted zuko transform, in float64.

    Parameters
    ----------
    n_components : int
        Number d of components.
    transform : nn.Module
        Gives the transform when called without arguments.
    """

    def __init__(self, n_components: int, transform: Any) -> None:
        super().__init__(n_components)
        self.transform = transform

    def _forward(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        out, log_det = np.empty_like(z), np.empty(len(z))
        with torch.inference_mode():
            for start in range(0, len(z), SLICE_ROWS):
                part = slice(start, start + SLICE_ROWS)
                moved, more = self.transform().call_and_ladj(torch.from_numpy(z[part]))
                out[part], log_det[part] = moved.numpy(), more.numpy()
        return out, log_det

    def _inverse(self, z: FloatArray) -> FloatArray:
        out = np.empty_like(z)
        with torch.inference_mode():
            for start in range(0, len(z), SLICE_ROWS):
                part = slice(start, start + SLICE_ROWS)
                out[part] = self.transform().inv(torch.from_numpy(z[part])).numpy()
        return out


def start_for(n_rows: int, n_components: int, clusters: int) -> RotationGaussianization:
    """Return what comes before the flow, as rich as rows for each component allow.

    Long, since its layers cost less geometry than the flow does for the same match. But with few
    rows, as MNIST's 469 for each of 16 components, many layers through many quantiles fit the rows
    of the fit and no others. It goes all the way, without shrinkage and through fewer quantiles
    than a rotation that comes alone: what it leaves, the flow would do at a higher price.
    """
    share = n_rows / n_components
    return RotationGaussianization(
        max_layers=int(np.clip(0.64 * share, 100, 700)),
        step=0.3,
        knots=int(np.clip(round(share / 96), 5, 14)),
        patience=30,
        shrinkage=0,
        jitter=0.01,
        clusters=clusters,
    )


def spread_of(refined: FloatArray, held_out: FloatArray, fitted: FloatArray) -> Scale:
    """Return the map to a mean square of one, by held-out rows of which `refined` are the image.

    A flow stretches rows that it was not fitted to. That these few are by chance further out than
    the others, or nearer, is taken off, and of the rest what may be chance (James and Stein 1961).
    Rows held out may follow another law: where their images are too far out, nothing is pushed
    further.
    """
    moved = np.square(refined).mean(1) - np.square(held_out).mean(1)
    excess = np.square(fitted).mean() + moved.mean() - 1
    chance = moved.var() / len(moved) / max(excess**2, 1e-12)
    square = 1 + excess * max(0.0, 1 - chance)
    least = min(1.0, max(np.square(refined).mean(), LEAST_SQUARE))
    return Scale(refined.shape[1], float(np.sqrt(max(square, least))))


def blurred(rows: torch.Tensor, jitter: float, generator: torch.Generator) -> torch.Tensor:
    """Return rows with noise of standard deviation `jitter`."""
    return rows + jitter * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)


def linear_head(rows: torch.Tensor, codes: torch.Tensor, n_clusters: int) -> torch.nn.Linear:
    """Return a linear model of the clusters `codes` (n,), fitted to rows (n, d)."""
    head = torch.nn.utils.skip_init(torch.nn.Linear, rows.shape[1], n_clusters, dtype=torch.float32)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(head.parameters(), lr=HEAD_LR)
    for _ in range(HEAD_STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(rows), codes).backward()
        optimizer.step()
    return head


class _Objective:
    """What the flow minimises, on rows z (n, d) of the clusters `codes` (n,).

    `head` gives the logits of the clusters from refined rows; without, nothing is kept apart.
    """

    def __init__(self, transport: float, separation: float, head: torch.nn.Linear | None) -> None:
        self.transport = transport
        self.separation = separation
        self.head = head

    def __call__(self, flow: Any, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        moved, log_det = flow().call_and_ladj(z)
        loss = 0.5 * moved.square().sum(1) - log_det
        if self.transport:
            loss = loss + self.transport * (moved - z).square().sum(1)
        if self.head is not None:
            told = torch.nn.functional.cross_entropy(self.head(moved), codes, reduction="none")
            loss = loss + self.separation * told
        return loss.mean()


class FlowRefinement(BaseEstimator):
    r"""A spline flow after rotation-based Gaussianisation, by penalised maximum likelihood.

    Minimises, over autoregressive rational-quadratic spline flows r that start at the identity and
    over linear models q of clusters c,

    .. math:: \hat E \bigl[ \tfrac12 \lVert r(z) \rVert^2
              - \log \lvert \det \partial r / \partial z \rvert
              + \lambda \lVert r(z) - z \rVert^2 - \mu \log q(c \mid r(z)) \bigr]

    on the clean embeddings of the training rows, which `start` has moved before in short steps. The
    clusters are those of a Gaussian mixture of the embedding, found without labels: a map that
    leaves them linearly separable leaves a linear model of the refined rows what it needs. Keeps
    the weights that were best on held-out rows, and divides by one number at the end, since a flow
    stretches rows that it was not fitted to. Needs zuko: `pip install "sknoisydim[flow]"`.

    Parameters
    ----------
    transforms : int, default=3
        Autoregressive layers.
    hidden : int, default=256
        Units in the two hidden layers of each.
    bins : int, default=8
        Bins of each spline.
    transport : float, default=0.4
        :math:`\lambda`, the price of moving a row, at least 0.
    start : object or None, default="rotation"
        Refinement that comes first: "rotation" (100 to 700 layers through 5 to 14 quantiles, by the
        rows for each component), a `RotationGaussianization`, or None.
    max_epochs : int, default=24
        Passes over the rows.
    batch_size : int, default=512
        Rows in a batch.
    lr : float, default=0.001
        Peak of the one-cycle learning rate.
    validation_fraction : float, default=0.1
        Share of the rows that is held out where none are passed to `build`. With less than 20 of
        them the map is the identity.
    patience : int, default=8
        Epochs without improvement before it stops.
    jitter : float, default=0.1
        Standard deviation of noise on the rows of the fit, drawn anew for each batch: see
        `RotationGaussianization`. Larger than there, since the flow has parameters enough to follow
        single rows.
    clusters : int, default=16
        Components of the Gaussian mixture, here and in the start called "rotation"; see
        `RotationGaussianization`. With 0 neither keeps anything apart.
    separation : float, default=0.35
        :math:`\mu`, the weight of telling clusters apart by the flow, at least 0. More keeps more
        of what a linear model needs and matches less well.

    See Also
    --------
    RotationGaussianization : Takes seconds, keeps more of the geometry, and matches less well.

    References
    ----------
    C. Durkan, A. Bekasov, I. Murray, G. Papamakarios, "Neural Spline Flows", NeurIPS 2019,
    arXiv:1906.04032.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.refinement import FlowRefinement
    >>> z = np.random.default_rng(0).uniform(-1.7, 1.7, size=(1000, 2))
    >>> refined = FlowRefinement(max_epochs=2).build(z, seed=0)
    >>> bool(np.allclose(refined.inverse(refined.forward(z)), z, atol=1e-5))
    True
    """

    def __init__(
        self,
        transforms: int = 3,
        hidden: int = 256,
        bins: int = 8,
        transport: float = 0.4,
        start: Any = "rotation",
        max_epochs: int = 24,
        batch_size: int = 512,
        lr: float = 1e-3,
        validation_fraction: float = 0.1,
        patience: int = 8,
        jitter: float = 0.1,
        clusters: int = 16,
        separation: float = 0.35,
    ) -> None:
        self.transforms = transforms
        self.hidden = hidden
        self.bins = bins
        self.transport = transport
        self.start = start
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.jitter = jitter
        self.clusters = clusters
        self.separation = separation

    def build(self, z: ArrayLike, seed: int, held_out: ArrayLike | None = None) -> InvertibleMap:
        """Return the map for embeddings z (n, d), finite and about N(0, I).

        It stops by the rows `held_out` (m, d), and without 20 of them by rows held out of z.

        Raises
        ------
        ImportError
            If zuko is not installed.
        ValueError, TypeError
            If a parameter is not usable.
        """
        jitter = check_real(self.jitter, "refine jitter", minimum=0)
        transport = check_real(self.transport, "refine transport", minimum=0)
        separation = check_real(self.separation, "refine separation", minimum=0)
        clusters = check_clusters(self.clusters)
        n, d = np.shape(z)
        for name in ("batch_size", "max_epochs", "patience"):
            check_integer(getattr(self, name), f"refine {name}", minimum=1)
        check_real(self.lr, "refine lr", minimum=0, closed="neither")
        flow = self._flow(d, seed)
        rng = np.random.default_rng(seed)
        parts = split_rows(z, held_out, self.validation_fraction, rng)
        if parts is None:
            return Identity(d)
        first: InvertibleMap = Identity(d)
        if self.start is not None:
            named = isinstance(self.start, str) and self.start == "rotation"
            start = start_for(n, d, clusters) if named else clone(self.start, safe=False)
            first = start.build(parts[0], seed, parts[1])
        mixture = find_clusters(parts[0], clusters, seed) if separation else None
        codes = [np.zeros(len(z), int) if mixture is None else mixture.predict(z) for z in parts]
        fitted, judged = (first.forward(part) for part in parts)
        # The caller may be inside torch.no_grad() or torch.inference_mode().
        with torch.inference_mode(False), torch.enable_grad():
            data = [
                (torch.from_numpy(z).float(), torch.from_numpy(c).long())
                for z, c in zip((fitted, judged), codes, strict=True)
            ]
            head = None if mixture is None else linear_head(*data[0], mixture.n_components)
            objective = _Objective(transport, separation, head)
            self._train(flow, objective, data[0], data[1], jitter, make_generator(seed))
        then = FlowMap(d, flow.double().eval().requires_grad_(False))
        return Composed([first, then, spread_of(then.forward(judged), parts[1], parts[0])])

    def _flow(self, d: int, seed: int) -> Any:
        """Return a lazy transform of d components, float32, that is the identity."""
        try:
            import zuko
        except ImportError as error:
            raise ImportError(
                'refine="flow" needs zuko: pip install "sknoisydim[flow]". refine="rotation" '
                "needs nothing more."
            ) from error
        hidden = check_integer(self.hidden, "refine hidden", minimum=1)
        # zuko draws its weights from torch's global generator, in torch's default dtype.
        with borrowed_global_generator(seed), torch.inference_mode(False):
            flow = zuko.flows.NSF(
                d,
                bins=check_integer(self.bins, "refine bins", minimum=2),
                transforms=check_integer(self.transforms, "refine transforms", minimum=1),
                hidden_features=(hidden, hidden),
            ).transform.float()
        with torch.no_grad():
            # A spline whose parameters are all zero is the identity. They are the outputs of a
            # network, or, with one component, parameters themselves.
            for module in flow.modules():
                last = module[-1] if isinstance(module, zuko.nn.MaskedMLP) else None
                for parameter in last.parameters() if last else getattr(module, "phi", ()):
                    parameter.zero_()
        return flow

    def _train(
        self,
        flow: Any,
        objective: _Objective,
        fitted: tuple[torch.Tensor, torch.Tensor],
        held_out: tuple[torch.Tensor, torch.Tensor],
        jitter: float,
        generator: torch.Generator,
    ) -> None:
        """Fit to rows and their clusters, and leave the weights that were best on held-out ones."""
        size, epochs, patience = self.batch_size, self.max_epochs, self.patience
        rows, codes = fitted
        judged, judged_codes = held_out
        judged = blurred(judged, jitter, generator)
        groups, peaks = [{"params": list(flow.parameters())}], [self.lr]
        if objective.head is not None:
            groups.append({"params": list(objective.head.parameters())})
            peaks.append(HEAD_PACE * self.lr)
        optimizer = torch.optim.Adam(groups, lr=self.lr)
        n_batches = -(-len(rows) // size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, epochs * n_batches)
        weights, since = copy.deepcopy(flow.state_dict()), 0
        with torch.no_grad():
            best = objective(flow, judged, judged_codes)
        for _ in range(epochs):
            for index in torch.randperm(len(rows), generator=generator).split(size):
                batch = blurred(rows[index], jitter, generator)
                optimizer.zero_grad()
                objective(flow, batch, codes[index]).backward()
                torch.nn.utils.clip_grad_norm_(flow.parameters(), CLIP)
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                value = objective(flow, judged, judged_codes)
            since += 1
            if value < best:  # never true of NaN
                best, since, weights = value, 0, copy.deepcopy(flow.state_dict())
            if since >= patience:
                break
        flow.load_state_dict(weights)
