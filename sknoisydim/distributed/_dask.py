"""Collections of Dask: embedded block by block, and trained on block by block."""

import copy
import inspect
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from sknoisydim._context import extra
from sknoisydim._modules import draw_seed
from sknoisydim._validation import check_integer


def check_estimator(estimator: object) -> None:
    """Raise TypeError if an estimator is no `NoisyDIMTransformer`, which is told by its methods."""
    kind = "class" if inspect.isclass(estimator) else type(estimator).__name__
    methods = ("encoder", "partial_fit", "retarget")
    if kind == "class" or not all(hasattr(estimator, name) for name in methods):
        raise TypeError(
            f"estimator is a {kind}; it takes a NoisyDIMTransformer. Of a pipeline, pass what the "
            "steps before it return as X."
        )


class DaskTransformer(
    MetaEstimatorMixin,
    TransformerMixin,
    BaseEstimator,
    # What scikit-learn's `set_output` puts into a data frame would be computed for it.
    auto_wrap_output_keys=None,  # type: ignore[call-arg]  # mypy does not see who takes it
):
    """Train on a Dask array or data frame block by block, and embed one without computing it.

    `fit` is a stream of `partial_fit`: each pass goes through the blocks in another order, from the
    estimator's `random_state`. `transform` is a task for each block. A worker holds a block, the
    one that is read meanwhile, and the model. Blocks should have `batch_size` samples at least.

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
    """

    def __init__(self, estimator: BaseEstimator, max_epochs: int = 10) -> None:
        self.estimator = estimator
        self.max_epochs = max_epochs

    def fit(self, X: object, y: object = None) -> Self:
        """Train on the blocks of a collection.

        Parameters
        ----------
        X : dask Array of shape (n_samples, n_features), or dask DataFrame
            In blocks of any sizes, known or not.
        y : dask Array of shape (n_samples,), or dask Series, default=None
            As of `partial_fit`, in the same blocks as X.

        Returns
        -------
        self : DaskTransformer

        Raises
        ------
        ImportError
            If dask or distributed is not installed: `pip install "sknoisydim[dask]"`.
        TypeError, ValueError
            As of `partial_fit`; if X or y is no such collection, or in other blocks than the other.
        """
        with extra("dask", "DaskTransformer"):
            import dask
            from distributed import futures_of
        check_estimator(self.estimator)
        max_epochs = check_integer(self.max_epochs, "max_epochs", minimum=1)
        blocks = np.ravel(_collection(X, "X").to_delayed()).tolist()
        n_blocks = len(blocks)
        labels: Any = [None] * n_blocks if y is None else _collection(y, "y", 1).to_delayed()
        labels = np.ravel(labels).tolist()
        if len(labels) != n_blocks:
            raise ValueError(f"X comes in {n_blocks} blocks, and y in {len(labels)}.")
        model = clone(self.estimator)
        seed, step = draw_seed(model.random_state), dask.delayed(_train_on, pure=False)
        trained = dask.delayed(model, pure=False)
        passes = [np.random.default_rng([seed, i]).permutation(n_blocks) for i in range(max_epochs)]
        for number in np.concatenate(passes):
            last, trained = trained, step(trained, blocks[number], labels[number]).persist()
            # Two blocks are on their way at once: one is read while the other is trained on.
            for future in futures_of(last):  # none where dask's own threads have done it
                if failure := future.exception():
                    raise failure
        model = trained.compute()
        if not model.__sklearn_is_fitted__():
            raise ValueError(f"none of the {n_blocks} blocks of X has two rows to start with.")
        self.estimator_ = model
        return self

    def transform(self, X: Any) -> Any:
        """Embed a collection lazily, in its blocks and with its index, or a table at once.

        Parameters
        ----------
        X : dask Array, dask DataFrame or array-like of shape (n_samples, n_features)
            Features as in `fit`.

        Returns
        -------
        Z : dask Array, dask DataFrame or ndarray of shape (n_samples, n_components)
            Of float32 where X is, else of float64.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before `fit`; as `transform` of the estimator, before anything is computed.
        """
        model = self._model()
        if not hasattr(X, "__dask_graph__"):
            return model.transform(X)
        X = _collection(X, "X")
        import dask

        shared = dask.delayed(model, pure=False)  # one node: a worker is sent the model once
        # Of a made-up sample: other columns are refused before anything is computed.
        is_frame = hasattr(X, "map_partitions")
        sample = X._meta_nonempty if is_frame else np.ones((1, *X.shape[1:]), X.dtype)
        meta: Any = np.asarray(copy.copy(model).set_params(device="cpu").transform(sample))[:0]
        if not is_frame:
            shape = {"chunks": (X.chunks[0], (meta.shape[1],)), "drop_axis": list(range(2, X.ndim))}
            return X.map_blocks(_embed, shared, meta, dtype=meta.dtype, meta=meta, **shape)
        import pandas as pd

        meta = pd.DataFrame(meta, X._meta.index[:0], list(model.get_feature_names_out()))
        return X.map_partitions(_embed, shared, meta, meta=meta)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the components, as the estimator has them.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of str, of shape (n_components,)

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        return self._model().get_feature_names_out()

    def _model(self) -> BaseEstimator:
        model = getattr(self, "estimator_", self.estimator)
        check_estimator(model)
        check_is_fitted(model)
        return model

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(getattr(self, "estimator_", self.estimator), "net_")


def _collection(X: Any, name: str, dimensions: int = 2) -> Any:
    """Return a collection of Dask, an array with one block across its columns."""
    # Of the type: a Delayed has an attribute of any name.
    if not (hasattr(X, "__dask_graph__") and hasattr(type(X), "ndim") and X.ndim):
        raise TypeError(
            f"{name} is a {type(X).__module__}.{type(X).__name__}, which has no rows in blocks; it "
            "takes a Dask array or data frame. A table in memory is for the estimator itself."
        )
    if X.ndim < dimensions:
        raise TypeError(f"{name} is a Dask collection of one column; it takes one of several.")
    return X if hasattr(X, "map_partitions") else X.rechunk(dict.fromkeys(range(1, X.ndim), -1))


def _train_on(model: BaseEstimator, block: Any, labels: Any) -> Any:
    """Return a model that has seen one more block; the task that it came from may run again."""
    started = model.__sklearn_is_fitted__()
    if block.shape[0] < (1 if started else 2):  # sparse blocks have no length
        return model
    return copy.deepcopy(model).partial_fit(block, labels)


def _embed(block: Any, model: BaseEstimator, empty: Any) -> Any:
    """Return the embedding of a block, like an empty one in all but the number of rows."""
    if not block.shape[0]:
        return empty
    Z = np.asarray(model.transform(block), dtype=np.asarray(empty).dtype)
    return Z if isinstance(empty, np.ndarray) else type(empty)(Z, block.index, empty.columns)
