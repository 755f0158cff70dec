"""The documentation says what is there: its code runs, and the reference is whole."""

import doctest
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from test_docstrings import CALLABLES

import sknoisydim

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = DOCS.parent / "examples"
BUILT = {"_build", "_templates", "auto_examples", "generated", "sg_execution_times.rst"}
PAGES = [path for path in sorted(DOCS.rglob("*.rst")) if not BUILT & set(path.parts)]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def name_of(path):
    return path.relative_to(DOCS).with_suffix("").as_posix()


def listed():
    """Every name that the reference lists or describes, without the package's."""
    text = (DOCS / "api" / "index.rst").read_text(encoding="utf-8")
    found = re.findall(r"^   ([A-Za-z_.]+)$", text, re.MULTILINE)
    return found + re.findall(r"^\.\. py:data:: sknoisydim\.(\S+)$", text, re.MULTILINE)


def declared():
    """Every public name: those of `__all__`, of modules that have one, and all public callables."""
    found = set(CALLABLES)
    for module in sknoisydim.__all__:
        value = getattr(sknoisydim, module)
        if isinstance(value, types.ModuleType):
            found |= {f"{module}.{name}" for name in getattr(value, "__all__", ())}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("plot_*.py")), ids=lambda path: path.stem)
def test_example_of_the_gallery_runs(script):
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "# Conclusion" in script.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_on_the_page_runs(page):
    test = doctest.DocTestParser().get_doctest(
        page.read_text(encoding="utf-8"), {}, name_of(page), str(page), 0
    )
    report = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append)
    assert report == []


def test_pages_with_code_were_found():
    with_code = {name_of(p) for p in PAGES if ">>> " in p.read_text(encoding="utf-8")}
    assert {"index", "quickstart", "coming_from", "guide/targets", "guide/noise"} <= with_code


def test_reference_lists_every_public_name_once():
    names = listed()
    assert sorted(names) == sorted(set(names))
    assert declared() - set(names) == set(), "place it in docs/api/index.rst"
    assert set(names) - declared() == set(), "docs/api/index.rst lists what is not public"


def test_every_page_is_reached():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    entries = set(re.findall(r"^   ([\w/]+)$", text, re.MULTILINE))
    for page in PAGES:
        name = name_of(page)
        assert name == "index" or entries & {name, page.stem}, f"{name} is in no toctree"
