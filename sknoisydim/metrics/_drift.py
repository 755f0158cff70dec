"""What `NoisyDIMDriftMonitor.check` returns."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sknoisydim.metrics._report import WIDTH

#: The parts of a comparison, in the order of `DriftReport.part_pvalues`.
PARTS = ("columns", "columns given the others", "components", "embedding", "second moments")

# Samples held out with fewer of which false alarms are clearly more frequent than the level.
FEW_REFERENCE = 500
# Names in a sentence, at most; the attributes have all.
MAX_NAMES = 5


@dataclass(frozen=True, repr=False)
class DriftReport:
    """Whether a batch has another distribution than the samples of `fit`, and where.

    ``print(report)`` shows a sentence and a table.

    Attributes
    ----------
    drift : bool
        Whether `pvalue` is at most `level`.
    pvalue : float
        Probability, without drift, that the smallest p-value of the parts is as small.
    level : float
        Level of this batch: `alpha`, or less with a `batch_number`.
    part_pvalues : dict of str to float
        P-value of each of the five parts by itself.
    effect_size : float
        Largest distance, between 0 and 1, of the distribution functions of batch and held-out
        samples: of a column, of a column given the others, or of a component. But for chance, at
        least this share of the batch is distributed otherwise.
    effect_size_by_chance : float
        Its median for batches of this size without drift.
    columns : dict of str or int to float
        Columns whose distribution moved, the clearest first: by name, or by number where there are
        no names, the distance of its distribution functions. Without drift the probability of any
        entry in a report is at most `level`.
    columns_given_others : dict of str or int to float
        The same for columns whose relation to the others moved: of residuals of a linear model.
    components : dict of int to float
        The same for components of the embedding.
    n_samples, n_reference : int
        Samples in the batch, and held-out samples that it was compared with.
    batch_number : int or None
        As given to `check`.
    """

    drift: bool
    pvalue: float
    level: float
    part_pvalues: dict[str, float]
    effect_size: float
    effect_size_by_chance: float
    columns: dict[Any, float]
    columns_given_others: dict[Any, float]
    components: dict[int, float]
    n_samples: int
    n_reference: int
    batch_number: int | None

    @property
    def test(self) -> str:
        """Name of the test that `pvalue` comes from."""
        return f"smallest of {len(PARTS)} p-values, by random splits of held-out samples"

    @property
    def verdict(self) -> str:
        """One sentence: whether there is drift, and of what."""
        found = f"(p = {self.pvalue:.2g}, level {self.level:.2g}"
        # Of so few, chance in the reference itself is large beside the level.
        few = self.n_reference < FEW_REFERENCE
        found += f"; approximate, by only {self.n_reference} samples held out)" if few else ")"
        if not self.drift:
            return f"No drift was found {found}."
        moved = (self.columns, self.columns_given_others, self.components)
        named = [f"{part} {_listed(of)}" for part, of in zip(PARTS, moved, strict=False) if of]
        where = "; ".join(named) or "of the joint distribution, no column or component stands out"
        return f"Drift {found}: {where}."

    def to_dict(self) -> dict[str, Any]:
        """Return all values in a form that JSON can hold.

        Returns
        -------
        values : dict
            The attributes, the verdict, and the name of the test.
        """
        return {"verdict": self.verdict, "test": self.test} | dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [*textwrap.wrap(self.verdict, WIDTH), "", f"{'':26} {'p-value':>9}"]
        shown = {**self.part_pvalues, "all of them, corrected": self.pvalue}
        lines += [*(f"{part:26} {p:9.2g}" for part, p in shown.items()), ""]
        chance = f"{self.effect_size_by_chance:.3f} by chance"
        lines += [f"Effect size {self.effect_size:.3f} ({chance}); {self.n_samples:,} samples,"]
        return "\n".join([*lines, f"compared with {self.n_reference:,}."])

    def __repr__(self) -> str:
        return f"<DriftReport: {'drift' if self.drift else 'no drift'}, p = {self.pvalue:.2g}>"


def _listed(names: Collection[Any]) -> str:
    shown, more = [str(name) for name in names][:MAX_NAMES], len(names) - MAX_NAMES
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
