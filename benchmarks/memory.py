"""What fit and transform take of memory for rows that are on disk, or sparse.

    OMP_NUM_THREADS=1 python benchmarks/memory.py            # 10 minutes of one core, 5 GB of disk
    OMP_NUM_THREADS=1 python benchmarks/memory.py --quick    # the same in small, a minute
    OMP_NUM_THREADS=1 python benchmarks/memory.py --only sparse

Memory maps of every kind are written to a folder that is removed at the end, and read by a process
of its own for each line. Column "growth" is the largest RssAnon of /proc/self/status, read every
5 ms, above that before the call, when all modules are loaded and the file is open. Pages of the
file itself are not in it: the system drops them when memory is wanted. So it runs on Linux only.

The rows are normal, 500 columns; fit goes through them once. Sparse rows are 200,000 x 2,000 with
1 % of the cells, in float64; as an array they would take 3.2 GB. transform_to writes a file, and
transform an array, whose size is part of its growth. The first line is what fit of 2,000 rows
takes, mostly for modules of torch that it loads once in a process: it is part of all others of fit.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
import skorch
import torch
from scipy import sparse

from sknoisydim import NoisyDIMTransformer

COLUMNS = 500
SPARSE = (200_000, 2_000)
DENSITY = 0.01
# Bytes of each memory map.
MAPS = {
    ("float32", "C"): 4e9,
    ("float64", "F"): 2e9,
    ("float16", "C"): 2e8,
    ("int16", "F"): 2e8,
}
QUICK = 100  # times smaller
# What growth is held to, in MB.
BARS = {"map": 300, "sparse": 500}


def anonymous() -> float:
    """Return RssAnon of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("/proc/self/status has no RssAnon: this runs on Linux only.")


def growth(work: Callable[[], Any]) -> tuple[float, float]:
    """Return by how much RssAnon grew at most during a call, in MB, and its seconds."""
    before = peak = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        work()
    finally:
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    return max(peak, anonymous()) - before, seconds


def write_map(path: Path, dtype: str, order: str, n_rows: int) -> None:
    """Write a memory map slice by slice."""
    rows = np.lib.format.open_memmap(
        path, mode="w+", dtype=dtype, shape=(n_rows, COLUMNS), fortran_order=order == "F"
    )
    rng = np.random.default_rng(0)
    for start in range(0, n_rows, 2**13):
        part = rows[start : start + 2**13]
        drawn = rng.standard_normal(part.shape, dtype=np.float32)
        part[:] = drawn * 1000 if dtype == "int16" else drawn
    rows.flush()


def model() -> NoisyDIMTransformer:
    return NoisyDIMTransformer(16, max_epochs=1, random_state=0)


def measure(case: str, path: str, out: str) -> None:
    """Print the growth and the seconds of one case, in a process of its own."""
    rows = sparse.load_npz(path) if path.endswith("npz") else np.load(path, mmap_mode="r")
    embedder = model()
    if case == "transform" or case == "transform_to":
        embedder.fit(rows[:5_000])
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: embedder.fit(rows),
        "partial_fit": lambda: embedder.partial_fit(rows),
        "partial_fit, second call": lambda: embedder.partial_fit(rows),
        "transform": lambda: embedder.transform(rows),
        "transform_to": lambda: embedder.transform_to(rows, out),
    }
    if case == "partial_fit, second call":
        embedder.partial_fit(rows[:5_000])
    print(*growth(calls[case]))


def in_a_process(case: str, path: Path, folder: Path) -> tuple[float, float]:
    command = [sys.executable, __file__, "--case", case, str(path), str(folder / "out.npy")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(answer.stderr)
    megabytes, seconds = answer.stdout.split()
    return float(megabytes), float(seconds)


def cases(
    folder: Path, smaller: int, only: str | None
) -> Iterator[tuple[str, Path, list[str], str]]:
    """Write each table, and yield its name, its file, what to do with it, and its bar."""
    path = folder / "rows.npy"
    write_map(path, "float32", "C", 2_000)
    yield f"2,000 x {COLUMNS} float32, C", path, ["fit"], "map"
    for (dtype, order), size in MAPS.items():
        if only not in (None, dtype):
            continue
        n_rows = int(size / smaller / COLUMNS / np.dtype(dtype).itemsize)
        path.unlink()
        write_map(path, dtype, order, n_rows)
        name = f"{n_rows:,} x {COLUMNS} {dtype}, {order}, {path.stat().st_size / 1e9:.3g} GB"
        yield name, path, ["fit", "transform_to"], "map"
    path.unlink()
    if only not in (None, "sparse"):
        return
    shape = (SPARSE[0] // smaller, SPARSE[1])
    matrix = sparse.random_array(shape, density=DENSITY, format="csr", random_state=0)
    path = folder / "rows.npz"
    sparse.save_npz(path, matrix, compressed=False)
    name = f"{shape[0]:,} x {shape[1]:,} sparse, density {DENSITY}"
    does = ["fit", "transform", "transform_to", "partial_fit", "partial_fit, second call"]
    yield name, path, does, "sparse"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"tables {QUICK} times smaller")
    parser.add_argument("--folder", type=Path, help="where to write, with room for 5 GB")
    kinds = [*(dtype for dtype, _ in MAPS), "sparse"]
    parser.add_argument("--only", choices=kinds, help="one table only")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measure(*arguments.case)
        return
    anonymous()
    modules = ", ".join(f"{m.__name__} {m.__version__}" for m in (torch, skorch, sklearn))
    print(f"python {platform.python_version()}, {modules}, numpy {np.__version__}, ", end="")
    print(f"scipy {scipy.__version__}; {platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(f"{torch.get_num_threads()} torch threads, load {os.getloadavg()[0]:.1f}\n", flush=True)
    print("| table | call | growth, MB | bar, MB | seconds |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for table, path, does, kind in cases(
            folder, QUICK if arguments.quick else 1, arguments.only
        ):
            for case in does:
                megabytes, seconds = in_a_process(case, path, folder)
                figures = f"{megabytes:.0f} | {BARS[kind]} | {seconds:.1f}"
                print(f"| {table} | {case} | {figures} |", flush=True)
                (folder / "out.npy").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
