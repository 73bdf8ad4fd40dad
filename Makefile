# `make serve` and `make test` need Python 3.11 or newer and nothing else: no GPU, no Redis, no Docker, no hub.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# An additional package index, such as PyTorch's own one with builds for another device
TORCH_INDEX ?=
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
DIR ?= tests/parity

.PHONY: help install serve test lint check check-ops parity bench openapi gpu-check

help:
	@echo "make serve      start everything on this machine (ARGS='--port 9000')"
	@echo "make test       all tests that pip alone can run"
	@echo "make check      format, lint, types, import rules, tests: what a change must pass"
	@echo "make check-ops  container files, Prometheus, shell scripts (Debian packages: prometheus)"
	@echo "make parity     compare the models with reference numbers (DIR=folder)"
	@echo "make bench      benchmarks of the service"
	@echo "make openapi    write openapi.yaml from the app"
	@echo "make gpu-check  parity, full-size timings and memory metrics on a CUDA device"

# One stamp for each set of extras; it is older than pyproject.toml or constraints.txt when they changed
.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (the first time this takes minutes)"
	@$(INSTALL) -e '.[serve,test]'
	@touch $@

.venv/.installed-%: .venv/.installed
	@$(INSTALL) -e '.[$*]'
	@touch $@

install: .venv/.installed

serve: .venv/.installed
	@exec $(BIN)/viscpm serve $(ARGS)

test: .venv/.installed
	$(BIN)/python -m pytest -q $(ARGS)

lint: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python -m service.openapi | diff - openapi.yaml || { echo "openapi.yaml is old: make openapi"; exit 1; }

check: lint test

check-ops: .venv/.installed-ops
	VISCPM_CHECK_OPS=1 $(BIN)/python -m pytest -q tests/ops $(ARGS)

parity: .venv/.installed
	$(BIN)/python -m models.parity $(DIR) $(ARGS)

bench: .venv/.installed-bench
	$(BIN)/python benchmarks/service_overhead.py
	$(BIN)/python benchmarks/health_latency.py

openapi: .venv/.installed
	$(BIN)/python -m service.openapi > openapi.yaml.new
	@mv openapi.yaml.new openapi.yaml

gpu-check: .venv/.installed
	$(BIN)/python benchmarks/gpu_check.py $(ARGS)
