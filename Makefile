PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MADE := .made-by-$(notdir $(PYTHON))
make_venv = $(PYTHON) -m venv $(1) || { $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv $(1); }

.PHONY: demo test test-long test-processors test-min test-latest test-browser test-faults lint audit fuzz bench clean

# Environment variables that hold PyTorch, oneDNN, MKL, OpenBLAS and NumPy to fewer instructions than the processor has.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell
SSE4 := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OPENBLAS_CORETYPE=Nehalem

demo: $(VENV)/.installed
	$(BIN)/frostline demo

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest --numprocesses auto

# The suite as on other processors: without bf16 arithmetic, with it (computed slowly where it isn't there), and with few instructions.
test-processors: $(VENV)/.installed
	$(AVX2) FROSTLINE_TEST_BF16=0 $(BIN)/python -m pytest --numprocesses auto
	FROSTLINE_TEST_BF16=1 $(BIN)/python -m pytest --numprocesses auto
	$(SSE4) FROSTLINE_TEST_BF16=0 $(BIN)/python -m pytest --numprocesses auto

# The long form of tests/faults: every event of every command, about an hour on two cores. It leaves what it counted.
test-faults: $(VENV)/.installed
	rm -f faults.jsonl
	FROSTLINE_FAULTS_RECORD=$(CURDIR)/faults.jsonl $(BIN)/python -m pytest -m long --numprocesses auto tests/faults
	$(BIN)/python -m tests.faults.table faults.jsonl docs/reliability.md

# The lowest and the newest versions that the metadata allows; another Python by PYTHON=python3.13.
test-min: .venv-min/.installed
	.venv-min/bin/python -m pytest --numprocesses auto

test-latest: .venv-latest/$(MADE)
	.venv-latest/bin/python -m pip install --upgrade --upgrade-strategy eager --editable '.[dev]'
	.venv-latest/bin/python -m pytest --numprocesses auto

# Tests of one feature that take too long for every run: memory at many rows, all formats, whole searches.
test-long: $(VENV)/.installed
	$(BIN)/python -m pytest -m long --numprocesses auto --ignore tests/faults

test-browser: $(VENV)/.installed
	$(BIN)/python tests/browser.py
	$(BIN)/python -m pytest -m browser

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks examples
	$(BIN)/lint-imports --no-logo

# Known vulnerabilities of the installed packages, from the advisory database of PyPI; needs the network.
audit: $(VENV)/.installed
	$(BIN)/python -m pip install --editable '.[audit]'
	$(BIN)/python -m pip_audit --local --skip-editable

# 100,000 executions of every reader of files; an hour or two. Needs a Python for which atheris has a wheel.
fuzz: $(VENV)/.installed
	$(BIN)/python -m pip install --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz

bench: $(VENV)/.installed
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

$(VENV)/.installed: pyproject.toml
	$(call make_venv,$(VENV))
	$(BIN)/python -m pip install --editable '.[dev]'
	-command -v cc > /dev/null || $(BIN)/python -m pip install --editable '.[compiler]'
	touch $@

.venv-min/.installed: .venv-min/$(MADE) pyproject.toml tests/lowest.py
	.venv-min/bin/python -m pip install packaging
	.venv-min/bin/python tests/lowest.py > .venv-min/lowest.txt
	.venv-min/bin/python -m pip install --constraint .venv-min/lowest.txt --editable '.[dev]'
	touch $@

.venv-min/$(MADE) .venv-latest/$(MADE):
	rm -rf $(@D)
	$(call make_venv,$(@D))
	touch $@

clean:
	rm -rf $(VENV) .venv-min .venv-latest build *.egg-info .mypy_cache .ruff_cache .import_linter_cache .pytest_cache
