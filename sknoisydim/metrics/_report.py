"""MatchReport: what was measured, a verdict, and what to change, as a table."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .._context import own_context
from .._validation import check_boolean
from ._information import InformationEstimate, find_transformer
from ._samples import FloatArray, generator, normal_preimage
from ._verdict import advise, chance_auc, judge, measure, rejected

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

WIDTH = 92

#: Columns of the table; `rejected`: whether the p-value counts after Holm's correction.
COLUMNS = ("group", "quantity", "value", "perfect", "pvalue", "rejected")


@dataclass(frozen=True, repr=False)
class MatchReport:
    """How well samples are embedded: information, match with the target, and what to change.

    ``print(report)`` shows the verdict, the main values and advice, ``print(report.table())`` all
    values. A value that cannot be had (too few samples, one component, no
    `y`, ``classifier=False``) is NaN. A relative distance is 1 for a sample of the target; see
    `relative_distance`.

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
    repeated_rows: float
    intrinsic_dimension: float = math.nan
    intrinsic_dimension_needed: float = math.nan
    information: InformationEstimate | None = None
    training_information: float = math.nan
    training_reachable: float = math.nan
    label_information: float = math.nan
    shuffled_label_information: float = math.nan
    label_pvalue: float = math.nan

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any = None, **options: Any) -> MatchReport:
        """Judge the transformer of a Pipeline: the earlier steps are applied to X.

        Parameters
        ----------
        estimator : NoisyDIMTransformer, Pipeline or fitted search
            Fitted; a Pipeline has one NoisyDIMTransformer, at any place.
        X, y : array-like
            Samples as the estimator takes them, and labels, as for `NoisyDIMTransformer.diagnose`.
        **options : keyword arguments
            `random_state` and `classifier`, as there.

        Returns
        -------
        report : MatchReport
        """
        transformer, X = find_transformer(estimator, X)
        report: MatchReport = transformer.diagnose(X, y, **options)
        return report

    @classmethod
    @own_context()
    def from_arrays(
        cls, Z: Any, target: Any = "normal", *, random_state: Any = 0, classifier: bool = True
    ) -> MatchReport:
        """Judge embedded samples of any origin.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Held-out embedded samples, at least two.
        target : str, object or sequence, default="normal"
            What they should follow, as for `NoisyDIMTransformer`.
        random_state, classifier : int or RandomState, bool
            As for `NoisyDIMTransformer.diagnose`.

        Returns
        -------
        report : MatchReport
            Without what takes the transformer to know.
        """
        rng = generator(random_state)
        Z = normal_preimage(Z, target, test="MatchReport.from_arrays")
        return cls._of(Z, target, rng, classifier)

    @classmethod
    def _of(
        cls,
        Z: FloatArray,
        target: Any,
        rng: Any,
        classifier: bool,
        fitted: Any = None,
        **values: Any,
    ) -> MatchReport:
        """Judge the normal embedding Z (n, d); further values are kept."""
        check_boolean(classifier, "classifier")
        values |= measure(Z, rng, classifier=classifier)
        name = target if isinstance(target, str) else " ".join(repr(target).split())
        return cls(
            target=name if len(name) <= 60 else name[:57] + "...",
            verdict=judge(values),
            advice=tuple(advise(values, fitted)),
            **values,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all values as numbers, texts and lists that JSON can hold; None for NaN."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a data frame, indexed by group and quantity.

        Its columns are value, perfect, pvalue, and rejected: whether the p-value counts after
        Holm's correction.
        """
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
        energy = self.relative_energy_distance
        add("joint", "energy distance, relative", energy, 1.0, "energy_pvalue")
        add("joint", "kernel test (MMD)", math.nan, test="mmd_pvalue")
        add("joint", "Henze-Zirkler test", math.nan, test="henze_zirkler_pvalue")
        pair = f"largest correlation ({' and '.join(map(str, self.max_correlation_pair))})"
        add("joint", pair, self.max_correlation, 0.0, "max_correlation_pvalue")
        add("joint", "total correlation, nats", self.total_correlation, 0.0)
        add("classifier", "AUC of boosted trees", self.auc_boosting, 0.5)
        add("classifier", "AUC of a neural network", self.auc_mlp, 0.5)
        add("dimension", "of the scaled samples, about", self.intrinsic_dimension)
        needed = f"needed for {d} component{'s' * (d > 1)}"
        add("dimension", needed, self.intrinsic_dimension_needed)
        return lines

    def __str__(self) -> str:
        n = f"{self.n_rows:,} sample{'s' * (self.n_rows > 1)}"
        d = f"{self.n_components} component{'s' * (self.n_components > 1)}"
        headline = f"{n}, {d}, target {self.target}: {VERDICTS[self.verdict]}"
        lines = [*textwrap.wrap(headline, WIDTH), ""]
        info, auc = self.information, np.fmax(self.auc_boosting, self.auc_mlp)
        chance = f"0.5 is perfect, up to {chance_auc(self.n_rows):.2f} is chance"
        for name, value, meaning in (
            ("AUC of a classifier", auc, f"telling them from the target; {chance}"),
            (
                "relative distance",
                self.relative_sliced_wasserstein,
                "sliced Wasserstein; 1 is perfect",
            ),
            (
                "worst component",
                self.worst_ks,
                f"Kolmogorov-Smirnov, p = {self.worst_ks_pvalue:.3f}",
            ),
            ("largest correlation", self.max_correlation, f"p = {self.max_correlation_pvalue:.3f}"),
            (
                "information, nats",
                math.nan if info is None else info.value,
                "" if info is None else f"through the channel; {info.reachable:.2f} is reachable",
            ),
        ):
            if not math.isnan(value):
                lines.append(f"{name:20} {value:7.3f}  {meaning}")
        lines.append("")
        for sentence in self.advice:
            lines += textwrap.wrap(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ")
        more = (
            "print(report.table()) shows all values; see also 'Diagnosing a fit' in the user guide."
        )
        return "\n".join([*lines, "", more])

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
        return "\n".join(
            [*lines, "", *(f"{word:12} {meaning}" for word, meaning in legend.items())]
        )

    def __repr__(self) -> str:
        return f"<MatchReport: {self.verdict}, {self.n_rows} samples, target {self.target}>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}\n\n{escape(self.table())}</pre>"


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
