"""MatchReport: what is measured of embedded samples, a verdict, and what to change."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from sknoisydim._context import own_context
from sknoisydim._labels import encode_target
from sknoisydim._sources import MatrixLike
from sknoisydim._validation import check_boolean

from . import _distances, _information, _samples
from ._dependence import intrinsic_dimension, total_correlation
from ._samples import FloatArray, RandomState

if TYPE_CHECKING:
    import pandas as pd

#: What a verdict means, in words.
VERDICTS = {
    "match": "no difference from the target was found",
    "close": "close to the target, with a difference that can be seen",
    "different": "different from the target",
    "unclear": "too few samples to tell",
}
NAN, LEVEL, WIDTH = math.nan, 0.05, 86
#: Lines of the data frame: group, quantity, and names of value, perfect (or itself) and p-value.
LINES = (
    ("information", "given samples, nats", "value", "reachable", ""),
    ("information", "capacity of the channel, nats", "capacity", NAN, ""),
    ("information", "a batch of {batch_size} shows at most", "cap", NAN, ""),
    ("information", "training samples, nats", "training_information", "training_reachable", ""),
    ("labels", "about y, nats", "label_information", NAN, "label_pvalue"),
    ("labels", "about y in random order, nats", "shuffled_label_information", NAN, ""),
    ("components", "Wasserstein (relative)", "relative_marginal_distance", 1.0, ""),
    ("components", "KS of component {worst_component}", "worst_ks", 0.0, "worst_ks_pvalue"),
    ("joint", "sliced Wasserstein (relative)", "relative_sliced_wasserstein", 1.0, ""),
    ("joint", "energy (relative)", "relative_energy_distance", 1.0, "energy_pvalue"),
    ("joint", "kernel test (MMD)", "", NAN, "mmd_pvalue"),
    ("joint", "Henze-Zirkler test", "", NAN, "henze_zirkler_pvalue"),
    ("joint", "largest correlation", "max_correlation", 0.0, "max_correlation_pvalue"),
    ("joint", "total correlation, nats", "total_correlation", 0.0, ""),
    ("classifier", "AUC of boosted trees", "auc_boosting", 0.5, ""),
    ("classifier", "AUC of a neural network", "auc_mlp", 0.5, ""),
    ("dimension", "of the scaled samples, about", "intrinsic_dimension", NAN, ""),
    ("dimension", "needed for {n_components} components", "intrinsic_dimension_needed", NAN, ""),
)
#: Values that are NaN where they cannot be had: all but those of `information`.
KEYS = ["training_reachable", *(key for line in LINES[3:] for key in (line[2], line[4]) if key)]
#: The p-values that a verdict takes together, and what they test.
TESTS = {test: quantity for _, quantity, _, _, test in LINES if test not in ("", "label_pvalue")}
#: Fewer samples than this give a classifier nothing to learn from.
MIN_CLASSIFIER_SAMPLES = 50
#: Fewer samples than this, or than so many for each component, cannot clear a fit.
FEW_SAMPLES, SAMPLES_PER_COMPONENT = 100, 10
#: Up to which a difference is small: an AUC, or without classifiers relative distances and a
#: correlation, as distances hardly see one pair of many components.
CLOSE_AUC, CLOSE_DISTANCE, CLOSE_CORRELATION = 0.6, 1.5, 0.2
#: Shares of the reachable information: less than the first is little; such a gap is overfitting.
LITTLE, GAP = 0.9, 0.1
#: Shares of repeated samples, and of those outside of the support, that a target never has, and a
#: share of the needed dimension that is too little.
REPEATED, OUTSIDE, FLAT = 0.05, 0.005, 0.7
#: Samples that are judged, at most: less than 20 s for 16 components.
MAX_JUDGED_SAMPLES = 4_000


class Report(Bunch):
    """A dictionary whose keys are attributes, too."""

    def to_dict(self) -> dict[str, Any]:
        """Return all values in a form that JSON can hold.

        Returns
        -------
        values : dict
            Numbers, texts, lists and dictionaries by the names of the attributes; None for NaN.
        """
        text = json.dumps(self, default=vars)
        return json.loads(text, parse_constant=lambda name: None)


class MatchReport(Report):
    """How well samples are embedded: information, match with the target, and what to change.

    ``print(report)`` shows the verdict, the main values and advice, `to_frame` all values. What
    cannot be had (too few samples, one component, no `y`, ``classifier=False``) is NaN. It is a
    dictionary, whose keys are attributes, too.

    Attributes
    ----------
    verdict : {"match", "close", "different", "unclear"}
        "match": no test rejects at level 0.05 with Holm's correction, and no classifier tells the
        samples from the target beyond chance; "unclear": the same, with fewer samples than 100 or
        than 10 per component. "close": the AUC is at most 0.6 or, without classifiers, relative
        distances are at most 1.5 and no correlation is above 0.2. "different": else.
    advice : tuple of str
        Sentences: what is wrong, and what to change.
    target, n_rows, n_components : str, int, int
        The target, samples that were judged, and their components.
    information : InformationEstimate or None
        Of the given samples, in nats; None by `from_arrays`.
    training_information, training_reachable : float
        Of the training samples (`mutual_information_`), and of N(0, I) with their batches, in nats.
    relative_marginal_distance, relative_sliced_wasserstein, relative_energy_distance : float
        `relative_distance` of the components (root mean square of Wasserstein's) and of all.
    worst_component, worst_ks, worst_ks_pvalue : int, float, float
        Component with the largest Kolmogorov-Smirnov statistic, this, and Holm's p-value for it.
    energy_pvalue, mmd_pvalue, henze_zirkler_pvalue : float
        P-values of the three tests of the joint distribution.
    max_correlation, max_correlation_pair, max_correlation_pvalue : float, tuple of int, float
        Largest absolute correlation, the two components, and a p-value by simulation.
    total_correlation, auc_boosting, auc_mlp : float
        Dependence of all components, in nats; `classifier_auc` of trees and of a neural network.
    intrinsic_dimension, intrinsic_dimension_needed : float
        Of the scaled samples before the encoder, and of as many draws of N(0, I).
    repeated_rows, outside_support : float
        Shares of samples that repeat another one, and (by `from_arrays`) outside of the support.
    label_information, shuffled_label_information, label_pvalue : float
        Information of a linear model about `y` through the channel, in nats; its mean over random
        orders of `y`; and the share of orders with at least as much.

    Raises
    ------
    ValueError, TypeError
        By `from_estimator`, as of `mutual_information`, and if y has another number of samples; by
        `from_arrays`, as of `kolmogorov_smirnov`; by both, if `classifier` is no bool.
    NotFittedError, ImportError
        By `from_estimator`; by `to_frame`, without pandas.
    """

    @classmethod
    @own_context()
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        random_state: int | np.random.RandomState | None = 0,
        classifier: bool = True,
    ) -> MatchReport:
        """Judge a NoisyDIMTransformer, or that of a Pipeline or a fitted search.

        Parameters
        ----------
        estimator : NoisyDIMTransformer, Pipeline or fitted search
            As of `mutual_information`.
        X : array-like of shape (n_samples, n_features)
            Held-out samples, as of `NoisyDIMTransformer.diagnose`.
        y : array-like of shape (n_samples,) or (n_samples, k), default=None
            As of `diagnose`.
        random_state : int, RandomState instance or None, default=0
            Seed of every draw.
        classifier : bool, default=True
            Whether classifiers take part.

        Returns
        -------
        report : MatchReport
            With all values.
        """
        from sknoisydim._modules import draw_seed  # here: metrics of plain arrays need no torch

        check_boolean(classifier, "classifier")
        dim, rows = _information.find_transformer(estimator, X)
        labels = None if y is None else encode_target(rows, y, whole=False, stacklevel=5)
        # A stream of its own: the user's samples may come from default_rng(0), too.
        rng = np.random.default_rng([draw_seed(random_state), 20_241])
        chosen = rng.permutation(len(rows))[: max(MAX_JUDGED_SAMPLES, dim.batch_size_)]
        rows = rows[chosen]
        z = _information.normal_embedding(dim, rows, refined=False)
        info = _information.channel_information(z, dim.channel_, dim.batch_size_, rng)
        reachable = info.reachable
        if info.batch_size != dim.batch_size_:
            reachable = _information.reachable_information(dim.channel_, dim.batch_size_, rng)
        told = {} if labels is None else _information.about_labels(dim, z, labels[chosen], rng)
        rows = rows[:MAX_JUDGED_SAMPLES]
        Z = _information.normal_embedding(dim, rows)
        values: dict[str, object] = told | {
            "information": info,
            "training_information": float(dim.mutual_information_),
            "training_reachable": reachable,
            "intrinsic_dimension": intrinsic_dimension(dim.encoder_.scaled(rows)),
            "intrinsic_dimension_needed": intrinsic_dimension(rng.standard_normal(Z.shape)),
        }
        return cls._of(values | measure(Z, rng, classifier=classifier), dim.target, dim)

    @classmethod
    @own_context()
    def from_arrays(
        cls,
        Z: ArrayLike,
        target: object = "normal",
        *,
        random_state: RandomState = 0,
        classifier: bool = True,
    ) -> MatchReport:
        """Judge embedded samples of any origin; what takes a transformer to know is NaN.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Embedded samples, at least two.
        target : str, object or sequence, default="normal"
            What they should follow, as for `NoisyDIMTransformer`.
        random_state : int, Generator, RandomState or None, default=0
            Seed of every draw.
        classifier : bool, default=True
            Whether classifiers take part.

        Returns
        -------
        report : MatchReport
            With `information` None, and no value of training or labels.
        """
        check_boolean(classifier, "classifier")
        normal = _samples.normal_preimage(Z, target, test="MatchReport.from_arrays")
        values = measure(normal, _samples.generator(random_state), classifier=classifier)
        values["outside_support"] = _samples.outside_support(_samples.check_sample(Z), target)
        return cls._of(values, target)

    @classmethod
    def _of(cls, values: dict[str, object], target: object, fitted: object = None) -> MatchReport:
        """Judge by what was measured of a transformer, or of samples of unknown origin."""
        known: dict[str, Any] = dict.fromkeys(KEYS, NAN)
        report = cls(**known | {"information": None, "outside_support": 0.0} | values)
        name = target if isinstance(target, str) else " ".join(repr(target).split())
        report.target = name if len(name) <= 60 else name[:57] + "..."
        report.verdict = judge(report)
        report.advice = tuple(advise(report, fitted))
        return report

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame of all values but NaN, indexed by group and quantity.

        Returns
        -------
        frame : pandas.DataFrame
            With columns "value", "perfect" (of samples of the target, or what is reachable),
            "pvalue", and "rejected": whether it is at most 0.05 with Holm's correction for all.
        """
        import pandas as pd

        known: Any = self if self.information is None else vars(self.information) | self
        lines, counted = [], rejected(self)
        for group, quantity, key, perfect, test in LINES:
            value, pvalue = known.get(key, NAN), known.get(test, NAN)
            if not (math.isnan(value) and math.isnan(pvalue)):
                numbers = (value, known.get(perfect, perfect), pvalue, test in counted)
                lines.append((group, quantity.format(**known), *numbers))
        columns = ["group", "quantity", "value", "perfect", "pvalue", "rejected"]
        return pd.DataFrame(lines, columns=columns).set_index(columns[:2])

    def __repr__(self) -> str:
        n, d, info = self.n_rows, self.n_components, self.information
        size = f"{n:,} sample{'s' * (n > 1)}, {d} component{'s' * (d > 1)}"
        headline = f"{size}, target {self.target}: {VERDICTS[self.verdict]}"
        auc = f"0.5 is perfect, up to {chance_auc(n):.2f} is chance"
        worst = f"Kolmogorov-Smirnov, p = {self.worst_ks_pvalue:.3f}"
        distance = self.relative_sliced_wasserstein
        shown = [
            ("AUC of a classifier", _auc(self), auc),
            ("relative distance", distance, "sliced Wasserstein; 1 is perfect"),
            ("worst component", self.worst_ks, worst),
            ("largest correlation", self.max_correlation, f"p = {self.max_correlation_pvalue:.3f}"),
        ]
        if info is not None:
            reachable = f"through the channel; {info.reachable:.2f} is reachable"
            shown.append(("information, nats", info.value, reachable))
        lines = [*textwrap.wrap(headline, WIDTH), ""]
        lines += [f"{name:20} {v:7.3f}  {means}" for name, v, means in shown if not math.isnan(v)]
        lines.append("")
        for text in self.advice:
            lines += textwrap.wrap(f"- {text}", WIDTH, subsequent_indent="  ")
        return "\n".join([*lines, "", "report.to_frame() has all values."])


def rejected(report: Bunch) -> list[str]:
    """Return the p-values that count after Holm's correction for all that are known."""
    known = [name for name in TESTS if not math.isnan(report[name])]
    corrected = _samples.holm(np.array([report[name] for name in known]))
    return [name for name, pvalue in zip(known, corrected, strict=True) if pvalue <= LEVEL]


def chance_auc(n: int) -> float:
    """Return up to which AUC a classifier has not told n samples from as many draws."""
    # Its standard deviation is 1 / sqrt(6 n) when scores are independent of what they judge; folds
    # that share samples add to it. So four of them.
    return 0.5 + 4 / math.sqrt(6 * n)


def measure(Z: FloatArray, rng: np.random.Generator, *, classifier: bool) -> dict[str, object]:
    """Compare embedded samples Z with N(0, I), under the names that a report has."""
    n, d = Z.shape
    ks = _distances.kolmogorov_smirnov(Z)
    worst = int(np.argmax(ks.statistic))
    relative = partial(_distances.relative_distance, Z=Z, random_state=rng)
    values = {
        "n_rows": n,
        "n_components": d,
        "relative_marginal_distance": relative(_distances.marginal_wasserstein),
        "worst_component": worst,
        "worst_ks": float(ks.statistic[worst]),
        "worst_ks_pvalue": float(ks.pvalue_holm.min()),
        "relative_sliced_wasserstein": relative("sliced_wasserstein"),
        "relative_energy_distance": relative("energy_distance"),
        "energy_pvalue": _distances.energy_test(Z, random_state=rng).pvalue,
        "mmd_pvalue": _distances.mmd_test(Z, random_state=rng).pvalue,
        "max_correlation_pair": (),
        "repeated_rows": 1.0 - len(np.unique(Z, axis=0)) / n,
    }
    if n > d + 1:
        values["henze_zirkler_pvalue"] = _distances.henze_zirkler(Z, random_state=rng).pvalue
    if d > 1:
        test = _distances.monte_carlo_test("max_correlation", Z, n_resamples=199, random_state=rng)
        # Below the diagonal nothing counts, so that it is the first pair where nothing correlates.
        upper = np.abs(_samples.correlation_matrix(Z)) - 2 * np.tri(d)
        values["max_correlation_pair"] = divmod(int(upper.argmax()), d)
        values["max_correlation"], values["max_correlation_pvalue"] = astuple(test)
    if 1 < d < n - 3:
        values["total_correlation"] = total_correlation(Z, random_state=rng)
    if classifier and n >= MIN_CLASSIFIER_SAMPLES:
        for name in _distances.CLASSIFIERS:
            values[f"auc_{name}"] = _distances.classifier_auc(Z, classifier=name, random_state=rng)
    return values


def _least_samples(report: Bunch) -> int:
    return max(FEW_SAMPLES, SAMPLES_PER_COMPONENT * report.n_components)


def _auc(report: Bunch) -> float:
    return float(np.fmax(report.auc_boosting, report.auc_mlp))


def _correlated(report: Bunch, least: float) -> bool:
    """Whether two components correlate more than that, and more than by chance."""
    return report.max_correlation_pvalue <= LEVEL and report.max_correlation > least


def judge(report: Bunch) -> str:
    """Return the verdict: "match", "close", "different" or "unclear"."""
    auc, n = _auc(report), report.n_rows
    if not rejected(report) and not auc > chance_auc(n):
        return "unclear" if n < _least_samples(report) else "match"
    if not math.isnan(auc):
        return "close" if auc <= CLOSE_AUC else "different"
    distance = max(report.relative_marginal_distance, report.relative_sliced_wasserstein)
    near = max(distance, report.relative_energy_distance) <= CLOSE_DISTANCE
    return "close" if near and not _correlated(report, CLOSE_CORRELATION) else "different"


def advise(report: Bunch, fitted: BaseEstimator | None) -> Iterator[str]:
    """Yield what is wrong and what to change, the most important first.

    `fitted` is the transformer; None for samples of which nothing else is known.
    """
    found = list(_faults(report, fitted))
    yield from found
    if not found and report.verdict == "match":
        yield "Nothing to change: it is as good as these samples can show."
    if seen := ", ".join(TESTS[name] for name in rejected(report)).format(**report):
        yield f"A {'' if found else 'small '}difference is seen by: {seen}."


def _faults(report: Bunch, fitted: BaseEstimator | None) -> Iterator[str]:
    n, d, least, auc = report.n_rows, report.n_components, _least_samples(report), _auc(report)
    seen = report.intrinsic_dimension
    # Whether the samples have fewer dimensions than the target needs; never for NaN.
    flat = seen < FLAT * report.intrinsic_dimension_needed
    # A large weight pulls classes apart, and more epochs then pull further.
    less = "a smaller supervision, " if fitted is not None and fitted.supervision > 0 else ""
    if fitted is not None:
        info, cap = report.information, math.log(fitted.batch_size_)
        training = report.training_information / report.training_reachable
        if info.capacity > 1.001 * cap:
            yield (
                f"The capacity, {info.capacity:.1f} nats, is beyond what a batch of "
                f"{fitted.batch_size_} can show ({cap:.1f}): training stops there and leaves the "
                "joint distribution unfinished. Raise the noise, leave it on 'auto', or raise "
                "batch_size."
            )
        if (n_fitted := fitted.n_samples_seen_) < least:
            yield f"The fit had {n_fitted} samples, too few for a joint distribution: fit more."
        elif report.verdict != "unclear":  # else more samples to judge come first
            if training < LITTLE and not flat:
                yield (
                    f"Training passed {training:.0%} of the information that N(0, I) would: {less}"
                    "more epochs, a larger encoder, or fewer components."
                )
            # The interval: with few samples the share moves by chance.
            if training - info.high / info.reachable > GAP:
                change = "" if fitted.early_stopping else ", early_stopping=True"
                yield (
                    f"The given samples pass {info.value / info.reachable:.0%} of the information "
                    f"that N(0, I) would, those of training {training:.0%}: the fit does not carry "
                    f"over. More samples, fewer epochs{change}, or fewer components."
                )
    if n < least:
        yield f"{n} samples for {d} components are too few to judge: give {least} or more."
    elif report.label_pvalue > LEVEL:
        yield (
            "The embedding tells no more of y than of y in random order: what training samples "
            "show of it is memorised."
        )
    if report.outside_support > OUTSIDE:
        yield (
            f"{report.outside_support:.0%} of the samples lie outside of the support of the "
            "target: is `target` right? They are judged as if they lay on its edge."
        )
    elif report.repeated_rows > REPEATED:
        yield (
            f"{report.repeated_rows:.0%} of the embedded samples repeat another one: a lattice "
            "(whole numbers, categories) cannot follow a continuous distribution."
        )
    if flat:
        least = max(1, round(seen))
        yield (
            f"The samples seem to fill about {least} dimension{'s' * (least > 1)}, and {d} "
            f"components cannot be jointly independent on them: at most {least} can be."
        )
    if auc > chance_auc(n) or report.verdict == "different":
        how = "" if math.isnan(auc) else f", with AUC {auc:.2f}"
        if fitted is not None:
            ways = [] if fitted.refine is not None else ["refine='rotation'"]
            ways += ["a smaller supervision"] * (fitted.supervision > 0)
            ways.append("far fewer components, such as 2" if d > 2 else "more samples")
            how += f". What can bring it closer: {', or '.join(ways)}"
        yield f"The joint distribution differs from the target{how}."
    if report.worst_ks_pvalue <= LEVEL and report.relative_marginal_distance > CLOSE_DISTANCE:
        yield (
            f"Component {report.worst_component} does not follow its distribution, by "
            f"{report.worst_ks:.2f}. If training samples do not, either: train longer. If they "
            "do: it overfitted, or these are of another population."
        )
    if _correlated(report, 0.1):
        i, j = report.max_correlation_pair
        whiten = fitted is not None and fitted.normalization == "batch"
        change = ": normalization='whiten' takes it away" if whiten else ""
        yield f"Components {i} and {j} correlate by {report.max_correlation:.2f}{change}."
