# `make demo` and `make test` are complete from nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-fast test-all test-lowest test-next test-viewers lint bench bench-search measurements docs-check site clean

# Two environments' worth of stamps in one .venv: the demo needs neither torch nor abTEM.
$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

# torch first and pinned: elsewhere a bare 'torch' may bring several GB of CUDA packages.
$(VENV)/.dev: $(VENV)/.core
	$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) -e ".[train,abtem,bench,dev,formats,docs,tensorrt-rtx,cluster,video]"
	touch $@

demo: $(VENV)/.core
	$(BIN)/gdn demo -o demo-output

# Two processes, a file of tests in one of them; each with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
QUICK := not slow and not cluster and not tensorrt and not torchrun and not benchmark

# TESTS: what .ci/run leaves out where nothing of it has changed, for example TESTS='-m "not tensorrt"'.
test: $(VENV)/.dev
	$(PYTEST) $(TESTS)

# Under two minutes on two cores: what to run while working.
test-fast: $(VENV)/.dev
	$(PYTEST) -m "$(QUICK)" $(TESTS)

test-all: test test-lowest test-next

# The quick tests in an environment that has the core alone: those that need torch or abTEM are skipped.
CORE_TESTS := OMP_NUM_THREADS=1 GDN_THREADS=1 build/$$name/bin/python -m pytest -q -r fE -n 2 --dist loadfile -m "$(QUICK)"
CORE_NEEDS := . pytest hypothesis pytest-xdist

# On the oldest versions that pyproject.toml admits: the demo too.
test-lowest:
	$(PYTHON) -m venv --clear build/lowest
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt $(CORE_NEEDS)
	build/lowest/bin/gdn demo --restarts 64 -o build/lowest/demo
	name=lowest; $(CORE_TESTS)

# On a newer Python, where one is found.
NEXT ?= $(shell .ci/other-python)
test-next:
ifeq ($(NEXT),)
	@echo "no Python 3.12 or 3.13 here: the tests on a second Python are skipped"
else
	$(NEXT) -m venv --clear build/next
	build/next/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(CORE_NEEDS)
	name=next; $(CORE_TESTS)
endif

# napari's plugin and HyperSpy signals: an environment of their own (napari brings Qt), and a display.
VIEWERS := xvfb-run -a -s "-screen 0 1400x900x24" build/viewers/bin/python -m pytest -q -r fE
test-viewers:
	$(PYTHON) -m venv --clear build/viewers
	build/viewers/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt ".[napari,hyperspy]" pytest matplotlib
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=1 GDN_THREADS=1 $(VIEWERS) tests/viewer tests/pipeline/test_signals.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/suite.py

# Short form, under ten minutes on two cores; ends with one JSON line.
bench-search: $(VENV)/.dev
	$(BIN)/python benchmarks/search_speed.py

# All rows and tables of docs/ again with this version: hours. Stop it at any time, and go on with the
# same command. STEPS: for example STEPS='--list', or STEPS='--only far,suite'.
measurements: $(VENV)/.dev
	$(BIN)/python benchmarks/measurements.py -o build/measurements $(STEPS)

docs-check: $(VENV)/.dev
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/tables.py --check

# A page that nothing leads to, or a link that leads nowhere, is an error.
site: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/site

clean:
	rm -rf $(VENV) build dist demo-output
