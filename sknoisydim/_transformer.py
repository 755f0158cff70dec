"""NoisyDIMTransformer: the scikit-learn contract around a trained encoder."""

from __future__ import annotations

import contextlib
import numbers
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from html import escape

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sknoisydim._context import own_context
from sknoisydim._data import Table
from sknoisydim._decoder import Decoder, resolve_decoder
from sknoisydim._fitted import Fitted
from sknoisydim._input import check_same_columns, check_weights
from sknoisydim._labels import encode_target
from sknoisydim._modules import RandomState, draw_seed
from sknoisydim._net._callbacks import (
    CALLBACK_STATE,
    STACK_LEVEL,
    CallbackSupportMixin,
    Tasks,
    reporters,
    with_callbacks,
)
from sknoisydim._persistence._estimator import Persistent
from sknoisydim._settings import resolve_settings
from sknoisydim._sources import MatrixLike, as_given
from sknoisydim._training._fit import Trained, fitted_so_far, train, train_chunk
from sknoisydim.scaling import takes_sparse
from sknoisydim.targets import resolve_target


class NoisyDIMTransformer(CallbackSupportMixin, Persistent, Fitted, BaseEstimator):
    r"""Learn a representation whose joint distribution is the target distribution.

    Training maximises the mutual information between the embedding f(X) of a sample and the same
    embedding with independent Gaussian noise Z added (noise-injected Deep InfoMax), plus the
    information of a linear model about reference features U of the sample and about `y`, minus the
    distance of the embedding to N(0, I):

    .. math:: I(f(X); f(X) + Z) + \lambda I_{lin}(U; f(X) + Z)
              + \mu I_{lin}(y; f(X) + Z) - \gamma T(f(X))

    with :math:`\lambda` the `keep_weight`, :math:`\mu` the `supervision` and :math:`\gamma` the
    `match_weight`. :math:`I_{lin}` is the information of a Gaussian with the same covariances, in
    nats, and T the distance of a batch to N(0, I): the Gaussian-kernel MMD, and the distance of the
    norms. The channel passes most information, its capacity, if and only if f(X) is N(0, I); its
    estimate by a batch is largest for a thin shell from d = 8 on, so T is needed as well. A last
    invertible map takes N(0, I) to `target`.

    The parameters, by what they are about:

    - the features: `n_components`, `target`, `refine`, `decoder`;
    - what they keep: `keep`, `keep_weight`, `supervision`, and against them `match_weight`;
    - the columns: `scaling`, `missing`;
    - the channel: `noise`, `bound`, and with views `clean_weight`, `augmentation`, `critic`;
    - the network and its training: all others.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number d of components of the embedding. "auto" takes min(number of columns, 16). More than
        the columns are allowed, and cannot follow the target jointly.
    target : str, object or sequence, default="normal"
        Distribution of the embedding: "normal", "uniform", a frozen continuous `scipy.stats`
        distribution, a `scipy.stats.rv_histogram`, an object of `sknoisydim.targets`, or a
        sequence of these, one per component.
    noise : "auto", float, str or object, default="auto"
        Standard deviation s of the noise relative to a unit-variance embedding, "gaussian" (as
        "auto"), "uniform" (the paper's uniform channel, for few components), or an object of
        `sknoisydim.noise`. The capacity of Gaussian noise is C = d/2 log(1 + 1/s^2) nats; "auto"
        makes it 0.8 log(batch size), which a batch can just show.
    augmentation : str, callable, object or None, default="corruption"
        View X' of a row, where `clean_weight` is below 1: "corruption" (random cells take the
        column's value of another row), "jitter", "masking", "mixup", "neighbors" (one of the
        nearest rows), an object of `sknoisydim.augmentations`, None, or a callable (batch,
        generator) -> batch on tensors of scaled rows.
    critic : str or object, default="separable"
        Scores a view's embedding against a noisy one: "separable", "bilinear", "concat", "exact",
        or an object of `sknoisydim.critics`, such as `SeparableCritic(width=32)`, whose parameters
        `set_params(critic__width=16)` reaches. The same goes for `encoder` and the others.
    bound : str or callable, default="infonce"
        Turns scores (n, n) into nats: "infonce", "dv", "nwj", "smile", "jsd", or a callable.
    clean_weight : float, default=1.0
        w, between 0 and 1: the information is (1 - w) I(f(X'); f(X) + Z) + w I(f(X); f(X) + Z).
        At 1 there is no view and no critic. Smaller values keep what views have in common.
    keep : str, transformer or None, default="kernel_pca"
        Reference features U that a linear model of the embedding should predict:
        "kernel_pca" (the first `n_components` components of a Gaussian kernel; the linear ones,
        where there are no more columns than these), "pca", a scikit-learn transformer of the rows,
        which is cloned, or None.
    keep_weight : float, default=10.0
        Weight of the linear information about U, at least 0. More keeps more of what linear models
        and neighbours can use, and matches less well.
    supervision : float, default=0.0
        Weight of the linear information about `y`, at least 0: classes, numbers, or several columns
        of them. 0 ignores `y`. 100 outweighs what is kept of the columns, and costs some of
        the match; where few rows have a label, 10 is enough. In a `fit` to at most 16,384 training
        rows and 2**23 numbers in them, what counts is at most 1.1 times what ridge regression on a
        kernel of the columns knows of rows left out, so that noise in `y` is not learnt by heart.
        There is no such limit for more, for rows of another shape, and in `partial_fit`.
    match_weight : float, default=1.0
        Weight of the distance to N(0, I), at least 0. It does not apply to "uniform" noise.
    encoder : str, object, module or callable, default="mlp"
        "mlp", which is `sknoisydim.encoders.MLPEncoder((256, 256), dropout=0.3)` (dropout acts on
        views only), another such object, or your own `torch.nn.Module`: a class or factory
        (n_features, n_components) -> module, or an instance, which is copied. With your own, rows
        may have any shape, such as images: a factory gets it, without the number of rows, as
        n_features, and scaling is cell by cell. Rows of float64 are embedded in float64, unless
        your module casts to float32, or uses tensors that are neither parameters nor buffers.
    normalization : str or object, default="whiten"
        How the encoder's output is normalised: "whiten" (identity covariance) or "batch" (each
        component by itself; enough for a few components only).
    scaling : str, transformer or None, default="squash"
        Scaling of the columns, fitted inside. "squash" standardises u and bounds it softly,
        u / sqrt(1 + (u / 3)^2), by quartiles where tails are heavy; "standard", "quantile" (to
        normal scores), any scikit-learn transformer (an object, which is cloned, or a class), or
        None.
    missing : {"error", "indicator"}, default="error"
        What to do with missing cells (NaN; NA of pandas, null of polars). "error" refuses them.
        "indicator" fills each with the mean of its column, and gives the encoder one more column,
        of 0 and 1, for each column that misses a cell in `fit`, or in the first `partial_fit`.
        Views never take the value of a missing cell; a callable of your own sees NaN. Infinity is
        always refused.
    refine : str, object or None, default="rotation"
        Invertible map that finishes the joint distribution after training, between encoder and
        target: "rotation" (Gaussianisation along rotated axes, then coupling layers), an object of
        `sknoisydim.refinement`, or None. It stops by rows that `fit` does not train on: `X_val`, or
        a tenth of X (4,096 at most); with fewer than 20 of them it is the identity.
    decoder : str, regressor or None, default=None
        What `inverse_transform` and `sample` decode with, fitted by `fit` to the embeddings of
        8,192 samples of X at most: "kernel_ridge", or a scikit-learn regressor of several targets,
        which is cloned. None: neither method is there. For samples of columns only.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. "auto" takes as many as make 2 sqrt(n) optimisation steps for n
        training rows, at least 67 and at most 400, rounded up to whole passes.
    batch_size : int, default=512
        Rows in a batch, at least 2. Also what the bound compares a row with, so it limits the
        information that training can see to log(batch_size) nats.
    optimizer : str, class or callable, default="adamw"
        "adamw", "adam", "sgd", a `torch.optim` class (not LBFGS), or a callable (parameters, lr) ->
        optimizer, such as `functools.partial(torch.optim.AdamW, weight_decay=0.1)`.
    lr : float, default=0.003
        Peak of the one-cycle learning rate.
    early_stopping : bool or int, default=False
        Stop when the objective of held-out rows has not improved by 0.001 for 10 epochs (True), or
        for so many, and go back to the weights of the last improvement. Held out are `X_val` of
        `fit`, or a tenth of X; with fewer than 20 rows there, or of others, there is no split.
    warm_start : bool, default=False
        Start from the weights, the input scaling and the optimizer's moments of the last fit, on
        the same columns. The learning rate starts a new cycle (a warm restart), and the schedule of
        a `LRScheduler` goes on. A pickle then holds twice the size of the weights besides.
    callbacks : list, tuple or None, default=None
        skorch callbacks, or pairs (name, callback). A fit works on deep copies: read what one has
        gathered from `net_.callbacks_`. What cannot be copied, such as an open file, is shared.
        Each epoch records `train_loss` (minus the objective), and `valid_loss` with
        `early_stopping`, without which a callback that monitors it is refused. Scoring functions
        get (net, batches, None), and `net.predict(batches)` is the embedding so far. A
        `LRScheduler` takes the place of the one-cycle rate. scikit-learn's own callbacks (1.9 and
        later) are set with `set_callbacks`.
    checkpoint : str, path-like or None, default=None
        Folder in which `fit` writes where it stands, at the end of epochs and at most every 10
        seconds. After a kill, `fit` with the same parameters and data goes on from there, to the
        same embedding, bit for bit. The checkpoint is deleted on success; use one folder per fit. A
        folder that cannot be written to is a warning. Not for `partial_fit`.
    device : str, default="auto"
        A torch device; "auto" takes CUDA where there is one.
    random_state : int, RandomState instance or None, default=None
        Fixes the embedding bit for bit, for one number of threads and one version of torch. No
        global generator is used or changed.
    verbose : int, default=0
        1 shows a progress bar, with the linear information in nats (the mutual information and what
        it can reach, where there is none); 2 shows a line per epoch; 0 is silent, but for one line
        to the logger "sknoisydim" where training takes more than half a minute.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The net that was trained; its `module_` is the whole objective.
    encoder_ : torch.nn.Module
        Scaling, encoder and normalisation: raw rows (n, p) of any dtype -> (n, d), close to
        N(0, I), in float32.
    refinement_ : torch.nn.Module or None
        The map that `refine` asked for, of tensors (n, d), with `inverse` and `log_abs_det`.
    decoder_ : object
        What `decoder` asked for, fitted; absent without.
    target_ : object
        The target for `n_components_` components, with `push`, `pull`, `sample` and `logpdf`.
    channel_ : object
        The noisy channel, with `scale` and `capacity`.
    noise_scale_, capacity_ : float
        Standard deviation s of the noise (the full width 2e of uniform noise), and capacity in
        nats: d/2 log(1 + 1/s^2), and d log(1 + 1/s) for uniform noise.
    mutual_information_ : float
        I(f(X); f(X) + Z) on the training rows before `refine`, in nats: InfoNCE with the channel's
        own density over batches of `batch_size_`: a lower bound, at most the log of that size.
    n_components_, n_epochs_, batch_size_ : int
        What was used; the batch size is not more than the number of rows.
    history_ : dict of lists
        One entry per epoch: `train_information` and its parts `train_view_information` and
        `train_clean_information`, and `train_linear_information`, in nats; `train_mismatch`, T
        times the rows of the batch, which is within about 1 of 0 for draws of N(0, I);
        `train_loss`, minus the weighted sum; the same with `valid_` if rows are held out; and what
        callbacks record.
    n_features_in_, feature_names_in_ : int, ndarray of shape (p,)
        Number of columns, or of the cells of a row, and names, where all are strings.
    row_shape_ : tuple of int
        Shape of a row: (p,) for a table.
    n_samples_seen_ : int
        Rows seen in `fit` (without those of weight 0) and in calls of `partial_fit` since.
    training_state_ : dict
        What `partial_fit` and a warm start go on from beside the weights: moments of the columns
        and of the optimizer, rows that a stream keeps.

    See Also
    --------
    sklearn.preprocessing.QuantileTransformer : Matches the distribution of each column by itself.
    sklearn.decomposition.PCA : With whiten=True, matches two moments of the joint distribution.

    References
    ----------
    I. Butakov, A. Semenenko, A. Tolmachev, A. Gladkov, M. Munkhoeva, A. Frolov, "Efficient
    Distribution Matching of Representations via Noise-Injected Deep InfoMax", ICLR 2025,
    arXiv:2410.06993.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoisydim import NoisyDIMTransformer
    >>> X, y = load_iris(return_X_y=True)
    >>> embedder = NoisyDIMTransformer(target="uniform", random_state=0)
    >>> Z = embedder.fit_transform(X)
    >>> Z.shape, bool(((Z >= 0) & (Z <= 1)).all())
    ((150, 4), True)
    """

    def __init__(
        self,
        n_components: int | str = "auto",
        target: object = "normal",
        *,
        noise: object = "auto",
        augmentation: object = "corruption",
        critic: object = "separable",
        bound: object = "infonce",
        clean_weight: float = 1.0,
        keep: object = "kernel_pca",
        keep_weight: float = 10.0,
        supervision: float = 0.0,
        match_weight: float = 1.0,
        encoder: object = "mlp",
        normalization: object = "whiten",
        scaling: object = "squash",
        missing: str = "error",
        refine: object = "rotation",
        decoder: object = None,
        max_epochs: int | str = "auto",
        batch_size: int = 512,
        optimizer: object = "adamw",
        lr: float = 3e-3,
        early_stopping: bool | int = False,
        warm_start: bool = False,
        callbacks: Sequence[object] | None = None,
        checkpoint: object = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.target = target
        self.noise = noise
        self.augmentation = augmentation
        self.critic = critic
        self.bound = bound
        self.clean_weight = clean_weight
        self.keep = keep
        self.keep_weight = keep_weight
        self.supervision = supervision
        self.match_weight = match_weight
        self.encoder = encoder
        self.normalization = normalization
        self.scaling = scaling
        self.missing = missing
        self.refine = refine
        self.decoder = decoder
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.early_stopping = early_stopping
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> NoisyDIMTransformer:
        """Train the encoder.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, p)
            Numbers, finite, or missing where `missing` allows it; any scale. An array of any dtype,
            a memory map and sparse rows, zeros and all, are read batch by batch. With an encoder of
            your own also (n, ...), such as images; columns are their cells then.
        y : array-like of shape (n,) or (n, k), default=None
            Ignored, unless `supervision` > 0. Then integer or string classes, where -1, None or NaN
            means unlabelled (beside one class alone -1 is refused); or numbers, one of them not an
            integer, or integers with more values than 20 and than a fifth of the rows; or columns
            of numbers, such as labels of 0 and 1, where a row with NaN is unlabelled. Integers of
            fewer values, such as counts, are classes, also where their dtype is float: pass
            log(1 + y) for numbers.
        X_val : array-like or sparse matrix of shape (m, p), default=None
            Rows to evaluate the objective on after each epoch, at least two. `early_stopping` and
            `refine` (it needs 20) stop by them, and hold no rows of X out.
        y_val : array-like of shape (m,), default=None
            Their y, with `supervision` > 0.
        sample_weight : array-like of shape (n,), default=None
            How often a row is drawn, in proportion, and how much it counts in the statistics of the
            embedding and of the columns; 0 leaves it out. A scaling other than "squash" and
            "standard" is fitted to rows that are drawn so.

        Returns
        -------
        self : NoisyDIMTransformer

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data are not usable, or if training diverges. The estimator is
            then as it was before.

        Warns
        -----
        ConvergenceWarning
            With at least 20 training rows, if the embedding tells less than 5 % of min(capacity,
            log batch size) nats of them, or a component has no variance. Also if the channel passes
            next to nothing.
        UserWarning
            If `augmentation` or `critic` is set, and there is nothing that it is for.
        """
        with self._all_or_nothing():
            start, before = self._last() if self.warm_start else None, dict(vars(self))
            rows, shape = self._rows(X, ensure_min_samples=2)
            if start is not None:
                check_same_columns(before, vars(self))
            settings = resolve_settings(self, rows.shape[1])
            decoder = resolve_decoder(self.decoder, shape)
            target = resolve_target(self.target, settings.n_components)
            encoded = partial(encode_target, stacklevel=STACK_LEVEL + 1)
            targets = encoded(rows, y) if settings.supervision > 0 else None
            weights = check_weights(sample_weight, len(rows))
            table = Table(rows, targets, weights, shape).without_weightless()
            validation, options = None, {"missing": settings.takes_missing, "ensure_min_samples": 2}
            if X_val is not None:
                others, of_one = self._rows(X_val, reset=False, **options)
                known = targets is not None and y_val is not None
                classes = encoded(others, y_val, whole=False) if known else None
                validation = Table(others, classes, shape=of_one)
            elif y_val is not None:
                raise ValueError("y_val holds the classes of X_val, which is None: pass both.")
            so_far = partial(fitted_so_far, target_=target)
            tasks = Tasks.asked_for(self, X=as_given(rows, shape), y=y, so_far=so_far)
            told, seed = [*reporters(self.verbose), *tasks], draw_seed(self.random_state)
            trained = train(table, settings, seed, told, start, validation)
            self._set(trained, settings.n_components, target)
            if decoder is not None:
                self.decoder_ = Decoder.fitted(
                    decoder, table.X, self.encoder_, settings.device, seed, table.weights
                )
            self.n_epochs_ = len(trained.net.history)
            for task in tasks:
                task.end()
            if unused := " and ".join(self._unused()):
                said = f"{unused} played no part: with clean_weight=1 there are no views. Set "
                said += "clean_weight below 1, such as clean_weight=0.5."
                warnings.warn(said, UserWarning, stacklevel=STACK_LEVEL)
            if message := trained.convergence_message:
                warnings.warn(message, ConvergenceWarning, stacklevel=STACK_LEVEL)
        return self

    def partial_fit(self, X: MatrixLike, y: ArrayLike | None = None) -> NoisyDIMTransformer:
        """Train on a chunk of rows, and go on from the chunks before, or from `fit`.

        One pass over the chunk in batches of `batch_size_`, the last one filled up with earlier
        rows. The learning rate rises to `lr` within the first 50 steps and stays there; moments of
        the optimizer, and a `LRScheduler` of your own, go on. Then the statistics that normalise
        the embedding are set for all rows so far, from this chunk and from a uniform sample of
        2,048 earlier rows (`batch_size_` rows if that is more, fewer where rows have more than
        2,048 columns), which is all that is kept of them. `fit` keeps no rows: its statistics count
        as those of 32 rows for each component, until as many have come.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, p)
            As of `fit`; columns as in the call before. At least two rows in the first call, whose
            number of rows limits `batch_size_` for all that follow.
        y : array-like of shape (n,), default=None
            Ignored, unless `supervision` > 0: then as of `fit`, or None where nothing is labelled.
            It counts within a chunk, so classes may come at any time.

        Returns
        -------
        self : NoisyDIMTransformer

        Raises
        ------
        ValueError, TypeError
            As of `fit`.

        Notes
        -----
        Components, noise, batch size and seed are fixed by the first call, or by `fit`. What `keep`
        stands for is fitted to each chunk and the rows that are kept. The scaling "squash" or
        "standard" follows mean and variance of all rows so far; any other is fitted to the first
        chunk, and stays. Read in every call: `lr`, `optimizer`, `keep`, `keep_weight`,
        `supervision`, `match_weight`, `callbacks`, `target`, `device`, `verbose` and `refine`,
        which is fitted anew, so leave it None in a long stream. `max_epochs`, `early_stopping` and
        `warm_start` play no part; a decoder of `fit` is dropped. `history_` has one entry for each
        call, up to 1,000. A pickle, or a file of `save`, holds the rows that are kept and the
        moments of the optimizer, twice the size of the weights, and what is loaded goes on there.
        """
        with self._all_or_nothing():
            start = self._last()
            fresh, kept = start is None, start and start.state.get("kept")
            rows, shape = self._rows(X, reset=fresh, ensure_min_samples=2 if kept is None else 1)
            settings = resolve_settings(self, rows.shape[1])
            labelled = settings.supervision > 0 and y is not None
            targets = encode_target(rows, y, whole=False) if labelled else None
            table, seed = Table(rows, targets, shape=shape), 0
            if fresh:
                self.n_epochs_, self.n_components_ = 0, settings.n_components
                seed = draw_seed(self.random_state)
            trained = train_chunk(table, settings, seed, reporters(self.verbose), start)
            self._set(trained, self.n_components_)
            self.n_epochs_ += 1
        return self

    def forget_rows(self) -> NoisyDIMTransformer:
        """Release the rows that `partial_fit` keeps, such as before a model is passed on.

        The embedding stays as it is. A stream can go on, as it goes on from `fit`.

        Returns
        -------
        self : NoisyDIMTransformer

        Raises
        ------
        NotFittedError
            Before `fit` and `partial_fit`.
        """
        check_is_fitted(self)
        state = getattr(self, "training_state_", {})  # older files have none
        self.training_state_ = {n: state[n] for n in state if n not in ("kept", "n_streamed")}
        return self

    def _unused(self) -> list[str]:
        """Return parameters of views that a user has set, where there are no views."""
        usual: dict[str, tuple[object, ...]] = {"augmentation": ("corruption", None)}
        if self.net_.module_.critic is None:  # one scores clean rows, too, where noise is uniform
            usual["critic"] = ("separable", "exact")
        given = {name: getattr(self, name) for name in usual if self.clean_weight == 1}
        return [f"{name}={part!r}" for name, part in given.items() if part not in usual[name]]

    def _last(self) -> Trained | None:
        """Return what training goes on from, if there is anything."""
        if not hasattr(self, "net_"):
            return None
        state = getattr(self, "training_state_", {})
        return Trained(self.net_, self.encoder_, self.batch_size_, state)

    def _set(self, trained: Trained, n_components: int, target: object = None) -> None:
        """Keep what training has left."""
        self.__dict__.pop("decoder_", None)  # of another embedding
        self.net_, self.encoder_ = trained.net, trained.embedder
        self.refinement_ = trained.refinement
        self.target_ = target or resolve_target(self.target, n_components)
        self.channel_ = channel = trained.net.module_.channel
        self.noise_scale_, self.capacity_ = channel.scale, channel.capacity
        self.batch_size_ = trained.batch_size
        self.mutual_information_ = trained.information
        self.n_components_ = n_components
        rows = trained.net.history  # an epoch may have no record of a name
        names = dict.fromkeys(name for row in rows for name in row if name != "batches")
        self.history_ = {name: [row.get(name) for row in rows] for name in names}
        self.training_state_, self.n_samples_seen_ = trained.state, trained.state["n_seen"]

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

    def _html_repr(self) -> str:
        """Draw the steps of `transform`, each with its parameter, below scikit-learn's diagram."""
        # The parameters that `transform` goes through, in its order.
        steps = ("scaling", "encoder", "normalization", "refine", "target")
        parts = {name: getattr(self, name) for name in steps}
        said = [f"{n}: {escape(_name(part))}" for n, part in parts.items() if part is not None]
        span = '<span style="border: 1px dotted; padding: 0.2em 0.4em">'
        line = " &rarr; ".join(["X", *(f"{span}{text}</span>" for text in said), "embedding"])
        style = "font-family: monospace; line-height: 2"
        return f'{super()._html_repr()}<p style="{style}">{line}</p>'

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = takes_sparse(self.scaling)
        tags.input_tags.allow_nan = isinstance(self.missing, str) and self.missing == "indicator"
        labels = isinstance(self.supervision, numbers.Real) and self.supervision > 0
        tags.target_tags.required = bool(labels)
        return tags


def _name(part: object) -> str:
    """Return what a parameter is called: a name, a class, or several of them."""
    if isinstance(part, (list, tuple)):
        return ", ".join(map(_name, part))
    return part if isinstance(part, str) else getattr(part, "__name__", type(part).__name__)
