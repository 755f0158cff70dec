"""What each metric sees: power of every test and distance, and what a call costs.

    python benchmarks/metrics_power.py            # the tables (about 15 minutes on one core)
    python benchmarks/metrics_power.py --quick    # the same with few repeats

Power is the share of samples that a test rejects at level 0.05. A test has its own p-value; a
marginal test rejects when its least Holm-corrected p-value does; for a distance, for the total
correlation and for the AUC the 95 % quantile over samples of N(0, I) is the threshold.
"""

import argparse
import sys
import time
from functools import partial

import numpy as np
import scipy
import sklearn
from scipy.special import ndtri

from sknoisydim.metrics import (
    CLASSIFIERS,
    DISTANCES,
    JOINT_TESTS,
    MARGINAL_TESTS,
    classifier_auc,
    in_floors,
    total_correlation,
)

LEVEL = 0.05


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


def print_power(n, d, repeats, auc_repeats):
    print(
        f"\nPower at level {LEVEL}, n={n}, d={d}; {repeats} samples a cell ({auc_repeats} for AUC);"
    )
    print("in brackets the median value\n")
    print("| metric | " + " | ".join(ALTERNATIVES) + " |")
    print("|---|" + "---|" * len(ALTERNATIVES))
    for name in [*PVALUES, *STATISTICS, *AUCS]:
        row = power_row(name, n, d, auc_repeats if name in AUCS else repeats)
        print(f"| {name} | " + " | ".join(row.values()) + " |", flush=True)


def print_seconds(n, d):
    print(f"\nCPU seconds a call, n={n}, d={d}\n\n| metric | seconds |\n|---|---|")
    Z = np.random.default_rng(0).standard_normal((n, d))
    floors = {
        f"in_floors {name}": partial(level_and_size, partial(in_floors, name)) for name in DISTANCES
    }
    for name, measure in {**PVALUES, **STATISTICS, **floors, **AUCS}.items():
        start = time.process_time()
        measure(Z, 0)
        print(f"| {name} | {time.process_time() - start:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--repeats", type=int, default=None, help="samples a cell")
    parser.add_argument("--auc-repeats", type=int, default=None, help="samples a cell, AUC")
    parser.add_argument(
        "--components", type=int, nargs="+", default=[4, 8], metavar="D", help="even numbers"
    )
    arguments = parser.parse_args()
    repeats = arguments.repeats or (10 if arguments.quick else 100)
    auc_repeats = arguments.auc_repeats or (3 if arguments.quick else 20)
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (np, scipy, sklearn))
    print(f"python {sys.version.split()[0]}, {versions}")
    print_seconds(10_000, 16)
    for d in arguments.components:
        print_power(500, d, repeats, auc_repeats)


if __name__ == "__main__":
    main()
