"""What each metric sees: calibration, power of every test and distance, and what a call costs.

    python benchmarks/metrics_power.py            # the tables (about 22 minutes on one core)
    python benchmarks/metrics_power.py --quick    # the same with few repeats
    python benchmarks/metrics_power.py --only cost    # seconds and memory of each (a minute)

The tables of the documentation are written by

    OMP_NUM_THREADS=1 python benchmarks/metrics_power.py --repeats 25 --auc-repeats 8 \\
        --rst docs/guide/_generated_power.inc

    OMP_NUM_THREADS=1 python benchmarks/metrics_power.py --only levels \\
        --rst docs/guide/_generated_levels.inc

Calibration is asked of samples of N(0, I), a sample a p-value: the share at or below 0.05 should be
0.05, and the p-value of a Kolmogorov-Smirnov test that they are uniform should not be small.
Levels are the same shares for the tests of a component, which are quick, of so many samples that
chance leaves little.

Power is the share of samples that a test rejects at level 0.05. A test has its own p-value; a
marginal test rejects when its least Holm-corrected p-value does; for a distance, for the total
correlation and for the AUC the 95 % quantile over samples of N(0, I) is the threshold.
"""

import argparse
import sys
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import scipy
import sklearn
from scipy.special import ndtri
from scipy.stats import kstest

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import (
    CLASSIFIERS,
    DISTANCES,
    classifier_auc,
    energy_test,
    henze_zirkler,
    kolmogorov_smirnov,
    mmd_test,
    relative_distance,
    total_correlation,
)

JOINT_TESTS = {
    "energy_test": energy_test,
    "henze_zirkler": henze_zirkler,
    "mmd_test": mmd_test,
}
MARGINAL_TESTS = {"kolmogorov_smirnov": kolmogorov_smirnov}
LEVEL = 0.05
#: What is made when nothing is said; "levels" is made by itself.
KINDS = ("cost", "calibration", "power")
LEVEL_ROWS = (20, 50, 100, 500)


def null(n, d, rng):
    """N(0, I) itself: the share of rejections should be 0.05."""
    return rng.standard_normal((n, d))


def mixture(n, d, rng):
    """Two normals along the diagonal, 1.8 apart, with mean 0 and covariance I."""
    diagonal = np.full(d, d**-0.5)
    Z = rng.standard_normal((n, d))
    along = 0.9 * rng.choice([-1.0, 1.0], n) + np.sqrt(1 - 0.81) * rng.standard_normal(n)
    return Z + np.outer(along - Z @ diagonal, diagonal)


def copula(n, d, rng):
    """Pairs of a uniform square turned by 45 degrees, each component made normal again.

    Perfect marginals and no correlation; each pair fills half of the square that it seems to.
    """
    u = rng.uniform(-1.0, 1.0, (n, d))
    turned = np.concatenate([u[:, ::2] + u[:, 1::2], u[:, ::2] - u[:, 1::2]], axis=1) / 2
    return ndtri(np.where(turned < 0, (1 + turned) ** 2 / 2, 1 - (1 - turned) ** 2 / 2))


def correlated(n, d, rng):
    """Normal with correlation 0.2 between all components."""
    return np.sqrt(0.8) * rng.standard_normal((n, d)) + np.sqrt(0.2) * rng.standard_normal((n, 1))


def lattice(n, d, rng):
    """Independent components with four values of equal chance, variance 1."""
    values = ndtri((np.arange(4) + 0.5) / 4)
    return rng.choice(values / values.std(), (n, d))


def rounded(n, d, rng):
    """N(0, I) rounded to multiples of 0.25: a fine lattice."""
    return np.round(4 * rng.standard_normal((n, d))) / 4


ALTERNATIVES = {
    function.__name__: function
    for function in (null, mixture, copula, correlated, lattice, rounded)
}


def joint_pvalue(test, Z, seed):
    return test(Z, "normal", random_state=seed).pvalue


def marginal_pvalue(test, Z, seed):
    return test(Z, "normal").pvalue_holm.min()


def level_and_size(metric, Z, seed):
    return metric(Z, "normal", random_state=seed)


PVALUES = {name: partial(marginal_pvalue, test) for name, test in MARGINAL_TESTS.items()}
PVALUES |= {name: partial(joint_pvalue, test) for name, test in JOINT_TESTS.items()}
STATISTICS = {name: partial(level_and_size, distance) for name, distance in DISTANCES.items()}
STATISTICS["total_correlation"] = partial(level_and_size, total_correlation)
AUCS = {
    f"classifier_auc {name}": partial(level_and_size, partial(classifier_auc, classifier=name))
    for name in CLASSIFIERS
}


def values(measure, alternative, n, d, repeats, first):
    """One value for each sample; a sample has its own seed, the same for all metrics."""
    found = []
    for repeat in range(first, first + repeats):
        rng = np.random.default_rng([repeat, n, d])
        found.append(measure(ALTERNATIVES[alternative](n, d, rng), repeat))
    return np.array(found)


def power_row(name, n, d, repeats):
    if name in PVALUES:
        measure = PVALUES[name]
        rejects = {a: values(measure, a, n, d, repeats, 0) <= LEVEL for a in ALTERNATIVES}
        return {a: f"{found.mean():.2f}" for a, found in rejects.items()}
    measure = STATISTICS.get(name) or AUCS[name]
    # The threshold comes from other samples than the row for the null, and from more: its own
    # error would show in the whole row.
    threshold = np.quantile(values(measure, "null", n, d, 4 * repeats, 10_000), 1 - LEVEL)
    row = {}
    for alternative in ALTERNATIVES:
        found = values(measure, alternative, n, d, repeats, 0)
        row[alternative] = f"{(found > threshold).mean():.2f} ({np.median(found):.2f})"
    return row


def power_table(n, d, repeats, auc_repeats):
    title = (
        f"Power at level {LEVEL}, n={n}, d={d}; {4 * repeats} samples a cell ({repeats} for "
        f"permutation tests, {auc_repeats} for AUC); in brackets the median value"
    )
    yield title, ["metric", *ALTERNATIVES]
    for name in [*PVALUES, *STATISTICS, *AUCS]:
        costly = name in ("energy_test", "mmd_test")
        n_samples = auc_repeats if name in AUCS else repeats if costly else 4 * repeats
        yield [name, *power_row(name, n, d, n_samples).values()]


def calibration_table(n, d, repeats):
    title = f"Calibration under N(0, I), n={n}, d={d}; {repeats} samples a test"
    yield title, ["test", f"share at or below {LEVEL}", "uniform: KS p-value"]
    for name, measure in PVALUES.items():
        if name in MARGINAL_TESTS:
            # The least of d corrected p-values is not uniform: each component by itself.
            rng = np.random.default_rng(n)
            found = MARGINAL_TESTS[name](rng.standard_normal((n, repeats))).pvalue
        else:
            found = values(measure, "null", n, d, repeats, 20_000)
        share = f"{(found <= LEVEL).mean():.3f}"
        yield [name, share, f"{kstest(found, 'uniform').pvalue:.2f}"]


def levels_table(n_samples):
    title = f"Levels of the tests of a component under N(0, 1); {n_samples} samples a cell"
    yield title, ["test", *(f"{level}, n={n}" for level in (0.05, 0.01) for n in LEVEL_ROWS)]
    for name, test in MARGINAL_TESTS.items():
        found = [
            test(np.random.default_rng(n).standard_normal((n, n_samples))).pvalue
            for n in LEVEL_ROWS
        ]
        shares = [(pvalues <= level).mean() for level in (0.05, 0.01) for pvalues in found]
        yield [name, *(f"{share:.3f}" for share in shares)]


def cost_table(n, d):
    title = f"Cost of a call, n={n}, d={d}: CPU seconds, and memory beyond the rows"
    yield title, ["metric", "seconds", "MB"]
    Z = np.random.default_rng(0).standard_normal((n, d))
    relative = {
        f"relative_distance {name}": partial(level_and_size, partial(relative_distance, name))
        for name in DISTANCES
    }
    dim = NoisyDIMTransformer(max_epochs=1, random_state=0).fit(Z[:1000])
    whole = {
        "diagnose (of 4,000 of the rows)": lambda rows, seed: dim.diagnose(rows, random_state=seed)
    }
    for name, measure in {**PVALUES, **STATISTICS, **relative, **AUCS, **whole}.items():
        start = time.process_time()
        measure(Z, 0)
        seconds = time.process_time() - start
        tracemalloc.start()
        measure(Z, 0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        yield [name, f"{seconds:.2f}", f"{peak / 1e6:.0f}"]


def show(table):
    """Print a table as it grows, and return its title, header and rows."""
    title, header = next(table)
    print(f"\n{title}\n\n| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    rows = []
    for row in table:
        print("| " + " | ".join(row) + " |", flush=True)
        rows.append(row)
    return title, header, rows


def as_rst(tables, command, versions, note=""):
    """Return tables as reStructuredText, with the command that made them."""
    lines = [
        f".. Written by: {command}",
        "",
        f"``{command}``",
        "",
        f"{versions}.{note}",
    ]
    for title, header, rows in tables:
        lines += ["", f".. list-table:: {title}", "   :header-rows: 1", ""]
        for row in [header, *rows]:
            lines += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--repeats", type=int, default=None, help="samples a cell, costly tests")
    parser.add_argument("--auc-repeats", type=int, default=None, help="samples a cell, AUC")
    parser.add_argument(
        "--calibration-repeats", type=int, default=None, help="samples a test, calibration"
    )
    parser.add_argument(
        "--components", type=int, nargs="+", default=[4, 8], metavar="D", help="even numbers"
    )
    parser.add_argument("--only", choices=(*KINDS, "levels"), help="one kind of table")
    parser.add_argument("--rst", default=None, metavar="PATH", help="write the tables there, too")
    arguments = parser.parse_args()
    repeats = arguments.repeats or (10 if arguments.quick else 100)
    auc_repeats = arguments.auc_repeats or (3 if arguments.quick else 20)
    calibration_repeats = arguments.calibration_repeats or (50 if arguments.quick else 500)
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (np, scipy, sklearn))
    versions = f"Python {sys.version.split()[0]}, {versions}"
    print(versions)
    kinds = {
        "cost": [cost_table(10_000, 16)],
        "calibration": [calibration_table(100, 4, calibration_repeats)],
        "power": [power_table(500, d, repeats, auc_repeats) for d in arguments.components],
        "levels": [levels_table(1000 if arguments.quick else 10_000)],
    }
    wanted = KINDS if arguments.only is None else (arguments.only,)
    tables = [show(table) for kind in wanted for table in kinds[kind]]
    if arguments.rst is not None:
        command = "python benchmarks/metrics_power.py " + " ".join(sys.argv[1:])
        note = " The marginal tests of the calibration see one component a sample."
        text = as_rst(tables, command, versions, "" if arguments.only else note)
        Path(arguments.rst).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
