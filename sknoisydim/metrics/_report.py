"""What `NoisyDIMTransformer.diagnose` returns: values, a verdict, and what to change."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import chi2, norm

from .._context import own_context
from ._information import InformationEstimate
from ._samples import FloatArray, holm

if TYPE_CHECKING:
    import pandas as pd

#: What a verdict means, in words.
VERDICTS = {
    "match": "no difference from the target was found",
    "close": "close to the target, with a difference that can be seen",
    "different": "different from the target",
    "unclear": "too few samples to tell",
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

#: What the words of the table mean.
LEGEND = {
    "perfect": "what samples of the target have; for information, what is reachable",
    "relative": "distance over that of two samples of the target: 1 is perfect",
    "p-value *": "counts: at most 0.05 after Holm's correction for all p-values here",
    "dimension": "samples with far less than needed cannot match",
}

WIDTH = 92

# No background and no colour of text, so the card looks right on light and dark pages; the two
# colours stand out from white and from black alike.
SAMPLES, TARGET = "#2a7fc9", "#c2570c"
STYLE = """
.sknoisydim-report figure { display: inline-block; margin: 4px 14px 4px 0; font-size: 12px; }
.sknoisydim-report svg { fill: none; stroke-width: 1.4; overflow: hidden; }
.sknoisydim-report svg * { vector-effect: non-scaling-stroke; }
.sknoisydim-report svg text { fill: currentColor; font-size: 11px; text-anchor: middle; }
"""


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


class Line(NamedTuple):
    """One line of a report; `rejected` says whether the p-value counts after Holm's correction."""

    group: str
    quantity: str
    value: float
    perfect: float
    pvalue: float
    rejected: bool


@dataclass(frozen=True, repr=False)
class MatchReport:
    """How well samples are embedded: information, match with the target, and what to change.

    ``print(report)`` shows a table, a notebook a card with pictures. A value that cannot be had
    (too few samples, one component only, or ``classifier=False``) is NaN. A relative distance is
    1 for a sample of the target; see `relative_distance`.

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
    information : InformationEstimate
        Of the given samples, in nats.
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
    quantiles, scatter : ndarray of shape (k, n_components) and (m, 2)
        Quantiles of the components, and samples of the two that correlate most, for the card; not
        in `to_dict`.
    """

    verdict: str
    advice: tuple[str, ...]
    target: str
    n_rows: int
    n_components: int
    information: InformationEstimate
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
    quantiles: FloatArray = field(compare=False)
    scatter: FloatArray = field(compare=False)

    def to_dict(self) -> dict[str, object]:
        """Return all values as numbers, texts and lists that JSON can hold; None for NaN."""
        values = dataclasses.asdict(self)
        return {k: _plain(v) for k, v in values.items() if k not in ("quantiles", "scatter")}

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a data frame, indexed by group and quantity.

        Its columns are value, perfect, pvalue, and rejected: whether the p-value counts after
        Holm's correction.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "MatchReport.to_frame needs pandas: pip install pandas. `to_dict` works without."
            ) from error
        frame = pd.DataFrame(self._lines(), columns=Line._fields)
        return frame.set_index(["group", "quantity"])

    def _lines(self) -> list[Line]:
        """Return the lines of the table, those that are NaN left out."""
        info, d, counts = self.information, self.n_components, rejected(vars(self))
        lines: list[Line] = []

        def add(
            group: str, quantity: str, value: float, perfect: float = math.nan, test: str = ""
        ) -> None:
            pvalue = getattr(self, test) if test else math.nan
            if not (math.isnan(value) and math.isnan(pvalue)):
                counted = counts.get(test, False)
                lines.append(Line(group, quantity, value, perfect, pvalue, counted))

        add("information", "given samples, nats", info.value, info.reachable)
        reachable = self.training_reachable
        add("information", "training samples, nats", self.training_information, reachable)
        add("information", "capacity of the channel, nats", info.capacity)
        add("information", f"a batch of {info.batch_size} shows at most", info.cap)
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
        lines.append(f"{'':12} {'':34} {'value':>9} {'perfect':>9} {'p-value':>9}")
        last = ""
        for group, quantity, value, perfect, pvalue, counted in self._lines():
            numbers = f"{value:9.3f} {perfect:9.3f} {pvalue:9.3f}".replace("nan", "   ")
            # The star hangs over, so that the digits stand below each other.
            text = f"{group * (group != last):12} {quantity:34} {numbers}{' *' * counted}"
            lines.append(text.replace("    0.000 *", "  < 0.001 *").rstrip())
            last = group
        lines.append("")
        for sentence in self.advice:
            lines += textwrap.wrap(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ")
        chance = f"up to {chance_auc(self.n_rows):.2f} is chance with so many samples"
        legend = LEGEND | ({} if math.isnan(self.auc_boosting) else {"AUC": chance})
        lines += ["", *(f"{word:12} {meaning}" for word, meaning in legend.items())]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<MatchReport: {self.verdict}, {self.n_rows} samples, target {self.target}>"

    @own_context()
    def _repr_html_(self) -> str:
        return (
            f'<div class="sknoisydim-report"><style>{STYLE}</style>{self._quantile_plot()}'
            f"{self._scatter_plot()}<pre>{escape(str(self))}</pre></div>"
        )

    def _quantile_plot(self) -> str:
        k = len(self.quantiles)
        levels = (np.arange(k) + 0.5) / k
        expected = ndtri(levels)
        # Twice the standard deviation of a quantile of so many samples.
        half = 2 * np.sqrt(levels * (1 - levels) / self.n_rows) / norm.pdf(expected)
        band = np.r_[np.c_[expected, expected - half], np.c_[expected, expected + half][::-1]]
        shapes = [f'<polygon points="{_points(band)}" fill="currentColor" fill-opacity=".13"/>']
        shapes.append(f'<path d="M-3.5,-3.5L3.5,3.5" stroke="{TARGET}"/>')
        for column in self.quantiles.T:
            points = _points(np.c_[expected, column])
            shapes.append(f'<polyline points="{points}" stroke="{SAMPLES}"/>')
        return _figure("Components: quantiles", "target", "embedding", shapes)

    def _scatter_plot(self) -> str:
        if not self.max_correlation_pair:
            return ""
        across, up = (f"component {i}" for i in self.max_correlation_pair)
        dots = f'r="0.05" fill="{SAMPLES}"'
        inside = self.scatter[np.abs(self.scatter).max(axis=1) < 3.5]
        shapes = [f'<circle cx="{x:.2f}" cy="{y:.2f}" {dots}/>' for x, y in inside]
        radii = np.sqrt(chi2.ppf((0.5, 0.95), 2))
        shapes += [f'<circle r="{radius:.2f}" stroke="{TARGET}"/>' for radius in radii]
        return _figure("Largest correlation; 50 % and 95 % of the target", across, up, shapes)


def _points(xy: FloatArray) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in np.clip(xy, -3.5, 3.5))


def _figure(title: str, across: str, up: str, shapes: list[str]) -> str:
    """Return a square plot over (-3.5, 3.5) of shapes in data coordinates."""
    ticks = "".join(
        f'<text x="{25.7 * t}" y="104">{t}</text><text x="-102" y="{4 - 25.7 * t}">{t}</text>'
        for t in (-2, 0, 2)
    )
    return (
        f'<figure><figcaption>{title}</figcaption><svg viewBox="-116 -92 210 216" width="210" '
        f'height="216" role="img" aria-label="{title}"><path d="M-90,-90V90H90" '
        f'stroke="currentColor"/><g transform="scale(25.7 -25.7)">{"".join(shapes)}</g>{ticks}'
        f'<text y="119">{across}</text><text x="-60" y="-80">{up}</text></svg></figure>'
    )


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
