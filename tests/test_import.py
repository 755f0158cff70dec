"""`import sknoisydim` costs nothing, and everything public is reached through it."""

import importlib.metadata

import pytest
from small import run_python

import sknoisydim

HEAVY = {"torch", "sklearn", "skorch", "numpy", "scipy", "matplotlib"}
METRICS = "import sknoisydim.metrics as m, numpy as np; m.sliced_wasserstein(np.eye(3), 'uniform')"


LIGHT = {"import sknoisydim; dir(sknoisydim)": HEAVY, METRICS: {"torch", "skorch", "matplotlib"}}


@pytest.mark.parametrize(("code", "heavy"), LIGHT.items())
def test_import_loads_nothing_heavy(code, heavy):
    loaded = run_python(f"{code}; import sys; print(*sys.modules, sep='\\n')").split()
    assert "sknoisydim" in loaded
    assert heavy.isdisjoint(loaded)


FIRST = """
import sys, warnings
from sknoisydim import NoisyDIMTransformer
before = list(warnings.filters)
NoisyDIMTransformer.load(sys.argv[1])
print(list(warnings.filters) == before)
X = [[float(i % 7), float(i % 5), i / 9] for i in range(200)]
NoisyDIMTransformer(2, max_epochs=1, random_state=0, refine="rotation").fit(X)
print(list(warnings.filters) == before, "sympy" in sys.modules, "matplotlib" in sys.modules)
"""


def test_the_first_load_and_fit_of_a_process_leave_its_warning_filters(tmp_path):
    X = [[float(i % 7), float(i % 5), i / 9] for i in range(50)]
    path = tmp_path / "model"
    sknoisydim.NoisyDIMTransformer(2, max_epochs=1, random_state=0).fit(X).save(path)
    assert run_python(FIRST, path).split() == ["True", "True", "True", "False"]


def test_version_is_the_installed_one():
    assert sknoisydim.__version__ == importlib.metadata.version("sknoisydim")
