"""MatchReport: what is measured of embedded samples, a verdict, and what to change, as a table."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from sklearn.base import BaseEstimator

from sknoisydim._context import own_context
from sknoisydim._sources import MatrixLike
from sknoisydim._validation import check_boolean

from ._dependence import max_correlation, total_correlation
from ._distances import classifier_auc, energy_test, mmd_test, monte_carlo_test, relative_distance
from ._information import InformationEstimate, find_transformer
from ._samples import FloatArray, RandomState, correlation_matrix, generator, holm, normal_preimage
from ._tests import henze_zirkler, kolmogorov_smirnov

if TYPE_CHECKING:
    import pandas as pd

#: What a verdict means, in words.
VERDICTS = {
    "match": "no difference from the target was found",
    "close": "close to the target, with a difference that can be seen",
    "different": "different from the target",
    "unclear": "too few samples to tell",
}

#: What the words of the table mean.
LEGEND = {
    "perfect": "what samples of the target have; for information, what is reachable",
    "relative": "distance over that of two samples of the target: 1 is perfect",
    "p-value *": "counts: at most 0.05 after Holm's correction for all p-values here",
    "dimension": "samples with far less than needed cannot match",
}

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

WIDTH = 86
DISTANCE = "sliced Wasserstein; 1 is perfect"
MORE = "print(report.table()) shows all values; see also 'Diagnosing a fit' in the user guide."

#: Columns of the table; `rejected`: whether the p-value counts after Holm's correction.
COLUMNS = ("group", "quantity", "value", "perfect", "pvalue", "rejected")


@dataclass(frozen=True, repr=False)
class MatchReport:
    """How well samples are embedded: information, match with the target, and what to change.

    ``print(report)`` shows the verdict, the main values and advice, ``print(report.table())`` all
    values. What cannot be had (too few samples, one component, no `y`, ``classifier=False``) is
    NaN. A relative distance is 1 for a sample of the target; see `relative_distance`.

    Attributes
    ----------
    verdict : {"match", "close", "different", "unclear"}
        "match": no test rejects at level 0.05 with Holm's correction, and no classifier tells the
        samples from the target beyond chance. "close": the difference is small: AUC at most 0.6
        or, without classifiers, relative distances of at most 1.5 and no correlation above 0.2.
        "different": more than that. "unclear": nothing was seen, with fewer samples than 100 or
        than 10 per component.
    advice : tuple of str
        Sentences: what is wrong, and what to change.
    target : str
        The target.
    n_rows, n_components : int
        Samples that were judged, and their components.
    information : InformationEstimate or None
        Of the given samples, in nats; None by `from_arrays`.
    training_information, training_reachable : float
        Of the training samples (`mutual_information_`), and of N(0, I) with their batches, in nats.
    relative_marginal_distance : float
        Wasserstein distance of the components from N(0, 1), root mean square, relative.
    worst_component, worst_ks, worst_ks_pvalue : int, float, float
        Component with the largest Kolmogorov-Smirnov statistic, the statistic, and its p-value with
        Holm's correction for all components.
    relative_sliced_wasserstein, relative_energy_distance : float
        Relative distances of the joint distribution.
    energy_pvalue, mmd_pvalue, henze_zirkler_pvalue : float
        P-values of `energy_test`, `mmd_test` and `henze_zirkler`.
    max_correlation, max_correlation_pair, max_correlation_pvalue : float, tuple of int, float
        Largest absolute correlation, the two components, and a p-value by simulation.
    total_correlation : float
        Dependence of all components, in nats.
    auc_boosting, auc_mlp : float
        `classifier_auc` of boosted trees and of a neural network.
    intrinsic_dimension, intrinsic_dimension_needed : float
        Of the scaled samples before the encoder, and of as many draws of N(0, I): a hint.
    repeated_rows : float
        Share of embedded samples that repeat another one.
    label_information, shuffled_label_information, label_pvalue : float
        Information of a linear model about `y` through the channel, in nats; its mean over random
        orders of `y`, which is what chance adds; and the share of orders with at least as much.
    """

    verdict: str
    advice: tuple[str, ...]
    target: str
    n_rows: int
    n_components: int
    information: InformationEstimate | None
    training_information: float
    training_reachable: float
    relative_marginal_distance: float
    worst_component: int
    worst_ks: float
    worst_ks_pvalue: float
    relative_sliced_wasserstein: float
    relative_energy_distance: float
    energy_pvalue: float
    mmd_pvalue: float
    henze_zirkler_pvalue: float
    max_correlation: float
    max_correlation_pair: tuple[int, ...]
    max_correlation_pvalue: float
    total_correlation: float
    auc_boosting: float
    auc_mlp: float
    intrinsic_dimension: float
    intrinsic_dimension_needed: float
    repeated_rows: float
    label_information: float
    shuffled_label_information: float
    label_pvalue: float

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, X: MatrixLike, y: ArrayLike | None = None, **options: Any
    ) -> MatchReport:
        """Judge the transformer of a Pipeline: the earlier steps are applied to X.

        Parameters
        ----------
        estimator : NoisyDIMTransformer, Pipeline or fitted search
            Fitted; a Pipeline has one NoisyDIMTransformer, at any place.
        X, y : array-like
            Samples as the estimator takes them, and labels or None.
        **options : keyword arguments
            `random_state` and `classifier`, as for `NoisyDIMTransformer.diagnose`.
        """
        transformer, X = find_transformer(estimator, X)
        report: MatchReport = transformer.diagnose(X, y, **options)
        return report

    @classmethod
    @own_context()
    def from_arrays(
        cls,
        Z: ArrayLike,
        target: Any = "normal",
        *,
        random_state: RandomState = 0,
        classifier: bool = True,
    ) -> MatchReport:
        """Judge embedded samples of any origin, without what takes a transformer to know.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Held-out embedded samples, at least two.
        target : str, object or sequence, default="normal"
            What they should follow, as for `NoisyDIMTransformer`.
        random_state, classifier : int or RandomState, bool
            As for `NoisyDIMTransformer.diagnose`.
        """
        rng = generator(random_state)
        Z = normal_preimage(Z, target, test="MatchReport.from_arrays")
        return cls._of(Z, target, rng, classifier, None)

    @classmethod
    def _of(
        cls, Z: FloatArray, target: Any, rng: Any, classifier: bool, fitted: Any, **values: Any
    ) -> MatchReport:
        """Judge the normal embedding Z (n, d); further values are kept."""
        check_boolean(classifier, "classifier")
        unknown = {entry.name: NAN for entry in dataclasses.fields(cls)} | {"information": None}
        values = unknown | values | measure(Z, rng, classifier=classifier)
        name = target if isinstance(target, str) else " ".join(repr(target).split())
        values["target"] = name if len(name) <= 60 else name[:57] + "..."
        judged = {"verdict": judge(values), "advice": tuple(advise(values, fitted))}
        return cls(**values | judged)

    def to_dict(self) -> dict[str, object]:
        """Return all values as numbers, texts and lists that JSON can hold; None for NaN."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a data frame, indexed by group and quantity."""
        import pandas as pd

        return pd.DataFrame(self._lines(), columns=COLUMNS).set_index(["group", "quantity"])

    def _lines(self) -> list[tuple[str, str, float, float, float, bool]]:
        """Return the lines of the table, those that are NaN left out."""
        info, d, counts = self.information, self.n_components, rejected(vars(self))
        reachable = self.training_reachable
        lines = []

        def add(
            group: str, quantity: str, value: float, perfect: float = math.nan, test: str = ""
        ) -> None:
            pvalue = getattr(self, test) if test else math.nan
            if not (math.isnan(value) and math.isnan(pvalue)):
                lines.append((group, quantity, value, perfect, pvalue, counts.get(test, False)))

        if info is not None:
            add("information", "given samples, nats", info.value, info.reachable)
            add("information", "training samples, nats", self.training_information, reachable)
            add("information", "capacity of the channel, nats", info.capacity)
            add("information", f"a batch of {info.batch_size} shows at most", info.cap)
        add("labels", "about y, nats", self.label_information, test="label_pvalue")
        add("labels", "about y in random order, nats", self.shuffled_label_information)
        add("components", "Wasserstein, relative", self.relative_marginal_distance, 1.0)
        worst = f"worst (component {self.worst_component}), KS"
        add("components", worst, self.worst_ks, 0.0, "worst_ks_pvalue")
        add("joint", "sliced Wasserstein, relative", self.relative_sliced_wasserstein, 1.0)
        add("joint", "energy, relative", self.relative_energy_distance, 1.0, "energy_pvalue")
        add("joint", "kernel test (MMD)", math.nan, test="mmd_pvalue")
        add("joint", "Henze-Zirkler test", math.nan, test="henze_zirkler_pvalue")
        pair = f"largest correlation ({' and '.join(map(str, self.max_correlation_pair))})"
        add("joint", pair, self.max_correlation, 0.0, "max_correlation_pvalue")
        add("joint", "total correlation, nats", self.total_correlation, 0.0)
        add("classifier", "AUC of boosted trees", self.auc_boosting, 0.5)
        add("classifier", "AUC of a neural network", self.auc_mlp, 0.5)
        add("dimension", "of the scaled samples, about", self.intrinsic_dimension)
        add("dimension", f"needed for d = {d}", self.intrinsic_dimension_needed)
        return lines

    def __str__(self) -> str:
        return f"{self._summary()}\n\n{MORE}"

    def _summary(self) -> str:
        n = f"{self.n_rows:,} sample{'s' * (self.n_rows > 1)}"
        d = f"{self.n_components} component{'s' * (self.n_components > 1)}"
        headline = f"{n}, {d}, target {self.target}: {VERDICTS[self.verdict]}"
        lines = [*textwrap.wrap(headline, WIDTH), ""]
        info, chance = self.information, chance_auc(self.n_rows)
        auc = f"against the target; 0.5 is perfect, up to {chance:.2f} is chance"
        worst = f"Kolmogorov-Smirnov, p = {self.worst_ks_pvalue:.3f}"
        reachable = f"through the channel; {info.reachable if info else NAN:.2f} is reachable"
        for name, value, meaning in (
            ("AUC of a classifier", np.fmax(self.auc_boosting, self.auc_mlp), auc),
            ("relative distance", self.relative_sliced_wasserstein, DISTANCE),
            ("worst component", self.worst_ks, worst),
            ("largest correlation", self.max_correlation, f"p = {self.max_correlation_pvalue:.3f}"),
            ("information, nats", info.value if info else NAN, reachable),
        ):
            if not math.isnan(value):
                lines.append(f"{name:20} {value:7.3f}  {meaning}")
        for i, text in enumerate(self.advice):
            lines += [""] * (i == 0) + textwrap.wrap(f"- {text}", WIDTH, subsequent_indent="  ")
        return "\n".join(lines)

    def table(self) -> str:
        """Return all values as a table to print, with what its words mean."""
        lines = [f"{'':12} {'':34} {'value':>9} {'perfect':>9} {'p-value':>9}"]
        last = ""
        for group, quantity, value, perfect, pvalue, counted in self._lines():
            numbers = f"{value:9.3f} {perfect:9.3f} {pvalue:9.3f}".replace("nan", "   ")
            # The star hangs over, so that the digits stand below each other.
            text = f"{group * (group != last):12} {quantity:34} {numbers}{' *' * counted}"
            lines.append(text.replace("    0.000 *", "  < 0.001 *").rstrip())
            last = group
        chance = f"up to {chance_auc(self.n_rows):.2f} is chance with so many samples"
        legend = LEGEND | ({} if math.isnan(self.auc_boosting) else {"AUC": chance})
        return "\n".join([*lines, "", *(f"{word:12} {text}" for word, text in legend.items())])

    def __repr__(self) -> str:
        return f"<MatchReport: {self.verdict}, {self.n_rows} samples, target {self.target}>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self._summary())}\n\n{escape(self.table())}</pre>"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def marginal_wasserstein(Z: FloatArray, reference: Any, *, random_state: RandomState) -> float:
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
        *first, last = seen
        names = f"{', '.join(first)} and {last}" if first else last
        yield f"A difference is seen by {names}{'' if found else ', and it is small'}."


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
    if fitted.n_samples_seen_ < _least_samples(values):
        yield (
            f"The fit had {fitted.n_samples_seen_} samples, too few to learn a joint distribution: "
            "fit more."
        )
        return
    training = values["training_information"] / values["training_reachable"]
    if training < LITTLE and not _flat(values):
        # A large weight pulls classes apart, and more epochs then pull further.
        less = "a smaller supervision, " if fitted.supervision > 0 else ""
        yield (
            f"Training passed {training:.0%} of the information that N(0, I) would: {less}more "
            "epochs, a larger encoder, or fewer components."
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
    if values["label_pvalue"] > LEVEL:
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
            refine += "a smaller supervision, " if fitted.supervision > 0 else ""
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
    return bool(values["n_rows"] < _least_samples(values))


def _least_samples(values: Values) -> int:
    return max(FEW_SAMPLES, SAMPLES_PER_COMPONENT * int(values["n_components"]))


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
