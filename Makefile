PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-processors lint bench clean

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

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m pip install --user virtualenv && $(PYTHON) -m virtualenv $(VENV); }
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
