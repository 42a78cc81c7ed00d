# Two targets do everything on a machine with Python and pip: `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-slow campaign fuzz kills corpus check lint benchmark clean

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

clean:
	rm -rf $(VENV) demo

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "convfc needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: pyproject.toml | $(VENV)/python
	@echo "installing convfc and what it needs (tensorflow is large: this can take minutes) .."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/python
	@echo "installing convfc and its tests (tensorflow is large: this can take minutes) .."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/installed
