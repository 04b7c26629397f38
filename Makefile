# Everything here needs only make and Python 3.11 or newer; `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
LOCK := .venv-lock
DOCS := .venv-docs
RUN := $(VENV)/bin/python
PIP := -m pip --disable-pip-version-check install --quiet

# Tests start a hundred processes, each of which would compile all modules anew where this is set.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint pytest test-cluster test-slow test-gpu faults benchmark docs picture lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/installed-demo ## install, then pick rows from a pool of handwritten digits
	$(VENV)/bin/ray-itl curate
	@echo 'for ray-itl without a path: . $(VENV)/bin/activate, once in a shell; then ray-itl --help'

test: lint pytest ## install, then run the linters and the quick tests

lint: $(VENV)/installed-dev ## install, then check style, formatting and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

# By files, in two processes: tests of one file share a cluster, and more clusters at once only wait for each other.
BY_FILES := --numprocesses 2 --dist loadfile --no-loadscope-reorder

pytest: $(VENV)/installed-dev ## install, then run the quick tests
	$(RUN) -m pytest $(BY_FILES)

test-cluster: $(VENV)/installed-dev ## install, then run the tests with Ray clusters, jobs and browsers
	$(RUN) -m pytest -m 'cluster and not slow' --timeout 900 $(BY_FILES)

test-slow: $(VENV)/installed-dev ## install, then run the slow tests
	$(RUN) -m pytest -m slow

test-gpu: $(VENV)/installed-dev ## install, then run the tests on a CUDA device; without one they are skipped
	$(RUN) -m pytest -m gpu -rs tests/gpu

faults: $(VENV)/installed-dev ## install, then kill, starve and corrupt 200 runs and compare how they end
	$(RUN) -m tests.faults

benchmark: $(VENV)/installed-demo ## install, then measure the speed of selections
	$(RUN) -m benchmarks

docs: $(DOCS)/installed ## install, then build the site of README.md and docs/ in build/site
	$(DOCS)/bin/python -m mkdocs build --strict

picture: $(VENV)/installed-demo ## install, then take the picture of the README anew (needs Chromium)
	$(RUN) -m docs.site.picture

lock: ## resolve all dependencies anew and pin them in constraints.txt; torch stays as pinned there
	$(PYTHON) -m venv --clear $(LOCK)
	$(LOCK)/bin/python $(PIP) --upgrade 'pip>=25.1'
	$(LOCK)/bin/python $(PIP) "$$(grep '^torch==' constraints.txt)"
	$(LOCK)/bin/python $(PIP) --editable '.[all,peers,timm]' --group dev --group docs
	{ grep '^#' constraints.txt; $(LOCK)/bin/python -m pip freeze --exclude-editable | sed 's/+.*//'; } > $(LOCK)/pins
	mv $(LOCK)/pins constraints.txt
	rm -r $(LOCK)

# Torch first and alone: a later package that asks for any torch then finds the pinned one.
$(VENV)/installed-demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=...")'
	@echo 'Installing into $(VENV): minutes, most of them for PyTorch'
	$(PYTHON) -m venv $(VENV)
	$(RUN) $(PIP) --upgrade 'pip>=25.1'
	$(RUN) $(PIP) --constraint constraints.txt torch
	$(RUN) $(PIP) --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed-demo
	$(RUN) $(PIP) --quiet --constraint constraints.txt --editable '.[all]' --group dev
	@touch $@

$(DOCS)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(PIP) --upgrade 'pip>=25.1'
	$(DOCS)/bin/python $(PIP) --constraint constraints.txt --group docs
	@touch $@
