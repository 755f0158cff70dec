"""A small normalizing flow that starts at the identity, fitted by maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from torch import nn

from .._context import own_context
from .._isolation import borrowed_global_generator, make_generator
from .._validation import check_integer, check_real, is_auto
from ._base import (
    SLICE_ROWS,
    Composed,
    FloatArray,
    Identity,
    InvertibleMap,
    check_rows,
    gains,
    split_rows,
    spread_of,
)
from ._clusters import check_clusters, find_clusters
from ._coupling import auto_couplings
from ._descent import Clustered, Objective, clusters_of, descend, linear_head
from ._rotation import RotationGaussianization

# Coupling layers of the rotation that comes first, at most: these cost less geometry than the flow.
START_COUPLINGS = 32
# Peak of the learning rate, where there are so many rows for each component at least; and the least
# share of it.
LR, LR_ROWS, LEAST_SHARE = 1e-3, 850, 0.25


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

    def pack(self) -> dict[str, Any]:
        """Return what `unpack` makes the map of: sizes, and tensors by name."""
        d, parts = self.n_components, list(self.transform.transforms)
        if d == 1:
            sizes = {"transforms": len(parts), "hidden": 1, "bins": parts[0].phi[0].shape[-1]}
        else:
            first, last = parts[0].hyper[0], parts[0].hyper[-1]
            bins = (last.out_features // d + 1) // 3
            sizes = {"transforms": len(parts), "hidden": first.out_features, "bins": bins}
        return {"n_components": d, "sizes": sizes, "tensors": dict(self.transform.state_dict())}

    @classmethod
    def unpack(cls, state: Mapping[str, Any]) -> FlowMap:
        """Return the map that `pack` has told.

        Raises
        ------
        ImportError
            If zuko is not installed.
        ValueError
            If its sizes are not those of its tensors.
        """
        d, sizes, tensors = state["n_components"], state["sizes"], state["tensors"]
        # Before anything of that size is made.
        hidden, outputs = sizes["hidden"], d * (3 * sizes["bins"] - 1)
        least = outputs if d == 1 else d * hidden + hidden**2 + hidden * outputs
        if sizes["transforms"] * least > sum(tensor.numel() for tensor in tensors.values()):
            raise ValueError("a flow is larger than its tensors.")
        transform = FlowRefinement(**sizes)._flow(d, 0).double().eval().requires_grad_(False)
        transform.load_state_dict(tensors)
        return cls(d, transform)


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
    stretches rows that it was not fitted to. The flow stays away where the density of held-out rows
    does not gain by it. Needs zuko: `pip install "sknoisydim[flow]"`.

    Parameters
    ----------
    transforms : int, default=3
        Autoregressive layers.
    hidden : int, default=256
        Units in the two hidden layers of each.
    bins : int, default=8
        Bins of each spline.
    transport : float, default=0.2
        :math:`\lambda`, the price of moving a row, at least 0.
    start : object or None, default="rotation"
        Refinement that comes first: "rotation" (`RotationGaussianization` with these `clusters` and
        up to 32 couplings), an object such as it, or None.
    max_epochs : int, default=30
        Passes over the rows.
    batch_size : int, default=512
        Rows in a batch.
    lr : float or "auto", default="auto"
        Peak of the one-cycle learning rate. "auto": 0.001, and less, with their square, where there
        are fewer than 850 rows for each component, down to a quarter; large steps fit those rows
        and no others.
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
    separation : float, default=0.2
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
        transport: float = 0.2,
        start: Any = "rotation",
        max_epochs: int = 30,
        batch_size: int = 512,
        lr: float | str = "auto",
        validation_fraction: float = 0.1,
        patience: int = 8,
        jitter: float = 0.1,
        clusters: int = 16,
        separation: float = 0.2,
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

    @own_context()
    def build(self, z: ArrayLike, seed: int, held_out: ArrayLike | None = None) -> InvertibleMap:
        """Return the map for embeddings z (n, d), finite and about N(0, I).

        It stops by the rows `held_out` (m, d), and without 20 of them by rows held out of z.

        Raises
        ------
        ImportError
            If zuko is not installed.
        ValueError, TypeError
            If a parameter or the rows are not usable.
        """
        rows, held_out = check_rows(z, held_out)
        jitter = check_real(self.jitter, "refine jitter", minimum=0)
        transport = check_real(self.transport, "refine transport", minimum=0)
        separation = check_real(self.separation, "refine separation", minimum=0)
        clusters = check_clusters(self.clusters)
        d = rows.shape[1]
        for name in ("batch_size", "max_epochs", "patience"):
            check_integer(getattr(self, name), f"refine {name}", minimum=1)
        lr = check_real(
            auto_lr(*rows.shape) if is_auto(self.lr) else self.lr,
            "refine lr",
            minimum=0,
            closed="neither",
            also="'auto'",
        )
        flow = self._flow(d, seed)
        rng = np.random.default_rng(seed)
        parts = split_rows(rows, held_out, self.validation_fraction, rng)
        if parts is None:
            return Identity(d)
        first: InvertibleMap = Identity(d)
        if self.start is not None:
            start = self.start
            if isinstance(start, str) and start == "rotation":
                couplings = auto_couplings(len(parts[0]), d, START_COUPLINGS)
                start = RotationGaussianization(clusters=clusters, couplings=couplings)
            first = clone(start, safe=False).build(parts[0], seed, parts[1])
        mixture = find_clusters(parts[0], clusters, seed) if separation else None
        moved = [first.forward(part) for part in parts]
        fitted, judged = (
            Clustered(rows, clusters_of(mixture, part))
            for rows, part in zip(moved, parts, strict=True)
        )
        head = None if mixture is None else linear_head(fitted, mixture.n_components)
        descend(
            flow,
            lambda z: flow().call_and_ladj(z),
            Objective(transport, separation, head),
            fitted,
            judged,
            jitter=jitter,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            lr=lr,
            generator=make_generator(seed),
        )
        then = FlowMap(d, flow.double().eval().requires_grad_(False))
        # Rows that have no clusters are not to be pulled apart for some.
        if not gains(then, moved[1]):
            return first
        return Composed([first, then, spread_of(then.forward(moved[1]), parts[1], parts[0])])

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
        # zuko draws its weights from torch's global generator, in torch's default dtype: the draws
        # of another dtype are others, so they are made again.
        with borrowed_global_generator(seed):
            flow = zuko.flows.NSF(
                d,
                bins=check_integer(self.bins, "refine bins", minimum=2),
                transforms=check_integer(self.transforms, "refine transforms", minimum=1),
                hidden_features=(hidden, hidden),
            ).transform.float()
        with borrowed_global_generator(seed):
            for module in flow.modules():
                if isinstance(module, nn.Linear):
                    module.reset_parameters()
        with torch.no_grad():
            # A spline whose parameters are all zero is the identity. They are the outputs of a
            # network, or, with one component, parameters themselves.
            for module in flow.modules():
                last = module[-1] if isinstance(module, zuko.nn.MaskedMLP) else None
                for parameter in last.parameters() if last else getattr(module, "phi", ()):
                    parameter.zero_()
        return flow


def auto_lr(n_rows: int, n_components: int) -> float:
    """Return the peak of the learning rate for so many rows of so many components."""
    share = (n_rows / n_components / LR_ROWS) ** 2
    return LR * min(1.0, max(share, LEAST_SHARE))
