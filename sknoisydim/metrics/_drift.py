"""What `NoisyDIMDriftMonitor.check` returns."""

from __future__ import annotations

import dataclasses
import textwrap
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._report import WIDTH
from ._samples import FloatArray

#: The parts of a comparison, in the order of `DriftReport.part_pvalues`.
PARTS = ("columns", "columns given the others", "components", "embedding", "second moments")

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
        P-value of each part by itself: "columns", "columns given the others", "components",
        "embedding", "second moments".
    effect_size : float
        Largest distance, between 0 and 1, of the distribution functions of batch and held-out
        samples: of a column, of a column given the others, or of a component. But for chance, at
        least this share of the batch is distributed otherwise.
    effect_size_by_chance : float
        Its median for batches of this size without drift.
    columns : tuple
        Columns whose distribution moved, the clearest first: names, or numbers where there are
        none. Without drift the probability of any name in a report is at most `level`.
    columns_given_others : tuple
        Columns whose relation to the others moved: the residuals of a linear model.
    components : tuple of int
        Components of the embedding whose distribution moved.
    column_distances, component_distances : ndarray of shape (p,) and (d,)
        Largest distance of the distribution functions of each column, and of each component.
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
    columns: tuple[Any, ...]
    columns_given_others: tuple[Any, ...]
    components: tuple[int, ...]
    column_distances: FloatArray = field(compare=False)
    component_distances: FloatArray = field(compare=False)
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
        found = f"(p = {self.pvalue:.2g}, level {self.level:.2g})"
        if not self.drift:
            return f"No drift was found {found}."
        moved = (self.columns, self.columns_given_others, self.components)
        named = [f"{part} {_listed(of)}" for part, of in zip(PARTS, moved, strict=False) if of]
        where = "; ".join(named) or "of the joint distribution, no column or component stands out"
        return f"Drift {found}: {where}."

    def to_dict(self) -> dict[str, Any]:
        """Return all values as numbers, texts and lists that JSON can hold."""
        values = {"verdict": self.verdict, "test": self.test} | dataclasses.asdict(self)
        return {name: _plain(value) for name, value in values.items()}

    def __str__(self) -> str:
        lines = textwrap.wrap(self.verdict, WIDTH)
        lines += ["", f"{'':26} {'p-value':>9}"]
        lines += [f"{part:26} {p:9.2g}" for part, p in self.part_pvalues.items()]
        lines += [f"{'smallest of them':26} {self.pvalue:9.2g}", ""]
        chance = f"{self.effect_size_by_chance:.3f} by chance"
        lines += [f"Effect size {self.effect_size:.3f} ({chance}); {self.n_samples:,} samples,"]
        return "\n".join([*lines, f"compared with {self.n_reference:,}."])

    def __repr__(self) -> str:
        return f"<DriftReport: {'drift' if self.drift else 'no drift'}, p = {self.pvalue:.2g}>"


def _listed(names: tuple[Any, ...]) -> str:
    shown = [str(name) for name in names[:MAX_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
