# make demo    the whole line on synthetic photographs, into demo/; replaces that of an earlier run
# make test    style, types, import rules and the suite
# make docs    the documentation as a site, into site/; runs its notebooks
# make test-addons    the suite beside tensorflow-addons, which takes Python 3.11
# make lock    newer versions of all packages in locks/, within the ranges of setup.py
# make audit    a list of the locked packages (SBOM) in build/, and a search for their known holes
# Needs Python 3.11, 3.12 or 3.13 and make; no GPU. PYTHON=... chooses another interpreter.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p) 2>/dev/null)))
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
# Exactly the files whose hashes locks/ names; the project itself needs no other package then.
# pip compiles them on one core, which takes half of its time; COMPILED takes all, and may fail.
PIP_LOCKED = $(PIP_INSTALL) --no-compile --require-hashes --no-deps -r
COMPILED = -m compileall -q -j 0 -x /tests/
PIP_PROJECT = $(PIP_INSTALL) --no-deps --no-build-isolation -e .
BIN = .venv/bin
PYTHON_ADDONS ?= python3.11
# Two processes, each file's tests in one of them: fixtures of a file are then made once. The order
# is that of tests/conftest.py, which begins with the long ones.
PYTEST_FLAGS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help .venv demo test test-addons docs lock audit clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# //p' Makefile

.venv: .venv/stamp

.venv/stamp: setup.py locks/default.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	  "dr_tfx needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Try make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_LOCKED) locks/default.txt
	-$(BIN)/python $(COMPILED) .venv/lib
	$(BIN)/python $(PIP_PROJECT)
	@touch $@

demo: .venv
	@if [ -e demo ]; then echo 'demo/ is replaced: what an earlier run left there is deleted.'; fi
	rm -rf demo
	$(BIN)/drtfx-demo --output_dir=demo

# Hundreds of processes load the library: it is compiled once, whatever the environment says of that.
test test-addons: export PYTHONDONTWRITEBYTECODE =

test: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(PYTEST_FLAGS)

# The same suite on TensorFlow 2.15.1, the last one that tensorflow-addons can be imported on.
.venv-addons/stamp: setup.py locks/addons.txt
	@$(PYTHON_ADDONS) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo \
	  'tensorflow-addons needs Python 3.11, and $(PYTHON_ADDONS) is not one or is not there.' \
	  'Install it, or try make test-addons PYTHON_ADDONS=...' >&2; exit 1; }
	$(PYTHON_ADDONS) -m venv .venv-addons
	.venv-addons/bin/python $(PIP_LOCKED) locks/addons.txt
	-.venv-addons/bin/python $(COMPILED) .venv-addons/lib
	.venv-addons/bin/python $(PIP_PROJECT)
	@touch $@

test-addons: .venv-addons/stamp
	.venv-addons/bin/pytest $(PYTEST_FLAGS)

# Not in .venv from the start, because neither the demo nor the tests need these packages.
.venv/docs-stamp: .venv/stamp locks/docs.txt
	$(BIN)/python $(PIP_LOCKED) locks/docs.txt
	@touch $@

docs: .venv/docs-stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv-audit/stamp:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python $(PIP_INSTALL) 'cyclonedx-bom>=7' 'pip-audit>=2.9' 'uv>=0.9'
	@touch $@

audit: .venv-audit/stamp
	.venv-audit/bin/python locks/audit.py

# Hashes and versions, and no address: pip takes the packages from where it is told to.
COMPILE = .venv-audit/bin/uv pip compile --quiet --upgrade setup.py --generate-hashes \
  --no-emit-index-url --no-annotate --custom-compile-command 'make lock' --python-version 3.11

lock: .venv-audit/stamp
	$(COMPILE) --universal --extra azure --extra dataflow --extra hub --extra s3 --extra train --extra test --extra lint --extra tools -o locks/default.txt
	$(COMPILE) --universal --extra docs -c locks/default.txt -o locks/docs.txt
	$(COMPILE) --universal --extra image -c locks/default.txt -o locks/image.txt
	$(COMPILE) --universal --extra jobs -c locks/default.txt -o locks/jobs.txt
	$(COMPILE) --extra addons --extra s3 --extra test -o locks/addons.txt

clean:
	rm -rf .venv .venv-addons .venv-audit demo site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
	  .import_linter_cache
