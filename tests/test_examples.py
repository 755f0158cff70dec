"""Each script of the gallery says what it found. The site runs all of them (test_site.py)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from over import over

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("plot_*.py"))


@pytest.mark.slow
def test_an_example_runs_and_writes_nothing(tmp_path):

    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "plot_idea.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert list(tmp_path.iterdir()) == [], "an example writes no files"


@over(script=SCRIPTS)
def test_an_example_says_what_it_found(script):
    text = script.read_text(encoding="utf-8")
    heading = re.match(r'"""\n(.+)\n(=+)\n', text)
    assert heading, "an example starts with its title"
    assert len(heading.group(1)) == len(heading.group(2))
    last = text.rsplit("# %%\n", 1)[1]
    assert last.startswith("# Conclusion: ")
    assert all(line.startswith("#") for line in last.splitlines())
