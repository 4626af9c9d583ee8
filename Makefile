# Everything a newcomer needs: `make demo` and `make test`.  Both make .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Python compiles what it imports, which is less than what is installed.
QUIETLY := --quiet --disable-pip-version-check --no-compile

.PHONY: demo test test-slow lint clean help

help:
	@echo "make demo   install into $(VENV), train and use a captioner on the embedded data set"
	@echo "make test   install into $(VENV), run the fast tests"

# The stamp is newer than setup.cfg when the environment is complete.
$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dlmie needs Python 3.11 or later: make PYTHON=/path/to/python3.11 demo"; exit 1; }
	@echo "installing into $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install $(QUIETLY) -e .
	@touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	@$(BIN)/python -m pip install $(QUIETLY) -e ".[test]"
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/dlmie demo --to demo

# Two files at a time: while one compiles, which takes one processor, the other computes.
test: $(VENV)/.test-installed
	$(BIN)/python -m pytest -m "not slow" -q -n 2 --dist loadfile

test-slow: $(VENV)/.test-installed
	$(BIN)/python -m pytest -m slow -q

lint:
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

clean:
	rm -rf $(VENV) build dist *.egg-info demo
