"""What the figures of a report mean: a verdict, and sentences that say what to change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sknoisydim.metrics._report import LEVEL, TESTS, chance_auc, rejected

#: Fewer rows than this, or than `ROWS_PER_COMPONENT` for each component, cannot clear a fit.
FEW_ROWS, ROWS_PER_COMPONENT = 100, 10

#: Up to which a difference is small: an AUC, or without classifiers distances in floors and a
#: correlation, because distances hardly see one pair of many components.
CLOSE_AUC, CLOSE_FLOORS, CLOSE_CORRELATION = 0.6, 1.5, 0.2
#: Shares of the reachable information: less than the first is little; such a gap is overfitting.
LITTLE, GAP = 0.9, 0.1
#: A lattice: a share of repeated rows that a continuous law never has.
REPEATED = 0.05
#: Rows fill too few dimensions below this share of what the target needs.
FLAT = 0.7

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Parameters:
    """What a fit was asked to do, as far as the advice depends on it."""

    match_weight: float
    refine: Any
    normalization: Any
    early_stopping: Any
    batch_size: int

    @classmethod
    def of(cls, transformer: Any) -> Parameters:
        """Read them off a fitted transformer."""
        return cls(
            transformer.match_weight,
            transformer.refine,
            transformer.normalization,
            transformer.early_stopping,
            transformer.batch_size_,
        )


def judge(figures: Figures) -> str:
    """Return the verdict: "match", "close", "different" or "unclear"."""
    if not (_seen(figures) or _told_apart(figures)):
        return "unclear" if _few(figures) else "match"
    aucs = _aucs(figures)
    if aucs:
        return "close" if max(aucs) <= CLOSE_AUC else "different"
    names = ("marginal_floors", "sliced_wasserstein_floors", "energy_floors")
    near = max(figures[name] for name in names) <= CLOSE_FLOORS
    return "close" if near and not _correlated(figures, CLOSE_CORRELATION) else "different"


def advise(figures: Figures, parameters: Parameters) -> Iterator[str]:
    """Yield what is wrong and what to change, the most important first."""
    found = [sentence for rule in RULES for sentence in rule(figures, parameters)]
    yield from found
    if not found and judge(figures) == "match":
        yield "Nothing to change: information and law are as good as these rows can show."
    yield from _evidence(figures, small=not found)


def _capacity(figures: Figures, parameters: Parameters) -> Iterator[str]:
    capacity, cap = figures["information"].capacity, math.log(parameters.batch_size)
    if capacity > 1.001 * cap:
        yield (
            f"The capacity, {capacity:.1f} nats, is beyond what a batch of "
            f"{parameters.batch_size} can show ({cap:.1f}): training stops there and leaves the "
            "joint law unfinished. Raise the noise, leave it on 'auto', or raise batch_size."
        )


def _rows(figures: Figures, parameters: Parameters) -> Iterator[str]:
    if _few(figures):
        d = figures["n_components"]
        yield (
            f"{figures['n_rows']} rows for {d} component{'s' if d > 1 else ''} are too few to "
            "judge: only a large difference would show. Hold more rows out."
        )
    if figures["repeated_rows"] > REPEATED:
        yield (
            f"{figures['repeated_rows']:.0%} of the embedded rows repeat another one: rows on a "
            "lattice (whole numbers, categories) cannot follow a continuous law, and a classifier "
            "sees it at once. Add a little noise to the columns, or do not ask for the law."
        )


def _information(figures: Figures, parameters: Parameters) -> Iterator[str]:
    nats = figures["information"]
    training = figures["training_information"] / figures["training_reachable"]
    given = nats.value / nats.reachable
    if training < LITTLE and not _flat(figures):
        yield (
            f"Training passed {training:.0%} of the information that N(0, I) would: more epochs, "
            "a larger encoder, or fewer components."
        )
    # The interval: with few rows the share moves by chance.
    if training - nats.high / nats.reachable > GAP:
        change = "" if parameters.early_stopping else ", early_stopping=True"
        yield (
            f"The given rows pass {given:.0%} of the reachable information, the training rows "
            f"{training:.0%}: the fit does not carry over. More rows, fewer epochs{change}, or "
            "fewer components; or the rows come from another population."
        )


def _dimension(figures: Figures, parameters: Parameters) -> Iterator[str]:
    if _flat(figures):
        d = max(1, round(figures["intrinsic_dimension"]))
        yield (
            f"The rows seem to fill about {d} dimension{'s' if d > 1 else ''}, and "
            f"{figures['n_components']} components cannot be jointly independent on them: try "
            f"n_components={d}."
        )


def _joint(figures: Figures, parameters: Parameters) -> Iterator[str]:
    aucs = _aucs(figures)
    if aucs and (_told_apart(figures) or judge(figures) == "different"):
        said = f"A classifier tells the embedding from the target with AUC {max(aucs):.2f}"
    elif not aucs and judge(figures) == "different":
        said = (
            f"The joint law is {figures['energy_floors']:.1f} floors (energy distance) and "
            f"{figures['sliced_wasserstein_floors']:.1f} floors (sliced Wasserstein) away"
        )
    else:
        return
    changes = []
    changes.append(f"match_weight={max(1.0, 3 * parameters.match_weight):g}")
    if parameters.refine is None:
        changes.append("refine='rotation' or 'flow'")
    elif isinstance(parameters.refine, str) and parameters.refine == "rotation":
        changes.append("refine='flow'")
    changes += ["a larger batch_size", "more epochs", "fewer components"]
    yield f"{said}. What brings it closer: {'; '.join(changes)}."


def _components(figures: Figures, parameters: Parameters) -> Iterator[str]:
    if figures["worst_ks_pvalue"] <= LEVEL and figures["marginal_floors"] > CLOSE_FLOORS:
        mend = "more epochs help" if parameters.refine is not None else "refine='rotation' helps"
        yield (
            f"Component {figures['worst_component']} does not follow its law: the distribution "
            f"functions are {figures['worst_ks']:.2f} apart. Diagnose the training rows: if they "
            f"miss it, too, {mend}; if they do not, the given rows come from another population or "
            "training overfitted, and more training rows or fewer epochs help."
        )
    if _correlated(figures, 0.1):
        i, j = figures["max_correlation_pair"]
        change = "more training rows"
        if parameters.normalization == "batch":
            change = "normalization='whiten' takes it away; else " + change
        yield (
            f"Components {i} and {j} correlate by {figures['max_correlation']:.2f} on these rows: "
            f"{change}."
        )


RULES = (_capacity, _rows, _information, _dimension, _joint, _components)


def _evidence(figures: Figures, *, small: bool) -> Iterator[str]:
    """Say which tests have seen a difference, and which small p-values are none."""
    counts = rejected(figures)
    seen = [TESTS[name] for name, counted in counts.items() if counted]
    chance = [
        f"{TESTS[name]} ({figures[name]:.3f})"
        for name, counted in counts.items()
        if not counted and figures[name] <= LEVEL
    ]
    if seen:
        yield f"A difference is seen by {_listed(seen)}{', and it is small' * small}."
    if chance:
        number = f"one of {len(counts)} p-values is" if len(counts) > 1 else "a p-value is"
        yield f"Not counted: {_listed(chance)}, since {number} easily below {LEVEL} by chance."


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _few(figures: Figures) -> bool:
    return bool(figures["n_rows"] < max(FEW_ROWS, ROWS_PER_COMPONENT * figures["n_components"]))


def _flat(figures: Figures) -> bool:
    """Whether the rows fill fewer dimensions than the target needs; never for NaN."""
    return bool(figures["intrinsic_dimension"] < FLAT * figures["intrinsic_dimension_needed"])


def _aucs(figures: Figures) -> list[float]:
    return [figures[name] for name in ("auc_boosting", "auc_mlp") if not math.isnan(figures[name])]


def _told_apart(figures: Figures) -> bool:
    """Whether a classifier tells rows from the target beyond chance."""
    return max(_aucs(figures), default=0.0) > chance_auc(figures["n_rows"])


def _correlated(figures: Figures, least: float) -> bool:
    """Whether two components correlate more than that, and more than by chance."""
    return bool(figures["max_correlation_pvalue"] <= LEVEL and figures["max_correlation"] > least)


def _seen(figures: Figures) -> bool:
    """Whether a test rejects at the level, with Holm's correction for their number."""
    return any(rejected(figures).values())
