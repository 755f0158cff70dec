"""`partial_fit`, and what one training leaves for the next to go on from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

from sklearn.utils.validation import check_is_fitted

from sknoisydim._context import own_context
from sknoisydim._data import Table
from sknoisydim._isolation import draw_seed
from sknoisydim._labels import encode_target
from sknoisydim._model import Embedder
from sknoisydim._net._callbacks import CALLBACK_STATE
from sknoisydim._net._skorch import DIMNet
from sknoisydim._settings import resolve_settings
from sknoisydim._training._fit import Start, Trained
from sknoisydim._training._stream import train_chunk
from sknoisydim.targets import resolve_target

Self = TypeVar("Self", bound="Streaming")


class Streaming:
    """The method of a `NoisyDIMTransformer` that trains on chunks, one after the other.

    Mixed into it: it reads its parameters, and checks rows as its `fit` does.
    """

    target: Any
    random_state: Any
    n_epochs_: int
    training_state_: dict[str, Any]

    def partial_fit(self: Self, X: Any, y: Any = None) -> Self:
        """Train on a chunk of rows, and go on from the chunks before, or from `fit`.

        One pass over the chunk in batches of `batch_size_`, the last one filled up with earlier
        rows, and so at least one step. The learning rate rises to `lr` within the first 50 steps
        and stays there; moments of the optimizer, and a `LRScheduler` of your own, go on. Then the
        statistics that normalise the embedding are set for all rows so far: with the weights of
        now, from this chunk and from a uniform sample of 2,048 earlier rows (`batch_size_` rows if
        that is more, fewer where rows have more than 2,048 columns), which is all that is kept of
        them. `fit` keeps no rows: its statistics count as those of 32 rows for each component,
        until as many have come.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, p)
            As of `fit`; columns as in the call before. At least two rows in the first call, whose
            number of rows limits `batch_size_` for all that follow.
        y : array-like of shape (n,), default=None
            Ignored, unless `supervision` > 0: then as of `fit`, or None where nothing is labelled.
            It counts within a chunk, so classes may come at any time, and their names need not mean
            the same in another chunk.

        Returns
        -------
        self : NoisyDIMTransformer

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not usable, or if training diverges. The estimator is
            then as it was before.

        Notes
        -----
        What the net is made of is fixed by the first call, or by `fit`: components, noise and batch
        size. What `keep` stands for is fitted to each chunk and the rows that are kept. The scaling
        "squash" or "standard" follows mean and variance of all rows so far; any other is fitted to
        the first chunk, and stays. Read in every call: `lr`, `optimizer`, `keep`, `keep_weight`,
        `supervision`, `match_weight`, `callbacks`, `target`, `device`, `verbose` and `refine`,
        which is fitted anew, so leave it None in a long stream. `max_epochs`, `early_stopping` and
        `warm_start` play no part, and `random_state` in the first call only. `history_` has one
        entry for each call, up to 1,000. A pickle, or a file of `save`, holds the rows that are
        kept and the moments of the optimizer, twice the size of the weights; what is loaded goes on
        as if nothing had happened. `forget_rows` takes the rows away.

        Examples
        --------
        >>> import numpy as np
        >>> from sknoisydim import NoisyDIMTransformer
        >>> rng = np.random.default_rng(0)
        >>> embedder = NoisyDIMTransformer(2, batch_size=64, random_state=0)
        >>> for _ in range(5):
        ...     embedder = embedder.partial_fit(rng.normal(size=(200, 3)))
        >>> embedder.n_samples_seen_, embedder.transform(rng.normal(size=(7, 3))).shape
        (1000, (7, 2))
        """
        this: Any = self
        with self._all_or_nothing():
            start = self._last()
            fresh = start is None
            alone = start is None or start.state.get("kept") is None
            X, shape = this._rows(X, reset=fresh, ensure_min_samples=2 if alone else 1)
            settings = resolve_settings(this, X.shape[1])
            labelled = settings.supervision > 0 and y is not None
            targets = encode_target(X, y, whole=False) if labelled else None
            trained = train_chunk(
                Table(X, targets, shape=shape),
                settings,
                draw_seed(self.random_state) if fresh else 0,
                this._announce,
                start,
            )
            n_epochs = 0 if fresh else self.n_epochs_
            n_components = settings.n_components if fresh else this.n_components_
            self._set(trained, n_components, trained.net.batch_size if fresh else this.batch_size_)
            self.n_epochs_ = n_epochs + 1
        return self

    def forget_rows(self: Self) -> Self:
        """Release the rows that `partial_fit` keeps, such as before a model is passed on.

        What the transformer does is the same. A stream can go on, as it goes on from `fit`: the
        rows so far then count as 32 rows for each component.

        Returns
        -------
        self : NoisyDIMTransformer

        Raises
        ------
        NotFittedError
            Before `fit`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoisydim import NoisyDIMTransformer
        >>> X = load_iris().data
        >>> embedder = NoisyDIMTransformer(2, random_state=0).partial_fit(X)
        >>> len(embedder.training_state_["kept"])
        150
        >>> "kept" in embedder.forget_rows().training_state_
        False
        """
        check_is_fitted(self)
        # Another dict: that of before may be a copy's, too. Older files have none.
        state = dict(getattr(self, "training_state_", {}))
        for name in ("kept", "n_streamed"):
            state.pop(name, None)
        self.training_state_ = state
        return self

    def _last(self) -> Start | None:
        """Return what training goes on from, if there is anything."""
        if not hasattr(self, "net_"):
            return None
        state = getattr(self, "training_state_", None)
        return Start.of(self.net_, self.encoder_, self.batch_size_, state)

    def _set(
        self, trained: Trained, n_components: int, batch_size: int, target: Any = None
    ) -> None:
        """Keep what training has left."""
        vars(self).pop("decoder_", None)  # of another embedding
        self.net_: DIMNet = trained.net
        self.encoder_: Embedder = trained.embedder
        self.refinement_ = trained.refinement
        self.target_ = target or resolve_target(self.target, n_components)
        self.channel_ = trained.channel
        self.noise_scale_ = trained.channel.scale
        self.capacity_ = trained.channel.capacity
        self.batch_size_ = batch_size
        self.mutual_information_ = trained.information
        self.n_components_ = n_components
        self.history_ = trained.history
        self.n_samples_seen_ = trained.state["n_seen"]
        self.training_state_ = trained.state

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Fit in a context of our own, and leave the estimator as it was if that fails."""
        before = dict(vars(self))
        try:
            with own_context():
                yield
        except BaseException:
            # What callbacks of scikit-learn need to be told that the fit is over stays.
            self.__dict__ = before | {k: v for k, v in vars(self).items() if k in CALLBACK_STATE}
            raise
