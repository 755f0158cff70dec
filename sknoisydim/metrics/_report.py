"""What `NoisyDIMTransformer.diagnose` returns: figures, a verdict, and what to change."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._context import own_context
from ._information import InformationEstimate
from ._reference import FloatArray
from ._results import holm

if TYPE_CHECKING:
    import pandas as pd

#: What a verdict means, in words.
VERDICTS = {
    "match": "no difference from the target was found",
    "close": "close to the target, with a difference that can be seen",
    "different": "different from the target",
    "unclear": "too few rows to tell",
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

WIDTH = 92


def rejected(figures: Mapping[str, Any]) -> dict[str, bool]:
    """Return, for each p-value that is known, whether it counts after Holm's correction."""
    known = [name for name in TESTS if not math.isnan(figures[name])]
    corrected = holm(np.array([figures[name] for name in known]))
    return {name: bool(p <= LEVEL) for name, p in zip(known, corrected, strict=True)}


def chance_auc(n_rows: int) -> float:
    """Return up to which AUC a classifier has not told n rows from as many draws.

    Its standard deviation is 1 / sqrt(6 n) when scores are independent of what they judge; folds
    that share rows add to it. So four of them.
    """
    return 0.5 + 4 / math.sqrt(6 * n_rows)


class Line(NamedTuple):
    """One line of a report: a figure, what it would be for a perfect match, and its p-value.

    `rejected` says whether the p-value is at most 0.05 after Holm's correction for all of them.
    """

    group: str
    quantity: str
    value: float
    perfect: float
    pvalue: float
    rejected: bool


@dataclass(frozen=True)
class Pictures:
    """What the pictures of a report are drawn from.

    Attributes
    ----------
    levels : ndarray of shape (k,)
        Levels of the quantiles.
    quantiles : ndarray of shape (k, d)
        Quantiles of each component, where the target is N(0, I).
    radii : ndarray of shape (k,)
        Quantiles of the norm of rows, where the target is N(0, I).
    pair : ndarray of shape (m, 2)
        At most 400 rows of the two components that correlate most; no columns for one component.
    """

    levels: FloatArray
    quantiles: FloatArray
    radii: FloatArray
    pair: FloatArray


@dataclass(frozen=True, repr=False)
class MatchReport:
    """How well rows are embedded: information, match with the target, and what to change.

    ``print(report)`` shows a table, a notebook a card with pictures. A figure that cannot be had
    from the rows (too few of them, one component only, or ``classifier=False``) is NaN.

    Attributes
    ----------
    verdict : {"match", "close", "different", "unclear"}
        "match": no test rejects at level 0.05 with Holm's correction, and no classifier tells the
        rows from the target beyond chance. "close": a difference is seen, and it is small: AUC at
        most 0.6 or, without classifiers, distances of at most 1.5 floors and no correlation above
        0.2. "different": more than that. "unclear": nothing was seen, with fewer rows than 100 or
        than 10 per component.
    advice : tuple of str
        Sentences: what is wrong, and what to change.
    target : str
        The target.
    n_rows : int
        Rows whose law was judged.
    n_components : int
        Number d of components.
    information : InformationEstimate
        Of the given rows through the channel, in nats.
    training_information : float
        The same on the training rows (`mutual_information_`), in nats.
    training_reachable : float
        What N(0, I) itself shows with the batches of training, in nats.
    training_cap : float
        Logarithm of the batch size of training.
    marginal_floors : float
        Wasserstein distance of the components from N(0, 1), root mean square, over that of a
        sample of N(0, I): 1 is perfect.
    worst_component : int
        Component with the largest Kolmogorov-Smirnov statistic.
    worst_ks : float
        That statistic: the largest gap between distribution functions, in [0, 1].
    worst_ks_pvalue : float
        Its p-value, with Holm's correction for d components.
    sliced_wasserstein_floors : float
        Sliced Wasserstein distance, joint law, in floors.
    energy_floors : float
        Energy distance, joint law, in floors.
    energy_pvalue : float
        P-value of `energy_test`.
    mmd_pvalue : float
        P-value of `mmd_test`, which sees finer structure.
    henze_zirkler_pvalue : float
        P-value of `henze_zirkler`, which sees a joint law that is not normal, whatever its
        covariance.
    max_correlation : float
        Largest absolute correlation of two components.
    max_correlation_pair : tuple of int
        Those components; empty for d = 1.
    max_correlation_pvalue : float
        Chance of a larger one under the target, from 199 simulated samples.
    total_correlation : float
        Dependence of all components, in nats: 0 under the target.
    auc_boosting : float
        `classifier_auc` of boosted trees: 0.5 is a perfect match.
    auc_mlp : float
        The same of a neural network.
    intrinsic_dimension : float
        Of the scaled rows, before the encoder; a hint.
    intrinsic_dimension_needed : float
        What the same estimate reads on as many rows of N(0, I) with d components.
    repeated_rows : float
        Share of embedded rows that repeat another one.
    pictures : Pictures
        What the card draws; not in `to_dict`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoisydim import NoisyDIMTransformer
    >>> X = load_iris().data
    >>> dim = NoisyDIMTransformer(2, max_epochs=5, random_state=0).fit(X[::2])
    >>> report = dim.diagnose(X[1::2], classifier=False)
    >>> report.n_rows, report.verdict in {"match", "close", "different", "unclear"}
    (75, True)
    >>> sorted(report.to_dict())[:2]
    ['advice', 'auc_boosting']
    """

    verdict: str
    advice: tuple[str, ...]
    target: str
    n_rows: int
    n_components: int
    information: InformationEstimate
    training_information: float
    training_reachable: float
    training_cap: float
    marginal_floors: float
    worst_component: int
    worst_ks: float
    worst_ks_pvalue: float
    sliced_wasserstein_floors: float
    energy_floors: float
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
    pictures: Pictures = field(compare=False)

    def lines(self) -> list[Line]:
        """Return the figures in the order in which they are shown, those that are NaN left out.

        Returns
        -------
        lines : list of named tuples
            group, quantity, value, perfect, pvalue, rejected.
        """
        nan = float("nan")
        info, d = self.information, self.n_components
        worst = f"worst (component {self.worst_component}), KS"
        pair = f"largest correlation ({' and '.join(map(str, self.max_correlation_pair))})"
        needed = f"needed for {d} component{'s' if d > 1 else ''}"
        batch = f"a batch of {info.batch_size} shows at most"
        training, sliced = self.training_information, self.sliced_wasserstein_floors
        counts = rejected(vars(self))
        found: list[tuple[str, str, float, float, str]] = [
            ("information", "given rows, nats", info.value, info.reachable, ""),
            ("information", "training rows, nats", training, self.training_reachable, ""),
            ("information", "capacity of the channel, nats", info.capacity, nan, ""),
            ("information", batch, info.cap, nan, ""),
            ("components", "Wasserstein, in floors", self.marginal_floors, 1.0, ""),
            ("components", worst, self.worst_ks, 0.0, "worst_ks_pvalue"),
            ("joint law", "sliced Wasserstein, in floors", sliced, 1.0, ""),
            ("joint law", "energy distance, in floors", self.energy_floors, 1.0, "energy_pvalue"),
            ("joint law", "kernel test (MMD)", nan, nan, "mmd_pvalue"),
            ("joint law", "Henze-Zirkler test", nan, nan, "henze_zirkler_pvalue"),
            ("joint law", pair, self.max_correlation, 0.0, "max_correlation_pvalue"),
            ("joint law", "total correlation, nats", self.total_correlation, 0.0, ""),
            ("classifier", "AUC of boosted trees", self.auc_boosting, 0.5, ""),
            ("classifier", "AUC of a neural network", self.auc_mlp, 0.5, ""),
            ("dimension", "of the scaled rows, about", self.intrinsic_dimension, nan, ""),
            ("dimension", needed, self.intrinsic_dimension_needed, nan, ""),
        ]
        lines = [
            Line(
                group,
                quantity,
                value,
                perfect,
                getattr(self, test) if test else nan,
                counts.get(test, False),
            )
            for group, quantity, value, perfect, test in found
        ]
        return [line for line in lines if not (math.isnan(line.value) and math.isnan(line.pvalue))]

    def legend(self) -> dict[str, str]:
        """Return what the words of the table mean.

        Returns
        -------
        legend : dict of str to str
            Those words that the table has.
        """
        words = {
            "perfect": "what rows of the target show; for information, what is reachable",
            "floors": "a distance over that of two samples of the target: less is better, 1 is "
            "perfect",
            "p-value *": "counts: at most 0.05 after Holm's correction for all p-values here",
        }
        if not (math.isnan(self.auc_boosting) and math.isnan(self.auc_mlp)):
            words["AUC"] = f"up to {chance_auc(self.n_rows):.2f} is chance with so many rows"
        if not math.isnan(self.intrinsic_dimension):
            words["dimension"] = "rows with far less than needed cannot match, however long the fit"
        return words

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain numbers, texts and lists, which JSON can hold.

        Returns
        -------
        figures : dict
            Under the names of the attributes, without `pictures`; None for NaN and infinity.
        """
        values = {
            entry.name: getattr(self, entry.name)
            for entry in dataclasses.fields(self)
            if entry.name != "pictures"
        }
        return {name: _plain(value) for name, value in values.items()}

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a data frame.

        Returns
        -------
        frame : pandas.DataFrame
            One row per figure, indexed by group and quantity; columns value, perfect, pvalue, and
            rejected: whether the p-value counts after Holm's correction.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "MatchReport.to_frame needs pandas: pip install pandas. `to_dict` works without."
            ) from error
        frame = pd.DataFrame(self.lines(), columns=Line._fields)
        return frame.set_index(["group", "quantity"])

    def headline(self) -> str:
        """Return what was judged, and the verdict, in one sentence."""
        rows = f"{self.n_rows:,} row{'s' if self.n_rows > 1 else ''}"
        parts = f"{self.n_components} component{'s' if self.n_components > 1 else ''}"
        return f"{rows}, {parts}, target {self.target}: {VERDICTS[self.verdict]}"

    def __str__(self) -> str:
        lines = [*textwrap.wrap(self.headline(), WIDTH), ""]
        lines.append(f"{'':12} {'':34} {'value':>9} {'perfect':>9} {'p-value':>9}")
        group = ""
        for line in self.lines():
            shown = line.group if line.group != group else ""
            group = line.group
            value, perfect, pvalue = texts(line)
            # The star hangs over, so that the digits stand below each other.
            pvalue = f"{pvalue.removesuffix(' *'):>9}{' *' * line.rejected}"
            figures = f"{value:>9} {perfect:>9} {pvalue}"
            lines.append(f"{shown:12} {line.quantity:34} {figures}".rstrip())
        lines.append("")
        for sentence in self.advice:
            lines += textwrap.wrap(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ")
        lines.append("")
        lines += [f"{word:12} {meaning}" for word, meaning in self.legend().items()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"MatchReport(verdict={self.verdict!r}, target={self.target!r}, "
            f"n_rows={self.n_rows}, n_components={self.n_components}, ...)"
        )

    @own_context()
    def _repr_html_(self) -> str:
        from ._report_html import card

        return card(self)


def texts(line: Line) -> tuple[str, str, str]:
    """Return value, perfect value and p-value as texts; empty for NaN, a star where it counts."""
    pvalue = "" if math.isnan(line.pvalue) else f"{line.pvalue:.3f}"
    pvalue = "< 0.001" if pvalue == "0.000" else pvalue
    return _text(line.value), _text(line.perfect), pvalue + " *" * line.rejected


def _text(number: float) -> str:
    if math.isnan(number):
        return ""
    return f"{number:.3f}" if abs(number) < 10 else f"{number:.1f}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(inner) for name, inner in dataclasses.asdict(value).items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
