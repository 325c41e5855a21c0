# Seven verbs. Each works on a fresh Debian or Ubuntu with Python 3.11 or newer: what is missing is installed, or named.
#
#   make demo     the whole product on an embedded database, with a guided tour (TOUR_ONLY=1: exit after the tour)
#   make test     every test: first those that need no server, then the gateway against real PostgreSQL (ARGS="-k mask")
#   make check    ruff, mypy --strict and the house rules
#   make bench    the core's parts, then hoopfast beside PgBouncer and HAProxy (ARGS="--sections prepared,bulk")
#   make load     people at work: queries, errors, cancels, masked rows, approvals (ARGS="--users 50 --seconds 60")
#   make fuzz     the core under sanitizers, guided by coverage (SECONDS=600, ARGS="relay copy")
#   make clean    remove everything that was built

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PY := $(VENV)/bin/python
CORE := setup.py hoopfast/_wire.pyx $(wildcard hoopfast/_wire/*)
ARGS ?=
# PYTHON, from the environment or the command line, is for deploy/bootstrap.sh: what the virtual environment is made with.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: help demo test test-quick check bench load fuzz clean

help:
	@sed -n 's/^#   //p' Makefile

$(VENV)/.ready-demo: pyproject.toml deploy/bootstrap.sh
	@deploy/bootstrap.sh "$(VENV)" demo

$(VENV)/.ready-test: pyproject.toml deploy/bootstrap.sh
	@deploy/bootstrap.sh "$(VENV)" test

$(VENV)/.ready-bench: pyproject.toml deploy/bootstrap.sh
	@deploy/bootstrap.sh "$(VENV)" bench

# The stamp names the preset, so that another HOOPFAST_BUILD builds anew.
BUILD := $(VENV)/.built-$(or $(HOOPFAST_BUILD),release)
$(BUILD): $(CORE)
	@echo "building the compiled core ($(or $(HOOPFAST_BUILD),release)); a minute the first time"
	@rm -f $(VENV)/.built-*
	@$(PY) setup.py -q build_ext --inplace --force
	@touch $@

demo: $(VENV)/.ready-demo
	@$(MAKE) -s --no-print-directory $(BUILD)
	@$(VENV)/bin/hoopfast demo $(if $(TOUR_ONLY),--tour-only) $(ARGS)

test: $(VENV)/.ready-test
	@$(MAKE) -s --no-print-directory $(BUILD)
	@$(PY) -m pytest $(ARGS)

test-quick: $(VENV)/.ready-test
	@$(MAKE) -s --no-print-directory $(BUILD)
	@$(PY) -m pytest -m "not server" $(ARGS)

check: $(VENV)/.ready-test
	@$(MAKE) -s --no-print-directory $(BUILD)
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q -m "not server" tests/quality

bench: $(VENV)/.ready-bench
	@$(MAKE) -s --no-print-directory $(BUILD)
	@$(PY) -m pytest -q bench/test_core.py bench/test_shipper.py --benchmark-only --benchmark-columns=min,median,ops --benchmark-disable-gc
	@$(PY) -m bench.peers $(ARGS)

load: $(VENV)/.ready-test
	@$(MAKE) -s --no-print-directory $(BUILD)
	@$(PY) -m loadtest.run $(ARGS)

fuzz: $(VENV)/.ready-test
	@$(MAKE) -s --no-print-directory $(BUILD)
	@$(PY) -m tests.fuzz.run --seconds $(or $(SECONDS),60) $(ARGS)

clean:
	@rm -rf "$(VENV)" build dist bench/results .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks *.egg-info
	@rm -f hoopfast/_wire.c hoopfast/_wire.html hoopfast/_wire*.so
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
