# make demo    the whole line on synthetic photographs, into demo/; replaces that of an earlier run
# make test    style, types, import rules and the suite
# make docs    the documentation as a site, into site/; runs its notebooks
# make test-addons    the suite beside tensorflow-addons, which takes Python 3.11
# Needs Python 3.11, 3.12 or 3.13 and make; no GPU. PYTHON=... chooses another interpreter.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p) 2>/dev/null)))
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
BIN = .venv/bin
PYTHON_ADDONS ?= python3.11
# Two processes, each file's tests in one of them: fixtures of a file are then made once. The order
# is that of tests/conftest.py, which begins with the long ones.
PYTEST_FLAGS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help .venv demo test test-addons docs clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# //p' Makefile

.venv: .venv/stamp

.venv/stamp: setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	  "dr_tfx needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Try make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) -e '.[dataflow,train,test]'
	@touch $@

demo: .venv
	@echo 'demo/ is replaced: what an earlier run left there is deleted.'
	rm -rf demo
	$(BIN)/drtfx-demo --output_dir=demo

test: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(PYTEST_FLAGS)

# The same suite on TensorFlow 2.15.1, the last one that tensorflow-addons can be imported on.
.venv-addons/stamp: setup.py
	@$(PYTHON_ADDONS) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo \
	  'tensorflow-addons needs Python 3.11, and $(PYTHON_ADDONS) is not one or is not there.' \
	  'Install it, or try make test-addons PYTHON_ADDONS=...' >&2; exit 1; }
	$(PYTHON_ADDONS) -m venv .venv-addons
	.venv-addons/bin/python $(PIP_INSTALL) -e '.[addons,test]'
	@touch $@

test-addons: .venv-addons/stamp
	.venv-addons/bin/pytest $(PYTEST_FLAGS)

# Not in .venv from the start, because neither the demo nor the tests need these packages.
.venv/docs-stamp: .venv/stamp
	$(BIN)/python $(PIP_INSTALL) -e '.[docs]'
	@touch $@

docs: .venv/docs-stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .venv-addons demo site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
	  .import_linter_cache
