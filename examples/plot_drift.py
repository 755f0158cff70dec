"""
Drift of a stream of batches
============================

A model in use meets samples that come in batches. `NoisyDIMDriftMonitor` tells whether a batch has
another distribution than the samples of `fit`, with a p-value, and names what moved. It keeps no
sample of the reference.
"""

import pickle
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from sknoisydim import NoisyDIMDriftMonitor

# %%
# Sensors of a machine
# --------------------
#
# Synthetic: six sensors that depend on three hidden variables, by curved functions with long tails.

rng = np.random.default_rng(0)
NAMES = ["pressure", "flow", "level", "heat", "current", "speed"]


def sensors(n):
    """Samples of a machine in use."""
    a, b, c = rng.normal(size=(3, n))
    columns = [
        np.exp(0.8 * a),
        np.exp(0.5 * (a + b)),
        b + 0.3 * a**2,
        np.exp(0.7 * c),
        c + 0.5 * a,
        np.cbrt(c) + 0.2 * b,
    ]
    return pd.DataFrame(np.column_stack(columns) + 0.05 * rng.normal(size=(n, 6)), columns=NAMES)


monitor = NoisyDIMDriftMonitor(random_state=0).fit(sensors(3000))
print(f"{len(pickle.dumps(monitor)):,} bytes, of them for the transformer: ", end="")
print(f"{len(pickle.dumps(monitor.transformer_)):,}")

# %%
# A stream
# --------
#
# 24 batches of 200 samples. In batches 9 to 16 a tenth of the values of *flow* come from other
# times: its distribution is the same, and it does not fit the other sensors. In batches 17 to 24
# *heat* is too high by 0.3 of its standard deviation.


def batch(number):
    X = sensors(200)
    if 9 <= number <= 16:
        X.loc[:19, "flow"] = rng.permutation(X.loc[:19, "flow"])
    if number > 16:
        X["heat"] += 0.3 * X["heat"].std()
    return X


batches = {number: batch(number) for number in range(1, 25)}
reports = {number: monitor.check(X) for number, X in batches.items()}
for number in (1, 9, 17):
    print("\n" + textwrap.fill(f"batch {number}: {reports[number].verdict}", 80))

# %%
# One report as a whole: p-values of the five parts, and how far the distributions moved.

print(reports[9])

# %%
# Beside tests of each column
# ---------------------------
#
# Kolmogorov-Smirnov tests with Bonferroni's correction need the reference at hand, and see columns
# alone: what goes on between sensors they do not.

reference = sensors(3000)
by_column = {
    number: min(1, 6 * min(ks_2samp(X[name], reference[name]).pvalue for name in NAMES))
    for number, X in batches.items()
}

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
numbers = list(batches)
ax.axvspan(8.5, 16.5, color="0.93")
ax.text(12.5, 3, "flow does not fit", ha="center")
ax.text(20.5, 3, "heat is too high", ha="center")
joint = [reports[number].pvalue for number in numbers]
ax.semilogy(numbers, np.maximum(joint, 1e-12), "o-", label="NoisyDIMDriftMonitor")
columns = [by_column[number] for number in numbers]
ax.semilogy(numbers, np.maximum(columns, 1e-12), "s--", label="Kolmogorov-Smirnov, columns")
ax.axhline(0.05, color="0.4", lw=1)
ax.set(xlabel="batch", ylabel="p-value, 1e-12 and below", ylim=(5e-13, 20))
ax.legend(frameon=False, loc="lower left")

for name, p in (("NoisyDIMDriftMonitor", joint), ("Kolmogorov-Smirnov", columns)):
    alarms = np.array(p) <= 0.05
    parts = [alarms[:8], alarms[8:16], alarms[16:]]
    print(f"{name:22} alarms in 8 batches each: {[int(part.sum()) for part in parts]}")

# %%
# A sequence of batches
# ---------------------
#
# At the level 0.05 one calm batch in twenty is an alarm. With ``batch_number`` the level of the
# k-th batch is 0.05 / (k (k + 1)), so that the probability of any false alarm, in all batches that
# will ever come, is at most 0.05.

found = [number for number, X in batches.items() if monitor.check(X, batch_number=number).drift]
print("batches with an alarm:", found)

# %%
# Conclusion: the monitor needs no reference data, detects changes between columns that tests of
# columns do not detect, and names the columns that stand out. If only single columns can change,
# these tests are enough.
