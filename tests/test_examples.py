"""Each script of the gallery runs by itself, without a warning, and says what it found."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("plot_*.py"))
# Those that take less than ten seconds.
QUICK = {"plot_idea"}


def marked(script):
    return pytest.param(
        script, id=script.stem, marks=() if script.stem in QUICK else pytest.mark.slow
    )


@pytest.mark.parametrize("script", [marked(script) for script in SCRIPTS])
def test_example_runs_without_a_warning(script, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
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


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_example_says_what_it_found(script):
    text = script.read_text(encoding="utf-8")
    heading = re.match(r'"""\n(.+)\n(=+)\n', text)
    assert heading, "an example starts with its title"
    assert len(heading.group(1)) == len(heading.group(2))
    last = text.rsplit("# %%\n", 1)[1]
    assert last.startswith("# Conclusion: ")
    assert all(line.startswith("#") for line in last.splitlines())
