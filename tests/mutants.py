"""Faults on purpose: each has to make a test fail that is named beside it.

`make mutants` copies the repository to a temporary folder, makes one of the changes of mutants.txt
at a time in the package, runs the tests named with it, and prints which changes they let pass, and
the share that they find. A text that does not stand in its file exactly once is an error, in the
default run too (tests/test_mutants.py): if you change such a line, change the entry, too.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = "sknoisydim"
# What a copy needs for its tests.
PARTS = (PACKAGE, "tests", "benchmarks", "docs", "conftest.py", "pyproject.toml", "setup.cfg")
LEAST_SHARE = 0.9


class Mutant(NamedTuple):
    """A change of one file of the package, and the tests that are to see it."""

    file: str
    before: str
    after: str
    tests: str


def read(text: str) -> list[Mutant]:
    """Return the entries of the table: a line "file  tests", and lines after "- " and "+ "."""
    mutants = []
    for entry in text.split("\n\n"):
        lines = [line for line in entry.splitlines() if not line.startswith("#")]
        if not lines:
            continue
        file, tests = lines[0].split("  ")
        before, after = (
            "\n".join(line[2:] for line in lines[1:] if line[:2] == mark) for mark in ("- ", "+ ")
        )
        mutants.append(Mutant(file, before, after, tests))
    return mutants


MUTANTS = read((ROOT / "tests" / "mutants.txt").read_text(encoding="utf-8"))


def found(mutant: Mutant, root: Path = ROOT) -> int:
    """Return how often the text that is changed stands in its file."""
    return (root / PACKAGE / mutant.file).read_text(encoding="utf-8").count(mutant.before)


def run(tests: str, folder: Path, seconds: float) -> bool:
    """Return whether tests pass in a copy of the repository; one that hangs has failed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    settings = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | settings, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):  # 1: some tests have failed
        raise RuntimeError(f"pytest {tests} did not run:\n{done.stdout.decode()[-2000:]}")
    return done.returncode == 0


def copy_of(folder: Path) -> Path:
    """Copy what the tests need."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "_build", "auto_examples")
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, folder / part)
    return folder


def survives(mutant: Mutant, folder: Path, seconds: float) -> bool:
    """Make the change in a copy, run its tests, and take it back."""
    path = folder / PACKAGE / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
    try:
        return run(mutant.tests, folder, seconds)
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--only", default="", help="part of a file's name, or of the changed text")
    parser.add_argument("--seconds", type=float, default=300, help="after which a run has failed")
    asked = parser.parse_args()
    wrong = [mutant for mutant in MUTANTS if found(mutant) != 1]
    if wrong:
        print(*(f"{m.file}: found {found(m)} times: {m.before!r}" for m in wrong), sep="\n")
        return 2
    chosen = [m for m in MUTANTS if asked.only in m.file or asked.only in m.before]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor(asked.jobs) as threads:
        folders: queue.Queue[Path] = queue.Queue()
        for number in range(asked.jobs):
            folders.put(copy_of(Path(home) / str(number)))

        def work(mutant: Mutant) -> bool:
            folder = folders.get()
            try:
                return survives(mutant, folder, asked.seconds)
            finally:
                folders.put(folder)

        tests = " ".join(sorted({mutant.tests for mutant in chosen}))
        if not run(tests, Path(home) / "0", 10 * asked.seconds):
            print("a test fails without a change:", tests)
            return 2
        survivors = 0
        for mutant, survived in zip(chosen, threads.map(work, chosen), strict=True):
            survivors += survived
            state = "SURVIVED" if survived else "killed"
            change = " ".join(mutant.before.split())[:60]
            print(f"{state:9} {mutant.file:28} {change:60} {mutant.tests}", flush=True)
    share = 1 - survivors / len(chosen)
    took = time.perf_counter() - started
    print(f"{len(chosen) - survivors} of {len(chosen)} killed, {share:.0%}, in {took:.0f} s")
    return 0 if share >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
