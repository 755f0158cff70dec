"""`diagnose`, the method of a fitted transformer: what is measured, a verdict, and advice."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from sknoisydim._context import own_context
from sknoisydim._labels import encode_target
from sknoisydim._linear import linear_information
from sknoisydim._modules import RandomState, draw_seed
from sknoisydim._references import of_targets
from sknoisydim._sources import MatrixLike
from sknoisydim.encoders import IndicateMissing
from sknoisydim.metrics import MatchReport, intrinsic_dimension
from sknoisydim.metrics._information import (
    channel_information,
    check_rows,
    normal_embedding,
    reachable_information,
)
from sknoisydim.metrics._samples import FloatArray

#: Samples that are judged, at most: less than 20 s for 16 components.
MAX_JUDGED_SAMPLES = 4_000
#: Shuffles of y: the smallest p-value is 1 / 200.
N_SHUFFLES = 199


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
        the embedding with the target, in the N(0, I) pre-image: the report is the same for every
        target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples that `fit` has not seen, at least two; on training samples the verdict is too
            good. Of more than 4,000, 4,000 drawn at random are judged (`batch_size_` for the
            information, if that is more).
        y : array-like of shape (n_samples,) or (n_samples, k), default=None
            As in `fit`, whether that was given one or not. The report then has the information that
            the embedding has about `y`, and about `y` in random order, its control: with
            `supervision`, training samples follow even labels that mean nothing.
        random_state : int, RandomState instance or None, default=0
            Seed of every draw.
        classifier : bool, default=True
            Whether classifiers take part. They see most and take most of the time.

        Returns
        -------
        report : MatchReport
            See :class:`sknoisydim.metrics.MatchReport`.

        See Also
        --------
        sknoisydim.metrics.MatchReport.from_estimator : The same for a Pipeline or a search.

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
        rows = check_rows(self, X)
        level = 4  # beyond the decorator
        labels = None if y is None else encode_target(X, y, whole=False, stacklevel=level)
        # A stream of its own: the user's samples may come from default_rng(0), too.
        rng = np.random.default_rng([draw_seed(random_state), 20_241])
        chosen = rng.permutation(len(rows))[: max(MAX_JUDGED_SAMPLES, self.batch_size_)]
        rows = rows[chosen]
        z = normal_embedding(self, rows, refined=False)
        information = channel_information(z, self.channel_, self.batch_size_, rng)
        reachable = information.reachable
        if information.batch_size != self.batch_size_:
            reachable = reachable_information(self.channel_, self.batch_size_, rng)
        values = {} if labels is None else self._about_labels(z, labels[chosen], rng)
        rows = rows[:MAX_JUDGED_SAMPLES]
        Z = normal_embedding(self, rows)
        return MatchReport._of(
            Z,
            self.target,
            rng,
            classifier,
            self,
            information=information,
            training_information=float(self.mutual_information_),
            training_reachable=reachable,
            intrinsic_dimension=intrinsic_dimension(self._scaled(rows)),
            intrinsic_dimension_needed=intrinsic_dimension(rng.standard_normal(Z.shape)),
            **values,
        )

    def _about_labels(
        self, z: FloatArray, labels: np.ndarray, rng: np.random.Generator
    ) -> dict[str, float]:
        """Return the linear information about labels, in order and shuffled, and its p-value."""
        order, clean = torch.arange(len(z)), torch.from_numpy(z)
        features = of_targets(labels, order.device)(order, order).double()

        def nats(index: Any) -> float:
            return float(linear_information(clean, features[index], self.channel_.scale))

        found = nats(order)
        shuffled = np.array([nats(rng.permutation(len(z))) for _ in range(N_SHUFFLES)])
        return {
            "label_information": found,
            "shuffled_label_information": float(shuffled.mean()),
            "label_pvalue": (1 + int((shuffled >= found).sum())) / (1 + N_SHUFFLES),
        }

    def _scaled(self, rows: np.ndarray) -> FloatArray:
        """Return samples as the encoder gets them, of shape (n, p)."""
        with torch.inference_mode():
            scaled = self.encoder_.scaling(torch.from_numpy(np.array(rows))).double()
            front = self.encoder_.encoder
            if isinstance(front, IndicateMissing):
                scaled = front.widen(scaled)
            found: FloatArray = scaled.flatten(1).numpy()
        return found
