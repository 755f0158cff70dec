"""The picture of frontier.py, and a table for the guide, from its csv file alone."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np


def read_means(path: Path) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Return (AUC, accuracy) by method and weight, and table, from a csv file of classes."""
    runs: defaultdict = defaultdict(lambda: defaultdict(list))
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["AUC"] != "nan":
                accuracy = np.mean([float(row[name]) for name in ("LR", "kNN", "NB")])
                key = row["method"], row["weight"]
                runs[key][row["table"]].append((float(row["AUC"]), accuracy))
    return {
        key: {table: np.mean(pairs, axis=0) for table, pairs in by_table.items()}
        for key, by_table in runs.items()
    }


def as_number(weight: str) -> float:
    """Sort weights by size; words stay in the order of the file."""
    try:
        return float(weight)
    except ValueError:
        return 0.0


def draw(source: Path, picture: Path) -> None:
    """Draw accuracy lost against PCA over AUC: means over the tables that all methods have."""
    import matplotlib.pyplot as plt

    means = {key: found for key, found in read_means(source).items() if key[0] != "raw"}
    tables = set.intersection(*(set(found) for found in means.values())) if means else set()
    if not tables or ("PCA", "") not in means:
        raise SystemExit(f"{source} has no table with PCA and every other method in it")
    curves: defaultdict = defaultdict(list)
    for (method, weight), found in means.items():
        lost = [means["PCA", ""][table][1] - found[table][1] for table in tables]
        curves[method].append((weight, np.mean([found[t][0] for t in tables]), np.mean(lost)))
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    markers = "osD^vP*X<>p"  # eleven, and ten colours: no pair comes back soon
    for number, (method, points) in enumerate(curves.items()):
        points.sort(key=lambda point: as_number(point[0]))
        weights, aucs, lost = zip(*points, strict=True)
        style = {"marker": markers[number % len(markers)], "color": f"C{number % 10}"}
        axes.plot(aucs, lost, linewidth=1.5, label=method, **style)
        for weight, *point in zip(weights, aucs, lost, strict=True):
            axes.annotate(weight, point, (4, 4), textcoords="offset points", fontsize=8)
    axes.axhline(0, color="0.7", linewidth=1, zorder=0)
    axes.axvline(0.5, color="0.7", linewidth=1, zorder=0)
    axes.set_xlabel("AUC against N(0, I), larger of boosting and MLP (0.5: cannot be told)")
    axes.set_ylabel("accuracy lost against PCA, mean of LR, kNN, NB")
    axes.set_title(f"Lower left is better: {len(tables)} tables, numbers are weights")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(picture, dpi=150)
    plt.close(figure)


#: Lines of the guide's table: what it calls them, method and weight.
POINTS = {
    "kernel PCA": ("kernel PCA", ""),
    "the defaults": ("ours, default", ""),
    "``keep_weight=1``": ("ours, kept", "1.0"),
    "``supervision=100``": ("ours, labels", "100.0"),
    "boosted trees": ("boosted trees", ""),
}
COLUMNS = ("LR", "kNN", "NB", "AUC")


def write_points(source: Path, target: Path, made_with: str) -> None:
    """Write means over the tables that all lines have as reStructuredText."""
    runs: defaultdict = defaultdict(lambda: defaultdict(list))
    seeds = set()
    with source.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = [float(row[name]) for name in COLUMNS]
            runs[row["method"], row["weight"]][row["table"]].append(values)
            seeds.add(row["seed"])
    if missing := [line for line in POINTS.values() if line not in runs]:
        raise SystemExit(f"{source} has no line {missing[0]}")
    tables = set.intersection(*(set(runs[line]) for line in POINTS.values()))
    cells = [["features", *COLUMNS]]
    for name, line in POINTS.items():
        means = np.mean([np.mean(runs[line][table], axis=0) for table in sorted(tables)], axis=0)
        values = ["" if np.isnan(v) else f"{v:.3f}" for v in means]
        cells.append([name, *values])
    command = "python benchmarks/frontier.py --csv runs.csv --rst docs/guide/_generated_points.inc"
    made_with += f"; {len(tables)} tables, {len(seeds)} seeds"
    target.write_text(as_rst(cells, command, made_with), encoding="utf-8")


def as_rst(cells: list[list[str]], command: str, made_with: str) -> str:
    """Return a table, whose first row is its head, and the command that made it."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    rows = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    lines = [f".. Written by: {command}", "", rule, rows[0], rule, *rows[1:], rule, ""]
    return "\n".join([*lines, f"``{command}``", "", f"{made_with}."]) + "\n"
