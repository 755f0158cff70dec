"""`diagnose`, the method of a fitted transformer: what is measured, a verdict, and advice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri

from sknoisydim.metrics._information import check_rows, normal_embedding

from ._context import own_context
from ._isolation import draw_seed
from ._validation import check_boolean
from .encoders import IndicateMissing
from .metrics import (
    MatchReport,
    classifier_auc,
    energy_test,
    henze_zirkler,
    intrinsic_dimension,
    kolmogorov_smirnov,
    max_correlation,
    mmd_test,
    monte_carlo_test,
    relative_distance,
    total_correlation,
)
from .metrics._information import channel_information, reachable_information
from .metrics._report import LEVEL, TESTS, chance_auc, rejected
from .metrics._samples import FloatArray, correlation_matrix, subsample

#: Samples that are judged, at most: less than 20 s for 16 components.
MAX_JUDGED_SAMPLES = 4_000
#: Fewer samples than this give a classifier nothing to learn from.
MIN_CLASSIFIER_SAMPLES = 50
#: Points of a scatter plot, and levels of quantiles.
N_POINTS, N_LEVELS = 400, 61

#: Fewer samples than this, or than so many for each component, cannot clear a fit.
FEW_SAMPLES, SAMPLES_PER_COMPONENT = 100, 10
#: Up to which a difference is small: an AUC, or without classifiers relative distances and a
#: correlation, because distances hardly see one pair of many components.
CLOSE_AUC, CLOSE_DISTANCE, CLOSE_CORRELATION = 0.6, 1.5, 0.2
#: Shares of the reachable information: less than the first is little; such a gap is overfitting.
LITTLE, GAP = 0.9, 0.1
#: A lattice: a share of repeated samples that a continuous distribution never has.
REPEATED = 0.05
#: Samples have too few dimensions below this share of what the target needs.
FLAT = 0.7

NAN = float("nan")
Values = Mapping[str, Any]


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
        """Judge the embedding of held-out samples, and say what to change.

        Compares the information through the channel with what is reachable, and the distribution of
        the embedding with the target, in the N(0, I) pre-image: the report is the same for every
        target. ``print`` shows a table, a notebook a card with pictures.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples that `fit` has not seen, at least two; on training samples the verdict is too
            good. Of more than 4,000, 4,000 drawn at random are judged (`batch_size_` for the
            information, if that is more).
        random_state : int, RandomState instance or None, default=0
            Seed of every draw.
        classifier : bool, default=True
            Whether classifiers take part. They see most and take most of the time.

        Returns
        -------
        report : MatchReport
            See :class:`sknoisydim.metrics.MatchReport`.

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
        # A stream of its own: the user's samples may come from default_rng(0), too.
        rng = np.random.default_rng([draw_seed(random_state), 20_241])
        rows = subsample(rows, max(MAX_JUDGED_SAMPLES, self.batch_size_), rng)
        z = normal_embedding(self, rows, refined=False)
        information = channel_information(z, self.channel_, self.batch_size_, rng)
        reachable = information.reachable
        if information.batch_size != self.batch_size_:
            reachable = reachable_information(self.channel_, self.batch_size_, rng)
        rows = rows[:MAX_JUDGED_SAMPLES]
        Z = normal_embedding(self, rows)
        name = self.target if isinstance(self.target, str) else " ".join(repr(self.target).split())
        values = {
            "target": name if len(name) <= 60 else name[:57] + "...",
            "information": information,
            "training_information": float(self.mutual_information_),
            "training_reachable": reachable,
            **measure(Z, self._scaled(rows), rng, classifier=classifier),
        }
        k = min(len(Z), N_LEVELS)
        return MatchReport(
            verdict=judge(values),
            advice=tuple(advise(values, self)),
            # Levels at the middle of ranks, so that the quantiles of k samples are the samples.
            quantiles=np.quantile(Z, (np.arange(k) + 0.5) / k, axis=0, method="hazen"),
            scatter=subsample(Z, N_POINTS, rng)[:, list(values["max_correlation_pair"])],
            **values,
        )

    def _scaled(self, rows: np.ndarray) -> FloatArray:
        """Return samples as the encoder gets them, of shape (n, p)."""
        with torch.inference_mode():
            scaled = self.encoder_.scaling(torch.from_numpy(np.array(rows))).double()
            front = self.encoder_.encoder
            if isinstance(front, IndicateMissing):
                scaled = front.widen(scaled)
            found: FloatArray = scaled.flatten(1).numpy()
        return found


def measure(
    Z: FloatArray, scaled: FloatArray, rng: np.random.Generator, *, classifier: bool
) -> dict[str, Any]:
    """Compare embedded samples Z with N(0, I), under the names that a report has."""
    n, d = Z.shape
    ks = kolmogorov_smirnov(Z)
    worst = int(np.argmax(ks.statistic))
    correlation = np.abs(np.triu(correlation_matrix(Z), 1))
    # The first two components where nothing correlates.
    pair = divmod(int(correlation.argmax()), d) if correlation.any() else (0, 1)
    auc = classifier and n >= MIN_CLASSIFIER_SAMPLES

    def relative(distance: Any) -> float:
        return relative_distance(distance, Z, random_state=rng)

    energy = energy_test(Z, random_state=rng)
    return {
        "n_rows": n,
        "n_components": d,
        "relative_marginal_distance": relative(marginal_wasserstein),
        "worst_component": worst,
        "worst_ks": float(ks.statistic[worst]),
        "worst_ks_pvalue": float(ks.pvalue_holm.min()),
        "relative_sliced_wasserstein": relative("sliced_wasserstein"),
        "relative_energy_distance": relative("energy_distance"),
        "energy_pvalue": energy.pvalue,
        "mmd_pvalue": mmd_test(Z, random_state=rng).pvalue,
        "henze_zirkler_pvalue": henze_zirkler(Z, random_state=rng).pvalue if n > d + 1 else NAN,
        "max_correlation": max_correlation(Z) if d > 1 else NAN,
        "max_correlation_pair": pair if d > 1 else (),
        "max_correlation_pvalue": monte_carlo_test(
            "max_correlation", Z, n_resamples=199, random_state=rng
        ).pvalue
        if d > 1
        else NAN,
        "total_correlation": total_correlation(Z, random_state=rng) if 1 < d < n - 3 else NAN,
        "auc_boosting": classifier_auc(Z, random_state=rng) if auc else NAN,
        "auc_mlp": classifier_auc(Z, classifier="mlp", random_state=rng) if auc else NAN,
        "repeated_rows": 1.0 - len(np.unique(Z, axis=0)) / n,
        "intrinsic_dimension": intrinsic_dimension(scaled),
        "intrinsic_dimension_needed": intrinsic_dimension(rng.standard_normal((n, d))),
    }


def marginal_wasserstein(Z: FloatArray, reference: Any, *, random_state: Any) -> float:
    """Return the root mean square over components of their Wasserstein distance from N(0, 1)."""
    levels = (np.arange(len(Z)) + 0.5) / len(Z)
    return float(np.sqrt(np.square(np.sort(Z, axis=0) - ndtri(levels)[:, None]).mean()))


def judge(values: Values) -> str:
    """Return the verdict: "match", "close", "different" or "unclear"."""
    if not (any(rejected(values).values()) or _told_apart(values)):
        return "unclear" if _few(values) else "match"
    aucs = _aucs(values)
    if aucs:
        return "close" if max(aucs) <= CLOSE_AUC else "different"
    distances = ("marginal_distance", "sliced_wasserstein", "energy_distance")
    near = max(values[f"relative_{name}"] for name in distances) <= CLOSE_DISTANCE
    return "close" if near and not _correlated(values, CLOSE_CORRELATION) else "different"


def advise(values: Values, fitted: Any) -> Iterator[str]:
    """Yield what is wrong and what to change, the most important first."""
    rules = (_about_information, _about_samples, _about_match)
    found = [sentence for rule in rules for sentence in rule(values, fitted)]
    yield from found
    if not found and judge(values) == "match":
        yield "Nothing to change: information and match are as good as these samples can show."
    counts = rejected(values)
    seen = [TESTS[name] for name, counted in counts.items() if counted]
    chance = [
        f"{TESTS[name]} ({values[name]:.3f})"
        for name, counted in counts.items()
        if not counted and values[name] <= LEVEL
    ]
    if seen:
        small = "" if found else ", and it is small"
        yield f"A difference is seen by {' and '.join(seen)}{small}."
    if chance:
        yield (
            f"Not counted: {' and '.join(chance)}, since one of {len(counts)} p-values is easily "
            f"below {LEVEL} by chance."
        )


def _about_information(values: Values, fitted: Any) -> Iterator[str]:
    nats, cap = values["information"], math.log(fitted.batch_size_)
    if nats.capacity > 1.001 * cap:
        yield (
            f"The capacity, {nats.capacity:.1f} nats, is beyond what a batch of "
            f"{fitted.batch_size_} can show ({cap:.1f}): training stops there and leaves the joint "
            "distribution unfinished. Raise the noise, leave it on 'auto', or raise batch_size."
        )
    training = values["training_information"] / values["training_reachable"]
    if training < LITTLE and not _flat(values):
        yield (
            f"Training passed {training:.0%} of the information that N(0, I) would: more epochs, "
            "a larger encoder, or fewer components."
        )
    # The interval: with few samples the share moves by chance.
    if training - nats.high / nats.reachable > GAP:
        change = "" if fitted.early_stopping else ", early_stopping=True"
        yield (
            f"The given samples pass {nats.value / nats.reachable:.0%} of the reachable "
            f"information, the training samples {training:.0%}: the fit does not carry over. More "
            f"samples, fewer epochs{change}, or fewer components; or the samples come from another "
            "population."
        )


def _about_samples(values: Values, fitted: Any) -> Iterator[str]:
    d = values["n_components"]
    if _few(values):
        yield (
            f"{values['n_rows']} samples for {d} component{'s' * (d > 1)} are too few to judge: "
            "only a large difference would show. Hold more samples out."
        )
    if values["repeated_rows"] > REPEATED:
        yield (
            f"{values['repeated_rows']:.0%} of the embedded samples repeat another one: samples on "
            "a lattice (whole numbers, categories) cannot follow a continuous distribution, and a "
            "classifier sees it at once. Add a little noise to the features, or do not ask for it."
        )
    if _flat(values):
        seen = max(1, round(values["intrinsic_dimension"]))
        yield (
            f"The samples seem to fill about {seen} dimension{'s' * (seen > 1)}, and {d} "
            f"components cannot be jointly independent on them: try n_components={seen}."
        )


def _about_match(values: Values, fitted: Any) -> Iterator[str]:
    refine, aucs, different = fitted.refine, _aucs(values), judge(values) == "different"
    said = ""
    if aucs and (_told_apart(values) or different):
        said = f"A classifier tells the embedding from the target with AUC {max(aucs):.2f}"
    elif not aucs and different:
        said = (
            "The joint distribution is far from the target, with a relative distance of "
            f"{values['relative_energy_distance']:.1f} (energy) and "
            f"{values['relative_sliced_wasserstein']:.1f} (sliced Wasserstein)"
        )
    if said:
        changes = [f"match_weight={max(1.0, 3 * fitted.match_weight):g}"]
        if refine is None:
            changes.append("refine='rotation'")
        changes += ["a larger batch_size", "more epochs", "fewer components"]
        yield f"{said}. What brings it closer: {'; '.join(changes)}."
    if values["worst_ks_pvalue"] <= LEVEL and values["relative_marginal_distance"] > CLOSE_DISTANCE:
        remedy = "more epochs help" if refine is not None else "refine='rotation' helps"
        yield (
            f"Component {values['worst_component']} does not follow its distribution: the "
            f"distribution functions are {values['worst_ks']:.2f} apart. Diagnose the training "
            f"samples: if they miss it, too, {remedy}; if they do not, the given samples come from "
            "another population or training overfitted, and more training samples or fewer epochs "
            "help."
        )
    if _correlated(values, 0.1):
        i, j = values["max_correlation_pair"]
        change = "more training samples"
        if fitted.normalization == "batch":
            change = "normalization='whiten' takes it away; else " + change
        yield (
            f"Components {i} and {j} correlate by {values['max_correlation']:.2f} on these "
            f"samples: {change}."
        )


def _few(values: Values) -> bool:
    least = max(FEW_SAMPLES, SAMPLES_PER_COMPONENT * values["n_components"])
    return bool(values["n_rows"] < least)


def _flat(values: Values) -> bool:
    """Whether the samples have fewer dimensions than the target needs; never for NaN."""
    return bool(values["intrinsic_dimension"] < FLAT * values["intrinsic_dimension_needed"])


def _aucs(values: Values) -> list[float]:
    return [values[name] for name in ("auc_boosting", "auc_mlp") if not math.isnan(values[name])]


def _told_apart(values: Values) -> bool:
    """Whether a classifier tells samples from the target beyond chance."""
    return max(_aucs(values), default=0.0) > chance_auc(values["n_rows"])


def _correlated(values: Values, least: float) -> bool:
    """Whether two components correlate more than that, and more than by chance."""
    return bool(values["max_correlation_pvalue"] <= LEVEL and values["max_correlation"] > least)
