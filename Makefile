# make demo | test | lint | bench: each sets up what it needs in .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench bench-peers schema clean dist image lock

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Make the virtual environment

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "HAMS needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

demo: $(STAMP) ## Service F on real video, on two unlike devices, from nothing to annotated pictures
	$(BIN)/hams-ctl demo examples/face.yaml --out demo-out

test: $(STAMP) ## All tests; as root also those of docker compose, which install Docker where it is missing
	HAMS_COMPOSE_TEST=1 $(BIN)/python -m pytest

lint: $(STAMP) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy services/hams_services scheduler/hams_scheduler agents/hams_agents shared/hams_shared shared/hams_client
	$(BIN)/lint-imports

format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Benchmarks; results go to docs/benchmarks.md
	$(BIN)/python -m benchmarks

schema: $(STAMP) ## JSON Schema of group.yaml, AsyncAPI document, docs/cli.md, from the code
	$(BIN)/python docs/schema/generate.py
	$(BIN)/python docs/schema/generate_cli.py

bench-peers: .bench-peers/.installed ## Install what the serving benchmark compares HAMS with, in .bench-peers

.bench-peers/.installed: benchmarks/serving/peers/requirements.txt pyproject.toml
	$(PYTHON) -m venv .bench-peers
	.bench-peers/bin/python -m pip install --quiet --disable-pip-version-check --editable . -r $<
	@# Only tritonserver is taken from this wheel; its Python package wants numpy 1, which HAMS does not.
	.bench-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "nvidia-pytriton>=0.5.14"
	@touch $@

dist: $(STAMP) ## sdist and wheel
	$(BIN)/python -m build --outdir dist .

TARGET ?= runtime
image: ## Container image hams:TARGET (runtime, intel, cuda, optimizer, demo); needs Docker with BuildKit
	DOCKER_BUILDKIT=1 docker build --target $(TARGET) --tag hams:$(TARGET) $(IMAGE_OPTIONS) .

LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-header --python-version 3.11
lock: $(STAMP) ## Renew deploy/image/*.lock: the versions, with their hashes, that images are made of
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) pyproject.toml deploy/image/also.txt --override deploy/image/without-cuda.txt --output-file deploy/image/runtime.lock
	$(LOCK) pyproject.toml deploy/image/also.txt --extra cuda --override deploy/image/with-cuda.txt --output-file deploy/image/cuda.lock
	$(LOCK) pyproject.toml deploy/image/also.txt --extra nco --override deploy/image/without-cuda.txt --output-file deploy/image/nco.lock
	$(LOCK) deploy/image/build.txt --output-file deploy/image/build.lock

clean: ## Remove what make made
	rm -rf $(VENV) .bench-peers dist demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
