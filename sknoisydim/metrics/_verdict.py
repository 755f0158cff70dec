"""What is measured of embedded samples, the verdict, and sentences that say what to change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy.special import ndtri

from ._dependence import max_correlation, total_correlation
from ._distances import (
    classifier_auc,
    energy_test,
    mmd_test,
    monte_carlo_test,
    relative_distance,
)
from ._samples import FloatArray, correlation_matrix, holm
from ._tests import henze_zirkler, kolmogorov_smirnov

LEVEL = 0.05

#: The p-values that a verdict takes together, and the names of their tests.
TESTS = {
    "worst_ks_pvalue": "the Kolmogorov-Smirnov test of components",
    "energy_pvalue": "the energy test",
    "mmd_pvalue": "the kernel test (MMD)",
    "henze_zirkler_pvalue": "the Henze-Zirkler test",
    "max_correlation_pvalue": "the test of the largest correlation",
}

#: Fewer samples than this give a classifier nothing to learn from.
MIN_CLASSIFIER_SAMPLES = 50
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

NAN = math.nan
Values = Mapping[str, Any]


def rejected(values: Mapping[str, Any]) -> dict[str, bool]:
    """Return, for each p-value that is known, whether it counts after Holm's correction."""
    known = [name for name in TESTS if not math.isnan(values[name])]
    corrected = holm(np.array([values[name] for name in known]))
    return {name: bool(p <= LEVEL) for name, p in zip(known, corrected, strict=True)}


def chance_auc(n: int) -> float:
    """Return up to which AUC a classifier has not told n samples from as many draws.

    Its standard deviation is 1 / sqrt(6 n) when scores are independent of what they judge; folds
    that share samples add to it. So four of them.
    """
    return 0.5 + 4 / math.sqrt(6 * n)


def measure(Z: FloatArray, rng: np.random.Generator, *, classifier: bool) -> dict[str, Any]:
    """Compare embedded samples Z with N(0, I), under the names that a report has."""
    n, d = Z.shape
    several, auc = d > 1, classifier and n >= MIN_CLASSIFIER_SAMPLES
    ks = kolmogorov_smirnov(Z)
    worst = int(np.argmax(ks.statistic))
    correlation = np.abs(np.triu(correlation_matrix(Z), 1))
    # The first two components where nothing correlates.
    pair = divmod(int(correlation.argmax()), d) if correlation.any() else (0, 1)
    by_chance = partial(monte_carlo_test, "max_correlation", n_resamples=199)
    relative = partial(relative_distance, Z=Z, random_state=rng)
    return {
        "n_rows": n,
        "n_components": d,
        "relative_marginal_distance": relative(marginal_wasserstein),
        "worst_component": worst,
        "worst_ks": float(ks.statistic[worst]),
        "worst_ks_pvalue": float(ks.pvalue_holm.min()),
        "relative_sliced_wasserstein": relative("sliced_wasserstein"),
        "relative_energy_distance": relative("energy_distance"),
        "energy_pvalue": energy_test(Z, random_state=rng).pvalue,
        "mmd_pvalue": mmd_test(Z, random_state=rng).pvalue,
        "henze_zirkler_pvalue": henze_zirkler(Z, random_state=rng).pvalue if n > d + 1 else NAN,
        "max_correlation": max_correlation(Z) if several else NAN,
        "max_correlation_pair": pair if several else (),
        "max_correlation_pvalue": by_chance(Z, random_state=rng).pvalue if several else NAN,
        "total_correlation": total_correlation(Z, random_state=rng) if 1 < d < n - 3 else NAN,
        "auc_boosting": classifier_auc(Z, random_state=rng) if auc else NAN,
        "auc_mlp": classifier_auc(Z, classifier="mlp", random_state=rng) if auc else NAN,
        "repeated_rows": 1.0 - len(np.unique(Z, axis=0)) / n,
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
    """Yield what is wrong and what to change, the most important first.

    `fitted` is the transformer; None for samples of which nothing else is known.
    """
    rules = (_about_information, _about_labels, _about_samples, _about_match)
    found = [sentence for rule in rules for sentence in rule(values, fitted)]
    yield from found
    if not found and judge(values) == "match":
        yield "Nothing to change: it is as good as these samples can show."
    if seen := [TESTS[name] for name, counted in rejected(values).items() if counted]:
        yield f"A difference is seen by {' and '.join(seen)}{'' if found else ', and it is small'}."


def _about_information(values: Values, fitted: Any) -> Iterator[str]:
    if fitted is None:
        return
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
            f"samples, fewer epochs{change}, or fewer components; or another population."
        )


def _about_labels(values: Values, fitted: Any) -> Iterator[str]:
    if values.get("label_pvalue", 0.0) > LEVEL:
        yield (
            "The embedding tells no more of y than of y in random order: what training samples "
            "show of it is memorised."
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
            f"{values['repeated_rows']:.0%} of the embedded samples repeat another one: a lattice "
            "(whole numbers, categories) cannot follow a continuous distribution."
        )
    if _flat(values):
        seen = max(1, round(values["intrinsic_dimension"]))
        yield (
            f"The samples seem to fill about {seen} dimension{'s' * (seen > 1)}, and {d} "
            f"components cannot be jointly independent on them: try n_components={seen}."
        )


def _about_match(values: Values, fitted: Any) -> Iterator[str]:
    aucs = _aucs(values)
    if _told_apart(values) or judge(values) == "different":
        how = f", with AUC {max(aucs):.2f}" if aucs else ""
        if fitted is not None:
            refine = "" if fitted.refine is not None else "refine='rotation', "
            how += f". What brings it closer: match_weight={max(1.0, 3 * fitted.match_weight):g}, "
            how += f"{refine}a larger batch_size, more epochs, or fewer components"
        yield f"The joint distribution differs from the target{how}."
    if values["worst_ks_pvalue"] <= LEVEL and values["relative_marginal_distance"] > CLOSE_DISTANCE:
        yield (
            f"Component {values['worst_component']} does not follow its distribution: the "
            f"distribution functions are {values['worst_ks']:.2f} apart. If they are on training "
            "samples, too, training was too short; if not, it overfitted, or the given samples "
            "come from another population."
        )
    if _correlated(values, 0.1):
        i, j = values["max_correlation_pair"]
        whiten = fitted is not None and fitted.normalization == "batch"
        change = ": normalization='whiten' takes it away" if whiten else ""
        yield f"Components {i} and {j} correlate by {values['max_correlation']:.2f}{change}."


def _few(values: Values) -> bool:
    least = max(FEW_SAMPLES, SAMPLES_PER_COMPONENT * values["n_components"])
    return bool(values["n_rows"] < least)


def _flat(values: Values) -> bool:
    """Whether the samples have fewer dimensions than the target needs; never for NaN."""
    seen = values.get("intrinsic_dimension", NAN)
    return bool(seen < FLAT * values.get("intrinsic_dimension_needed", NAN))


def _aucs(values: Values) -> list[float]:
    return [values[name] for name in ("auc_boosting", "auc_mlp") if not math.isnan(values[name])]


def _told_apart(values: Values) -> bool:
    """Whether a classifier tells samples from the target beyond chance."""
    return max(_aucs(values), default=0.0) > chance_auc(values["n_rows"])


def _correlated(values: Values, least: float) -> bool:
    """Whether two components correlate more than that, and more than by chance."""
    return bool(values["max_correlation_pvalue"] <= LEVEL and values["max_correlation"] > least)
