# The two commands of the README are `make demo` and `make test`.
# Stamps in the virtual environment make repeated calls quick; PYTHON and VENV may be overridden.

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
SOURCES := pyproject.toml src/quieten/__init__.py

.PHONY: help demo test test-fast check format wheel clip picture clean

help:
	@echo "make demo       install into $(VENV) and clean the bundled demo clip"
	@echo "make test       install what the tests need and run them"
	@echo "make test-fast  the same without the slow tests"
	@echo "make check      ruff, mypy --strict, import contracts, spelling"
	@echo "make format     let ruff format and fix"
	@echo "make wheel      build the wheel into dist/"
	@echo "make clip       make the demo clip again (needs espeak-ng)"
	@echo "make picture    make the README's picture again"
	@echo "make clean      remove $(VENV), caches and build results"

demo: $(VENV)/.installed-base
	@$(BIN)/quieten demo

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest

test-fast: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -m "not slow"

check: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict src
	@$(BIN)/lint-imports
	@$(BIN)/codespell .

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: $(VENV)/.installed-dev
	@$(BIN)/python -m hatchling build --target wheel

clip: $(VENV)/.installed-dev
	@$(BIN)/python benchmarks/make_demo_clip.py

picture: $(VENV)/.installed-dev
	@$(BIN)/python benchmarks/make_demo_clip.py --picture docs/images/demo.png

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-base: $(SOURCES) | $(BIN)/python
	@echo "installing quieten into $(VENV)"
	@$(PIP) install --editable .
	@touch $@

# pesq has no wheels: where no C compiler is found, its tests are skipped.
$(VENV)/.installed-dev: $(SOURCES) | $(BIN)/python
	@echo "installing quieten and what its tests need into $(VENV) (some minutes the first time)"
	@$(PIP) install --editable ".[dev]"
	@$(PIP) install --editable ".[pesq]" >$(VENV)/pesq.log 2>&1 \
		|| echo "pesq could not be built (see $(VENV)/pesq.log): its tests are skipped"
	@touch $@ $(VENV)/.installed-base
