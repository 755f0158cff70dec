"""Faults on purpose: each has to make a test fail that is named beside it.

`make mutants` makes each change of mutants.txt in a copy of the repository, runs the tests named
with it, and prints which changes they let pass. A text that is not in its file exactly once is an
error, in the default run too (tests/test_mutants.py).
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = "sknoisydim"
# What a copy needs for its tests.
PARTS = (PACKAGE, "tests", "benchmarks", "docs", "conftest.py", "pyproject.toml", "setup.cfg")
LEAST_SHARE = 0.9
# What takes long to import, and none of it is the package.
LOADED = ("torch._dynamo", "scipy.stats", "sklearn.ensemble", "skorch", "pandas", "pytest")


class Mutant(NamedTuple):
    file: str
    before: str
    after: str
    tests: str


def read(text: str) -> list[Mutant]:
    """Return the entries of the table: a line "file  tests", and lines after "- " and "+ "."""
    mutants = []
    for entry in text.split("\n\n"):
        first, *lines = [line for line in entry.splitlines() if not line.startswith("#")] or [""]
        # A change begins with each "- " that follows on a "+ ".
        for change in re.findall(r"(?:- .*\n)+(?:\+ .*\n)+", "\n".join([*lines, ""])):
            sides = (re.findall(rf"^\{mark} (.*)", change, re.MULTILINE) for mark in "-+")
            before, after = map("\n".join, sides)
            file, tests = first.split("  ")
            mutants.append(Mutant(file, before, after, tests))
    return mutants


MUTANTS = read((ROOT / "tests" / "mutants.txt").read_text(encoding="utf-8"))


def found(mutant: Mutant, root: Path = ROOT) -> int:
    return (root / PACKAGE / mutant.file).read_text(encoding="utf-8").count(mutant.before)


def run(tests: str, folder: Path, seconds: float) -> bool:
    """Return whether tests pass in a copy of the repository; one that hangs has failed."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(folder)  # for what tests start
        sys.path.insert(0, str(folder))
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        import pytest

        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests.split()]))
    end = time.monotonic() + seconds
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(done[1])
    if code > 1:  # 1: some tests have failed; below 0: a signal has ended them
        said = (folder / "output").read_text()[-2000:]
        raise RuntimeError(f"pytest {tests} did not run:\n{said}")
    return code == 0


def copy_of(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "_build", "auto_examples")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, folder / part)
    return folder


def work(job: tuple[Mutant, str, float]) -> tuple[bool, float]:
    """Make a change in the copy of this process; return whether it survives, and the seconds."""
    (mutant, home, seconds), started = job, time.perf_counter()
    folder = Path(home) / str(os.getpid())
    path = (folder if folder.exists() else copy_of(folder)) / PACKAGE / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
    try:
        survived = run(mutant.tests, folder, seconds)
    finally:
        path.write_text(text, encoding="utf-8")
    return survived, time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    part = "part of a file's name, or of the changed text"
    parser.add_argument("--only", nargs="+", default=[""], help=part)
    parser.add_argument("--seconds", type=float, default=300, help="after which a run has failed")
    asked = parser.parse_args()
    wrong = [mutant for mutant in MUTANTS if found(mutant) != 1]
    if wrong:
        print(*(f"{m.file}: found {found(m)} times: {m.before!r}" for m in wrong), sep="\n")
        return 2
    chosen = [m for m in MUTANTS if any(part in m.file + m.before for part in asked.only)]
    started = time.perf_counter()
    # What conftest.py sets; a changed file has the size and the second of the one before.
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "SCIPY_ARRAY_API": "1"}
    sys.dont_write_bytecode = True
    for name in LOADED:
        importlib.import_module(name)
    forking = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as home, forking.Pool(asked.jobs) as pool:
        named = {mutant.tests for mutant in chosen}
        tests = " ".join(sorted(t for t in named if "::" not in t or t.split("::")[0] not in named))
        if not run(tests, copy_of(Path(home) / "unchanged"), 10 * asked.seconds):
            print("a test fails without a change:", tests)
            print((Path(home) / "unchanged" / "output").read_text()[-3000:])
            return 2
        survivors = 0
        jobs = [(mutant, home, asked.seconds) for mutant in chosen]
        for mutant, (survived, took) in zip(chosen, pool.imap(work, jobs), strict=True):
            survivors += survived
            state = f"{'SURVIVED' if survived else 'killed':9} {took:4.0f} s {mutant.file:28}"
            change = " ".join(mutant.before.split())[:60]
            print(f"{state} {change:60} {mutant.tests}", flush=True)
    share = 1 - survivors / len(chosen)
    took = time.perf_counter() - started
    print(f"{len(chosen) - survivors} of {len(chosen)} killed, {share:.0%}, in {took:.0f} s")
    return 0 if share >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
