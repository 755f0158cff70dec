"""What the paper's benchmarks share: where they write, versions, tables, figures, splits."""

from __future__ import annotations

import csv
import datetime
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
import torch

import sknoisydim

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "docs" / "paper"
sys.path.insert(0, str(ROOT / "benchmarks"))

# Okabe and Ito's colours: they stay apart for colour-blind eyes.
BLUE, ORANGE, GREEN, PINK, SKY, RED = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
)


def versions() -> str:
    """One line that says what the figures were made with."""
    modules = {"sknoisydim": sknoisydim, "torch": torch, "scikit-learn": sklearn}
    modules |= {"scipy": scipy, "numpy": np}
    named = ", ".join(f"{name} {module.__version__}" for name, module in modules.items())
    threads = torch.get_num_threads()
    return f"{named}, Python {platform.python_version()}, {threads} thread" + "s" * (threads != 1)


def today() -> str:
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()


def cell(value: Any) -> str:
    if isinstance(value, float):
        if np.isnan(value):
            return ""
        return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"
    return str(value)


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table."""
    lines = [list(header), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    print(f"\n{title}\n")
    for line in lines:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    sys.stdout.flush()


def write_table(name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write docs/paper/NAME.csv, which a page includes as a csv-table."""
    OUT.mkdir(exist_ok=True)
    with (OUT / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([cell(value) for value in row] for row in rows)


def write_note(name: str, command: str, settings: str) -> None:
    """Write docs/paper/NAME.inc: the command, the settings, the versions and the date."""
    OUT.mkdir(exist_ok=True)
    text = f".. code-block:: console\n\n   $ {command}\n\n{settings} {today()}, {versions()}.\n"
    (OUT / f"{name}.inc").write_text(text, encoding="utf-8")


def write_figure(figure: Any, name: str) -> None:
    """Write docs/paper/NAME.png."""
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / f"{name}.png", dpi=110, bbox_inches="tight")
