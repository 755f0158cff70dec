"""What a fitted transformer does with rows: embed them, and say how well they are embedded."""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sknoisydim._context import own_context
from sknoisydim._files import replacing
from sknoisydim._input import check_rows
from sknoisydim._model import FittedModel, TargetMap, embeddings
from sknoisydim._modules import RandomState, draw_seed
from sknoisydim._objective import information_share
from sknoisydim._settings import MISSING, resolve_device
from sknoisydim._sources import FLOATS, MatrixLike, RowSource, as_given, is_sparse
from sknoisydim._training._statistics import columns_share
from sknoisydim._validation import check_integer, check_name
from sknoisydim.encoders import IndicateMissing, resolve_encoder
from sknoisydim.metrics import MatchReport
from sknoisydim.noise import GaussianChannel, GaussianNoise
from sknoisydim.targets import resolve_target


def _decodes(estimator: BaseEstimator) -> bool:
    """Whether there is a way back; the error says how to get one."""
    if estimator.decoder is None and not hasattr(estimator, "decoder_"):
        raise AttributeError("there is no decoder: decoder=None. Fit with decoder='kernel_ridge'.")
    if hasattr(estimator, "net_") and not hasattr(estimator, "decoder_"):
        raise AttributeError("there is no decoder: `fit` fits one, and `partial_fit` fits none.")
    return True  # a method of one that is not fitted says so


class Fitted(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """The methods of a fitted `NoisyDIMTransformer` that take rows, mixed into it."""

    def __getattr__(self, name: str) -> Any:
        """Say how to get what is absent: `available_if` leaves that to the cause of its error."""
        if name in ("inverse_transform", "sample"):
            _decodes(self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @own_context()
    def transform(self, X: MatrixLike) -> np.ndarray:
        """Embed rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, p)
            Columns as in `fit`.

        Returns
        -------
        Z : ndarray of shape (n, d)
            Of the dtype of X, float32 or float64; finite. Each row depends on that row alone.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            Before `fit`; if X is no table of finite numbers (or missing ones, where `missing`
            allows them) with the columns of `fit`.
        """
        rows = self._check(X)
        return self._embed(rows, np.empty((len(rows), self.n_components_), dtype=rows.dtype))

    @own_context()
    def transform_to(self, X: MatrixLike, out: object) -> np.ndarray:
        """Embed rows into an array that is there already, or into a file, 1,024 rows at a time.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, p)
            Columns as in `fit`.
        out : ndarray of shape (n, d), str or path-like
            An array of float32 or float64, in any layout, a memory map too. Or the path of a file
            in numpy's format, which takes the place of one that was there when all rows are
            embedded; until then, a file with another name beside it grows.

        Returns
        -------
        Z : ndarray of shape (n, d)
            `out`; for a path, the file as a read-only memory map. The values of `transform`, bit
            for bit, rounded where an array of float32 is given for rows of float64.

        Raises
        ------
        ValueError, TypeError
            As of `transform`; if `out` is neither an array nor a path, or an array of another shape
            or dtype, cannot be written to, or shares memory with X.
        OSError
            If the file cannot be written.
        """
        rows = self._check(X)
        shape = (len(rows), self.n_components_)
        if isinstance(out, np.ndarray):
            _check_out(out, shape, rows)
            return self._embed(rows, out)
        if not isinstance(out, (str, os.PathLike)):
            got = type(out).__name__
            raise TypeError(f"out must be an array of shape {shape} or a path, got a {got}.")
        with replacing(out) as part:
            file = np.lib.format.open_memmap(part, mode="w+", dtype=rows.dtype, shape=shape)
            self._embed(rows, file).flush()  # type: ignore[attr-defined]  # a memory map has it
            del file  # Windows renames no open file
        return np.load(out, mmap_mode="r")

    def _embed(self, X: RowSource, out: np.ndarray) -> np.ndarray:
        """Write embeddings of checked rows into an array, and return it."""
        limit = np.finfo(out.dtype).max
        for part, z in self._chain().in_slices(X, resolve_device(self.device)):
            np.clip(z.numpy(), -limit, limit, out=out[part])
        return out

    def _chain(self) -> FittedModel:
        return FittedModel(self.encoder_, self.refinement_, TargetMap(self.target_))

    @available_if(_decodes)
    @own_context()
    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Return the samples that are expected for embeddings, inside the range of training.

        Target and refinement are inverted, and the decoder predicts the mean of the samples with
        such an embedding, which need not be a sample itself; `sample` draws one.

        Parameters
        ----------
        Z : array-like of shape (n, d)
            Embeddings, as from `transform`.

        Returns
        -------
        X : ndarray of shape (n, p)
            Columns as in `fit`, in their own units.

        Raises
        ------
        AttributeError, ValueError
            Without a decoder; if Z is no table of finite numbers with `n_components_` columns.
        """
        check_is_fitted(self)
        Z, d = check_array(Z, dtype=[np.float64, np.float32], input_name="Z"), self.n_components_
        if Z.shape[1] != d:
            own = f"this {type(self).__name__} has {d}: Z is what transform returns."
            raise ValueError(f"Z has {Z.shape[1]} components, but {own}")
        rows = np.require(Z, np.float64, ["C", "W"])  # torch takes no view that runs backwards
        with torch.inference_mode():
            z = self._chain().inverse(torch.from_numpy(rows))
        return self.decoder_.decode(z.numpy()).astype(Z.dtype, copy=False)

    @available_if(_decodes)
    @own_context()
    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> np.ndarray:
        """Draw samples like those of `fit`.

        A draw of the target is decoded, and the residual of one of the three nearest training
        samples is added, so they are not anonymous. Values are kept inside the range of training; a
        column of integers is rounded, and one whose values repeat, such as a category, takes the
        nearest of them. No value is missing.

        Parameters
        ----------
        n_samples : int, default=1
            How many, at least 1.
        random_state : int, RandomState instance or None, default=None
            Pass an int for the same samples in every call.

        Returns
        -------
        X : ndarray of shape (n_samples, p)
            Columns as in `fit`, in their own units.

        Raises
        ------
        AttributeError, ValueError
            Without a decoder; if `n_samples` is not positive.
        """
        check_is_fitted(self)
        n_samples = check_integer(n_samples, "n_samples", minimum=1)
        rng = np.random.default_rng(draw_seed(random_state))
        z = torch.from_numpy(rng.standard_normal((n_samples, self.n_components_)))
        with torch.inference_mode():
            z = self._chain().refinement.inverse(z)
        return self.decoder_.draw(z.numpy(), rng)

    @own_context()
    def score_samples(self, X: MatrixLike) -> np.ndarray:
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
        ValueError, TypeError
            As of `transform`.
        """
        rows = self._check(X)
        return self._chain().log_densities(rows, resolve_device(self.device))

    @own_context()
    def score(self, X: MatrixLike, y: ArrayLike | None = None) -> float:
        r"""How close the embedding is to the target, times what it keeps of the columns.

        .. math:: \frac{\hat I(Z; Z + N)}{\hat I(Z^*; Z^* + N)} \cdot R^2(X \mid Z)

        The first factor compares the information that Z, the embedding before the target's map,
        sends through a channel with that of draws :math:`Z^*` of the channel's best distribution:
        1 for a perfect match at every `noise` and `n_components`, less for a thin shell. A ratio
        above 1 counts as its inverse. N is Gaussian noise of the size "auto", whatever the fit had,
        or the uniform noise of the fit, and :math:`\hat I` InfoNCE with the channel's own density.
        The second is the share of the variance of the scaled columns that a linear model of Z
        predicts, adjusted for its coefficients. Noise and draws come from fixed seeds.

        Parameters
        ----------
        X : array-like of shape (n, p)
            At least two rows; columns as in `fit`. Of fewer than `n_components_` + 2 rows the score
            is 0, with a warning.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Between 0 and 1; about 0 for an embedding that tells nothing.

        Raises
        ------
        ValueError, TypeError
            As of `transform`, and for one row.

        See Also
        --------
        sknoisydim.metrics.match_scorer : The match alone.
        """
        rows, device = self._check(X, ensure_min_samples=2), resolve_device(self.device)
        d = self.n_components_
        if len(rows) < d + 2:
            message = f"{len(rows)} samples do not tell what {d} components keep of them"
            message += f", so the score is 0: give {d + 2} or more."
            warnings.warn(message, UserWarning, stacklevel=3)  # beyond the decorator
            return 0.0
        z = embeddings(self.encoder_, rows, device, self.refinement_)
        channel = self.channel_
        if isinstance(channel, GaussianChannel):  # one measure for all sizes of noise
            channel = GaussianNoise().build(d, max(self.batch_size_, 2))
        match = information_share(z, channel, self.batch_size_)
        return match * columns_share(self.encoder_, rows, z)

    def diagnose(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        random_state: RandomState = 0,
        classifier: bool = True,
    ) -> MatchReport:
        """Judge the embedding of held-out samples, and say what to change.

        Compares the information through the channel with what is reachable, and the distribution of
        the embedding with N(0, I), before the target's map.

        Parameters
        ----------
        X : array-like of shape (n, p)
            Samples that `fit` has not seen, at least two. Of more than 4,000, 4,000 drawn at random
            are judged (`batch_size_` for the information, if that is more).
        y : array-like of shape (n,) or (n, k), default=None
            As in `fit`, whether that was given one or not. The report then has the information that
            the embedding has about `y`, and about `y` in random order, its control.
        random_state : int, RandomState instance or None, default=0
            Seed of every draw.
        classifier : bool, default=True
            Whether classifiers take part. They see most and take most of the time.

        Returns
        -------
        report : MatchReport
            See :class:`sknoisydim.metrics.MatchReport`.

        Raises
        ------
        ValueError, TypeError
            As `transform`; if X has one sample, or y another number of them.

        See Also
        --------
        sknoisydim.metrics.MatchReport.from_estimator : The same for a Pipeline or a search.
        """
        return MatchReport.from_estimator(
            self, X, y, random_state=random_state, classifier=classifier
        )

    @own_context()
    def retarget(self, target: object) -> Self:
        """Return a fitted copy with another target, without a second training.

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
        self, X: object, *, reset: bool = True, **options: Any
    ) -> tuple[RowSource, tuple[int, ...] | None]:
        """Return the rows as a source, and their shape where they have more dimensions than one."""
        if reset:
            options["missing"] = MISSING[check_name(self.missing, MISSING, "missing")]
            any_shape = getattr(resolve_encoder(self.encoder), "any_shape", False)
            X, self.row_shape_ = check_rows(self, X, any_shape=any_shape, **options)
            shape = self.row_shape_
        else:
            if "missing" not in options:
                options["missing"] = isinstance(self.encoder_.encoder, IndicateMissing)
            known = getattr(self, "row_shape_", (self.n_features_in_,))
            X, shape = check_rows(self, X, known=known, any_shape=len(known) > 1, **options)
        return X, shape if len(shape) > 1 else None

    def _check(self, X: object, **options: Any) -> RowSource:
        check_is_fitted(self)
        return self._rows(X, reset=False, **options)[0]


def _check_out(out: np.ndarray, shape: tuple[int, ...], X: RowSource) -> None:
    """See that embeddings can be written into an array while rows are still read."""
    if out.shape != shape or out.dtype not in FLOATS:
        wanted = f"out must have the shape {shape} and the dtype float32 or float64"
        raise ValueError(f"{wanted}, got {out.shape} and {out.dtype}.")
    if not out.flags.writeable:
        raise ValueError("out is read-only; embeddings are written into it.")
    held = as_given(X, None)
    held = held.data if is_sparse(X) else held
    # Columns beside those of X do not share memory. What takes long to tell is refused: no slice.
    try:
        shared = np.shares_memory(out, held, max_work=10_000)  # type: ignore[arg-type]  # the stubs know 0 and -1
    except np.exceptions.TooHardError:
        shared = True
    (one, first, last), (other, start, stop) = _place_in_file(out), _place_in_file(held)
    # Of one file there may be two maps; what is in none has no bytes, and overlaps with nothing.
    if one is not other and first < stop and start < last:
        with contextlib.suppress(OSError):  # where a file is gone, or has another name
            shared |= os.path.samefile(str(one.filename), str(other.filename))
    if shared:
        raise ValueError("out shares memory with X, whose rows would be lost as they are read.")


def _place_in_file(array: Any) -> tuple[Any, int, int]:
    """Return the memory map of a file that an array is a view of, and its bytes in that file."""
    whole, base = None, array
    while base is not None:  # the map that was opened first knows its place
        if isinstance(base, np.memmap) and base.filename is not None and base.mode != "c":
            whole = base
        base = getattr(base, "base", None)
    if whole is None:
        return None, 0, 0
    start = whole.offset - np.lib.array_utils.byte_bounds(whole)[0]
    low, high = np.lib.array_utils.byte_bounds(array)
    return whole, low + start, high + start
