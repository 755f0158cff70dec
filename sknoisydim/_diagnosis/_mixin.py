"""`diagnose`, the method of a fitted transformer that returns a report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from sknoisydim._context import own_context
from sknoisydim._diagnosis._advice import Parameters, advise, judge
from sknoisydim._diagnosis._measures import (
    MAX_JUDGED_ROWS,
    dimensions,
    information,
    law,
    pictures,
)
from sknoisydim._isolation import draw_seed
from sknoisydim._validation import check_boolean
from sknoisydim.encoders import IndicateMissing
from sknoisydim.metrics import MatchReport
from sknoisydim.metrics._estimators import check_rows, normal_embedding
from sknoisydim.metrics._reference import subsample


class Diagnosis:
    """The method of a fitted `NoisyDIMTransformer` that judges it.

    Mixed into it: it reads the attributes that its `fit` sets, and its parameters.
    """

    target: Any
    encoder_: Any
    channel_: Any
    batch_size_: int
    mutual_information_: float

    @own_context()
    def diagnose(self, X: Any, *, random_state: Any = 0, classifier: bool = True) -> MatchReport:
        """Judge the embedding of held-out rows, and say what to change.

        Information through the channel against what could be reached, each component and the joint
        law against the target, classifiers that try to tell the embedding from the target, and the
        dimension that the rows have. ``print`` shows a table, a notebook a card with pictures.

        Parameters
        ----------
        X : array-like of shape (n, p)
            Rows that `fit` has not seen, at least two; columns as in `fit`. On training rows the
            verdict is too good. Of more than 4,000 rows, 4,000 drawn at random are judged
            (`batch_size_` rows for the information, if that is more).
        random_state : int, RandomState instance or None, default=0
            Every draw: the same number gives the same report.
        classifier : bool, default=True
            Whether classifiers take part. They see most and take most of the time.

        Returns
        -------
        report : MatchReport
            See :class:`sknoisydim.metrics.MatchReport`.

        Raises
        ------
        ValueError, TypeError
            If the rows are not like those of `fit`, or a parameter is not usable.

        Notes
        -----
        The law is judged where the target is N(0, I), on what comes before the target's map. So
        the report is the same for every target.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sknoisydim import NoisyDIMTransformer
        >>> X = load_iris().data
        >>> dim = NoisyDIMTransformer(2, noise=0.01, max_epochs=5, random_state=0).fit(X[::2])
        >>> report = dim.diagnose(X[1::2], classifier=False)
        >>> print(report.advice[0])
        The capacity, 9.2 nats, is beyond what a batch of 75 can show (4.3)...
        """
        check_boolean(classifier, "classifier")
        rows = check_rows(self, X)
        # A stream of its own: the user's rows may come from default_rng(0), too.
        rng = np.random.default_rng([draw_seed(random_state), 20_241])
        rows = subsample(rows, max(MAX_JUDGED_ROWS, self.batch_size_), rng)
        nats, training_reachable = information(
            normal_embedding(self, rows, refined=False), self.channel_, self.batch_size_, rng
        )
        rows = rows[:MAX_JUDGED_ROWS]
        Z = normal_embedding(self, rows)
        with torch.inference_mode():
            scaled = self.encoder_.scaling(torch.from_numpy(np.array(rows))).double()
            front = self.encoder_.encoder
            if isinstance(front, IndicateMissing):  # as the encoder is shown them
                scaled = front.widen(scaled)
        figures = {
            "target": _name(self.target),
            "n_rows": len(Z),
            "n_components": Z.shape[1],
            "information": nats,
            "training_information": float(self.mutual_information_),
            "training_reachable": training_reachable,
            "training_cap": math.log(self.batch_size_),
            **law(Z, rng, classifier=classifier),
            **dimensions(scaled.flatten(1).numpy(), Z.shape[1], rng),
        }
        return MatchReport(
            verdict=judge(figures),
            advice=tuple(advise(figures, Parameters.of(self))),
            pictures=pictures(Z, figures["max_correlation_pair"], rng),
            **figures,
        )


def _name(target: Any) -> str:
    name = target if isinstance(target, str) else " ".join(repr(target).split())
    return name if len(name) <= 60 else name[:57] + "..."
