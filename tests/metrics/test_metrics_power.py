"""The tables of power that the documentation shows are whole, and say what it says of them."""

import re
from pathlib import Path

import numpy as np

from benchmarks.metrics_power import (
    ALTERNATIVES,
    AUCS,
    LEVEL_ROWS,
    MARGINAL_TESTS,
    PVALUES,
    STATISTICS,
)

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
TEXT = (GUIDE / "_generated_power.inc").read_text() + (GUIDE / "_generated_levels.inc").read_text()
NAMES = {*PVALUES, *STATISTICS, *AUCS}


def table_of(start, d=None):
    """The one table whose title starts so: name -> column -> cell."""
    found = []
    for block in re.split(r"^\.\. list-table:: ", TEXT, flags=re.MULTILINE)[1:]:
        title, _, body = block.partition("\n")
        if title.startswith(start) and (d is None or f"d={d};" in title):
            rows = re.split(r"^   \* - ", body, flags=re.MULTILINE)[1:]
            header, *cells = (re.split(r"\n +- ", row.strip()) for row in rows)
            found.append({row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in cells})
    (table,) = found
    return table


def test_the_tables_are_whole():
    for d in (4, 8):
        power = table_of("Power", d)
        assert set(power) == NAMES
        for row in power.values():
            assert set(row) == set(ALTERNATIVES)
            assert float(row["null"].split()[0]) <= 0.05 + 0.2
    assert set(table_of("Calibration")) == set(PVALUES)
    assert "python benchmarks/metrics_power.py" in TEXT
    assert re.search(r"numpy \d.*scipy \d.*sklearn \d", TEXT)


def test_the_tests_of_a_component_keep_their_level():
    table = table_of("Levels")
    assert set(table) == set(MARGINAL_TESTS)
    for name, row in table.items():
        assert set(row) == {f"{level}, n={n}" for level in (0.05, 0.01) for n in LEVEL_ROWS}
        for column, share in row.items():
            level = float(column.split(",")[0])
            kept = abs(float(share) - level) < 4 * np.sqrt(level * (1 - level) / 10_000)
            assert kept, (name, column)


def test_every_metric_is_quick():
    cost = table_of("Cost")
    assert set(cost) >= NAMES
    for name, row in cost.items():
        if "classifier_auc" not in name:
            assert float(row["seconds"]) < 5
            assert float(row["MB"]) < 400
