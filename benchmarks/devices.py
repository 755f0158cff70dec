"""Seconds of a fit and of a transform on the CPU and on a GPU.

    python benchmarks/devices.py            # about 2 minutes
    python benchmarks/devices.py --quick    # one repeat, 20,000 rows

A fit of a fixed number of epochs and a transform of the same rows, 50 columns of float32, d = 16,
default settings but for what the table names; wall time, the median of repeats in turns. The CPU
takes as many threads as the process has: OMP_NUM_THREADS says how many. "waits" is a fit whose
scaled copy is not kept on the GPU, so that its batches travel through pinned memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from speed import D, table

import sknoisydim
from sknoisydim import NoisyDIMTransformer
from sknoisydim.encoders import MLPEncoder

STEPS = 100
WAYS: dict[str, dict[str, Any]] = {
    "cpu": {"device": "cpu"},
    "cuda": {"device": "cuda"},
    "cuda, bf16": {"device": "cuda", "encoder": MLPEncoder(precision="bf16")},
    "cuda, waits": {"device": "cuda"},
}


def seconds(work: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(way: str, X: np.ndarray, batch_size: int) -> tuple[float, float]:
    """Return the seconds of a fit and of a transform."""
    epochs = max(1, STEPS * batch_size // len(X))
    model = NoisyDIMTransformer(
        D, batch_size=batch_size, max_epochs=epochs, random_state=0, **WAYS[way]
    )
    free = -1 if way == "cuda, waits" else None
    with (
        mock.patch("sknoisydim._data._free_memory", return_value=free) if free else mock.MagicMock()
    ):
        fit = seconds(lambda: model.fit(X))
    return fit, seconds(lambda: model.transform(X))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "there is no CUDA device on this machine: nothing to compare\n")
    print(
        f"sknoisydim {sknoisydim.__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {torch.cuda.get_device_name()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads"
    )
    print(f"\nseconds of a fit of about {STEPS} steps, and of a transform of its rows\n")
    print("| rows | batch | what | " + " | ".join(WAYS) + " |\n|---|---|---|" + "---|" * len(WAYS))
    repeats = 1 if options.quick else options.repeats
    for way in WAYS:
        measure(way, table(2000), 512)  # what the first fit on a device loads
    for n_rows in [20_000] if options.quick else [20_000, 1_000_000]:
        X = table(n_rows)
        for batch_size in (512, 4096):
            runs = [[measure(way, X, batch_size) for way in WAYS] for _ in range(repeats)]
            medians = np.median(runs, axis=0)
            for name, row in zip(("fit", "transform"), medians.T, strict=True):
                cells = " | ".join(f"{value:.2f}" for value in row)
                print(f"| {n_rows:,} | {batch_size:,} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
