# Fresh machine: Python 3.11 or newer, make, a C compiler, package registries. Nothing else.
# `make test` and `make demo` set up what they need; a stamp file remembers what is done.

PYTHON ?= python3
VENV := .venv
SCYLLA := .venv-scylla
LOCK := .venv-lock
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# About two minutes of two cores.
SEEDS ?= 1..100
SEEDS_FRESH ?= 3

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

# Nodes are processes: they would compile all modules again at each start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test sweep soak check format accept lock clean

help:
	@echo "make demo    start OuroDB, load a real data set, ask it a dozen questions"
	@echo "make test    set everything up, check the code, run all tests"
	@echo "make sweep   clusters in the simulator: a fixed set of seeds, and a few that nobody had before"
	@echo "make soak    the same with ever new seeds, until stopped or one fails"
	@echo "make check   ruff, mypy, import-linter"
	@echo "make format  let ruff put the code in form"
	@echo "make accept  measure speed and write a report"
	@echo "make lock    resolve the dependencies anew, with versions and hashes"
	@echo "make clean   remove all that was set up or built"

setup: $(VENV)/.stamp-dev $(SCYLLA)/.stamp

demo: $(VENV)/.stamp-demo
	$(BIN)/python demo/flights.py

# Tests in which nobody looks at how soon somebody answers run side by side; the others have the machine to themselves.
ALIKE := $(addprefix tests/,bench clients cluster cql durability goldens replication restore schema sim storage testing \
  writes test_style.py)

test: setup check
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(PYTEST_ARGS) $(ALIKE)
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(addprefix --ignore=,$(ALIKE))
	$(MAKE) sweep

sweep: $(VENV)/.stamp-dev
	$(BIN)/python -m ourodb.sim --seeds $(SEEDS)
	$(BIN)/python -m ourodb.sim --fresh $(SEEDS_FRESH)

soak: $(VENV)/.stamp-dev
	$(BIN)/python -m ourodb.sim --soak --shrink

check: $(VENV)/.stamp-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.stamp-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

accept: $(VENV)/.stamp-dev
	$(BIN)/python benchmarks/accept.py

# --- environments -----------------------------------------------------------------------------------------------

$(VENV)/.stamp-venv $(SCYLLA)/.stamp-venv $(LOCK)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "OuroDB needs Python 3.11 or newer; name it with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(@D)
	@touch $@

# What the demo needs. The project itself is linked in last, so that its sources are what runs.
$(VENV)/.stamp-demo: $(VENV)/.stamp-venv requirements/demo.txt requirements/data.txt pyproject.toml
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/demo.txt
	$(BIN)/python $(PIP_INSTALL) --require-hashes --no-deps --no-build-isolation -r requirements/data.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-demo requirements/dev.txt
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(SCYLLA)/.stamp: $(SCYLLA)/.stamp-venv requirements/scylla.txt
	$(SCYLLA)/bin/python $(PIP_INSTALL) --require-hashes -r requirements/scylla.txt
	@touch $@

$(LOCK)/.stamp: $(LOCK)/.stamp-venv requirements/lock.txt
	$(LOCK)/bin/python $(PIP_INSTALL) --require-hashes -r requirements/lock.txt
	@touch $@

# --- locks ------------------------------------------------------------------------------------------------------

# One resolution for all of CPython 3.11 to 3.13; the smaller sets take their versions from the largest.
RESOLVE := $(LOCK)/bin/uv pip compile --quiet --system-certs --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate

lock: $(LOCK)/.stamp
	$(RESOLVE) pyproject.toml --group dev --output-file requirements/dev.txt
	$(RESOLVE) pyproject.toml --group demo --constraint requirements/dev.txt --output-file requirements/demo.txt
	$(RESOLVE) pyproject.toml --constraint requirements/dev.txt --output-file requirements/runtime.txt
	$(RESOLVE) --group scylla --output-file requirements/scylla.txt
	$(RESOLVE) --group data --no-deps --output-file requirements/data.txt
	$(RESOLVE) --group lock --output-file requirements/lock.txt
	$(RESOLVE) --group scale --constraint requirements/dev.txt --output-file requirements/scale.txt

clean:
	rm -rf $(VENV) $(SCYLLA) $(LOCK) build dist reports .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
