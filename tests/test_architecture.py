"""The rules for modules and layers (CONTRIBUTING.md), read off the sources without running them."""

import ast
import configparser
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "sknoisydim"

# The layers, and the top-level modules of each: single files, or packages of private modules.
LAYERS = {
    9: {"__init__"},
    8: {"_codes", "_drift", "_outliers"},
    7: {"_wrapped"},
    6: {"_transformer", "distributed", "plotting"},
    5: {"_diagnosis", "_fitted", "_persistence"},
    4: {"_training"},
    3: {"_decoder", "_net", "metrics"},
    2: {"_data", "_model", "_objective", "_settings"},
    1: {
        "_input",
        "_optimizers",
        "_references",
        "augmentations",
        "bounds",
        "critics",
        "encoders",
        "noise",
        "normalization",
        "refinement",
        "scaling",
        "targets",
    },
    0: {
        "_context",
        "_files",
        "_labels",
        "_linear",
        "_modules",
        "_normal",
        "_sources",
        "_validation",
        "_version",
    },
}
LAYER = {top: layer for layer, tops in LAYERS.items() for top in tops}

# Third parties that one top-level module alone may import.
ONLY_IN = {"skorch": "_net", "matplotlib": "plotting"}

# What a run-time dependency of ours brings along, so that it is there without being named.
BROUGHT_ALONG = {"joblib": "scikit-learn", "threadpoolctl": "scikit-learn", "tqdm": "skorch"}

# Mappings of the process that are not ours to write to.
FOREIGN_SETTINGS = {"os.environ", "matplotlib.rcParams", "matplotlib.pyplot.rcParams"}

MAX_LINES = 700

# Calls that change what belongs to the whole process.
CHANGES_THE_PROCESS = {
    "torch.manual_seed",
    "torch.seed",
    "torch.set_rng_state",
    "torch.random.manual_seed",
    "torch.random.seed",
    "torch.random.set_rng_state",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.cuda.set_rng_state",
    "torch.cuda.set_rng_state_all",
    "torch.set_num_threads",
    "torch.set_num_interop_threads",
    "torch.set_default_dtype",
    "torch.set_default_device",
    "torch.set_default_tensor_type",
    "torch.set_deterministic_debug_mode",
    "torch.set_float32_matmul_precision",
    "torch.set_flush_denormal",
    "torch.set_printoptions",
    "torch.use_deterministic_algorithms",
    "numpy.random.seed",
    "numpy.random.set_state",
    "numpy.set_printoptions",
    "numpy.seterr",
    "random.seed",
    "random.setstate",
    "sklearn.set_config",
    "matplotlib.use",
    "matplotlib.pyplot.switch_backend",
    "os.putenv",
}
# The same, unless a `with warnings.catch_warnings()` around them takes it back.
CHANGES_THE_FILTERS = {
    "warnings.filterwarnings",
    "warnings.resetwarnings",
    "warnings.simplefilter",
}
# Draws that come from torch's global generator unless they are given another.
DRAWS = {
    f"torch.{name}"
    for name in ("bernoulli", "multinomial", "normal", "poisson", "rand", "randint", "randn")
} | {"torch.randperm", "torch.nn.init.normal_", "torch.nn.init.uniform_"}
# Draws that can only come from a global generator.
GLOBAL_DRAWS = {"torch.rand_like", "torch.randn_like", "torch.randint_like"}

# Exceptions to the three above: (module, call) -> why. One that is no longer needed fails.
ALLOWED = {
    ("_modules", "torch.manual_seed"): "inside torch.random.fork_rng, which puts it back",
    ("_modules", "torch.set_rng_state"): "inside torch.random.fork_rng, which puts it back",
    (
        "_modules",
        "torch.cuda.set_rng_state_all",
    ): "inside torch.random.fork_rng, which puts it back",
}


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
    def aliases(self):
        """Local names of imported things: `nn` -> `torch.nn`."""
        found = {}
        for node, _ in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    target = alias.name if alias.asname else alias.name.split(".")[0]
                    found[alias.asname or target] = target
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{self.absolute(node)}.{alias.name}"
        return found

    def full_name(self, node):
        """`nn.init.normal_` -> `torch.nn.init.normal_`; None for what is not a dotted name."""
        if isinstance(node, ast.Attribute):
            base = self.full_name(node.value)
            return base and f"{base}.{node.attr}"
        return self.aliases.get(node.id, node.id) if isinstance(node, ast.Name) else None

    @cached_property
    def global_changes(self):
        """Pairs of a call that touches the process's global state, and its line."""
        found = []
        for node, around in self.nodes:
            if isinstance(node, ast.Assign | ast.Delete):
                for target in node.targets:
                    if isinstance(target, ast.Subscript):
                        name = self.full_name(target.value)
                        if name in FOREIGN_SETTINGS:
                            found.append((name, node.lineno))
            if not isinstance(node, ast.Call):
                continue
            name = self.full_name(node.func)
            own_generator = any(keyword.arg == "generator" for keyword in node.keywords)
            if (
                name in CHANGES_THE_PROCESS | GLOBAL_DRAWS
                or (name in DRAWS and not own_generator)
                or (name in CHANGES_THE_FILTERS and not self.catches_warnings(around))
            ):
                found.append((name, node.lineno))
        return found

    def catches_warnings(self, around):
        return any(
            isinstance(node, ast.With)
            and any(
                isinstance(item.context_expr, ast.Call)
                and self.full_name(item.context_expr.func) == "warnings.catch_warnings"
                for item in node.items
            )
            for node in around
        )


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
    unplaced = {module.top for module in MODULES} - LAYER.keys()
    assert not unplaced, "a new module: place it in LAYERS here and in CONTRIBUTING.md"


def test_imports_only_go_down():
    assert [found for module in MODULES for found in violations(module)] == []


def test_no_module_is_too_long():
    n_lines = {module.name: len(module.text.splitlines()) for module in MODULES}
    assert {name: n for name, n in n_lines.items() if n > MAX_LINES} == {}, "split the module"


def test_nothing_asserts():
    found = [
        (module.name, node.lineno)
        for module in MODULES
        for node, _ in module.nodes
        if isinstance(node, ast.Assert)
    ]
    assert found == [], "a user's input gets a ValueError or TypeError that says what is allowed"


def test_the_process_is_left_as_it_was():
    found = [
        (module.name, call)
        for module in MODULES
        for call in module.global_changes
        if (module.top, call[0]) not in ALLOWED
    ]
    assert found == []


def test_each_exception_is_still_needed():
    needed = {(module.top, name) for module in MODULES for name, _ in module.global_changes}
    assert ALLOWED.keys() <= needed


def test_contributing_shows_the_same_layers():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for layer, tops in LAYERS.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {layer} |"))
        assert {word for word in row.split("`")[1::2] if word != "nn.Module"} == tops


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

    @pytest.mark.parametrize(
        ("top", "text", "message"),
        [
            ("noise", "from sknoisydim import _objective", "layer 2 from layer 1"),
            ("noise", "from sknoisydim._net import x", "layer 3 from layer 1"),
            ("noise", "from .critics import x", "layer 1 from layer 1"),
            ("noise", "from . import bounds", "layer 1 from layer 1"),
            ("noise", "import sknoisydim", "layer 9 from layer 1"),
            ("noise", "def f():\n    import sknoisydim.targets as t", "layer 1 from layer 1"),
            ("metrics/_joint", "from .._net import x", "layer 3 from layer 3"),
            ("_objective", "def f():\n    import skorch", "only the module '_net'"),
            ("metrics", "def f():\n    import matplotlib.pyplot", "only the module 'plotting'"),
            ("plotting", "import matplotlib", "inside the function"),
            ("metrics", "import zuko", "inside the function"),
        ],
    )
    def test_a_wrong_import(self, write, top, text, message):
        (violation,) = violations(write(top, text))
        assert message in violation

    @pytest.mark.parametrize(
        ("top", "text"),
        [
            ("noise", "import math\nimport torch\nfrom sknoisydim._validation import resolve"),
            ("__init__", "from sknoisydim._transformer import x"),
            ("metrics/_joint", "from ._marginal import x\nfrom sknoisydim.targets import y"),
            ("metrics/__init__", "from ._joint import x\nfrom .. import targets"),
            ("plotting", "def f():\n    import matplotlib.pyplot as plt"),
            ("plotting", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
        ],
    )
    def test_a_right_import(self, write, top, text):
        assert list(violations(write(top, text))) == []

    @pytest.mark.parametrize(
        "text",
        [
            "import torch\ntorch.manual_seed(0)",
            "from torch import set_num_threads as f\nf(1)",
            "import numpy as np\nnp.random.seed(0)",
            "import torch\ntorch.randn(3)",
            "from torch import nn\nnn.init.normal_(w)",
            "import torch\ntorch.randn_like(x)",
            "import warnings\nwarnings.simplefilter('ignore')",
            "import os\nos.environ['A'] = 'b'",
        ],
    )
    def test_a_change_of_the_process(self, write, text):
        assert len(write("noise", text).global_changes) == 1

    @pytest.mark.parametrize(
        "text",
        [
            "import torch\ntorch.randn(3, generator=g)",
            "import warnings\nwith warnings.catch_warnings():\n    warnings.simplefilter('ignore')",
        ],
    )
    def test_no_change_of_the_process(self, write, text):
        assert write("noise", text).global_changes == []
