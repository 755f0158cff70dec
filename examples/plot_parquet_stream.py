"""
A Parquet file that is never in memory as a whole
=================================================

pyarrow reads a Parquet file in record batches. Each is a chunk for ``partial_fit``, and a slice of
the embedding that ``transform_to`` writes to disk. What is in memory is one batch, the network and
the few thousand rows that a stream keeps.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from sknoisydim import NoisyDIMTransformer
from sknoisydim.metrics import relative_distance

# %%
# A file
# ------
#
# Synthetic: ten columns that depend on three hidden variables, by curved functions with long tails,
# and a column of words that is not read. The file is read by row groups.

rng = np.random.default_rng(0)
mixing = rng.normal(size=(3, 10))


def rows(n):
    """Rows of a table whose columns are far from normal."""
    hidden = rng.gamma(2.0, size=(n, 3)) - 2
    return np.exp(0.4 * hidden @ mixing) + 0.1 * rng.normal(size=(n, 10))


folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "rows.parquet"
names = [f"x{j}" for j in range(10)]
table = dict(zip(names, rows(40_000).T, strict=True)) | {"site": ["north", "south"] * 20_000}
parquet.write_table(pa.table(table), path, row_group_size=4_000)
file = parquet.ParquetFile(path)
print(f"{file.metadata.num_rows:,} rows in {file.metadata.num_row_groups} row groups")

# %%
# Two passes
# ----------
#
# ``to_pandas`` hands the names of the columns on. Rows of the file are in random order; of a sorted
# file, a chunk would differ from the next one, so shuffle it before it is written. ``score`` on
# held-out rows is the match with N(0, I), which is 1 at best, times the share of the columns'
# variance that a linear model reads back from the embedding. The share changes from chunk to chunk:
# the reference features (``keep``) are fitted to each of them.

held_out = pd.DataFrame(rows(4_000), columns=names)
D = 3
stream = NoisyDIMTransformer(D, batch_size=256, random_state=0)
seen, scores = [], []
for _ in range(2):
    for batch in file.iter_batches(batch_size=2_000, columns=names):
        stream.partial_fit(batch.to_pandas())
        seen.append(stream.n_samples_seen_)
        scores.append(stream.score(held_out))

# %%
# For comparison, the same two passes of ``fit`` over the table in memory.

whole = parquet.read_table(path, columns=names).to_pandas()
fit = NoisyDIMTransformer(D, batch_size=256, max_epochs=2, random_state=0)
fit.fit(whole)

figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
ax.plot(seen, scores, label="stream")
ax.axhline(fit.score(held_out), color="0.4", linestyle="--", label="fit, table in memory")
ax.set(xlabel="rows seen", ylabel="score on held-out rows", ylim=(0, 1))
ax.legend(frameon=False, loc="lower right")

# %%
# The embedding, on disk
# ----------------------
#
# ``transform_to`` writes into an array that is there already, here a slice of a memory map for each
# batch. For a table that is a memory map itself, one call with a path does all of it.

shape = (file.metadata.num_rows, D)
Z = np.lib.format.open_memmap(Path(folder.name) / "Z.npy", "w+", "float64", shape)
start = 0
for batch in file.iter_batches(batch_size=2_000, columns=names):
    stream.transform_to(batch.to_pandas(), Z[start : start + len(batch)])
    start += len(batch)

# %%
# The embeddings of the stream and of the fit, on held-out rows: the score, and the relative
# distance to N(0, I) (about 1 for a sample of N(0, I) itself).

for name, model in {"stream": stream, "fit": fit}.items():
    z = model.transform(held_out)
    distance = relative_distance("sliced_wasserstein", z, "normal", random_state=0)
    print(f"{name:>7}: score {model.score(held_out):.3f}, relative distance {distance:.2f}")
spread = np.abs(np.cov(Z.T) - np.eye(D)).max()
print(f"all {len(Z):,} rows on disk: covariance within {spread:.3f} of the identity")
del Z
folder.cleanup()

# %%
# Conclusion: with one batch of 2,000 rows in memory at a time, the stream has the score of two
# passes of ``fit`` over the whole table. By the relative distance, ``fit`` comes closer to N(0, I).
