"""What `NoisyDIMDriftMonitor.check` returns."""

from __future__ import annotations

import textwrap
from collections.abc import Collection

from sknoisydim.metrics._report import WIDTH, Report

#: The parts of a comparison, in the order of `DriftReport.part_pvalues`.
PARTS = ("columns", "columns given the others", "components", "embedding", "second moments")

# Samples held out with fewer of which false alarms are clearly more frequent than the level.
FEW_REFERENCE = 500
# Names in a sentence, at most; the attributes have all.
MAX_NAMES = 5


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
        lines = [*textwrap.wrap(self.verdict, WIDTH), "", f"{'':26} {'p-value':>9}"]
        shown = {**self.part_pvalues, "all of them, corrected": self.pvalue}
        lines += [*(f"{part:26} {p:9.2g}" for part, p in shown.items()), ""]
        chance = f"{self.effect_size_by_chance:.3f} by chance"
        lines += [f"Effect size {self.effect_size:.3f} ({chance}); {self.n_samples:,} samples,"]
        return "\n".join([*lines, f"compared with {self.n_reference:,}."])


def drift_verdict(report: Report) -> str:
    """Return the sentence of a report without one."""
    found = f"(p = {report.pvalue:.2g}, level {report.level:.2g}"
    # Of so few, chance in the reference itself is large beside the level.
    few = report.n_reference < FEW_REFERENCE
    found += f"; approximate, by only {report.n_reference} samples held out)" if few else ")"
    if not report.drift:
        return f"No drift was found {found}."
    moved = (report.columns, report.columns_given_others, report.components)
    named = [f"{part} {_listed(of)}" for part, of in zip(PARTS, moved, strict=False) if of]
    where = "; ".join(named) or "of the joint distribution, no column or component stands out"
    return f"Drift {found}: {where}."


def _listed(names: Collection[object]) -> str:
    shown, more = [str(name) for name in names][:MAX_NAMES], len(names) - MAX_NAMES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
