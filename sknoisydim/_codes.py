"""UniformCodes: integer codes of samples, from equal cells of a uniform embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, gen_batches, get_tags
from sklearn.utils.validation import check_is_fitted

from sknoisydim._context import own_context
from sknoisydim._modules import RandomState
from sknoisydim._sources import MatrixLike
from sknoisydim._transformer import NoisyDIMTransformer
from sknoisydim._validation import check_integer
from sknoisydim._wrapped import HoldsTransformer, fitted_transformer
from sknoisydim.metrics._information import normal_embedding

Integers = NDArray[np.int64]
MAX_BITS = 52  # as many as a float64 between 0.5 and 1 has
# `nearest_cells` lists 65,536 cells at most, and holds 32 MB of distances at a time.
MAX_LISTED_BITS, N_DISTANCES = 16, 2**22


class UniformCodes(ClassNamePrefixFeaturesOutMixin, TransformerMixin, HoldsTransformer):
    r"""Integer codes of samples, from cells of equal probability of a uniform embedding.

    The unit cube of a uniform embedding is cut into :math:`2^b` boxes, with b the `bits`; the code
    of a sample is the number of its box. The edges are known before `fit`.

    Bits are dealt to the components in turn. A component with m bits has :math:`2^m` slices,
    numbered in Gray code (Faloutsos, IEEE Transactions on Software Engineering 14, 1988). A code of
    fewer bits is the beginning of one of more, so ``codes(X) >> 1`` joins cells in pairs.

    Parameters
    ----------
    transformer : NoisyDIMTransformer, FrozenEstimator or None, default=None
        What embeds samples, with the target "uniform" and at most as many components as bits. It is
        cloned and fitted, unless it is fitted already and comes in a
        `sklearn.frozen.FrozenEstimator`. None takes ``keep="pca", match_weight=10`` with half as
        many components as bits, or as many as features if these are fewer.
    bits : int, default=8
        Number b of bits of a code, from 1 to 52.
    random_state : int, RandomState instance or None, default=None
        Takes the place of the transformer's, unless it is None.

    Attributes
    ----------
    transformer_ : NoisyDIMTransformer
        The fitted transformer, with the target "uniform".
    n_slices_ : ndarray of shape (d,)
        Slices of each component.
    n_features_in_, feature_names_in_ : int, ndarray of shape (p,)
        Number of features seen in `fit`, and their names, where all are strings.

    Raises
    ------
    ValueError, TypeError
        By each method, if a parameter, or X, is not as documented, or `NoisyDIMTransformer` raises
        them; by `nearest_cells`, for more than 16 bits.
    NotFittedError
        By all but `fit`, before it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoisydim import UniformCodes
    >>> X = load_iris().data
    >>> cells = UniformCodes(bits=4, random_state=0).fit(X)
    >>> cells.transform(X).shape, cells.codes(X).shape
    ((150, 4), (150,))
    """

    def __init__(
        self,
        transformer: BaseEstimator | None = None,
        *,
        bits: int = 8,
        random_state: RandomState = None,
    ) -> None:
        self.transformer = transformer
        self.bits = bits
        self.random_state = random_state

    @own_context()
    def fit(self, X: MatrixLike, y: ArrayLike | None = None) -> UniformCodes:
        """Fit the transformer.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, as the transformer takes them.
        y : array-like of shape (n_samples,) or (n_samples, k), default=None
            As of `NoisyDIMTransformer.fit`.

        Returns
        -------
        self : UniformCodes
        """
        bits = check_integer(self.bits, "bits", minimum=1, maximum=MAX_BITS)
        base = self.transformer
        if base is None:
            d = min((bits + 1) // 2, *np.shape(X)[1:])  # type: ignore[arg-type]  # a sparse X has a shape, too
            base = NoisyDIMTransformer(d, keep="pca", match_weight=10.0)
        seed = {} if self.random_state is None else {"random_state": self.random_state}
        fitted = fitted_transformer(base, X, y, **seed)
        d = fitted.n_components_
        if d > bits:
            raise ValueError(
                f"the transformer has {d} components, more than bits={bits}: each takes a bit at "
                f"least. Set its n_components to {bits} or fewer, or bits to {d} or more."
            )
        self.transformer_ = fitted.retarget("uniform")
        self.n_slices_ = np.array([2 ** (bits // d + (j < bits % d)) for j in range(d)])
        self._n_features_out = bits
        names = ("n_features_in_", "feature_names_in_")
        self.__dict__ |= {name: value for name, value in vars(fitted).items() if name in names}
        return self

    @own_context()
    def transform(self, X: MatrixLike) -> NDArray[np.uint8]:
        """Bits of the codes of samples, for a search by Hamming distance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, with features as in `fit`.

        Returns
        -------
        bits : ndarray of shape (n_samples, bits) of uint8
            0 or 1, the most significant first. Cells beside each other differ in one bit.
        """
        return self._bits(self._slices(X))

    @own_context()
    def codes(self, X: MatrixLike) -> Integers:
        """Codes of samples: the bits of `transform`, as one number.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, with features as in `fit`.

        Returns
        -------
        codes : ndarray of shape (n_samples,) of int64
            From 0 to ``2**bits - 1``.
        """
        return self._pack(self._slices(X))

    @own_context()
    def nearest_cells(self, X: MatrixLike, n_cells: int = 8) -> Integers:
        """Codes of the cells that are nearest to each sample, both mapped to N(0, I).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, with features as in `fit`.
        n_cells : int, default=8
            Number of cells, from 1 to ``2**bits``, all of which are compared.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_cells) of int64
            The nearest cells, the own one first.
        """
        z, bits = self._embed(X), self._n_features_out
        if bits > MAX_LISTED_BITS:
            raise ValueError(f"nearest_cells takes at most {MAX_LISTED_BITS} bits, got {bits=}.")
        check_integer(n_cells, "n_cells", minimum=1, maximum=2**bits)
        slices = np.stack(np.unravel_index(np.arange(2**bits), self.n_slices_), axis=1)
        of_cell = self._pack(slices)
        found = np.empty((len(z), n_cells), np.int64)
        for part in gen_batches(len(z), N_DISTANCES >> bits):
            squares = np.zeros((len(z[part]), 2**bits))
            for size, of_all, values in zip(self.n_slices_, slices.T, z[part].T, strict=True):
                edges, value = ndtri(np.arange(size + 1) / size), values[:, None]
                outside = value - np.clip(value, edges[:-1], edges[1:])
                squares += np.square(outside)[:, of_all]
            found[part] = of_cell[np.argsort(squares, axis=1, kind="stable")[:, :n_cells]]
        return found

    def strata(self, X: MatrixLike, min_samples: int = 10) -> Integers:
        """Labels of cells, for ``train_test_split(X, stratify=labels)``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, with features as in `fit`.
        min_samples : int, default=10
            Cells with fewer samples are joined with the next ones, in order of codes.

        Returns
        -------
        labels : ndarray of shape (n_samples,) of int64
            From 0 on.
        """
        check_integer(min_samples, "min_samples", minimum=1)
        _, cell, counts = np.unique(self.codes(X), return_inverse=True, return_counts=True)
        labels, label, held, left = [], 0, 0, len(cell)
        for count in counts:
            if held >= min_samples <= left:  # full, and enough is left for another
                label, held = label + 1, 0
            labels.append(label)
            held, left = held + count, left - count
        return np.array(labels, np.int64)[cell]

    def _embed(self, X: MatrixLike) -> NDArray[np.float64]:
        """Return normal embeddings: `transform` may be set to return a data frame."""
        check_is_fitted(self)
        return normal_embedding(self.transformer_, self.transformer_._check(X))

    def _slices(self, X: MatrixLike) -> Integers:
        slices = ndtr(self._embed(X)) * self.n_slices_  # so far out a probability rounds to 1
        return np.minimum(slices, self.n_slices_ - 1).astype(np.int64)

    def _bits(self, slices: Integers) -> NDArray[np.uint8]:
        """Return the bits (n, b) of slices (n, d): those of their Gray codes in turn."""
        found = np.empty((len(slices), self._n_features_out), np.uint8)
        for j, gray in enumerate((slices ^ (slices >> 1)).T):
            m = int(self.n_slices_[j]).bit_length() - 1
            found[:, j :: len(self.n_slices_)] = gray[:, None] >> np.arange(m)[::-1] & 1
        return found

    def _pack(self, slices: Integers) -> Integers:
        """Return the codes (n,) of slices (n, d)."""
        return self._bits(slices) @ (1 << np.arange(self._n_features_out)[::-1])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        inner = get_tags(NoisyDIMTransformer() if self.transformer is None else self.transformer)
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        tags.transformer_tags.preserves_dtype = []
        return tags
