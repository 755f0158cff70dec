"""How long a fit takes, by size of the table, with and without labels: the guide's table.

OMP_NUM_THREADS=1 python benchmarks/seconds.py
OMP_NUM_THREADS=1 python benchmarks/seconds.py --rst docs/guide/_generated_seconds.inc
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
from datasets import synthetic
from frontier_picture import as_rst

from sknoisydim import NoisyDIMTransformer

SIZES = (150, 1_500, 15_000, 150_000, 1_000_000)
WEIGHTS = {"no labels": 0.0, "labels": 100.0}
COMMAND = "python benchmarks/seconds.py --rst docs/guide/_generated_seconds.inc"


def seconds(n_rows: int, supervision: float) -> list[float]:
    """Return CPU seconds of a fit and of `transform` of a made-up table."""
    X, y = synthetic(n_rows)
    X = X.astype(np.float32)
    start = time.process_time()
    dim = NoisyDIMTransformer(supervision=supervision, random_state=0).fit(X, y)
    fitted = time.process_time()
    dim.transform(X)
    return [fitted - start, time.process_time() - fitted]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rst", type=Path, help="file for the table, in place of the screen")
    parser.add_argument("--quick", action="store_true", help="small tables only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds(150, 0.0)  # imports, and kernels that are set up once
    cells = [["samples", *(f"fit, {name}" for name in WEIGHTS), "transform"]]
    for n_rows in SIZES[:2] if options.quick else SIZES:
        results = [seconds(n_rows, weight) for weight in WEIGHTS.values()]
        times = [*(fit for fit, _ in results), results[0][1]]
        cells.append([f"{n_rows:,}", *(f"{value:.1f}" for value in times)])
        if not options.rst:
            print(cells[-1], flush=True)
    if options.rst:
        made_with = (
            f"24 columns; CPU seconds of one thread, torch {torch.__version__}, "
            f"scikit-learn {sklearn.__version__}, Python {platform.python_version()}"
        )
        options.rst.write_text(as_rst(cells, COMMAND, made_with), encoding="utf-8")


if __name__ == "__main__":
    main()
