# `make demo` and `make test` are complete from nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-lowest lint bench bench-search docs-check site clean

# Two environments' worth of stamps in one .venv: the demo needs neither torch nor abTEM.
$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

# torch first and pinned: elsewhere a bare 'torch' may bring several GB of CUDA packages.
$(VENV)/.dev: $(VENV)/.core
	$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) -e ".[train,abtem,bench,dev,formats,docs,tensorrt-rtx,cluster]"
	touch $@

demo: $(VENV)/.core
	$(BIN)/gdn demo -o demo-output

test: $(VENV)/.dev
	$(BIN)/python -m pytest

# The core on the oldest versions that pyproject.toml admits.
test-lowest:
	$(PYTHON) -m venv --clear build/lowest
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt .
	build/lowest/bin/gdn demo --restarts 64 -o build/lowest/demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/suite.py

# Short form, under ten minutes on two cores; ends with one JSON line.
bench-search: $(VENV)/.dev
	$(BIN)/python benchmarks/search_speed.py

docs-check: $(VENV)/.dev
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/tables.py --check

# A page that nothing leads to, or a link that leads nowhere, is an error.
site: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/site

clean:
	rm -rf $(VENV) build dist demo-output
