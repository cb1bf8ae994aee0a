# Everything starts here. On a fresh machine with Python >= 3.11 and make:
#   make demo    install what is needed and run the transfer study; the page is runs/demo/report.html
#   make test    install the tools too; style, types, import contracts, tests
#   make test-all   the same with the tests that train, launch and kill for long
#   make bench-gpu  what wants a GPU: the tests for one, a step beside others; GPU="--paper" trains at the paper's size
# A second call installs nothing.

PYTHON ?= python3
VENV ?= .venv
TEST_WORKERS ?= 2
# those that can be run without being told anything and without other people's packages
BENCHMARKS ?= $(shell grep -ls __main__ $(filter-out %_peer.py,$(wildcard benchmarks/*.py)) | xargs grep -Ls -e required=True -e "^from well_peers")

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev

.PHONY: help demo test test-all lint types bench bench-gpu docs clean install install-dev wheels lock
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(RUNTIME) ## pre-train, shift the physics, fine-tune, write runs/demo/
	$(BIN)/scifm demo --out runs/demo

# A shell in which Python writes no bytecode would have every process that a test starts compile all that it imports.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

test: lint types ## style, types, import contracts, tests but the slow ones
	$(PYTEST) -m "not slow"

test-all: lint types ## the same with the slow tests: what trains, launches or kills for long
	$(PYTEST)

lint: $(DEV) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV) ## mypy on src/scifm
	$(BIN)/mypy

bench: $(RUNTIME) ## each benchmark that needs no more; results as JSON in build/bench/
	@mkdir -p build/bench
	@set -e; for file in $(BENCHMARKS); do \
		echo "== $$file"; $(BIN)/python $$file --json build/bench/$$(basename $$file .py).json; \
	done

bench-gpu: $(DEV) ## all that wants a GPU, see scripts/bench_gpu.py; tables as CSV in build/bench-gpu/
	$(BIN)/python scripts/bench_gpu.py $(GPU)

docs: $(DEV) ## the documentation, strictly, into site/
	$(BIN)/mkdocs build --strict

install: $(RUNTIME) ## the package and what it needs to run
install-dev: $(DEV) ## the same, with tests, style, types and documentation tools

wheels: $(DEV) ## wheels with the C files compiled, into dist/
	$(BIN)/python scripts/wheels.py

lock: $(DEV) ## the hashes of every file of every pinned release, into the lock files
	$(BIN)/python scripts/lock.py requirements.lock requirements-dev.lock

clean: ## remove what was built; keeps runs/, stores/ and the virtual environment
	rm -rf build dist site src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "SciFM needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Only files whose hash the lock names are installed. A build of torch that lies where pip is told to look (PIP_FIND_LINKS)
# goes first, such as one without CUDA: pip itself would prefer the index's. What the index's build for Linux needs of CUDA
# is not in the lock; its own metadata pin it, and the last line fetches what is missing.
define INSTALL_LOCK
@sed -n '/^torch==/,/[^\\]$$/p' $< > $(VENV)/torch.lock
@$(PIP) install -q --no-index --no-deps --require-hashes -r $(VENV)/torch.lock 2> /dev/null || true
$(PIP) install -q --no-deps --require-hashes -r $<
$(PIP) install -q torch
endef

# The build backend is in the lock, so the editable install needs no second environment and fetches nothing.
$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/python
	$(INSTALL_LOCK)
	$(PIP) install -q --no-build-isolation --no-deps -e .
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml | $(BIN)/python
	$(INSTALL_LOCK)
	$(PIP) install -q --no-build-isolation --no-deps -e .
	@touch $(RUNTIME) $@
