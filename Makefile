# Everything runs in one environment, .venv, made on first use. PYTHON names the interpreter to make it with.
PYTHON ?= python3
BIN := .venv/bin
# Tests run in so many processes, of one thread each.
JOBS ?= 2
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check bench clean

demo: .venv/ready
	$(BIN)/vicreg demo

test: .venv/ready
	.ci/chromium
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m slow

check: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# VICREG_DATA names a folder with the benchmarks' tables; without it only what scikit-learn bundles is measured.
bench: .venv/ready
	$(BIN)/python benchmarks/loss.py
	$(BIN)/python benchmarks/overhead.py
	if [ -n "$$VICREG_DATA" ]; then $(BIN)/python benchmarks/neighbors.py; fi
	$(BIN)/python benchmarks/tables.py

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "PYTHON must be Python 3.11 or newer; got $$($(PYTHON) --version 2>&1). Run make PYTHON=python3.11."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
