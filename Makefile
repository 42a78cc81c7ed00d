# Two targets do everything on a machine with Python and pip: `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OTHERS := .venv-clients
PIP    := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-slow campaign fuzz kills corpus check lint benchmark clients docs dist clean

demo: $(VENV)/installed
	mkdir -p demo
	$(BIN)/convfc convert sample_models/mnist_cnn.h5 -o demo
	$(BIN)/convfc verify sample_models/mnist_cnn.h5 demo/mnist_cnn_fc.h5

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -n auto --dist loadfile

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -n auto -m slow

campaign: $(VENV)/installed-dev
	$(BIN)/python -m tests.campaign

fuzz: $(VENV)/installed-dev
	$(BIN)/python -m tests.fuzz

kills: $(VENV)/installed-dev
	$(BIN)/python -m tests.kills

corpus: $(VENV)/installed-dev
	$(BIN)/python -m tests.corpus $(FOLDERS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

check: lint test

benchmark: $(VENV)/installed
	$(BIN)/python -m benchmarks

clients: $(OTHERS)/installed
	$(OTHERS)/bin/python -m benchmarks.clients --write docs/clients.md
	$(OTHERS)/bin/python -m benchmarks.questions --only marabou gurobi omlt auto-lirpa hls4ml --write

docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

dist: $(VENV)/python
	$(BIN)/python $(PIP) build twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) $(OTHERS) demo dist site

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "convfc needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: pyproject.toml | $(VENV)/python
	@echo "installing convfc and what it needs (tensorflow is large: this can take minutes) .."
	$(BIN)/python $(PIP) --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/python
	@echo "installing convfc and its tests (tensorflow is large: this can take minutes) .."
	$(BIN)/python $(PIP) --editable '.[dev]'
	touch $@ $(VENV)/installed

$(OTHERS)/installed: pyproject.toml | $(VENV)/python
	@echo "installing the programs that take converted files: 100 packages, some of them large .."
	$(BIN)/python -m venv $(OTHERS)
	$(OTHERS)/bin/python $(PIP) --editable '.[clients]'
	$(OTHERS)/bin/python $(PIP) --no-deps auto-lirpa==0.3
	touch $@
