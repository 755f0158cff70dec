"""Reports: what is measured of samples, a verdict, and what to change."""

from __future__ import annotations

import json
import math
import textwrap
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
KEYS = [key for line in LINES[3:] for key in line[2:] if key and isinstance(key, str)]
#: The p-values that a verdict takes together, and what they test.
TESTS = {test: quantity for _, quantity, _, _, test in LINES if test not in ("", "label_pvalue")}
#: Fewer samples teach a classifier nothing; fewer, or fewer for each component, cannot clear a fit;
#: and no more are judged, which takes less than 20 s for 16 components.
MIN_CLASSIFIER_SAMPLES, FEW_SAMPLES, SAMPLES_PER_COMPONENT, MAX_JUDGED_SAMPLES = 50, 100, 10, 4_000
#: Up to which a difference is small: an AUC, or without classifiers relative distances and a
#: correlation, as distances hardly see one pair of many components.
CLOSE_AUC, CLOSE_DISTANCE, CLOSE_CORRELATION = 0.6, 1.5, 0.2
#: Shares: less of the reachable information is little, and such a gap is overfitting; a target has
#: neither so many repeated samples nor so many outside of its support; less of the needed dimension
#: is too little.
LITTLE, GAP, REPEATED, OUTSIDE, FLAT = 0.9, 0.1, 0.05, 0.005, 0.7
#: The parts of a test of drift, in the order of `DriftReport.part_pvalues`.
PARTS = ("columns", "columns given the others", "components", "embedding", "second moments")
#: Of fewer reference samples chance is large beside the level, and false alarms are more frequent;
#: and how many names a sentence has at most, as the attributes have all.
FEW_REFERENCE, MAX_NAMES = 500, 5


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

    A dictionary whose keys are attributes, too. ``print(report)`` shows the verdict, the main
    values and advice, `to_frame` all values. What cannot be had (too few samples, one component, no
    `y`, ``classifier=False``) is NaN.

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
        """
        from sknoisydim._modules import draw_seed  # here: metrics of plain arrays need no torch

        check_boolean(classifier, "classifier")
        dim, rows = _information.find_transformer(estimator, X)
        labels = None if y is None else encode_target(rows, y, whole=False, stacklevel=5)
        # A stream of its own: the user's samples may come from default_rng(0), too.
        rng = np.random.default_rng([draw_seed(random_state), 20_241])
        channel, batch_size = dim.channel_, dim.batch_size_
        chosen = rng.permutation(len(rows))[: max(MAX_JUDGED_SAMPLES, batch_size)]
        rows = rows[chosen]
        z = _information.normal_embedding(dim, rows, refined=False)
        info = _information.channel_information(z, channel, batch_size, rng)
        reachable = info.reachable
        if info.batch_size != batch_size:
            reachable = _information.reachable_information(channel, batch_size, rng)
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
        report.verdict = judge(_derived(report))
        report.advice = advise(_derived(report), fitted)
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

        v, lines = _derived(self), []
        for group, quantity, key, perfect, test in LINES:
            value, pvalue = v.get(key, NAN), v.get(test, NAN)
            if not (math.isnan(value) and math.isnan(pvalue)):
                numbers = value, v.get(perfect, perfect), pvalue, test in v.rejected
                lines.append((group, quantity.format(**v), *numbers))
        columns = ["group", "quantity", "value", "perfect", "pvalue", "rejected"]
        return pd.DataFrame(lines, columns=columns).set_index(columns[:2])

    def __repr__(self) -> str:
        v, n, d = _derived(self), self.n_rows, self.n_components
        sliced = v.relative_sliced_wasserstein
        size = f"{n:,} sample{'s' * (n > 1)}, {d} component{'s' * (d > 1)}"
        shown = {
            "AUC of a classifier": (v.auc, f"0.5 is perfect, up to {v.chance:.2f} is chance"),
            "relative distance": (sliced, "sliced Wasserstein; 1 is perfect"),
            "worst component": (v.worst_ks, f"Kolmogorov-Smirnov, p = {v.worst_ks_pvalue:.3f}"),
            "largest correlation": (v.max_correlation, f"p = {v.max_correlation_pvalue:.3f}"),
            "information, nats": (v.value, f"through the channel; {v.reachable:.2f} is reachable"),
        }
        rows = [f"{k:20} {x:7.3f}  {note}" for k, (x, note) in shown.items() if not math.isnan(x)]
        said = [textwrap.fill(f"- {text}", WIDTH, subsequent_indent="  ") for text in self.advice]
        headline = f"{size}, target {self.target}: {VERDICTS[self.verdict]}"
        all_values = "report.to_frame() has all values."
        return "\n".join([textwrap.fill(headline, WIDTH), "", *rows, "", *said, "", all_values])


def measure(Z: FloatArray, rng: np.random.Generator, *, classifier: bool) -> dict[str, Any]:
    """Compare embedded samples Z with N(0, I), under the names that a report has."""
    n, d = Z.shape
    given: Any = {"Z": Z, "random_state": rng}
    ks, relative = _distances.kolmogorov_smirnov(Z), _distances.relative_distance
    # Below the diagonal nothing counts, so that it is the first pair where nothing correlates.
    upper = np.abs(_samples.correlation_matrix(Z)) - 2 * np.tri(d)
    simulated = partial(_distances.monte_carlo_test, "max_correlation", n_resamples=199)
    classifiers = _distances.CLASSIFIERS if classifier and n >= MIN_CLASSIFIER_SAMPLES else ()
    return {
        "n_rows": n,
        "n_components": d,
        "relative_marginal_distance": relative(_distances.marginal_wasserstein, **given),
        "relative_sliced_wasserstein": relative("sliced_wasserstein", **given),
        "relative_energy_distance": relative("energy_distance", **given),
        "energy_pvalue": _distances.energy_test(**given).pvalue,
        "mmd_pvalue": _distances.mmd_test(**given).pvalue,
        "henze_zirkler_pvalue": _distances.henze_zirkler(**given).pvalue if n > d + 1 else NAN,
        "max_correlation": float(upper.max()) if d > 1 else NAN,
        "max_correlation_pair": divmod(int(upper.argmax()), d) if d > 1 else (),
        "max_correlation_pvalue": simulated(**given).pvalue if d > 1 else NAN,
        "total_correlation": total_correlation(**given) if 1 < d < n - 3 else NAN,
        "worst_component": int(np.argmax(ks.statistic)),
        "worst_ks": float(ks.statistic.max()),
        "worst_ks_pvalue": float(ks.pvalue_holm.min()),
        "repeated_rows": 1.0 - len(np.unique(Z, axis=0)) / n,
        **{f"auc_{c}": _distances.classifier_auc(classifier=c, **given) for c in classifiers},
    }


def _derived(report: Bunch) -> Bunch:
    """Return the values of a report and of its information, and what follows from them."""
    unknown = dict.fromkeys(("value", "high", "reachable", "capacity"), NAN)
    tests = [name for name in TESTS if not math.isnan(report[name])]
    corrected = _samples.holm(np.array([report[name] for name in tests]))
    return Bunch(
        **(vars(report.information) if report.information else unknown) | report,
        auc=float(np.fmax(report.auc_boosting, report.auc_mlp)),
        # Four standard deviations of the AUC of scores that are independent of what they judge, as
        # folds that share samples add to it.
        chance=0.5 + 4 / math.sqrt(6 * report.n_rows),
        least=max(FEW_SAMPLES, SAMPLES_PER_COMPONENT * report.n_components),
        rejected=[name for name, p in zip(tests, corrected, strict=True) if p <= LEVEL],
        # What correlates more than by chance.
        correlation=report.max_correlation if report.max_correlation_pvalue <= LEVEL else 0.0,
    )


def judge(v: Bunch) -> str:
    """Return the verdict: "match", "close", "different" or "unclear"."""
    if not v.rejected and not v.auc > v.chance:
        return "unclear" if v.n_rows < v.least else "match"
    distances = (v[key] for key in v if key.startswith("relative_"))
    near = max(distances) <= CLOSE_DISTANCE and v.correlation <= CLOSE_CORRELATION
    return "close" if (near if math.isnan(v.auc) else v.auc <= CLOSE_AUC) else "different"


#: What is known of the fit of samples of unknown origin.
NO_FIT = Bunch(batch_size_=NAN, n_samples_seen_=math.inf, supervision=0, early_stopping=True)
NO_FIT |= {"refine": None, "normalization": None}


def advise(v: Bunch, fitted: Any) -> tuple[str, ...]:
    """Return what is wrong and what to change, the most important first; None: no known fit."""
    n, d, least, fit = v.n_rows, v.n_components, v.least, NO_FIT if fitted is None else fitted
    n_fit, batch, cap = fit.n_samples_seen_, fit.batch_size_, math.log(fit.batch_size_)
    (i, j), k = v.max_correlation_pair or (0, 0), max(1.0, v.intrinsic_dimension)
    training, given = v.training_information / v.training_reachable, v.value / v.reachable
    # Whether the samples have fewer dimensions than the target needs; never for NaN.
    flat = v.intrinsic_dimension < FLAT * v.intrinsic_dimension_needed
    enough = n_fit >= least and v.verdict != "unclear"  # else more samples come first
    little = enough and training < LITTLE and not flat
    # The interval: with few samples the share moves by chance.
    overfitted = enough and training - v.high / v.reachable > GAP
    outside = v.outside_support > OUTSIDE
    differs = v.auc > v.chance or v.verdict == "different"
    misfit = v.worst_ks_pvalue <= LEVEL and v.relative_marginal_distance > CLOSE_DISTANCE
    # A large weight pulls classes apart, and more epochs then pull further.
    less = ["a smaller supervision"] * (fit.supervision > 0)
    ways = ["refine='rotation'"] * (fit.refine is None) + less
    ways.append("far fewer components, such as 2" if d > 2 else "more samples")
    how = f", with AUC {v.auc:.2f}" * (v.auc >= 0)
    how += f". What can bring it closer: {', or '.join(ways)}" * (fitted is not None)
    whiten = ": normalization='whiten' takes it away" * (fit.normalization == "batch")
    stop = ", early_stopping=True" * (not fit.early_stopping)
    said = {
        f"The capacity, {v.capacity:.1f} nats, is beyond what a batch of {batch} can show "
        f"({cap:.1f}): training stops there and leaves the joint distribution unfinished. Raise "
        "the noise, leave it on 'auto', or raise batch_size.": v.capacity > 1.001 * cap,
        f"The fit had {n_fit} samples, too few for a joint distribution: fit more.": n_fit < least,
        f"Training passed {training:.0%} of the information that N(0, I) would: "
        f"{', '.join([*less, 'more epochs'])}, a larger encoder, or fewer components.": little,
        f"The given samples pass {given:.0%} of the information that N(0, I) would, those of "
        f"training {training:.0%}: the fit does not carry over. More samples, fewer epochs{stop}, "
        "or fewer components.": overfitted,
        f"{n} samples for {d} components are too few to judge: give {least} or more.": n < least,
        "The embedding tells no more of y than of y in random order: what training samples show of "
        "it is memorised.": n >= least and v.label_pvalue > LEVEL,
        f"{v.outside_support:.0%} of the samples lie outside of the support of the target: is "
        "`target` right? They are judged as if they lay on its edge.": outside,
        f"{v.repeated_rows:.0%} of the embedded samples repeat another one: a lattice (whole "
        "numbers, categories) cannot be continuous.": v.repeated_rows > REPEATED and not outside,
        f"The dimension of the samples is about {k:.0f}: of {d} components, at most {k:.0f} can be "
        "jointly independent.": flat,
        f"The joint distribution differs from the target{how}.": differs,
        f"Component {v.worst_component} does not follow its distribution, by {v.worst_ks:.2f}. If "
        "training samples do not, either: train longer. If they do: it overfitted, or these are of "
        "another population.": misfit,
        f"Components {i} and {j} correlate by {v.correlation:.2f}{whiten}.": v.correlation > 0.1,
    }
    found = [text for text, holds in said.items() if holds]
    if seen := ", ".join(TESTS[name] for name in v.rejected).format(**v):
        found.append(f"A {'' if found else 'small '}difference is seen by: {seen}.")
    elif not found and v.verdict == "match":
        found = ["Nothing to change: it is as good as these samples can show."]
    return tuple(found)


class DriftReport(Report):
    """Whether a batch has another distribution than the samples of `fit`, and where.

    ``print(report)`` shows a sentence and a table. Its attributes are the keys of a dictionary.

    Attributes
    ----------
    drift : bool
        Whether `pvalue` is at most `level`.
    pvalue : float
        Of the smallest p-value of the parts, by random splits of the held-out samples.
    level : float
        Level of this batch: `alpha`, or less with a `batch_number`.
    part_pvalues : dict of str to float
        P-value of each of the five parts by itself.
    effect_size, effect_size_by_chance : float
        Largest distance, between 0 and 1, of the distribution functions of batch and held-out
        samples: of a column, of a column given the others, or of a component. But for chance, at
        least this share of the batch is distributed otherwise. And its median without drift.
    columns : dict of str or int to float
        Columns whose distribution moved, the clearest first: by name, or by number, the distance of
        the distribution functions. Without drift any entry has at most the probability `level`.
    columns_given_others : dict of str or int to float
        The same for columns whose relation to the others moved: of residuals of a linear model.
    components : dict of int to float
        The same for components of the embedding.
    n_samples, n_reference : int
        Samples in the batch, and held-out samples that it was compared with.
    batch_number : int or None
        As given to `check`.
    verdict : str
        One sentence: whether there is drift, and of what.
    """

    def __repr__(self) -> str:
        shown = {**self.part_pvalues, "all of them, corrected": self.pvalue}
        lines = [f"{part:26} {p:9.2g}" for part, p in shown.items()]
        chance = f"{self.effect_size_by_chance:.3f} by chance"
        lines += ["", f"Effect size {self.effect_size:.3f} ({chance}); {self.n_samples:,} samples,"]
        lines = [textwrap.fill(self.verdict, WIDTH), "", f"{'':26} {'p-value':>9}", *lines]
        return "\n".join([*lines, f"compared with {self.n_reference:,}."])


def drift_verdict(report: Report) -> str:
    """Return the sentence of a report without one."""
    n, moved = report.n_reference, []
    few = f"; approximate, by only {n} samples held out" if n < FEW_REFERENCE else ""
    found = f"(p = {report.pvalue:.2g}, level {report.level:.2g}{few})"
    if not report.drift:
        return f"No drift was found {found}."
    named = (report.columns, report.columns_given_others, report.components)
    for part, of in zip(PARTS, named, strict=False):
        if names := [str(name) for name in of]:
            more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
            moved.append(f"{part} {', '.join(names[:MAX_NAMES])}{more}")
    where = "; ".join(moved) or "of the joint distribution, no column or component stands out"
    return f"Drift {found}: {where}."
