"""The classifier two-sample test, which sees the joint distribution."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .._context import own_context
from .._options import allowed, unknown_option
from .._validation import check_integer
from ._samples import RandomState, compare, draw, generator, seed_of, subsample


def _boosting(seed: int) -> Any:
    return HistGradientBoostingClassifier(max_iter=200, early_stopping=False, random_state=seed)


def _mlp(seed: int) -> Any:
    # 80 epochs without early stopping: with it, a plateau at the start ends training and the AUC
    # of hard cases comes out 0.01 to 0.02 lower.
    network = MLPClassifier(
        (64, 64), alpha=0.1, learning_rate_init=3e-3, max_iter=80, random_state=seed
    )
    return make_pipeline(StandardScaler(), network)


#: Every named classifier: ``make(seed) -> estimator``.
CLASSIFIERS: dict[str, Callable[[int], Any]] = {"boosting": _boosting, "mlp": _mlp}


@own_context()
def classifier_auc(
    Z: Any,
    reference: Any = "normal",
    *,
    classifier: Any = "boosting",
    cv: int = 3,
    random_state: RandomState = None,
) -> float:
    r"""Area under the ROC curve of a classifier of samples against draws of the reference.

    The classifier is cross-validated on as many draws as there are samples, and the scores of all
    folds are pooled. Report it first: it is the only metric that learns where to look. Trees see
    single values and components, the network what is smooth in all of them; report both. Repeated
    samples and lattices give themselves away to trees, so judge continuous data.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples, held out from the fit.
    reference : str, target or array-like of shape (m, n_components), default="normal"
        "normal", "uniform" or another target distribution, or a sample of it. Of the larger of two
        samples, min(n, m) drawn at random are used.
    classifier : {"boosting", "mlp"} or classifier, default="boosting"
        "boosting" is `HistGradientBoostingClassifier`, "mlp" an `MLPClassifier` with two layers of
        64 units on standardised components. A classifier of your own is cloned and keeps its seed.
    cv : int, default=3
        Number of stratified, shuffled folds.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the draws, the folds and the named classifiers.

    Returns
    -------
    auc : float
        0.5 when the classifier cannot tell (a little less is chance), 1.0 when it always can.

    References
    ----------
    D. Lopez-Paz, M. Oquab, *Revisiting Classifier Two-Sample Tests*, ICLR 2017, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import classifier_auc
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.standard_normal((300, 2))
    >>> 0.4 < classifier_auc(Z, "normal", random_state=0) < 0.6
    True
    >>> classifier_auc(Z * [1.0, 0.1], "normal", random_state=0) > 0.8
    True
    """
    check_integer(cv, "cv", minimum=2)
    rng = generator(random_state)
    Z, Y = compare(Z, reference, min_samples=cv)
    model = _resolve(classifier, seed_of(rng))
    draws = draw(Y, len(Z), Z.shape[1], rng)
    sample = subsample(Z, len(draws), rng)
    label = np.repeat([1, 0], [len(sample), len(draws)])
    folds = StratifiedKFold(cv, shuffle=True, random_state=seed_of(rng))
    method = "predict_proba" if hasattr(model, "predict_proba") else "decision_function"
    with warnings.catch_warnings():
        # The MLP stops after a set number of epochs; that is its regularisation.
        warnings.simplefilter("ignore", ConvergenceWarning)
        pooled = np.concatenate([sample, draws])
        score = cross_val_predict(model, pooled, label, cv=folds, method=method)
    return float(roc_auc_score(label, score if score.ndim == 1 else score[:, 1]))


def _resolve(classifier: Any, seed: int) -> Any:
    if isinstance(classifier, str):
        if classifier not in CLASSIFIERS:
            raise ValueError(unknown_option(classifier, CLASSIFIERS, "classifier"))
        return CLASSIFIERS[classifier](seed)
    if hasattr(classifier, "fit") and is_classifier(classifier):
        return clone(classifier)
    raise TypeError(
        f"classifier={classifier!r} is not understood: it takes {allowed(CLASSIFIERS)}, "
        "or a scikit-learn classifier."
    )
