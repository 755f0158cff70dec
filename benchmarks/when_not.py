"""The table of "when not to use it": the example that measures it, run and written down.

OMP_NUM_THREADS=1 python benchmarks/when_not.py                  # prints the table (15 seconds)
OMP_NUM_THREADS=1 python benchmarks/when_not.py --rst docs/guide/_generated_when_not.inc
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import re
import runpy
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "plot_when_not.py"
COMMAND = "python benchmarks/when_not.py --rst docs/guide/_generated_when_not.inc"
SECONDS = "seconds"


def measure() -> list[list[str]]:
    """Run the example, and return the cells of the table that it prints."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # the picture is the gallery's
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    return [re.split(r"  +", line.strip()) for line in printed.getvalue().splitlines()]


def versions() -> str:
    """Return the versions that the figures depend on."""
    import numpy
    import sklearn
    import torch

    modules = ((torch, "torch"), (sklearn, "scikit-learn"), (numpy, "numpy"))
    found = [f"{name} {module.__version__}" for module, name in modules]
    return ", ".join([f"Python {platform.python_version()}", *found])


def as_rst(cells: list[list[str]], made_with: str) -> str:
    """Return the table as reStructuredText, with the command that made it.

    Seconds depend on the machine, and stay out.
    """
    rows = [row for row in cells if row[0] != SECONDS]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines = [f".. Written by: {COMMAND}", "", rule, padded[0], rule, *padded[1:], rule, ""]
    lines += [f"``{COMMAND}``", "", f"{made_with}, one torch thread."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rst", default=None, metavar="PATH", help="write the table there, too")
    path = parser.parse_args().rst
    cells = measure()
    print("\n".join("".join(f"{cell:>22}" for cell in row) for row in cells))
    if path is not None:
        Path(path).write_text(as_rst(cells, versions()), encoding="utf-8")


if __name__ == "__main__":
    main()
