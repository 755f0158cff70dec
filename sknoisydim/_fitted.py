"""What a fitted transformer does with rows: embed them, and say how well they are embedded."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from sknoisydim._data import check_rows
from sknoisydim._inference import embeddings, log_densities
from sknoisydim._settings import resolve_device
from sknoisydim._training import information_share
from sknoisydim.encoders import resolve_encoder
from sknoisydim.targets import resolve_target


class Fitted(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """The methods of a fitted `NoisyDIMTransformer` that take rows.

    Mixed into it: they read the attributes that its `fit` sets, and its `device`.
    """

    device: Any
    n_components_: int
    encoder_: Any
    refinement_: Any
    target_: Any
    channel_: Any
    batch_size_: int
    encoder: Any
    n_features_in_: int

    def transform(self, X: Any) -> np.ndarray:
        """Embed rows.

        Parameters
        ----------
        X : array-like of shape (n, p)
            Columns as in `fit`.

        Returns
        -------
        Z : ndarray of shape (n, d)
            Of the dtype of X, float32 or float64; finite. Each row depends on that row alone.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X is no table of finite numbers with the columns of `fit`.
        """
        X = self._check(X)
        out = np.empty((len(X), self.n_components_), dtype=X.dtype)
        limit = np.finfo(X.dtype).max
        device = resolve_device(self.device)
        for part, z in embeddings(self.encoder_, X, device, self.refinement_):
            np.clip(self.target_.push(z), -limit, limit, out=out[part])
        return out

    def score_samples(self, X: Any) -> np.ndarray:
        r"""Log density of each row's embedding f(x), before any map after the encoder.

        .. math:: \log N(r(z); 0, I) + \log \lvert \det \partial r(z) / \partial z \rvert

        with z = f(x) and r the refinement, which is the identity without `refine`.

        Parameters
        ----------
        X : array-like of shape (n, p)
            Columns as in `fit`.

        Returns
        -------
        log_density : ndarray of shape (n,)
            In nats.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X is no table of finite numbers with the columns of `fit`.
        """
        X = self._check(X)
        return log_densities(self.encoder_, X, resolve_device(self.device), self.refinement_)

    def score(self, X: Any, y: Any = None) -> float:
        r"""Share of the reachable information that the embedding sends through the channel.

        .. math:: \hat I(f(X); f(X) + Z) \, / \, \min(C, \log B)

        with C the capacity, d/2 log(1 + 1/s^2) for noise s, and B the batch size, so that values
        compare across `noise` and `n_components`. Deterministic: the noise comes from a fixed seed.

        Parameters
        ----------
        X : array-like of shape (n, p)
            At least two rows; columns as in `fit`.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Between 0 and 1; about 0 for an embedding that tells nothing, or for one row over and
            over. With noise far below "auto" it is 1 whatever the law, because a batch cannot show
            the capacity: compare from "auto" upwards.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X is no table of finite numbers with the columns of `fit`, or has one row only.
        """
        X = self._check(X, ensure_min_samples=2)
        z = np.concatenate(
            [z for _, z in embeddings(self.encoder_, X, resolve_device(self.device))]
        )
        return information_share(z, self.channel_, self.batch_size_)

    def retarget(self, target: Any) -> Any:
        """Return a fitted copy with another target, without a second training.

        The encoder's output is N(0, I) for every target, and the target's map comes last.

        Parameters
        ----------
        target : str, object or sequence
            As the parameter `target`.

        Returns
        -------
        copy : NoisyDIMTransformer
            Shares the trained net with this one.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError, TypeError
            If it is not a target for `n_components_` components.
        """
        check_is_fitted(self)
        bound = resolve_target(target, self.n_components_)
        other = clone(self).set_params(target=target)
        fitted = {name: value for name, value in vars(self).items() if name.endswith("_")}
        other.__dict__ |= fitted | {"target_": bound}
        return other

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _rows(
        self, X: Any, *, reset: bool = True, **options: Any
    ) -> tuple[np.ndarray, tuple[int, ...] | None]:
        """Return the rows as a table, and their shape where they have more dimensions than one."""
        if reset:
            any_shape = getattr(resolve_encoder(self.encoder), "any_shape", False)
            X, self.row_shape_ = check_rows(self, X, any_shape=any_shape, **options)
            shape = self.row_shape_
        else:
            known = getattr(self, "row_shape_", (self.n_features_in_,))
            X, shape = check_rows(self, X, known=known, any_shape=len(known) > 1, **options)
        return X, shape if len(shape) > 1 else None

    def _check(self, X: Any, **options: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._rows(X, reset=False, **options)[0]
