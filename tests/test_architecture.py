"""The rules for modules and layers (CONTRIBUTING.md), and what is installed with the package."""

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from importlib.util import resolve_name
from pathlib import Path, PurePath

import pytest

import sknoisydim

ROOT = Path(__file__).parents[1]
PACKAGE = "sknoisydim"


def layers():
    """Yield each top-level module with its layer, from the table in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for layer, row in re.findall(r"^\| (\d) \| (.*) \|$", text, re.MULTILINE):
        for top in re.findall(r"`(\w+)`", row):
            yield top, int(layer)


LAYER = dict(layers())

# Third parties that one top-level module alone may import.
ONLY_IN = {"skorch": "_net", "matplotlib": "plotting"}

# What a run-time dependency of ours brings along, so that it is there without being named.
BROUGHT_ALONG = {"joblib": "scikit-learn", "threadpoolctl": "scikit-learn", "tqdm": "skorch"}
MAX_LINES = 700

# Draws that come from torch's global generator unless they are given another.
DRAWS = ["bernoulli", "multinomial", "normal", "poisson", "rand", "randint", "randn", "randperm"]
DRAWS = {"nn.init.normal_", "nn.init.uniform_", *(f"torch.{name}" for name in DRAWS)}

# What each file holds, by its path in the package.
MODULES = {
    path.relative_to(ROOT / PACKAGE): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}


def top_module(path):
    return path.with_suffix("").parts[0]


def nodes(node, around=()):
    """Yield each node with the nodes around it, outermost first."""
    yield node, around
    for child in ast.iter_child_nodes(node):
        yield from nodes(child, (*around, node))


def imports(path, text):
    """Yield each full name that is imported, wherever that is: name, nodes around it, line."""
    package = ".".join([PACKAGE, *path.parent.parts])
    for node, around in nodes(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = ""
            if isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), package) + "."
            yield from ((base + alias.name, around, node.lineno) for alias in node.names)


def unseeded_draws(text):
    """Return calls that draw from torch's global generator: the name, and the line."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    calls = [call for call in calls if "generator" not in {word.arg for word in call.keywords}]
    named = [(ast.unparse(call.func), call.lineno) for call in calls]
    return [(name, line) for name, line in named if name in DRAWS]


def runs_at_import(around):
    """False inside a function, and under `if TYPE_CHECKING:`."""
    return not any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
        for node in around
    )


def violations(path, text):
    """Yield what in the imports of a module breaks the rules."""
    own = top_module(path)
    for name, around, line in imports(path, text):
        package, *parts = name.split(".")
        where = f"{path}:{line} imports {name}"
        if package == PACKAGE:
            top = parts[0] if parts and parts[0] in LAYER else "__init__"
            if top != own and LAYER[top] >= LAYER[own]:
                yield f"{where}: layer {LAYER[top]} from layer {LAYER[own]}, not down"
        elif own != ONLY_IN.get(package, own):
            yield f"{where}: only the module {ONLY_IN[package]!r} may"
        elif runs_at_import(around) and package not in ALWAYS_THERE:
            yield f"{where}: an extra is imported inside the function that needs it"


def requirements():
    """What is installed whenever the package is, with its bounds."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return dict(line.split(">=") for line in setup["options"]["install_requires"].split())


ALWAYS_THERE = sys.stdlib_module_names | requirements().keys() | {"sklearn"} | BROUGHT_ALONG.keys()


def test_every_module_has_a_layer():
    tops = [top for top, _ in layers()]
    assert sorted(tops) == sorted(set(map(top_module, MODULES))), "place it in CONTRIBUTING.md"


def test_imports_only_go_down():
    assert [found for module in MODULES.items() for found in violations(*module)] == []


def test_no_module_is_too_long():
    n_lines = {path: len(text.splitlines()) for path, text in MODULES.items()}
    assert {path: n for path, n in n_lines.items() if n > MAX_LINES} == {}, "split the module"


def test_nothing_is_drawn_from_the_global_generator():
    draws = {path: unseeded_draws(text) for path, text in MODULES.items()}
    assert {path: found for path, found in draws.items() if found} == {}


# The rules find what they are for: without this a typo makes them pass for ever.
WRONG = (
    ("noise", "from sknoisydim import _objective", "layer 2 from layer 1"),
    ("noise", "import sknoisydim", "layer 9 from layer 1"),
    ("noise", "def f():\n    import sknoisydim.targets as t", "layer 1 from layer 1"),
    ("metrics/_joint", "from .._net import x", "layer 3 from layer 3"),
    ("_objective", "def f():\n    import skorch", "only the module '_net'"),
    ("plotting", "import matplotlib", "inside the function"),
)
RIGHT = (
    ("noise", "import math\nimport torch\nfrom sknoisydim._validation import resolve"),
    ("metrics/__init__", "from ._joint import x\nfrom .. import targets"),
    ("plotting", "def f():\n    import matplotlib.pyplot as plt"),
    ("plotting", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
)


def test_the_rules_see_what_is_wrong():
    for name, text, message in WRONG:
        (violation,) = violations(PurePath(f"{name}.py"), text)
        assert message in violation
    for name, text in RIGHT:
        assert list(violations(PurePath(f"{name}.py"), text)) == []
    assert unseeded_draws("import torch\ntorch.randn(3)")
    assert unseeded_draws("from torch import nn\nnn.init.normal_(w)")
    assert not unseeded_draws("import torch\ntorch.randn(3, generator=g)")


def test_run_time_dependencies_are_six_and_bounded():
    six = {"torch", "scikit-learn", "skorch", "numpy", "scipy", "safetensors"}
    assert requirements().keys() == six
    assert all(",<" in bounds for bounds in requirements().values())


def test_version_is_written_once_more_only_in_the_citation():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {sknoisydim.__version__}\n" in citation


@pytest.mark.slow
def test_wheel(tmp_path):
    # In a copy, since a build leaves its traces, and takes up those of the build before.
    source = tmp_path / "source"
    shutil.copytree(ROOT / "sknoisydim", source / "sknoisydim")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip_wheel, "--quiet", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        (path,) = (name for name in files if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(path).decode())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sknoisydim").rglob("*.py")}
    found = {name for name in files if name.startswith("sknoisydim/")}
    assert found == sources | {"sknoisydim/py.typed"}
    assert {name.split("/")[0] for name in files} == {"sknoisydim", path.split("/")[0]}
    assert metadata["Version"] == sknoisydim.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload().strip()
