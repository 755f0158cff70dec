"""Collections of Dask: embedded block by block, and trained on block by block."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sknoisydim._isolation import draw_seed
from sknoisydim._validation import check_integer

from ._estimator import check_estimator

# Blocks on their way at once while training: one is trained on, and the next is read meanwhile.
IN_FLIGHT = 2
# What is said of a series, and of an array without columns.
_ONE_COLUMN = (
    "X is a Dask collection of one column; it takes a Dask array or data frame of several."
)


class DaskTransformer(
    MetaEstimatorMixin,
    TransformerMixin,
    BaseEstimator,
    # What scikit-learn's `set_output` puts into a data frame would be computed for it.
    auto_wrap_output_keys=None,  # type: ignore[call-arg]  # mypy does not see who takes it
):
    """Train on a Dask array or data frame block by block, and embed one without computing it.

    `fit` is a stream of `partial_fit`: each pass goes through the blocks in another order, one
    after the other, where they are, and the model goes from one to the next. `transform` is a task
    for each block. No task is given more than one block of rows.

    Parameters
    ----------
    estimator : NoisyDIMTransformer
        What is trained; a clone of it is. One that is fitted embeds as it is, without `fit`.
    max_epochs : int, default=10
        Passes over the blocks in `fit`.

    Attributes
    ----------
    estimator_ : NoisyDIMTransformer
        The transformer that was trained, in this process.

    See Also
    --------
    NoisyDIMTransformer.partial_fit : What a block is trained on with, and what it does not do: the
        learning rate stays at its peak, and `max_epochs` and `early_stopping` of the estimator play
        no part.

    Notes
    -----
    What a worker holds at a time is a block, the one that is read meanwhile, and the model,
    whatever the number of rows, unless X is persisted. Training is sequential: more workers read
    blocks, and do not train faster. Blocks of at least `batch_size` rows are best: the first block
    with two rows limits the batch size for good, and the pass through each block ends with
    statistics of it and of 2,048 earlier rows.

    The order of the blocks comes from the estimator's `random_state`, so a fit can be repeated, for
    the same blocks.

    Examples
    --------
    >>> import dask.array as da
    >>> from sknoisydim import NoisyDIMTransformer
    >>> from sknoisydim.distributed import DaskTransformer
    >>> X = da.random.default_rng(0).normal(size=(1000, 5), chunks=(250, 5))
    >>> embedder = DaskTransformer(NoisyDIMTransformer(2, random_state=0), max_epochs=2).fit(X)
    >>> Z = embedder.transform(X)
    >>> Z.chunks, Z.dtype
    (((250, 250, 250, 250), (2,)), dtype('float64'))
    >>> Z[:3].compute().shape
    (3, 2)
    """

    def __init__(self, estimator: Any, max_epochs: int = 10) -> None:
        self.estimator = estimator
        self.max_epochs = max_epochs

    def fit(self, X: Any, y: Any = None) -> DaskTransformer:
        """Train on the blocks of a collection.

        Parameters
        ----------
        X : dask Array of shape (n, p), or dask DataFrame
            Numbers. Blocks may be of any sizes, known or not, and empty. An array in more blocks
            than one across the columns gets one, block of rows by block of rows.
        y : dask Array of shape (n,), or dask Series, default=None
            As of `fit`, in the same blocks as X; read if the estimator has `supervision` > 0.

        Returns
        -------
        self : DaskTransformer

        Raises
        ------
        ImportError
            If dask or distributed is not installed.
        TypeError
            If X is no Dask collection of rows (a table in memory is for the estimator itself), or
            the estimator no `NoisyDIMTransformer`.
        ValueError
            If X and y come in different blocks, no block has two rows, or as of `partial_fit`.
        """
        check_estimator(self.estimator)
        max_epochs = check_integer(self.max_epochs, "max_epochs", minimum=1)
        blocks = _blocks(X, "X")
        labels = [None] * len(blocks) if y is None else _blocks(y, "y")
        if len(labels) != len(blocks):
            raise ValueError(
                f"X comes in {len(blocks)} blocks, and y in {len(labels)}: they need the same."
            )
        import dask

        model = clone(self.estimator)
        seed = draw_seed(model.random_state)
        step = dask.delayed(_train_on, pure=False)
        trained = dask.delayed(model, pure=False)
        running: deque[Any] = deque()
        for number in _orders(len(blocks), max_epochs, seed):
            trained = step(trained, blocks[number], labels[number]).persist()
            running.append(trained)
            if len(running) == IN_FLIGHT:
                _wait_for(running.popleft())
        model = trained.compute()
        if not model.__sklearn_is_fitted__():
            raise ValueError(f"none of the {len(blocks)} blocks of X has two rows to start with.")
        self.estimator_ = model
        return self

    def transform(self, X: Any) -> Any:
        """Embed rows: those of a collection when they are computed, a table in memory at once.

        Parameters
        ----------
        X : dask Array of shape (n, p), dask DataFrame, or array-like
            Columns as in `fit`.

        Returns
        -------
        Z : dask Array of shape (n, d), dask DataFrame, or ndarray
            In the blocks of X. An array for an array; a frame with the index of X and the names of
            the components for a frame. Of float32 where X is, else of float64.

        Raises
        ------
        NotFittedError
            If neither this nor the estimator is fitted.
        TypeError
            If X is a Dask collection of one dimension, or the estimator no `NoisyDIMTransformer`.
        ValueError
            If X has other columns than in `fit`. What else is wrong with rows is found when they
            are computed.
        """
        model = self._model()
        kind = _kind(X)
        if kind is None:
            return model.transform(X)
        if kind == "series":
            raise TypeError(_ONE_COLUMN)
        import dask

        # One node of the graph, which every block depends on: a worker is sent the model once.
        shared = dask.delayed(model, pure=False)
        if kind == "frame":
            _check_columns(model, list(X.columns), len(X.columns))
            return _transform_frame(X, model, shared)
        _check_columns(model, None, int(np.prod(X.shape[1:])))
        return _transform_array(X, model, shared)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the components.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of str of shape (d,)
        """
        names: np.ndarray = self._model().get_feature_names_out()
        return names

    def _model(self) -> Any:
        if hasattr(self, "estimator_"):
            return self.estimator_
        check_estimator(self.estimator)
        check_is_fitted(self.estimator)
        return self.estimator

    @property
    def n_features_in_(self) -> int:
        """Columns of the table that the transformer was trained on."""
        return int(self._model().n_features_in_)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of these columns, of shape (p,), where they had any."""
        names: np.ndarray = self._model().feature_names_in_
        return names

    def __sklearn_is_fitted__(self) -> bool:
        try:
            self._model()
        except (NotFittedError, TypeError):
            return False
        return True


def _kind(X: Any) -> str | None:
    """Return what a Dask collection is, None for anything else.

    "array" or "frame" of rows; "series", of one dimension.

    Raises
    ------
    TypeError
        If it is a collection of another kind.
    """
    if not hasattr(X, "__dask_graph__"):
        return None
    from dask.array import Array

    if isinstance(X, Array) and X.ndim:
        return "array" if X.ndim > 1 else "series"
    if hasattr(X, "map_partitions") and hasattr(X, "_meta"):
        return "frame" if hasattr(X, "columns") and X.ndim == 2 else "series"
    raise TypeError(
        f"X or y is a {type(X).__name__}, which has no rows; it takes a Dask array or data frame."
    )


def _blocks(X: Any, name: str) -> list[Any]:
    """Return the blocks of rows of a collection, each as a Delayed."""
    try:
        import distributed  # noqa: F401 (what the extra brings, asked for before anything is done)
    except ImportError as error:
        raise ImportError(
            "DaskTransformer needs dask and distributed, an optional dependency: "
            'pip install "sknoisydim[dask]"'
        ) from error
    kind = _kind(X)
    if kind == "series" and name == "X":
        raise TypeError(_ONE_COLUMN)
    if kind is None:
        raise TypeError(
            f"{name} is a {type(X).__module__}.{type(X).__name__}; it takes a Dask array or data "
            "frame. A table in memory is for the estimator itself."
        )
    blocks = _in_rows(X).to_delayed() if kind == "array" else X.to_delayed()
    return list(np.ravel(blocks))


def _in_rows(X: Any) -> Any:
    """Return an array with one block across its columns."""
    across = dict.fromkeys(range(1, X.ndim), -1)
    return X if all(X.numblocks[axis] == 1 for axis in across) else X.rechunk(across)


def _orders(n_blocks: int, max_epochs: int, seed: int) -> Iterator[int]:
    """Yield the numbers of the blocks, in another order in each pass."""
    for epoch in range(max_epochs):
        yield from np.random.default_rng([seed, epoch]).permutation(n_blocks).tolist()


def _wait_for(model: Any) -> None:
    """Wait until a model is there, wherever that is, and raise what came up on the way."""
    from distributed import futures_of, wait

    futures = futures_of(model)  # none where dask's own threads have done it
    if futures:
        wait(futures)
    for future in futures:
        if future.status == "error":
            future.result()


def _train_on(model: Any, block: Any, labels: Any) -> Any:
    """Return a model that has seen one more block; the task that it came from may run again."""
    started = model.__sklearn_is_fitted__()
    if block.shape[0] < (1 if started else 2):  # sparse blocks have no length
        return model
    return copy.deepcopy(model).partial_fit(block, labels)


def _dtype(kinds: Any) -> np.dtype[Any]:
    """Return the type of the embedding of columns of these types.

    As scikit-learn has it, what pandas has beside numpy's (nullable numbers, Arrow's, categories)
    becomes float64.
    """
    plain = all(isinstance(kind, np.dtype) for kind in kinds)
    return np.dtype(np.float32 if plain and np.result_type(*kinds) == np.float32 else np.float64)


def _transform_array(X: Any, model: Any, shared: Any) -> Any:
    import dask.array as da

    X = _in_rows(X)
    d, dtype = model.n_components_, _dtype([X.dtype])
    return da.map_blocks(
        _embed,
        X,
        model=shared,
        d=d,
        kind=dtype,
        chunks=(X.chunks[0], (d,)),
        dtype=dtype,
        drop_axis=list(range(2, X.ndim)),
        meta=np.empty((0, 0), dtype=dtype),
    )


def _transform_frame(X: Any, model: Any, shared: Any) -> Any:
    import pandas as pd

    names = list(model.get_feature_names_out())
    dtype = _dtype(X.dtypes)
    meta = pd.DataFrame(
        np.empty((0, len(names)), dtype=dtype), columns=names, index=X._meta.index[:0]
    )
    return X.map_partitions(_embed_frame, shared, names, dtype, meta=meta)


def _embed(block: Any, model: Any, d: int, kind: np.dtype[Any]) -> np.ndarray:
    if not block.shape[0]:
        return np.empty((0, d), dtype=kind)
    return np.asarray(model.transform(block)).astype(kind, copy=False)


def _embed_frame(part: Any, model: Any, names: list[str], dtype: np.dtype[Any]) -> Any:
    import pandas as pd

    z = _embed(part, model, len(names), dtype)
    return pd.DataFrame(z, index=part.index, columns=names)


def _check_columns(model: Any, names: list[Any] | None, count: int) -> None:
    """See that a collection has the columns of the fit, before anything is computed.

    Raises
    ------
    ValueError
        If not.
    """
    if count != model.n_features_in_:
        raise ValueError(
            f"X has {count} features, but the model was fitted to {model.n_features_in_}."
        )
    known = getattr(model, "feature_names_in_", None)
    if names is not None and known is not None and names != list(known):
        raise ValueError(
            f"X has the columns {names}, but the model was fitted to {list(known)}; it takes them "
            "in that order."
        )
