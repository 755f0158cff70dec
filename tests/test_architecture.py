"""The rules for modules and layers (CONTRIBUTING.md), read off the sources without running them."""

import ast
import configparser
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

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


@dataclass(frozen=True)
class Module:
    path: Path

    @cached_property
    def name(self):
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def top(self):
        return self.path.relative_to(ROOT / PACKAGE).with_suffix("").parts[0]

    @cached_property
    def text(self):
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self):
        return ast.parse(self.text)

    @cached_property
    def nodes(self):
        """Each node with the nodes around it, outermost first."""
        found, stack = [], [(self.tree, ())]
        while stack:
            node, around = stack.pop()
            found.append((node, around))
            stack += [(child, (*around, node)) for child in ast.iter_child_nodes(node)]
        return found

    @cached_property
    def imports(self):
        """Each full name that is imported, wherever that is: name, nodes around it, line."""
        found = []
        for node, around in self.nodes:
            if isinstance(node, ast.Import):
                found += [(alias.name, around, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self.absolute(node)
                found += [(f"{base}.{alias.name}", around, node.lineno) for alias in node.names]
        return found

    def absolute(self, node):
        """The module that a `from ... import` names, with leading dots resolved."""
        if not node.level:
            return node.module
        package = self.name.split(".")
        drop = node.level - (self.path.stem == "__init__")
        package = package[: len(package) - drop]
        return ".".join([*package, node.module] if node.module else package)

    @cached_property
    def unseeded_draws(self):
        """Calls that draw from torch's global generator: the name, and the line."""
        calls = [node for node, _ in self.nodes if isinstance(node, ast.Call)]
        return [
            (ast.unparse(call.func), call.lineno)
            for call in calls
            if ast.unparse(call.func) in DRAWS
            and not any(keyword.arg == "generator" for keyword in call.keywords)
        ]


def top_of(name):
    """The top-level module of a full name: `sknoisydim.metrics._joint.auc` -> `metrics`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYER else "__init__"


def runs_at_import(around):
    """False inside a function, and under `if TYPE_CHECKING:`."""
    return not any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
        for node in around
    )


def violations(module):
    """Yield what in the imports of a module breaks the rules."""
    for name, around, line in module.imports:
        package = name.split(".")[0]
        where = f"{module.path.name}:{line} imports {name}"
        if package == PACKAGE:
            top = top_of(name)
            if top != module.top and LAYER[top] >= LAYER[module.top]:
                yield f"{where}: layer {LAYER[top]} from layer {LAYER[module.top]}, not down"
        elif module.top != ONLY_IN.get(package, module.top):
            yield f"{where}: only the module {ONLY_IN[package]!r} may"
        elif runs_at_import(around) and package not in always_there():
            yield f"{where}: an extra is imported inside the function that needs it"


def always_there():
    """Top-level modules that are installed whenever the package is."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    declared = {line.split(">=")[0] for line in setup["options"]["install_requires"].split()}
    return sys.stdlib_module_names | declared | {"sklearn"} | BROUGHT_ALONG.keys()


MODULES = [Module(path) for path in sorted((ROOT / PACKAGE).rglob("*.py"))]


def test_every_module_has_a_layer():
    tops = [top for top, _ in layers()]
    assert sorted(tops) == sorted({module.top for module in MODULES}), "place it in CONTRIBUTING.md"


def test_imports_only_go_down():
    assert [found for module in MODULES for found in violations(module)] == []


def test_no_module_is_too_long():
    n_lines = {module.name: len(module.text.splitlines()) for module in MODULES}
    assert {name: n for name, n in n_lines.items() if n > MAX_LINES} == {}, "split the module"


def test_nothing_is_drawn_from_the_global_generator():
    """What else belongs to the process is banned in pyproject.toml."""
    assert {module.name: found for module in MODULES if (found := module.unseeded_draws)} == {}


class TestTheRulesSee:
    """The rules above find what they are for: without this a typo makes them pass for ever."""

    @pytest.fixture
    def write(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
        (tmp_path / "setup.cfg").write_text("[options]\ninstall_requires =\n    torch>=2,<3\n")

        def write(top, text):
            path = tmp_path / PACKAGE / f"{top}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return Module(path)

        return write

    WRONG = (
        ("noise", "from sknoisydim import _objective", "layer 2 from layer 1"),
        ("noise", "from .critics import x", "layer 1 from layer 1"),
        ("noise", "import sknoisydim", "layer 9 from layer 1"),
        ("noise", "def f():\n    import sknoisydim.targets as t", "layer 1 from layer 1"),
        ("metrics/_joint", "from .._net import x", "layer 3 from layer 3"),
        ("_objective", "def f():\n    import skorch", "only the module '_net'"),
        ("plotting", "import matplotlib", "inside the function"),
        ("metrics", "import zuko", "inside the function"),
    )

    RIGHT = (
        ("noise", "import math\nimport torch\nfrom sknoisydim._validation import resolve"),
        ("metrics/_joint", "from ._marginal import x\nfrom sknoisydim.targets import y"),
        ("metrics/__init__", "from ._joint import x\nfrom .. import targets"),
        ("plotting", "def f():\n    import matplotlib.pyplot as plt"),
        ("plotting", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
    )

    def test_imports(self, write):
        for top, text, message in self.WRONG:
            (violation,) = violations(write(top, text))
            assert message in violation
        for right in self.RIGHT:
            assert list(violations(write(*right))) == []

    def test_draws(self, write):
        assert write("noise", "import torch\ntorch.randn(3)").unseeded_draws
        assert write("noise", "from torch import nn\nnn.init.normal_(w)").unseeded_draws
        assert not write("noise", "import torch\ntorch.randn(3, generator=g)").unseeded_draws
