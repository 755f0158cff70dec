# Each target works alone in a fresh clone: it makes the environment that it needs (Python 3.11 or
# newer with pip is all that has to be there), and finds it ready the next time.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
# Versions of what is installed; with none, pip takes the newest that setup.cfg allows.
CONSTRAINTS ?= constraints.txt
# Further arguments for pytest:  make test ARGS="-k critic -x"
ARGS ?=

BIN := $(VENV)/bin
# What is run against the installed wheel: the contract, and files written and read.
WHEEL_TESTS := tests/test_import.py tests/test_workflows.py tests/test_persistence_file.py
# One torch thread a process: networks this small gain nothing from two, and threads beyond the free
# cores wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-oldest test-newest mutants stats lint format docs docs-serve bench dist clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-demo  ## the main job on real data: a table, and a picture in demo-output/
	OMP_NUM_THREADS=1 $(BIN)/python examples/demo.py

test: $(VENV)/.installed-test  ## the tests and the doctests, without the slow ones
	$(PYTEST) $(ARGS)

test-slow: $(VENV)/.installed-test  ## the slow tests
	$(PYTEST) -m slow $(ARGS)

test-oldest:  ## the tests with the oldest versions that are supported, in an environment of their own
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

test-newest:  ## the tests with the newest versions of the registry, in an environment of their own
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

mutants: $(VENV)/.installed-test  ## make faults on purpose, and see that tests find them (takes a while)
	$(BIN)/python tests/mutants.py $(ARGS)

stats:  ## the lines of each module and test, and of all
	@find sknoisydim tests -name '*.py' | xargs wc -l | sort -n

lint: $(VENV)/.installed-lint  ## ruff and mypy; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-lint  ## what ruff can put right by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## the documentation, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

docs-serve: docs  ## the documentation, on port 8000 (PORT=...) of this machine
	$(BIN)/python -m http.server --bind localhost --directory docs/_build/html $(PORT)

bench: $(VENV)/.installed-demo  ## list the benchmarks, and run the quick form of speed and match
	@echo "The benchmarks; each takes --quick, and says more with --help:"
	@grep -l '__name__ == "__main__"' benchmarks/*.py
	$(BIN)/python benchmarks/speed.py --quick
	$(BIN)/python benchmarks/match.py --quick

dist: $(VENV)/.installed-dist  ## wheel and source distribution in dist/, checked and tested as installed
	rm -rf dist build .venv-dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(MAKE) .venv-dist/bin/pip VENV=.venv-dist
	.venv-dist/bin/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) "$$(echo dist/*.whl)[test]"
	mkdir -p build/tested && cp -r tests conftest.py pyproject.toml build/tested
	cd build/tested && OMP_NUM_THREADS=1 ../../.venv-dist/bin/python -m pytest -q $(WHEEL_TESTS)

clean:  ## remove what was built and cached (the environment stays: delete .venv for a new one)
	rm -rf build dist *.egg-info docs/_build docs/api/generated docs/auto_examples demo-output
	rm -f docs/sg_execution_times.rst
	rm -rf .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find benchmarks docs examples sknoisydim tests -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# One environment for all targets. A stamp says that an extra of setup.cfg is installed in it.
$(VENV)/.installed-%: setup.cfg pyproject.toml $(CONSTRAINTS) | $(BIN)/pip
	$(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS),--upgrade --upgrade-strategy eager) --editable ".[$*]"
	@touch $@

# Where Python comes without ensurepip (some distributions package it apart), its own pip is used.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"sknoisydim needs Python 3.11 or newer, and $(PYTHON) is {sys.version.split()[0]}: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV) || { \
	    $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	    $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
