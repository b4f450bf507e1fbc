# make demo | test | lint | bench | docs: each adds to .venv what it needs, and only that.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
BASE_STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test-unit test test-all lint shape format bench bench-check bench-peers schema web-editor docs clean dist dist-check image lock sbom

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# ── the virtual environment: a stamp file says what is in it ─────────────────────────────────────────────────────────
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check

setup: $(BASE_STAMP) ## Make the virtual environment: what `pip install .[web]` installs, and no more

$(BASE_STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "HAMS needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	@echo "Installing HAMS in $(VENV): downloads about 500 MB, takes 1.1 GB of disk and about a minute on two cores."
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --quiet --upgrade "pip>=25.1"
	$(INSTALL) --editable ".[web]"
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BASE_STAMP)
	@echo "Adding the test tools: 15 MB of disk, some seconds."
	$(INSTALL) --quiet --group test
	@touch $@

$(VENV)/.installed-all: pyproject.toml | $(BASE_STAMP)
	@echo "Adding hams[nco], hams[train] and what slow tests need: PyTorch with its CUDA libraries,"
	@echo "5.8 GB of disk, two minutes where the download is fast. Tests without them: make test."
	$(INSTALL) --editable ".[nco,train]" --group slow
	@touch $@ $(VENV)/.installed-test

$(VENV)/.installed-lint: pyproject.toml | $(BASE_STAMP)
	@echo "Adding ruff, mypy and import-linter: 100 MB of disk, some seconds."
	$(INSTALL) --quiet --group lint
	@touch $@

$(VENV)/.installed-bench: pyproject.toml | $(BASE_STAMP)
	@echo "Adding hams[nco] for the benchmarks: about 100 MB, half a minute."
	$(INSTALL) --editable ".[nco]" --group bench
	@touch $@

$(VENV)/.installed-docs: pyproject.toml | $(BASE_STAMP)
	@echo "Adding zensical and mkdocstrings for the documentation: 110 MB of disk, some seconds."
	$(INSTALL) --quiet --group docs
	@touch $@

# An environment of its own: what makes the wheel is pinned, also that inside the image (deploy/image/build.lock).
DIST := $(VENV)/dist/bin/python
$(VENV)/dist/.installed: pyproject.toml deploy/image/build.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "HAMS needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)/dist
	$(DIST) -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/image/build.lock
	$(DIST) -m pip install --quiet --disable-pip-version-check --group dist
	@touch $@

# ── use ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
demo: $(BASE_STAMP) ## Service F on real video, on two unlike devices, from nothing to annotated pictures
	$(BIN)/hams-ctl demo examples/face.yaml --out demo-out

# Tests. PYTEST_OPTIONS: how they are spread over processes; PYTEST_ADDOPTS (pytest's own) adds to it.
PYTEST_OPTIONS ?= -n 2 --max-worker-restart 0 --dist loadscope --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest --durations=25 $(PYTEST_OPTIONS)

test-unit: $(VENV)/.installed-test ## Tests of single modules, and property tests
	$(PYTEST) -m "not slow" tests/unit tests/property

test: $(VENV)/.installed-test ## All tests but the slow ones; a few of them start real processes
	$(PYTEST) -m "not slow" --ignore=tests/compose tests

test-all: $(VENV)/.installed-all ## All tests; as root also those of docker compose, which install Docker where it is missing
	HAMS_COMPOSE_TEST=1 $(PYTEST) tests

lint: $(VENV)/.installed-lint ## ruff, mypy, import-linter, shape
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy services/hams_services scheduler/hams_scheduler agents/hams_agents shared/hams_shared shared/hams_client
	$(BIN)/mypy --strict --config-file= --cache-dir .mypy_cache/examples examples/apps  # as a user's own project is checked
	$(BIN)/lint-imports
	$(BIN)/python tools/shape.py

shape: $(BASE_STAMP) ## Files of 400 lines, functions of 40, no import circles: what is larger
	$(BIN)/python tools/shape.py

format: $(VENV)/.installed-lint ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-bench ## Benchmarks; results go to docs/benchmarks.md
	$(BIN)/python -m benchmarks

BASE ?=
bench-check: $(BASE_STAMP) ## Speed of this commit against that of BASE (a commit; default: the last tag), in turns
	$(BIN)/python -m benchmarks.check $(if $(BASE),--base $(BASE))

schema: $(BASE_STAMP) ## JSON Schema of group.yaml, AsyncAPI document, docs/cli.md, from the code
	$(BIN)/python docs/schema/generate.py
	$(BIN)/python docs/schema/generate_cli.py

web-editor: ## Renew the editor of the page, services/hams_services/web/static/vendor; needs npm
	cd tools/web-editor && npm ci && npm run build && npm test

docs: $(VENV)/.installed-docs ## The documentation as a site, in site/; a warning or a broken link is an error
	$(BIN)/zensical build --strict --clean

bench-peers: .bench-peers/.installed ## Install what the benchmarks of serving and tracking compare HAMS with, in .bench-peers

.bench-peers/.installed: benchmarks/serving/peers/requirements.txt pyproject.toml
	$(PYTHON) -m venv .bench-peers
	.bench-peers/bin/python -m pip install --quiet --disable-pip-version-check --editable . -r $<
	@# Only tritonserver is taken from this wheel; its Python package wants numpy 1, which HAMS does not.
	.bench-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "nvidia-pytriton>=0.5.14"
	@# Trackers wants opencv-python, which would overwrite the files of HAMS's opencv-python-headless.
	.bench-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "trackers>=2.6" "supervision>=0.31"
	@touch $@

# The time of the commit stands for the time of building: two builds of a commit are equal, byte for byte.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600)
dist: $(VENV)/dist/.installed ## sdist and wheel, in dist/
	$(DIST) -m build --no-isolation --outdir dist .
	$(DIST) -m twine check --strict dist/hams-*.whl dist/hams-*.tar.gz

dist-check: $(VENV)/dist/.installed ## Build the committed tree twice, elsewhere and at another time: equal, byte for byte?
	$(DIST) tools/dist_check.py

TARGET ?= runtime
BUILD := DOCKER_BUILDKIT=1 docker build --build-arg SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH)
image: ## Container image hams:TARGET (runtime, intel, cuda, optimizer, demo); needs Docker with BuildKit
	$(BUILD) --target $(TARGET) --tag hams:$(TARGET) $(IMAGE_OPTIONS) .

sbom: $(VENV)/dist/.installed ## What the image TARGET contains: CycloneDX and its licences, in dist/sbom; fails on one not allowed
	$(BUILD) --target sbom --build-arg OF=$(TARGET) --output dist/sbom $(IMAGE_OPTIONS) .
	$(DIST) tools/licences.py deploy/image/licences.toml dist/sbom/$(TARGET).cdx.json

LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-header --python-version 3.11
IMAGE_EXTRAS := --extra web --extra gateway --extra mqtt --extra otel
lock: $(BASE_STAMP) ## Renew deploy/image/*.lock: the versions, with their hashes, that images are made of
	$(INSTALL) --quiet uv
	$(LOCK) pyproject.toml deploy/image/also.txt $(IMAGE_EXTRAS) --override deploy/image/without-cuda.txt --output-file deploy/image/runtime.lock
	$(LOCK) pyproject.toml deploy/image/also.txt $(IMAGE_EXTRAS) --extra cuda --override deploy/image/with-cuda.txt --output-file deploy/image/cuda.lock
	$(LOCK) pyproject.toml deploy/image/also.txt $(IMAGE_EXTRAS) --extra nco --override deploy/image/without-cuda.txt --output-file deploy/image/nco.lock
	$(LOCK) deploy/image/build.txt --output-file deploy/image/build.lock
	$(LOCK) deploy/image/sbom.txt --output-file deploy/image/sbom.lock

clean: ## Remove what make made
	rm -rf $(VENV) .bench-peers dist site .cache demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
